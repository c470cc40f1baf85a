//! Buffer operations, side by side: each workload is written once and runs on every buffer that supports it.

mod buffers;
pub mod callbacks;
pub mod operations;
pub mod sharing;
mod workload;

pub use workload::{BUFFERS, BYTES_MUT, DEQUE, DEQUE_OF_BYTES, LIBEVENT, OURS, Run, Workload};

/// All workloads of buffers, in the order of the table. Those of shared buffers are in [`sharing`].
pub fn all() -> Vec<Workload> {
    let mut all = operations::workloads();
    all.extend(callbacks::workloads());
    all
}
