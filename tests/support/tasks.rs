//! Scheduling in tests.

use std::{future::Future, panic::resume_unwind, sync::mpsc, thread, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

/// Only what hangs takes longer, also on a slow and busy machine.
pub const HANG: Duration = Duration::from_secs(120);

/// Fails if `future` hangs.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = timeout(HANG, future).await;
    outcome.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// Yields until `condition` holds, and fails if it never does.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, holds).await;
}

/// Sleeps for about `time`, in parts: if the machine stops meanwhile, the other tasks of the runtime still have many turns
/// before this returns.
pub async fn pause(time: Duration) {
    const PARTS: u32 = 20;
    for _ in 0..PARTS {
        sleep(time / PARTS).await;
    }
}

/// Runs `test` on a separate thread, and fails if it hangs: in a deadlock, or in a loop within one poll.
pub fn in_time<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = mpsc::channel();
    let thread = thread::spawn(move || {
        let output = test();
        let _ = done.send(());
        output
    });
    if finished.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the test hangs");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// As [`in_time`], in a current-thread runtime.
pub fn block_on_in_time<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_time(|| current_thread().block_on(test()));
}

/// Returns a runtime of one thread, with I/O and timers.
pub fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Yields often enough that all other tasks of a current-thread runtime wait and its sockets were polled.
pub async fn yield_many() {
    // Tokio polls sockets after 61 tasks at the latest.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
