//! What happens to a connection: commands, events, and the ends of its directions. Each changes the state under the lock, and
//! notifies after it.

use std::{
    any::{Any, TypeId},
    io,
    sync::Arc,
};

use tracing::Span;

use super::{
    control::CloseMode,
    event::{CloseReason, Direction, Event, Summary},
    inner::{Calls, Control, Inner, Taken, Upgrade},
    interest::Interest,
};
use crate::{
    EvBuffer,
    limits::budget::Account,
    panic::catch_panic,
    sync::{Ordering, WakeList},
};

impl Inner {
    /// Changes what the task is to do, and wakes it.
    pub(super) fn command(&self, change: impl FnOnce(&mut Control)) {
        change(&mut self.control.lock());
        self.task.command();
    }

    /// Requests an end of the connection. The most urgent request counts.
    pub(super) fn request_close(&self, mode: CloseMode) {
        self.command(|control| {
            if control.outcome.is_none() {
                control.state.request_close(mode);
            }
        });
    }

    /// Reports an event.
    pub(super) fn report(self: &Arc<Self>, event: Event) {
        tracing::debug!(?event, "event");
        let mut control = self.control.lock();
        if control.outcome.is_some() {
            // `Closed` is the last one.
            return;
        }
        let discarded = control.events.get_or_insert_default().push(event);
        let mut wakers = control.take_due(|interest| interest == Interest::Event);
        drop(control);
        catch_panic("the drop of an event", || drop(discarded));
        wakers.wake_all();
        self.schedule(Calls::EVENT);
    }

    /// Marks a callback as due, and schedules it if it is set.
    #[inline]
    pub(super) fn call(self: &Arc<Self>, which: u8) {
        if self.due.load(Ordering::Acquire) & which != which {
            self.due.fetch_or(which, Ordering::AcqRel);
        }
        self.schedule(which);
    }

    #[inline]
    fn schedule(self: &Arc<Self>, which: u8) {
        if self.subscribed.load(Ordering::Acquire) & which != 0 {
            self.queue.schedule(self);
        }
    }

    /// Records that the stream of the peer has ended in order, or reading failed.
    pub(super) fn end_reading(self: &Arc<Self>, error: Option<Arc<io::Error>>) {
        let mut control = self.control.lock();
        let reset = control.state.read.reset().cloned();
        let is_reported = reset.is_some();
        let error = reset.or(error);
        control.state.read.end(error.clone());
        let mut wakers = control.take_due(|interest| interest == Interest::PeerClosed);
        drop(control);
        wakers.wake_all();
        self.close_input(error.as_ref());
        if !self.input.is_empty() {
            // The callback has not been called for bytes below the low watermark.
            self.call(Calls::READ_BELOW_LOW | Calls::READ);
        }
        if !is_reported {
            self.report(match error {
                None => Event::Eof,
                Some(error) => Event::ReadError(error),
            });
        }
    }

    /// Records that the stream was shut down in order, or writing failed.
    pub(super) fn end_writing(self: &Arc<Self>, error: Option<Arc<io::Error>>) {
        self.output.give_up();
        let mut control = self.control.lock();
        control.state.write.end(error.clone());
        let mut wakers = control.take_due(Interest::is_about_writing);
        drop(control);
        wakers.wake_all();
        if let Some(error) = error {
            self.report(Event::WriteError(error));
        }
    }

    /// Records that the peer has ended its stream, and reading is paused.
    pub(super) fn note_peer_closed(self: &Arc<Self>) {
        let mut control = self.control.lock();
        if !control.state.read.note_peer_closed() {
            return;
        }
        let mut wakers = control.take_due(|interest| interest == Interest::PeerClosed);
        drop(control);
        wakers.wake_all();
        self.report(Event::PeerClosed);
    }

    /// Records that the peer has reset the connection while reading is paused. Nothing more can be written, and what it had
    /// sent before is read when the input takes it.
    pub(super) fn note_reset(self: &Arc<Self>, error: Arc<io::Error>) {
        self.output.give_up();
        let mut control = self.control.lock();
        control.state.note_reset(Arc::clone(&error));
        let mut wakers = control
            .take_due(|interest| interest == Interest::PeerClosed || interest.is_about_writing());
        drop(control);
        wakers.wake_all();
        self.report(Event::ReadError(error));
    }

    /// Closes the input. Its bytes can still be read; after them readers see the end, or `error`.
    fn close_input(&self, error: Option<&Arc<io::Error>>) {
        match error {
            None => self.input.close(),
            Some(error) => self.input.close_with_arc(Arc::clone(error)),
        }
    }

    /// Records that everything that was written so far has been flushed.
    pub(super) fn note_flushed(&self) {
        let output = self.output.lock();
        let (len, appended) = (output.len(), output.appended());
        drop(output);
        let flushed = appended.wrapping_sub(len as u64);
        let mut control = self.control.lock();
        control.state.write.note_flushed(flushed);
        let mut wakers = control.take_due(
            |interest| matches!(interest, Interest::Flushed(mark) if mark.appended <= flushed),
        );
        drop(control);
        wakers.wake_all();
    }

    /// Wakes the tasks that wait for bytes which were written, of a stream that needs no flush.
    pub(super) fn wake_flushed(&self) {
        let output = self.output.lock();
        let (len, appended) = (output.len(), output.appended());
        drop(output);
        let mut control = self.control.lock();
        let mut wakers = control.take_due(
            |interest| matches!(interest, Interest::Flushed(mark) if mark.is_reached(appended, len)),
        );
        drop(control);
        wakers.wake_all();
    }

    /// Records that the connection is established.
    #[cfg(feature = "net")]
    pub(super) fn note_connected(self: &Arc<Self>) {
        let mut control = self.control.lock();
        control.state.establish();
        let mut wakers = control.take_due(|interest| interest == Interest::Connected);
        drop(control);
        wakers.wake_all();
        self.report(Event::Connected);
    }

    /// Switches off a direction in which nothing has moved for too long, and wakes the tasks that wait for it.
    pub(super) fn time_out(self: &Arc<Self>, direction: Direction) {
        let mut control = self.control.lock();
        control.state.time_out(direction);
        let (buffer, event, mut wakers) = match direction {
            Direction::Read => (&self.input, Event::ReadTimeout, WakeList::default()),
            Direction::Write => {
                let wakers = control.take_due(Interest::is_about_writing);
                (&self.output, Event::WriteTimeout, wakers)
            }
        };
        drop(control);
        buffer.wake_all();
        wakers.wake_all();
        self.report(event);
    }

    /// Moves the stream and the contents of the buffers to where a call of `into_inner` finds them.
    pub(super) fn hand_over(&self, stream: Box<dyn Any + Send>) {
        // What is added from now on would be in neither place. For readers of other handles the stream has not ended.
        self.input
            .close_with(io::ErrorKind::ConnectionAborted.into());
        self.output.close();
        let taken = Taken {
            stream,
            input: self.input.lock().replace(EvBuffer::new()),
            output: self.output.take_all(),
            span: None,
        };
        self.control.lock().extras_mut().taken = Some(Box::new(taken));
    }

    /// Moves the stream and the contents of the input to where a call of `upgrade` finds them.
    pub(super) fn hand_over_for_upgrade(
        &self,
        stream: Box<dyn Any + Send>,
        span: Option<Box<Span>>,
    ) {
        let taken = Taken {
            stream,
            input: self.input.lock().replace(EvBuffer::new()),
            output: EvBuffer::new(),
            span,
        };
        let mut control = self.control.lock();
        let extras = control.extras_mut();
        if extras.upgrade != Upgrade::Running {
            // The upgrade was dropped meanwhile, which ends the connection.
            drop(control);
            catch_panic("the drop of a stream", || drop(taken));
            return;
        }
        extras.taken = Some(Box::new(taken));
        let cell = control.stream.take();
        let mut wakers = control.take_due(|interest| interest == Interest::Closed);
        drop(control);
        drop(cell);
        wakers.wake_all();
    }

    /// Takes note of the stream that replaces another one, and of the bytes in front of it.
    pub(super) fn replace_stream(self: &Arc<Self>, stream_type: TypeId, mut prefix: EvBuffer) {
        let mut control = self.control.lock();
        control.stream_type = stream_type;
        let extras = control.extras_mut();
        extras.upgrade = Upgrade::None;
        extras.takers = 0;
        extras.stream_number += 1;
        control.state.write.discard_unflushed();
        let mut wakers = control.take_due(|interest| interest == Interest::Closed);
        drop(control);
        wakers.wake_all();
        if !prefix.is_empty() && self.input.lock().add_read(&mut prefix).is_ok() {
            self.call(Calls::READ);
        }
    }

    /// Ends the connection. The first reason counts.
    pub(super) fn finish(self: &Arc<Self>, reason: CloseReason) {
        self.task.unregister();
        let mut control = self.control.lock();
        if control.outcome.is_some() {
            return;
        }
        let error = control.state.stop(&reason);
        drop(control);
        self.close_input(error.as_ref());
        self.output.give_up();
        let metrics = self.counters.read();
        let mut summary = Summary {
            bytes_in: metrics.bytes_in,
            bytes_out: metrics.bytes_out,
            unsent: self.output.len() as u64 + self.counters.unsent_below.load(Ordering::Relaxed),
            reason,
        };
        let mut control = self.control.lock();
        if control.outcome.is_some() {
            return;
        }
        if let Some(taken) = control.extras().and_then(|extras| extras.taken.as_ref()) {
            summary.unsent = taken.output.len() as u64;
        }
        let runtime_is_gone = summary.reason == CloseReason::RuntimeShutdown;
        tracing::debug!(?summary, "closed");
        control.outcome = Some(Box::new(summary));
        let events = control.events.get_or_insert_default();
        let discarded = events.push(Event::Closed);
        let mut wakers = control.take_due(|_| true);
        let stream = control.stream.take();
        let rate = (control.extras.as_mut()).and_then(|extras| extras.rate.take());
        // No call of `into_inner` waits for it any more.
        let unclaimed = (control.extras.as_mut())
            .filter(|extras| extras.takers == 0)
            .and_then(|extras| extras.taken.take());
        // Callbacks that will not run must not keep alive what they own.
        let canceled = match runtime_is_gone || self.handles.load(Ordering::Acquire) == 0 {
            true => control.slots.take(),
            false => None,
        };
        let has_callbacks = control.slots.is_some();
        drop(control);
        catch_panic("the drop of a callback", || drop(canceled));
        catch_panic("the drop of a stream", || drop((stream, unclaimed)));
        catch_panic("the drop of an event", || drop(discarded));
        drop(rate);
        wakers.wake_all();
        if has_callbacks {
            // Even if none of them is called: the last run drops them.
            self.queue.schedule(self);
        }
    }

    /// Makes the memory of both buffers count for `account`.
    pub(super) fn open_account(&self, account: Arc<Account>) {
        self.control.lock().extras_mut().account = Some(Arc::clone(&account));
        self.input.lock().set_account(Arc::clone(&account));
        self.output.lock().set_account(account);
    }

    /// Switches a direction on or off.
    pub(super) fn set_enabled(&self, direction: Direction, on: bool) {
        self.command(|control| control.state.set_enabled(direction, on));
    }
}
