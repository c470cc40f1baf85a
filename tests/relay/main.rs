//! The relay over sockets, memory and streams that misbehave.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod policy;
mod prefixed;
mod sockets;
mod splice;
mod streams;
