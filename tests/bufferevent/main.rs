//! `BufferEvent` over memory, sockets and faulty streams.

#[path = "../support/mod.rs"]
mod support;

mod callbacks;
mod cancel;
mod connect;
#[cfg(all(feature = "net", target_os = "linux"))]
#[path = "../support/ends/mod.rs"]
mod end_cells;
mod ends;
#[cfg(all(feature = "net", target_os = "linux"))]
mod ends_table;
mod filter;
mod flow;
mod flush;
#[cfg(feature = "net")]
mod frames;
mod hostile;
mod into_inner;
#[cfg(all(unix, feature = "net"))]
mod options;
mod pair;
mod rate;
#[cfg(all(unix, feature = "net"))]
mod reports;
mod rest;
mod sockets;
mod streams;
mod threads;
mod time_limits;
mod timeouts;
mod upgrade;
#[cfg(feature = "net")]
mod usability;
mod user_code;
mod waits;
