//! The relay over sockets, memory and faulty streams.

#[path = "../support/mod.rs"]
mod support;

mod cancel;
#[cfg(all(feature = "net", target_os = "linux"))]
#[path = "../support/ends/mod.rs"]
mod end_cells;
mod ends;
mod ends_table;
mod files;
mod join;
mod limits;
mod pipes;
mod policy;
mod prefixed;
mod sockets;
mod splice;
mod stop;
mod streams;
mod transfer;
mod unread;
