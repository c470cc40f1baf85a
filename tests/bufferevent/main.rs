//! `BufferEvent` over memory, sockets and faulty streams.

#[path = "../support/mod.rs"]
mod support;

mod callbacks;
mod connect;
mod ends;
#[cfg(unix)]
mod ends_table;
mod filter;
mod flow;
mod flush;
mod hostile;
mod into_inner;
#[cfg(unix)]
mod options;
mod pair;
mod rate;
#[cfg(unix)]
mod reports;
mod sockets;
mod streams;
mod threads;
mod time_limits;
mod timeouts;
mod upgrade;
mod usability;
