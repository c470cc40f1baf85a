//! Scheduling in tests.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

/// Only what hangs takes longer, also on a slow and busy machine.
pub const HANG: Duration = Duration::from_secs(120);

/// Fails if `future` hangs.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = timeout(HANG, future).await;
    outcome.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// Yields often enough that all other tasks of a current-thread runtime wait and its sockets were polled.
pub async fn yield_many() {
    // Tokio polls sockets after 61 tasks at the latest.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
