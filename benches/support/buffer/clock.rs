//! The clock of the workloads.

use std::time::Duration;

/// CPU time of this thread: unlike the clock on the wall, it stands still while others have the CPU.
#[cfg(target_os = "linux")]
pub(super) fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The clock on the wall stands in for it.
#[cfg(not(target_os = "linux"))]
pub(super) fn cpu_time() -> Duration {
    use std::{sync::OnceLock, time::Instant};
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}
