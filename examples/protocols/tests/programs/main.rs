//! The programs of this package, as their users run them.
#![cfg(unix)]

mod demonstrations;
mod http_peek_proxy;
mod http_reverse_proxy;
mod sni_router;
mod starttls_server;
mod support;
