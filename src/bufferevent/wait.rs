//! Waiting for a BufferEvent itself: look and register under one lock, so that nothing can fall between the two.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::coop;

use super::{
    Event, Summary,
    inner::{Control, Inner, Writing, Written, same},
    waiters::{Interest, Key},
};
use crate::{shared::Mark, sync::Ordering};

/// A place among the waiters of a connection, given back when it is dropped. Not a handle: it keeps nothing open.
pub(super) struct Waiter {
    inner: Arc<Inner>,
    key: Option<Key>,
}

impl Waiter {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            key: None,
        }
    }

    /// Polls `look`, which runs under the lock.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut look: impl FnMut(&mut Control) -> Option<T>,
    ) -> Poll<T> {
        let budget = ready!(coop::poll_proceed(cx));
        let looked = look(&mut self.inner.control.lock());
        if let Some(found) = looked {
            budget.made_progress();
            return Poll::Ready(found);
        }
        // Cloning it is foreign code, and not for under the lock.
        let waker = cx.waker().clone();
        let mut control = self.inner.control.lock();
        if let Some(found) = look(&mut control) {
            budget.made_progress();
            return Poll::Ready(found);
        }
        let replaced = control.waiters.register(&mut self.key, interest, waker);
        if matches!(interest, Interest::Flushed(_)) {
            self.inner
                .written
                .fetch_or(Written::AWAITED, Ordering::AcqRel);
        }
        drop(control);
        drop(replaced);
        Poll::Pending
    }

    /// Waits until all that had been added at `mark` has been handed on and flushed.
    pub(super) fn poll_flushed(
        &mut self,
        cx: &mut Context<'_>,
        mark: Mark,
    ) -> Poll<io::Result<()>> {
        let inner = Arc::clone(&self.inner);
        if inner.is_flushed(mark) {
            return Poll::Ready(Ok(()));
        }
        let ended = self.poll(cx, Interest::Flushed(mark), |control| {
            (control.why_not_written()).or_else(|| control.is_written().then(closed))
        });
        if ended.is_pending() && inner.written.load(Ordering::Acquire) & Written::UNFLUSHED != 0 {
            // The task may have seen no reason to flush.
            inner.signal.order();
        }
        // Either may have come since the first look.
        match ended {
            _ if inner.is_flushed(mark) => Poll::Ready(Ok(())),
            ended => ended.map(Err),
        }
    }

    /// Waits until the stream was ended.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, Interest::Shutdown, |control| {
            if control.is_written() {
                return Some(Ok(()));
            }
            control.why_not_written().map(Err)
        })
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(cx, Interest::Event, |control| {
            match control.next_unasked() {
                Some(event) => Some(Some(event)),
                None => control.outcome.is_some().then_some(None),
            }
        })
    }

    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Summary> {
        self.poll(cx, Interest::Closed, |control| {
            control.outcome.as_deref().cloned()
        })
    }

    /// Waits until the connection is over, and looks with `look` first.
    pub(super) fn poll_end<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnMut(&mut Control) -> Option<T>,
    ) -> Poll<T> {
        self.poll(cx, Interest::Closed, look)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.inner.control.lock().waiters.forget(key);
            drop(waker);
        }
    }
}

impl Inner {
    fn is_flushed(&self, mark: Mark) -> bool {
        let output = self.output.lock();
        let sent = mark.is_reached(output.appended(), output.len());
        drop(output);
        // Only then: the task notes that there is something to flush before it removes from the output what it sent.
        let unflushed = self.written.load(Ordering::Acquire) & Written::UNFLUSHED != 0;
        sent && (!unflushed || mark.appended <= self.flushed.load(Ordering::Acquire))
    }
}

impl Control {
    fn is_written(&self) -> bool {
        matches!(self.writing, Writing::Ended)
    }

    /// Why nothing more will be written, though the stream was not ended in order.
    fn why_not_written(&self) -> Option<io::Error> {
        match &self.writing {
            Writing::Failed(error) => Some(same(error)),
            Writing::Open if self.timed_out.write => Some(io::ErrorKind::TimedOut.into()),
            _ => self.outcome.is_some().then(closed),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed")
}
