//! What the task does with the output: sends it, flushes it, and ends the stream after it.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Task, Writing};
use crate::{
    EvBuffer,
    bufferevent::{
        endpoint::Wire,
        inner::{Counters, Hears, Written},
        task_waker::Wanted,
    },
    panic::catch_panic,
    sync::Ordering,
    transport::poll::{Moved, retry_interrupted},
};

impl<W: Wire> Task<W> {
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) -> Moved {
        // What is wanted is not there yet.
        if !self.may_write() || self.inner.0.signal.wants(Wanted::OUTPUT) {
            return Moved::Nothing;
        }
        let max = self.settings().max_single_write;
        let mut flight = EvBuffer::new();
        let Some(removed) = self.share(&mut flight, max) else {
            return Moved::Again;
        };
        let Some(wire) = &mut self.wire else {
            return Moved::Nothing;
        };
        let moved = match wire.poll_drain(cx, &mut flight, max) {
            Poll::Pending => Moved::Waits,
            Poll::Ready(Ok(n)) => {
                self.sent(n, removed);
                Moved::Bytes(n)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Moved::Again,
            Poll::Ready(Err(error)) => self.fail_writing(error),
        };
        catch_panic("the owner of released memory", || drop(flight));
        moved
    }

    /// Shares the front of the output, which stays there until it is sent. How much had been removed from there
    /// before; `None` if there is nothing to send.
    fn share(&mut self, flight: &mut EvBuffer, max: usize) -> Option<u64> {
        let inner = &self.inner.0;
        let mut guard = inner.output.lock();
        if guard.share_front(flight, max) > 0 {
            return Some(guard.removed());
        }
        inner.signal.want(Wanted::OUTPUT);
        guard.shrink_to_fit();
        if guard.is_closed() && self.writing == Writing::Open {
            self.writing = Writing::Ending;
        }
        None
    }

    /// Removes the `n` bytes that were sent. Of the output `removed` had been removed when they were shared.
    fn sent(&mut self, n: usize, removed: u64) {
        let inner = &self.inner.0;
        if self.wire.as_ref().is_some_and(Wire::needs_flush) {
            inner.written.fetch_or(Written::UNFLUSHED, Ordering::AcqRel);
        }
        // Before anyone can see that they have left.
        Counters::count(&inner.counters.bytes_out, &inner.counters.writes, n);
        let mut guard = inner.output.lock();
        // Whoever put another buffer there meanwhile has removed some or all of them.
        let gone = guard.removed().wrapping_sub(removed);
        guard.discard((n as u64).saturating_sub(gone) as usize);
        let (len, appended, low) = (guard.len(), guard.appended(), guard.marks().low());
        if len == 0 {
            inner.signal.want(Wanted::OUTPUT);
            guard.hint_next_len(n);
            if guard.is_closed() && self.writing == Writing::Open {
                self.writing = Writing::Ending;
            }
        }
        drop(guard);
        tracing::trace!(n, len, "written");
        if inner.written.load(Ordering::Acquire) & Written::UNFLUSHED == 0 {
            inner.wake_flushed(|mark| mark.is_reached(appended, len));
        }
        if len <= low.unwrap_or(0) {
            inner.call(Hears::WRITE);
        }
    }

    fn fail_writing(&mut self, error: io::Error) -> Moved {
        self.writing = Writing::Failed;
        self.inner.0.writing_ended(Some(Arc::new(error)));
        Moved::Again
    }

    /// Lets the handles see whether a write waits.
    pub(super) fn note_waiting(&self, waits: bool) {
        let written = &self.inner.0.written;
        if (written.load(Ordering::Relaxed) & Written::WAITS != 0) != waits {
            written.fetch_xor(Written::WAITS, Ordering::Relaxed);
        }
    }

    /// Flushes once nothing is left to write, or somebody waits for it, and ends the stream if it is time.
    pub(super) fn end_writing(&mut self, cx: &mut Context<'_>) {
        let inner = &self.inner.0;
        let written = inner.written.load(Ordering::Acquire);
        let empty = inner.signal.wants(Wanted::OUTPUT);
        if !self.may_write() || !(empty || written & Written::AWAITED != 0) {
            return;
        }
        let Some(wire) = &mut self.wire else { return };
        if written & Written::UNFLUSHED != 0 {
            match retry_interrupted(wire.poll_flush(cx), cx) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    self.fail_writing(error);
                    return;
                }
                Poll::Ready(Ok(())) => inner.note_flushed(),
            }
        }
        if !empty {
            return;
        }
        if self.writing != Writing::Ending {
            return;
        }
        match retry_interrupted(wire.poll_shutdown(cx), cx) {
            Poll::Pending => {}
            // The peer was quicker to end all of it.
            Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::NotConnected => {
                self.fail_writing(error);
            }
            Poll::Ready(_) => {
                self.writing = Writing::Ended;
                inner.writing_ended(None);
            }
        }
    }
}
