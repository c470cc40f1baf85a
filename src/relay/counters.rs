//! Byte counts that can be read from outside while a relay runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes delivered, each way, counted as they are written.
///
/// They can be read from any thread, and they outlive the relay: what a dropped or aborted relay has
/// delivered is still to be found here. One `RelayCounters` may be given to many relays; it then holds
/// their sum.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tokio::io::AsyncWriteExt;
/// use tokio_evbuffer::{Relay, relay::RelayCounters};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (mut client, a) = tokio::io::duplex(64);
/// let (_server, b) = tokio::io::duplex(64);
/// let counters = Arc::new(RelayCounters::default());
/// let relay = tokio::spawn(Relay::new(a, b).counters(counters.clone()).run());
///
/// client.write_all(b"five!").await.unwrap();
/// while counters.a_to_b() < 5 {
///     tokio::task::yield_now().await;
/// }
/// relay.abort();
/// assert_eq!((counters.a_to_b(), counters.b_to_a()), (5, 0));
/// # }
/// ```
#[derive(Debug, Default)]
pub struct RelayCounters {
    a_to_b: AtomicU64,
    b_to_a: AtomicU64,
}

impl RelayCounters {
    /// Bytes from a that b has taken.
    pub fn a_to_b(&self) -> u64 {
        self.a_to_b.load(Relaxed)
    }

    /// Bytes from b that a has taken.
    pub fn b_to_a(&self) -> u64 {
        self.b_to_a.load(Relaxed)
    }

    /// Adds what a relay has delivered since it last called this.
    pub(super) fn add(&self, a_to_b: u64, b_to_a: u64) {
        self.a_to_b.fetch_add(a_to_b, Relaxed);
        self.b_to_a.fetch_add(b_to_a, Relaxed);
    }
}
