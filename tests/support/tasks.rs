//! Scheduling in tests.

/// Yields often enough that all other tasks of a current-thread runtime wait and its sockets were polled.
pub async fn yield_many() {
    // Tokio polls sockets after 61 tasks at the latest.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
