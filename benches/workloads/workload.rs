//! What a workload is, and how its time is taken.

use std::time::Duration;

/// The name of a buffer in the tables.
pub const OURS: &str = "EvBuffer";
pub const LIBEVENT: &str = "evbuffer (C)";
pub const BYTES_MUT: &str = "BytesMut";
pub const DEQUE_OF_BYTES: &str = "VecDeque<Bytes>";
pub const DEQUE: &str = "VecDeque<u8>";

/// The columns of the table.
pub const BUFFERS: [&str; 5] = [LIBEVENT, OURS, BYTES_MUT, DEQUE_OF_BYTES, DEQUE];

/// Runs one workload `n` times on one buffer and returns the CPU time, without that of the preparations.
pub type Run = fn(n: u64) -> Duration;

/// A workload and the buffers that support it.
pub struct Workload {
    pub name: &'static str,
    /// By the name of the buffer.
    pub runs: Vec<(&'static str, Run)>,
}

impl Workload {
    pub(super) fn new(name: &'static str, runs: Vec<(&'static str, Run)>) -> Self {
        Self { name, runs }
    }
}

/// CPU time of `n` calls of `once`.
pub(super) fn time(n: u64, mut once: impl FnMut()) -> Duration {
    let start = cpu_time();
    for _ in 0..n {
        once();
    }
    cpu_time() - start
}

/// CPU time of this thread: it does not advance while other threads have the CPU.
#[cfg(target_os = "linux")]
pub(super) fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Wall time, where there is no CPU clock for a thread.
#[cfg(not(target_os = "linux"))]
pub(super) fn cpu_time() -> Duration {
    use std::{sync::OnceLock, time::Instant};
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
