//! Waiting until the jobs that were queued have run.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::jobs::JobQueue;
use crate::sync::Place;

/// The future of [`DeferredQueue::drained`](crate::DeferredQueue::drained).
#[must_use = "futures do nothing unless polled"]
pub struct Drained {
    jobs: Arc<JobQueue>,
    /// The number of finished jobs to wait for.
    target: u64,
    place: Option<Place>,
}

impl Drained {
    /// Waits for all jobs that were pushed before this call.
    pub(super) fn new(jobs: &Arc<JobQueue>) -> Self {
        Self {
            target: jobs.pushed(),
            jobs: Arc::clone(jobs),
            place: None,
        }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let waker = cx.waker().clone(); // user code: before the lock
        this.jobs.poll_finished(this.target, &mut this.place, waker)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.jobs.stop_waiting(place);
        }
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}
