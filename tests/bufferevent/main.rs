//! `BufferEvent` over memory, sockets and faulty streams.

#[path = "../support/mod.rs"]
mod support;

mod callbacks;
mod connect;
mod ends;
mod flow;
mod flush;
mod hostile;
mod pair;
mod sockets;
mod streams;
mod threads;
mod timeouts;
