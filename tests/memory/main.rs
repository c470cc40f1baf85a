//! Memory in use and allocations, counted for each thread by an allocator.
//!
//! All tests here run on one thread each: only what that thread allocates is counted.

#[allow(dead_code)]
#[path = "../support/heap.rs"]
mod heap;
#[path = "../support/mod.rs"]
mod support;

mod buffer;
mod bufferevent;
mod relay;
mod relay_messages;
mod shared;
