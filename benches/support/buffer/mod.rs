//! Buffer operations, side by side: each workload is written once and run on every buffer that has the operations.

mod callbacks;
mod clock;
mod rivals;
pub mod sharing;
mod workloads;

use std::time::Duration;

pub use workloads::{Workload, heap_of_100_bytes, workloads};

/// A buffer's name, as the tables have it.
pub const OURS: &str = "EvBuffer";
pub const LIBEVENT: &str = "evbuffer (C)";
pub const BYTES_MUT: &str = "BytesMut";
pub const DEQUE_OF_BYTES: &str = "VecDeque<Bytes>";
pub const DEQUE: &str = "VecDeque<u8>";

/// The columns of the table.
pub const BUFFERS: [&str; 5] = [LIBEVENT, OURS, BYTES_MUT, DEQUE_OF_BYTES, DEQUE];

/// One workload on one buffer: does it so many times, and says how long that took without what it had to prepare.
pub type Run = fn(u64) -> Duration;
