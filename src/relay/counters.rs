//! Byte counts that can be read, and callbacks that run, while a relay runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::Progress;

/// The bytes written in each direction, counted while the relay runs.
///
/// You can read them from any thread, also after the relay was dropped. If you give the same counters to many relays, they
/// hold the sum.
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
    /// Returns the number of bytes from a that were written to b.
    pub fn a_to_b(&self) -> u64 {
        self.a_to_b.load(Relaxed)
    }

    /// Returns the number of bytes from b that were written to a.
    pub fn b_to_a(&self) -> u64 {
        self.b_to_a.load(Relaxed)
    }

    fn add(&self, a_to_b: u64, b_to_a: u64) {
        self.a_to_b.fetch_add(a_to_b, Relaxed);
        self.b_to_a.fetch_add(b_to_a, Relaxed);
    }
}

/// The counters and the callback of one relay.
#[derive(Default)]
pub(super) struct Observers {
    pub(super) counters: Option<Arc<RelayCounters>>,
    pub(super) on_progress: Option<Box<dyn FnMut(Progress) + Send>>,
    reported: Progress,
}

impl Observers {
    /// Reports what was written since the last report.
    pub(super) fn report(&mut self, progress: Progress) {
        let reported = std::mem::replace(&mut self.reported, progress);
        if reported == progress {
            return;
        }
        if let Some(counters) = &self.counters {
            counters.add(
                progress.a_to_b - reported.a_to_b,
                progress.b_to_a - reported.b_to_a,
            );
        }
        if let Some(on_progress) = &mut self.on_progress {
            on_progress(progress);
        }
    }
}
