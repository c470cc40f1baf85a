//! What buffer operations cost: ours beside `BytesMut`, `VecDeque<u8>` and `VecDeque<Bytes>`, where they can do it.
//!
//! ```text
//! cargo bench --bench buffer                       # criterion: each workload in turn, with spread and history
//! cargo bench --bench buffer -- readln             # those whose name contains this
//! cargo bench --bench buffer -- --table            # one table, all buffers taking turns, about half a minute
//! ```
//!
//! In the table the buffers take turns in rounds, so that what disturbs the machine disturbs all of them; it shows
//! medians in ns for an operation. On Linux all is pinned to one CPU. Only the ratios mean something. The comparison
//! with libevent's own evbuffer, same workloads, is `cargo run --release -p peers -- buffer`.

#[path = "support/buffer/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod buffer;
#[path = "support/drive.rs"]
mod drive;
#[path = "support/pin.rs"]
mod pin;

use buffer::{BYTES_MUT, DEQUE, DEQUE_OF_BYTES, OURS};

fn main() -> std::io::Result<()> {
    let columns = [OURS, BYTES_MUT, DEQUE, DEQUE_OF_BYTES];
    drive::main(&buffer::workloads(), &columns)
}
