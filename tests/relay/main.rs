//! The relay over sockets, memory and faulty streams.

#[path = "../support/mod.rs"]
mod support;

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
