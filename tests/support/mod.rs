//! Helpers for all test binaries: sockets, data, faulty streams, and an executor that polls only woken tasks.
#![allow(dead_code, unreachable_pub)]

pub mod cancel;
pub mod data;
pub mod faulty_stream;
pub mod filters;
pub mod net;
pub mod sim;
pub mod tasks;
mod watchdog;
pub mod wrapped;
