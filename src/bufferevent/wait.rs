//! Waits for a connection itself. The check and the registration happen under one lock, so no change is missed.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::coop;

use super::{
    event::{CloseReason, Event, EventQueue, Summary},
    inner::{Control, Inner},
    interest::Interest,
};
use crate::{error::clone_io_error, shared::Mark, sync::Place};

impl Inner {
    /// Polls `check`, which runs under the lock. Registers the task at `place`.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        interest: Interest,
        mut check: impl FnMut(&mut Control) -> Option<T>,
    ) -> Poll<T> {
        let budget = ready!(coop::poll_proceed(cx));
        let checked = check(&mut self.control.lock());
        if let Some(found) = checked {
            budget.made_progress();
            return Poll::Ready(found);
        }
        // A waker is user code: it is cloned before the lock, and a replaced one is dropped after it.
        let waker = cx.waker().clone();
        let mut control = self.control.lock();
        if let Some(found) = check(&mut control) {
            budget.made_progress();
            return Poll::Ready(found);
        }
        let waiters = control.waiters.get_or_insert_default();
        let replaced = waiters.register(place, interest, waker);
        drop(control);
        drop(replaced);
        Poll::Pending
    }

    /// Waits until everything that had been added at `mark` was written and flushed.
    pub(super) fn poll_flushed(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        mark: Mark,
    ) -> Poll<io::Result<()>> {
        if self.is_flushed(mark) {
            return Poll::Ready(Ok(()));
        }
        let ended = self.poll(cx, place, Interest::Flushed(mark), |control| {
            (control.write_failure()).or_else(|| control.state.write.has_ended().then(closed))
        });
        // The write may have happened since the first check.
        if self.is_flushed(mark) {
            return Poll::Ready(Ok(()));
        }
        if ended.is_pending() && self.control.lock().state.write.is_unflushed() {
            // Without a waiting task there was no reason to flush.
            self.task.command();
        }
        ended.map(Err)
    }

    fn is_flushed(&self, mark: Mark) -> bool {
        let output = self.output.lock();
        let is_written = output.is_drained_to(mark);
        drop(output);
        // In this order: the task notes what has to be flushed before it removes the bytes from the output.
        is_written && (self.control.lock().state.write).is_flushed_to(mark.appended)
    }

    /// Waits until the stream was shut down.
    pub(super) fn poll_shutdown(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
    ) -> Poll<io::Result<()>> {
        self.poll(cx, place, Interest::Shutdown, |control| {
            if control.state.write.has_ended() {
                return Some(Ok(()));
            }
            control.write_failure().map(Err)
        })
    }

    /// Gives up a place among the waiting tasks.
    pub(super) fn stop_waiting(&self, place: Place) {
        let mut control = self.control.lock();
        let mut waker = None;
        if let Some(waiters) = &mut control.waiters {
            waker = waiters.remove(place);
            if waiters.is_empty() {
                control.waiters = None;
            }
        }
        drop(control);
        drop(waker);
    }
}

/// A place among the waiting tasks of a connection, given up on drop. It is not a handle: it does not keep the connection
/// open.
pub(super) struct Waiter {
    inner: Arc<Inner>,
    place: Option<Place>,
}

impl Waiter {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            place: None,
        }
    }

    /// Polls `check`, which runs under the lock.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        check: impl FnMut(&mut Control) -> Option<T>,
    ) -> Poll<T> {
        self.inner.poll(cx, &mut self.place, interest, check)
    }

    pub(super) fn poll_flushed(
        &mut self,
        cx: &mut Context<'_>,
        mark: Mark,
    ) -> Poll<io::Result<()>> {
        self.inner.poll_flushed(cx, &mut self.place, mark)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx, &mut self.place)
    }

    /// Waits until the connection is established.
    pub(super) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, Interest::Connected, |control| {
            match control.state.is_established() {
                true => Some(Ok(())),
                false => control.outcome_error().map(Err),
            }
        })
    }

    /// Waits until the peer has ended its stream, or the connection is over.
    pub(super) fn poll_peer_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Interest::PeerClosed, |control| {
            (control.state.read.is_peer_closed() || control.outcome.is_some()).then_some(())
        })
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(cx, Interest::Event, |control| {
            let next = (control.events.as_deref_mut()).and_then(EventQueue::pop_for_next_event);
            match next {
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
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.inner.stop_waiting(place);
        }
    }
}

impl Control {
    /// Returns why nothing more will be written, unless the stream was shut down in order.
    fn write_failure(&self) -> Option<io::Error> {
        let write = &self.state.write;
        if write.has_ended() {
            return None;
        }
        if let Some(error) = write.error() {
            return Some(clone_io_error(error));
        }
        if write.has_timed_out() && !self.state.may_write() {
            return Some(io::ErrorKind::TimedOut.into());
        }
        self.outcome_error()
    }

    /// Returns the error of a connection that is over: the one that ended it, or that it is closed.
    fn outcome_error(&self) -> Option<io::Error> {
        Some(match &self.outcome.as_deref()?.reason {
            CloseReason::Error(error) => clone_io_error(error),
            _ => closed(),
        })
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed")
}
