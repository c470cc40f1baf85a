//! The relay over sockets, memory and faulty streams.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod policy;
mod prefixed;
mod sockets;
mod splice;
mod streams;
mod transfer;
