//! Scheduling in tests.

/// Lets all other tasks of a current-thread runtime run until they wait, and the runtime poll its sockets.
pub async fn yield_many() {
    // Tokio polls sockets after 61 tasks at the latest.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
