//! What sharing a buffer costs: the lock, the marks, the callbacks, the waiters, and a pipe made of one, beside what one
//! would build by hand.
//!
//! ```text
//! cargo bench --bench shared                       # criterion: each workload in turn, with spread and history
//! cargo bench --bench shared -- pipe               # those whose name contains this
//! cargo bench --bench shared -- --table            # one table, all taking turns, a few seconds
//! ```
//!
//! Everything on one CPU and, where there are tasks, on one current-thread runtime. Only the ratios mean something.
//! `cargo run --release -p peers -- shared` puts the same figures into the README.

#[path = "support/buffer/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod buffer;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/pin.rs"]
mod pin;

use buffer::sharing;

fn main() -> std::io::Result<()> {
    drive::main(&sharing::workloads(), &sharing::COLUMNS)
}
