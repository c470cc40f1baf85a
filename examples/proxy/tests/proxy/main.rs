//! The proxy as its users see it: what it prints, how it ends, and what it survives.
#![cfg(unix)]

mod arguments;
mod connections;
mod demonstration;
mod header;
mod limits;
mod logging;
mod stop;
mod support;
mod third_party;
