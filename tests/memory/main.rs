//! Memory in use and allocations, counted for each thread by an allocator.
//!
//! All tests here run on one thread each: only what that thread allocates is counted.

#[allow(dead_code)]
#[path = "../support/heap.rs"]
mod heap;
#[path = "../../src/buffer/model/mod.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod budget;
mod buffer;
mod bufferevent;
mod input_bounds;
mod programs;
mod relay;
mod relay_messages;
mod shared;
