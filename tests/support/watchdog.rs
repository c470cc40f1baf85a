//! A time limit for each test binary, so that a hang fails instead of blocking.
//!
//! A thread aborts the process after [`LIMIT`]. The test harness has named the hanging test by then: it prints each
//! test that runs for more than 60 seconds. `TEST_TIME_LIMIT` sets another limit in seconds; zero turns it off.

use std::{env, process, thread, time::Duration};

/// Ten times what the slowest binary takes on two busy cores.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs before `main`, as each function in this section does.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
// SAFETY: the section holds pointers to functions that the loader calls without arguments that matter here.
#[unsafe(link_section = ".init_array")]
#[used]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let limit = match env::var("TEST_TIME_LIMIT").map(|text| text.parse()) {
        Ok(Ok(seconds)) => Duration::from_secs(seconds),
        _ => LIMIT,
    };
    if limit.is_zero() {
        return;
    }
    // Not `thread::spawn`, which may panic: a panic must not unwind into C.
    let _ = thread::Builder::new().spawn(move || {
        thread::sleep(limit);
        eprintln!("the tests did not end within {} s: abort", limit.as_secs());
        process::abort();
    });
}
