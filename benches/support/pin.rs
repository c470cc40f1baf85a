//! One CPU for all that is measured.

use std::io;

/// Everything on one CPU: the wake-up of a second one costs more than what is measured.
#[cfg(target_os = "linux")]
pub(crate) fn pin_to_one_cpu() -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(last.ok_or(io::ErrorKind::NotFound)?);
    Ok(sched_setaffinity(None, &one)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin_to_one_cpu() -> io::Result<()> {
    Ok(())
}
