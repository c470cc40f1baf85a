//! Writes the output to the stream, flushes the stream, and ends it after the last byte.

use std::{
    io,
    mem::MaybeUninit,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::ReadBuf;

use super::{MESSAGE_MAX, Task};
use crate::{
    EvBuffer,
    bufferevent::{
        endpoint::Endpoint,
        inner::{Calls, Counters},
        interest::Interest,
        task_waker::WakeFor,
    },
    panic::catch_panic,
    transport::poll::{Moved, retry_interrupted},
};

impl<E: Endpoint> Task<E> {
    /// Writes once, if writing is on and there is output.
    pub(super) fn write_output(&mut self, cx: &mut Context<'_>) -> Moved {
        let plan = self.plan;
        if !plan.may_write || self.guard.inner.task.waits_for(WakeFor::OUTPUT) {
            if let Some(throttles) = &mut self.throttles {
                throttles.write.release();
            }
            return Moved::Nothing;
        }
        let max = match &mut self.throttles {
            Some(throttles) => match throttles.write.poll_allowance(cx, plan.max_write as u64) {
                Poll::Pending => return Moved::Nothing,
                Poll::Ready(allowed) => allowed as usize,
            },
            None => plan.max_write,
        };
        let mut room = [const { MaybeUninit::uninit() }; MESSAGE_MAX];
        let mut message = ReadBuf::uninit(&mut room);
        let mut flight = EvBuffer::new();
        let Some(removed) = self.share_output(&mut message, &mut flight, max) else {
            return Moved::Again;
        };
        let Some((polled, needs_flush)) = self.stream.with(|endpoint| {
            let polled = match message.filled() {
                [] => endpoint.poll_write_from(cx, &mut flight, max),
                message => endpoint.poll_write_slice(cx, message),
            };
            (polled, endpoint.needs_flush())
        }) else {
            return Moved::Nothing;
        };
        let moved = Moved::from_poll(polled);
        if let Some(throttles) = &mut self.throttles {
            throttles
                .write
                .moved(moved.as_ref().map_or(0, |moved| moved.bytes()) as u64);
        }
        let moved = match moved {
            Ok(Moved::Bytes(n)) => {
                if needs_flush {
                    // Before a task or callback can see that the bytes have left the output.
                    self.guard.inner.control.lock().state.write.note_unflushed();
                }
                self.remove_written(n, removed);
                Moved::Bytes(n)
            }
            Ok(moved) => moved,
            Err(error) => {
                self.end_writing(Some(error));
                Moved::Again
            }
        };
        if !flight.is_empty() {
            catch_panic("the owner of released memory", || drop(flight));
        }
        moved
    }

    /// Copies the output to `message` if it is short, or shares its front with `flight`. The bytes stay in the output until
    /// they are written. Returns how many bytes had been removed from the output before; `None` if there is nothing to write.
    fn share_output(
        &mut self,
        message: &mut ReadBuf<'_>,
        flight: &mut EvBuffer,
        max: usize,
    ) -> Option<u64> {
        let inner = &self.guard.inner;
        let mut guard = inner.output.lock();
        if E::TAKES_SLICES && guard.len() <= message.remaining().min(max) {
            if let Some(all) = guard.as_message() {
                message.put_slice(all);
                return Some(guard.removed());
            }
        }
        if guard.share_front(flight, max) > 0 {
            return Some(guard.removed());
        }
        inner.task.wait_for(WakeFor::OUTPUT, &mut guard);
        guard.shrink_to_fit();
        None
    }

    /// Removes the `n` bytes that were written. `removed` bytes had been removed from the output when they were shared.
    fn remove_written(&mut self, n: usize, removed: u64) {
        let inner = &self.guard.inner;
        // Before a task or callback can see that the bytes have left the output.
        Counters::count(&inner.counters.bytes_out, &inner.counters.writes, n);
        let mut guard = inner.output.lock();
        // If the user has replaced the output meanwhile, some or all of them are gone.
        let gone = guard.removed().wrapping_sub(removed);
        guard.discard((n as u64).saturating_sub(gone) as usize);
        let (len, low) = (guard.len(), guard.watermarks().low());
        if len == 0 {
            inner.task.wait_for(WakeFor::OUTPUT, &mut guard);
            guard.hint_next_len(n);
        }
        drop(guard);
        tracing::trace!(n, len, "written");
        if len <= low.unwrap_or(0) {
            inner.call(Calls::WRITE);
        }
    }

    fn end_writing(&mut self, error: Option<io::Error>) {
        self.guard.inner.end_writing(error.map(Arc::new));
        self.update_plan();
    }

    /// Ends a turn: notes whether the stream is `blocked`, wakes tasks that wait for what was `written`, flushes, and
    /// shuts the stream down after the last byte. Returns whether a flush or the shutdown waits for the peer.
    pub(super) fn finish_output(
        &mut self,
        cx: &mut Context<'_>,
        blocked: bool,
        written: bool,
    ) -> bool {
        let inner = &self.guard.inner;
        let mut control = inner.control.lock();
        control.state.write.set_blocked(blocked);
        let unflushed = control.state.write.is_unflushed();
        let unacknowledged = control.state.write.awaits_acknowledgement();
        let awaited = (control.waiters.as_ref())
            .is_some_and(|waiters| waiters.waiting().any(Interest::is_flush));
        drop(control);
        if written && awaited && !unflushed {
            inner.wake_flushed();
        }
        if unacknowledged {
            self.check_acknowledged();
        }
        let is_empty = inner.task.waits_for(WakeFor::OUTPUT);
        if !self.plan.may_write || !(is_empty || awaited) {
            return false;
        }
        let closing = is_empty && inner.task.is_output_closed();
        if unflushed {
            match self.poll_flush(cx, awaited, closing) {
                Poll::Pending => return true,
                Poll::Ready(Err(error)) => {
                    self.end_writing(Some(error));
                    return false;
                }
                Poll::Ready(Ok(())) => {}
            }
        }
        if !closing {
            return false;
        }
        match self.poll_endpoint(cx, E::poll_shutdown) {
            Poll::Pending => return true,
            // The peer has already closed its side.
            Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::NotConnected => {
                self.end_writing(Some(error));
            }
            Poll::Ready(_) => {
                self.end_writing(None);
                self.check_acknowledged();
            }
        }
        false
    }

    /// Flushes the stream. One that flushes only when a task waits for it gets only a notice that the output is empty.
    fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        awaited: bool,
        closing: bool,
    ) -> Poll<io::Result<()>> {
        let flushes_when_idle = (self.stream)
            .with(|endpoint| endpoint.flushes_when_idle())
            .unwrap_or(true);
        if closing && !flushes_when_idle {
            return Poll::Ready(Ok(()));
        }
        ready!(match awaited {
            true => self.poll_endpoint(cx, E::poll_flush),
            false => self.poll_endpoint(cx, E::poll_idle),
        })?;
        if awaited || flushes_when_idle {
            self.guard.inner.note_flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_endpoint(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut E, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let polled = self.stream.with(|endpoint| poll(endpoint, cx));
        retry_interrupted(polled.unwrap_or(Poll::Pending), cx)
    }

    /// Asks whether the peer has acknowledged everything, if the stream was shut down. Returns whether it has acknowledged
    /// more than at the last call.
    pub(super) fn check_acknowledged(&self) -> bool {
        let inner = &self.guard.inner;
        if !inner.control.lock().state.write.awaits_acknowledgement() {
            return false;
        }
        let unacknowledged = (self.stream)
            .with(|endpoint| endpoint.unacknowledged())
            .flatten()
            .unwrap_or(0);
        let before = self.unacknowledged.replace(unacknowledged);
        if unacknowledged == 0 {
            inner.control.lock().state.write.acknowledge();
        }
        unacknowledged < before
    }

    /// Returns whether the output is above its high watermark. If not, the output wakes the task when it is.
    pub(super) fn is_output_high(&self) -> bool {
        let inner = &self.guard.inner;
        let mut guard = inner.output.lock();
        let high = guard.is_high();
        if !high {
            inner.task.wait_for(WakeFor::HIGH, &mut guard);
        }
        high
    }
}
