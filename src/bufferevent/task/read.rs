//! Reads from the stream into the input.

use std::{
    io,
    mem::MaybeUninit,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::ReadBuf;

use super::{MESSAGE_MAX, SHARE, TURN_READ_MAX, Task};
use crate::{
    BufferError, EvBuffer,
    bufferevent::{
        endpoint::Endpoint,
        inner::{Calls, Counters},
        task_waker::WakeFor,
    },
    error::clone_io_error,
    segment::filled_in_place,
    transport::poll::Moved,
};

impl<E: Endpoint> Task<E> {
    /// Reads once, if reading is on and the input has room. This turn has read `before` bytes.
    pub(super) fn read_input(&mut self, cx: &mut Context<'_>, before: usize) -> Moved {
        let plan = self.plan;
        if !plan.may_read {
            return self.pause_reading();
        }
        if before >= TURN_READ_MAX {
            self.reads_later = true;
            return self.pause_reading();
        }
        let want = self
            .sizer
            .offer()
            .min(plan.max_read)
            .min(TURN_READ_MAX - before);
        let is_bulk = self.sizer.is_bulk();
        let mut frames = None;
        if self.guard.inner.task.take_watermarks() || self.room < want || is_bulk {
            let here = self.update_room(before);
            if is_bulk {
                if before > 0 && self.frames.is_blocked(here, self.room) {
                    // The tasks that take the frames make more room.
                    self.reads_later = true;
                    return self.pause_reading();
                }
                frames = self.frames.read(here, self.room.min(plan.max_read));
            }
        }
        let offered = frames.map_or(want.min(self.room), |frames| frames.max);
        if offered == 0 {
            return self.pause_reading();
        }
        let block = frames.map_or(offered, |frames| frames.block);
        if let (Some(account), false) = (&self.account, plan.discards) {
            if account.is_exceeded() && account.poll_resumed(cx).is_pending() {
                return self.pause_reading();
            }
        }
        // Also for bytes that are discarded: a peer that sends without end should not use more after the close.
        let mut throttle = self.throttles.as_mut().map(|throttles| &mut throttles.read);
        let offered = match throttle
            .as_mut()
            .map(|throttle| throttle.poll_allowance(cx, offered as u64))
        {
            Some(Poll::Pending) => return Moved::Nothing,
            Some(Poll::Ready(allowed)) => allowed as usize,
            None => offered,
        };
        let mut room = [const { MaybeUninit::uninit() }; MESSAGE_MAX];
        let mut message = ReadBuf::uninit(&mut room[..offered.min(MESSAGE_MAX)]);
        let mut chain = EvBuffer::new();
        let start = message.filled().as_ptr();
        let Some(polled) = self.stream.with(|endpoint| {
            if E::TAKES_SLICES && offered <= MESSAGE_MAX {
                if let Some(polled) = endpoint.poll_read_slice(cx, &mut message) {
                    ready!(polled)?;
                    return Poll::Ready(filled_in_place(&message, start).map(<[u8]>::len));
                }
            }
            endpoint.poll_read_into(cx, &mut chain, offered, block)
        }) else {
            return Moved::Nothing;
        };
        let moved = Moved::from_poll(polled);
        if let Some(throttle) = throttle {
            throttle.moved(moved.as_ref().map_or(0, |moved| moved.bytes()) as u64);
        }
        match moved {
            Ok(Moved::Bytes(0)) => self.end_reading(self.end_of_stream()),
            Ok(Moved::Bytes(n)) => {
                self.sizer.record(offered, n);
                self.frames.record_read(offered, n);
                let counters = &self.guard.inner.counters;
                Counters::count(&counters.bytes_in, &counters.reads, n);
                self.add_to_input(n, message.filled(), chain);
                Moved::Bytes(n)
            }
            Ok(moved) => moved,
            Err(error) => {
                let error = self.unless_allowed(error);
                self.end_reading(error)
            }
        }
    }

    /// Reading is paused for another reason than its rate limit.
    fn pause_reading(&mut self) -> Moved {
        if let Some(throttles) = &mut self.throttles {
            throttles.read.release();
        }
        Moved::Nothing
    }

    /// Asks the input for its room, and for the length of its frames. Without room, the input wakes the task when it has some.
    /// Returns the number of bytes in the input.
    ///
    /// A turn that has filled the input is not woken by it. With bulk in both, that wake-up and those of the tasks behind
    /// it would keep the runtime from its I/O driver for many turns.
    fn update_room(&mut self, before: usize) -> usize {
        if self.plan.discards {
            self.room = usize::MAX;
            return 0;
        }
        let inner = &self.guard.inner;
        let mut guard = inner.input.lock();
        self.room = guard.room();
        if let Some(frame) = guard.awaited_frame() {
            self.frames.record(frame);
        }
        let here = guard.len();
        self.reads_later = self.room == 0 && before >= SHARE;
        if self.room == 0 && !self.reads_later {
            inner.task.wait_for(WakeFor::ROOM, &mut guard);
        }
        here
    }

    /// Adds the `n` bytes that were read to the input: the message, or the chain if there is no message.
    fn add_to_input(&mut self, n: usize, message: &[u8], mut chain: EvBuffer) {
        if self.plan.discards {
            return;
        }
        let inner = &self.guard.inner;
        let mut guard = inner.input.lock();
        let added = match message.is_empty() {
            true => guard.add_read(&mut chain).map(drop),
            false => guard.add_read_copy(message),
        };
        let (len, low) = (guard.len(), guard.watermarks().low());
        self.room = guard.room();
        drop(guard);
        match added {
            Ok(()) => {
                tracing::trace!(n, len, "read");
                if len >= low.unwrap_or(0) {
                    inner.call(Calls::READ);
                }
            }
            // The user has closed the input.
            Err(BufferError::Closed) => {
                inner.control.lock().state.read.discard();
                self.update_plan();
            }
            Err(error) => {
                self.end_reading(Some(error.into()));
            }
        }
    }

    /// Watches for the end of the peer while reading is paused.
    pub(super) fn poll_hang_up(&mut self, cx: &mut Context<'_>) {
        let inner = &self.guard.inner;
        let control = inner.control.lock();
        let read = &control.state.read;
        let is_unknown = read.is_open() && !read.is_peer_closed();
        drop(control);
        if !is_unknown {
            return;
        }
        match self.stream.with(|endpoint| endpoint.poll_hang_up(cx)) {
            Some(Poll::Ready(Ok(()))) => inner.note_peer_closed(),
            Some(Poll::Ready(Err(error))) => {
                match self.stream.with(|endpoint| endpoint.has_unread()) {
                    Some(true) => inner.note_reset(Arc::new(error)),
                    _ => inner.end_reading(Some(Arc::new(error))),
                }
                self.update_plan();
            }
            Some(Poll::Pending) | None => {}
        }
    }

    /// The error behind a read of zero bytes, if it is not an orderly end: once a write has returned a reset, the socket
    /// reports no other error.
    fn end_of_stream(&self) -> Option<io::Error> {
        let control = self.guard.inner.control.lock();
        let error = control.state.write.error()?;
        (error.kind() == io::ErrorKind::ConnectionReset).then(|| clone_io_error(error))
    }

    /// The error, unless the user allows it to count as an end.
    fn unless_allowed(&self, error: io::Error) -> Option<io::Error> {
        let is_truncation = error.kind() == io::ErrorKind::UnexpectedEof;
        let allowed = is_truncation && self.guard.inner.control.lock().settings().allow_truncation;
        (!allowed).then_some(error)
    }

    fn end_reading(&mut self, error: Option<io::Error>) -> Moved {
        self.guard.inner.end_reading(error.map(Arc::new));
        self.update_plan();
        Moved::Again
    }
}
