//! What the handles, the task and the queue of callbacks share.

use std::{
    any::{Any, TypeId},
    io,
    sync::Arc,
    task::Waker,
};

use super::{
    CloseReason, Direction, Event, Metrics, Summary,
    callbacks::Slots,
    control::{CloseMode, ConnectionState},
    endpoint::AnyStream,
    event::EventQueue,
    settings::Settings,
    task_waker::TaskWaker,
    waiters::{Interest, Waiters},
};
use crate::{
    DeferredQueue, EvBuffer, SharedEvBuffer,
    buffer::End,
    deferred::Source,
    panic::catch_panic,
    sync::{AtomicU8, AtomicU64, Lock, Ordering},
};

/// One connection.
pub(super) struct Inner {
    pub(super) input: SharedEvBuffer,
    pub(super) output: SharedEvBuffer,
    pub(super) task: Arc<TaskWaker>,
    pub(super) control: Lock<Control>,
    pub(super) source: Source,
    pub(super) queue: DeferredQueue,
    /// The number of handles, plus one if the connection was detached.
    pub(super) handles: AtomicU64,
    /// The callbacks that are set: bits of [`Calls`].
    pub(super) subscribed: AtomicU8,
    /// The callbacks that are due: bits of [`Calls`].
    pub(super) due: AtomicU8,
    pub(super) counters: Counters,
}

/// Bits of [`Inner::subscribed`] and [`Inner::due`].
pub(super) struct Calls;

impl Calls {
    pub(super) const READ: u8 = 1;
    pub(super) const WRITE: u8 = 1 << 1;
    pub(super) const EVENT: u8 = 1 << 2;
    /// The read callback, even if the input is below its low watermark.
    pub(super) const READ_BELOW_LOW: u8 = 1 << 3;
}

/// Written by the task only.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
}

/// What the lock of a connection guards.
pub(super) struct Control {
    pub(super) state: ConnectionState,
    /// `None` for the default.
    pub(super) settings: Option<Box<Settings>>,
    pub(super) slots: Option<Box<Slots>>,
    pub(super) waiters: Waiters,
    pub(super) events: Option<Box<EventQueue>>,
    /// Set when the connection is over.
    pub(super) outcome: Option<Box<Summary>>,
    /// The stream that the task uses, for the handles to look at.
    pub(super) stream: Option<Arc<dyn AnyStream>>,
    pub(super) stream_type: TypeId,
    /// Calls that wait for the stream itself.
    pub(super) takers: u32,
    /// The stream, for a call that waits for it.
    pub(super) taken: Option<Box<Taken>>,
}

/// What the task hands to a call that waits for the stream.
pub(super) struct Taken {
    pub(super) stream: Box<dyn Any + Send>,
    pub(super) input: EvBuffer,
    pub(super) output: EvBuffer,
}

impl Inner {
    pub(super) fn new(
        (input, output): (SharedEvBuffer, SharedEvBuffer),
        queue: DeferredQueue,
        state: ConnectionState,
        settings: Settings,
        stream_type: TypeId,
    ) -> Self {
        input.set_owner_frozen(End::Back, true);
        output.set_owner_frozen(End::Front, true);
        input.defer_to(queue.clone());
        output.defer_to(queue.clone());
        let task = Arc::new(TaskWaker::new());
        task.follow(&input, &output);
        Self {
            input,
            output,
            task,
            control: Lock::new(Control {
                state,
                settings: (settings != Settings::DEFAULT).then(|| Box::new(settings)),
                slots: None,
                waiters: Waiters::default(),
                events: None,
                outcome: None,
                stream: None,
                stream_type,
                takers: 0,
                taken: None,
            }),
            source: Source::new(),
            queue,
            handles: AtomicU64::new(1),
            subscribed: AtomicU8::new(0),
            due: AtomicU8::new(0),
            counters: Counters::default(),
        }
    }

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
        let wakers = control.push_event(event);
        drop(control);
        wake_all(wakers);
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

    /// The stream of the peer has ended in order, or reading failed.
    pub(super) fn end_reading(self: &Arc<Self>, error: Option<Arc<io::Error>>) {
        let mut control = self.control.lock();
        control.state.read.end(error.clone());
        let wakers = control
            .waiters
            .take(|interest| interest == Interest::PeerClosed);
        drop(control);
        wake_all(wakers);
        self.close_input(error.as_ref());
        if !self.input.is_empty() {
            // The callback has not been called for bytes below the low watermark.
            self.call(Calls::READ_BELOW_LOW | Calls::READ);
        }
        self.report(match error {
            None => Event::Eof,
            Some(error) => Event::ReadError(error),
        });
    }

    /// The stream was shut down in order, or writing failed.
    pub(super) fn end_writing(self: &Arc<Self>, error: Option<Arc<io::Error>>) {
        self.output.close();
        let mut control = self.control.lock();
        control.state.write.end(error.clone());
        let wakers = control.waiters.take(Interest::is_about_writing);
        drop(control);
        wake_all(wakers);
        if let Some(error) = error {
            self.report(Event::WriteError(error));
        }
    }

    /// The peer has ended its stream, and reading is paused.
    pub(super) fn note_peer_closed(self: &Arc<Self>) {
        let mut control = self.control.lock();
        if !control.state.read.note_peer_closed() {
            return;
        }
        let wakers = control
            .waiters
            .take(|interest| interest == Interest::PeerClosed);
        drop(control);
        wake_all(wakers);
        self.report(Event::PeerClosed);
    }

    /// Closes the input. Its bytes can still be read; after them readers see the end, or `error`.
    fn close_input(&self, _error: Option<&Arc<io::Error>>) {
        self.input.close();
    }

    /// Everything that was written so far has been flushed.
    pub(super) fn note_flushed(&self) {
        let output = self.output.lock();
        let (len, appended) = (output.len(), output.appended());
        drop(output);
        let flushed = appended.wrapping_sub(len as u64);
        let mut control = self.control.lock();
        control.state.write.note_flushed(flushed);
        let wakers = control.waiters.take(
            |interest| matches!(interest, Interest::Flushed(mark) if mark.appended <= flushed),
        );
        drop(control);
        wake_all(wakers);
    }

    /// Wakes the tasks that wait for bytes which were written, of a stream that needs no flush.
    pub(super) fn wake_flushed(&self) {
        let output = self.output.lock();
        let (len, appended) = (output.len(), output.appended());
        drop(output);
        let mut control = self.control.lock();
        let wakers = control.waiters.take(
            |interest| matches!(interest, Interest::Flushed(mark) if mark.is_reached(appended, len)),
        );
        drop(control);
        wake_all(wakers);
    }

    /// The connection that was to be made is established.
    #[cfg(feature = "net")]
    pub(super) fn note_connected(self: &Arc<Self>) {
        let mut control = self.control.lock();
        control.state.establish();
        let wakers = (control.waiters).take(|interest| interest == Interest::Connected);
        drop(control);
        wake_all(wakers);
        self.report(Event::Connected);
    }

    /// Switches off a direction in which nothing has moved for too long, and wakes the tasks that wait for it.
    pub(super) fn time_out(self: &Arc<Self>, direction: Direction) {
        let mut control = self.control.lock();
        control.state.time_out(direction);
        let (buffer, event, wakers) = match direction {
            Direction::Read => (&self.input, Event::ReadTimeout, Vec::new()),
            Direction::Write => {
                let wakers = control.waiters.take(Interest::is_about_writing);
                (&self.output, Event::WriteTimeout, wakers)
            }
        };
        drop(control);
        buffer.rouse();
        wake_all(wakers);
        self.report(event);
    }

    /// Moves the contents of the buffers and the stream to where a call that waits for the stream finds them.
    pub(super) fn hand_over(&self, stream: Box<dyn Any + Send>) {
        // What is added from now on would be in neither place.
        self.input.close();
        self.output.close();
        let input = self.input.lock().replace(EvBuffer::new());
        let output = self.output.lock().replace(EvBuffer::new());
        self.control.lock().taken = Some(Box::new(Taken {
            stream,
            input,
            output,
        }));
    }

    /// Ends the connection. The first reason counts.
    pub(super) fn finish(self: &Arc<Self>, reason: CloseReason) {
        self.task.unregister();
        let mut control = self.control.lock();
        if control.outcome.is_some() {
            return;
        }
        control.state.stop(&reason);
        let error = control.state.read.error().cloned();
        drop(control);
        self.close_input(error.as_ref());
        self.output.close();
        let metrics = self.counters.read();
        let mut summary = Summary {
            bytes_in: metrics.bytes_in,
            bytes_out: metrics.bytes_out,
            unsent: self.output.len() as u64,
            reason,
        };
        let mut control = self.control.lock();
        if control.outcome.is_some() {
            return;
        }
        if let Some(taken) = &control.taken {
            summary.unsent = taken.output.len() as u64;
        }
        let runtime_is_gone = summary.reason == CloseReason::RuntimeShutdown;
        tracing::debug!(?summary, "closed");
        control.outcome = Some(Box::new(summary));
        let mut wakers = control.push_event(Event::Closed);
        wakers.extend(control.waiters.take(|_| true));
        let stream = control.stream.take();
        // Callbacks that will not run must not keep alive what they own.
        let canceled = match runtime_is_gone || self.handles.load(Ordering::Acquire) == 0 {
            true => control.slots.take(),
            false => None,
        };
        let has_callbacks = control.slots.is_some();
        drop(control);
        catch_panic("the drop of a callback", || drop(canceled));
        catch_panic("the drop of a stream", || drop(stream));
        wake_all(wakers);
        if has_callbacks {
            // Even if none of them is called: the last run drops them.
            self.queue.schedule(self);
        }
    }

    /// Switches a direction on or off.
    pub(super) fn set_enabled(&self, direction: Direction, on: bool) {
        self.command(|control| control.state.set_enabled(direction, on));
    }
}

impl Control {
    pub(super) fn settings(&self) -> &Settings {
        self.settings.as_deref().unwrap_or(&Settings::DEFAULT)
    }

    pub(super) fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = *self.settings();
        change(&mut settings);
        self.settings = (settings != Settings::DEFAULT).then(|| Box::new(settings));
    }

    /// Queues an event. Returns the tasks to wake after the lock was released.
    #[must_use]
    fn push_event(&mut self, event: Event) -> Vec<Waker> {
        self.events.get_or_insert_default().push(event);
        self.waiters.take(|interest| interest == Interest::Event)
    }

    /// The number of events that the event callback has not seen.
    pub(super) fn events_for_callback(&self) -> usize {
        (self.events.as_deref()).map_or(0, EventQueue::len_for_callback)
    }
}

impl Counters {
    pub(super) fn read(&self) -> Metrics {
        Metrics {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }

    /// Adds to a count of bytes and one of calls. Only the task writes, so that a load and a store are enough.
    #[inline]
    pub(super) fn count(bytes: &AtomicU64, calls: &AtomicU64, n: usize) {
        bytes.store(bytes.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
        calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Wakes tasks. Wakers are user code, so no lock may be held.
pub(super) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        catch_panic("a waker", || waker.wake());
    }
}

/// Another copy of an error. It keeps the code of the operating system, or else the original as its source.
pub(super) fn clone_io_error(error: &Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), Arc::clone(error)),
    }
}
