//! What the handles, the task and the queue of callbacks share.

use std::{
    any::{Any, TypeId},
    collections::VecDeque,
    io,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use super::{
    CloseReason, Direction, Event, Metrics, Summary,
    callbacks::Slots,
    task_waker::Signal,
    waiters::{Interest, Waiters},
};
use crate::{
    DeferredQueue, EvBuffer, SharedEvBuffer,
    buffer::End,
    deferred::Source,
    panic::catch_panic,
    shared::Mark,
    sync::{AtomicU8, AtomicU64, Lock, Ordering},
};

/// Events that nobody has asked for are kept up to so many; then the oldest are let go.
const EVENTS_MAX: usize = 64;

/// One connection.
pub(super) struct Inner {
    pub(super) input: SharedEvBuffer,
    pub(super) output: SharedEvBuffer,
    pub(super) signal: Arc<Signal>,
    pub(super) control: Lock<Control>,
    pub(super) source: Source,
    pub(super) queue: DeferredQueue,
    /// Handles that there are, and one more if it was detached.
    pub(super) handles: AtomicU64,
    /// The callbacks that are set: bits of [`Hears`].
    pub(super) hears: AtomicU8,
    /// The callbacks that are due: bits of [`Hears`].
    pub(super) due: AtomicU8,
    /// How the writing of the task stands: bits of [`Written`].
    pub(super) written: AtomicU8,
    /// What was appended up to here was written and flushed, by a stream that has to be flushed.
    pub(super) flushed: AtomicU64,
    pub(super) counters: Counters,
    /// Of the stream, for whom wants it back.
    pub(super) stream_type: TypeId,
}

/// Bits of [`Inner::hears`] and [`Inner::due`].
pub(super) struct Hears;

impl Hears {
    pub(super) const READ: u8 = 1;
    pub(super) const WRITE: u8 = 1 << 1;
    pub(super) const EVENT: u8 = 1 << 2;
    /// The read callback, whatever is in the input.
    pub(super) const READ_ANYWAY: u8 = 1 << 3;
}

/// Bits of [`Inner::written`].
pub(super) struct Written;

impl Written {
    /// The stream takes no more for now.
    pub(super) const WAITS: u8 = 1;
    /// What was written has not been flushed.
    pub(super) const UNFLUSHED: u8 = 1 << 1;
    /// Somebody waits for what is being written.
    pub(super) const AWAITED: u8 = 1 << 2;
}

/// Written by the task only.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
}

/// What the handles want of the task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    pub(super) read_enabled: bool,
    pub(super) write_enabled: bool,
    pub(super) wish: Wish,
    /// How many wait for the stream itself.
    pub(super) takers: u32,
}

/// For reading and for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
}

/// The directions that a timeout has switched off, until they are enabled again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimedOut {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// How the handles want it to end; a later one prevails over those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Not yet.
    Live,
    /// Write what is queued, end the stream, wait for the peer's end.
    Close,
    /// Write what is queued, end the stream: nobody is there any more.
    Drop,
    /// Now.
    Abort,
}

/// How far the writing side has come.
#[derive(Clone, Debug)]
pub(super) enum Writing {
    Open,
    /// The stream was ended.
    Ended,
    Failed(Arc<io::Error>),
}

/// Under the lock.
pub(super) struct Control {
    pub(super) orders: Orders,
    pub(super) timeouts: Timeouts,
    pub(super) timed_out: TimedOut,
    pub(super) slots: Option<Box<Slots>>,
    pub(super) waiters: Waiters,
    news: Option<Box<News>>,
    pub(super) reading: Result<bool, Arc<io::Error>>,
    pub(super) writing: Writing,
    pub(super) outcome: Option<Box<Summary>>,
    /// The stream, for whom waits for it.
    pub(super) taken: Option<Box<Taken>>,
}

/// What the task gave to whom asked for the stream: it, and what was in the buffers.
pub(super) struct Taken {
    pub(super) stream: Box<dyn Any + Send>,
    pub(super) input: EvBuffer,
    pub(super) output: EvBuffer,
}

/// Events that were not yet taken, by those who ask and by the callback.
#[derive(Default)]
struct News {
    unasked: VecDeque<Event>,
    untold: VecDeque<Event>,
}

impl Inner {
    pub(super) fn new(
        (input, output): (SharedEvBuffer, SharedEvBuffer),
        queue: DeferredQueue,
        timeouts: Timeouts,
        stream_type: TypeId,
    ) -> Self {
        input.set_owner_frozen(End::Back, true);
        output.set_owner_frozen(End::Front, true);
        input.defer_to(queue.clone());
        output.defer_to(queue.clone());
        let signal = Arc::new(Signal::new());
        signal.watch(&input, &output);
        Self {
            input,
            output,
            signal,
            control: Lock::new(Control {
                orders: Orders {
                    read_enabled: true,
                    write_enabled: true,
                    wish: Wish::Live,
                    takers: 0,
                },
                timeouts,
                timed_out: TimedOut::default(),
                slots: None,
                waiters: Waiters::default(),
                news: None,
                reading: Ok(true),
                writing: Writing::Open,
                outcome: None,
                taken: None,
            }),
            source: Source::new(),
            queue,
            handles: AtomicU64::new(1),
            hears: AtomicU8::new(0),
            due: AtomicU8::new(0),
            written: AtomicU8::new(0),
            flushed: AtomicU64::new(0),
            counters: Counters {
                bytes_in: AtomicU64::new(0),
                bytes_out: AtomicU64::new(0),
                reads: AtomicU64::new(0),
                writes: AtomicU64::new(0),
            },
            stream_type,
        }
    }

    /// Changes what is wanted of the task, and tells it.
    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.control.lock().orders);
        self.signal.order();
    }

    /// Has it end like that, unless something more urgent was wished for.
    pub(super) fn wish(&self, wish: Wish) {
        self.order(|orders| orders.wish = orders.wish.max(wish));
    }

    /// Tells of an event.
    pub(super) fn tell(self: &Arc<Self>, event: Event) {
        tracing::debug!(?event, "event");
        let mut control = self.control.lock();
        if control.outcome.is_some() {
            // `Closed` is the last one.
            return;
        }
        control.push(event);
        let wakers = control.waiters.take(|interest| interest == Interest::Event);
        drop(control);
        wake(wakers);
        self.schedule(Hears::EVENT);
    }

    /// Notes that a callback is due, and has it run if it is set.
    #[inline]
    pub(super) fn call(self: &Arc<Self>, which: u8) {
        if self.due.load(Ordering::Acquire) & which != which {
            self.due.fetch_or(which, Ordering::AcqRel);
        }
        self.schedule(which);
    }

    #[inline]
    fn schedule(self: &Arc<Self>, which: u8) {
        if self.hears.load(Ordering::Acquire) & which != 0 {
            self.queue.schedule(self);
        }
    }

    /// Nothing is read any more: it has ended, or failed.
    pub(super) fn reading_ended(self: &Arc<Self>, error: Option<Arc<io::Error>>) {
        let mut control = self.control.lock();
        control.orders.read_enabled = false;
        control.reading = match &error {
            None => Ok(false),
            Some(error) => Err(Arc::clone(error)),
        };
        drop(control);
        self.input.close();
        if !self.input.is_empty() {
            // What lies below the low mark is not told otherwise.
            self.call(Hears::READ_ANYWAY | Hears::READ);
        }
        self.tell(match error {
            None => Event::Eof,
            Some(error) => Event::ReadError(error),
        });
    }

    /// Nothing is written any more: the stream was ended, or failed.
    pub(super) fn writing_ended(self: &Arc<Self>, error: Option<Arc<io::Error>>) {
        self.output.close();
        let mut control = self.control.lock();
        control.orders.write_enabled = false;
        control.writing = match &error {
            None => Writing::Ended,
            Some(error) => Writing::Failed(Arc::clone(error)),
        };
        let wakers = control
            .waiters
            .take(|interest| matches!(interest, Interest::Flushed(_) | Interest::Shutdown));
        drop(control);
        wake(wakers);
        if let Some(error) = error {
            self.tell(Event::WriteError(error));
        }
    }

    /// Wakes those who wait for what was just written, of which `is_sent` tells whether all of it was.
    pub(super) fn wake_flushed(&self, is_sent: impl Fn(Mark) -> bool) {
        if self.written.load(Ordering::Acquire) & Written::AWAITED == 0 {
            return;
        }
        let mut control = self.control.lock();
        let wakers = control.waiters.take(|interest| match interest {
            Interest::Flushed(mark) => is_sent(mark),
            _ => false,
        });
        if !control.waiters.has_flush() {
            self.written.fetch_and(!Written::AWAITED, Ordering::AcqRel);
        }
        drop(control);
        wake(wakers);
    }

    /// All that was written so far has been flushed.
    pub(super) fn note_flushed(&self) {
        let output = self.output.lock();
        let (len, appended) = (output.len(), output.appended());
        drop(output);
        let flushed = appended.wrapping_sub(len as u64);
        self.flushed.store(flushed, Ordering::Release);
        self.written
            .fetch_and(!Written::UNFLUSHED, Ordering::AcqRel);
        self.wake_flushed(|mark| mark.appended <= flushed);
    }

    /// Takes what is in the buffers, and puts it where whoever waits for the stream finds it.
    pub(super) fn give(&self, stream: Box<dyn Any + Send>) {
        // What is added from here on would go with neither.
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

    /// It is over. Only the first reason counts.
    pub(super) fn finish(self: &Arc<Self>, reason: CloseReason) {
        if let CloseReason::Error(error) = &reason {
            self.control.lock().fail_reading(error);
        }
        self.input.close();
        self.output.close();
        self.signal.unregister();
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
        let told = summary.clone();
        let runtime_is_gone = matches!(summary.reason, CloseReason::RuntimeShutdown);
        control.outcome = Some(Box::new(summary));
        control.orders.read_enabled = false;
        control.orders.write_enabled = false;
        control.push(Event::Closed);
        let wakers = control.waiters.take(|_| true);
        // Callbacks that will not run must not keep what they own.
        let forsaken = match runtime_is_gone || self.handles.load(Ordering::Acquire) == 0 {
            true => control.slots.take(),
            false => None,
        };
        let listened = control.slots.is_some();
        drop(control);
        tracing::debug!(summary = ?told, "closed");
        catch_panic("the drop of a callback", || drop(forsaken));
        wake(wakers);
        if listened {
            // Also where none of them hears of it: the last run lets go of them.
            self.queue.schedule(self);
        }
    }

    /// Switches off a direction in which nothing has moved for too long. Those who wait for it are told.
    pub(super) fn time_out(self: &Arc<Self>, direction: Direction) {
        let mut control = self.control.lock();
        let (buffer, event, wakers) = match direction {
            Direction::Read => {
                control.orders.read_enabled = false;
                control.timed_out.read = true;
                (&self.input, Event::ReadTimeout, Vec::new())
            }
            Direction::Write => {
                control.orders.write_enabled = false;
                control.timed_out.write = true;
                let wakers = control
                    .waiters
                    .take(|interest| matches!(interest, Interest::Flushed(_) | Interest::Shutdown));
                (&self.output, Event::WriteTimeout, wakers)
            }
        };
        drop(control);
        buffer.rouse();
        wake(wakers);
        self.tell(event);
    }

    /// Whether a timeout has switched a direction off.
    pub(super) fn has_timed_out(&self, direction: Direction) -> bool {
        let timed_out = self.control.lock().timed_out;
        match direction {
            Direction::Read => timed_out.read,
            Direction::Write => timed_out.write,
        }
    }

    /// Switches a direction on or off, unless it has ended.
    pub(super) fn set_enabled(&self, direction: Direction, on: bool) {
        let mut control = self.control.lock();
        let live = control.outcome.is_none();
        match direction {
            Direction::Read => {
                control.orders.read_enabled = on && live && matches!(control.reading, Ok(true));
                control.timed_out.read &= !on;
            }
            Direction::Write => {
                control.orders.write_enabled =
                    on && live && matches!(control.writing, Writing::Open);
                control.timed_out.write &= !on;
            }
        }
        drop(control);
        self.signal.order();
    }

    pub(super) fn is_enabled(&self, direction: Direction) -> bool {
        let orders = self.control.lock().orders;
        match direction {
            Direction::Read => orders.read_enabled,
            Direction::Write => orders.write_enabled,
        }
    }
}

impl Control {
    /// The first direction's error, where there is one.
    pub(super) fn error(&self) -> Option<Arc<io::Error>> {
        match (&self.reading, &self.writing) {
            (_, Writing::Failed(error)) | (Err(error), _) => Some(Arc::clone(error)),
            _ => None,
        }
    }

    /// The connection fails before its stream has ended: nobody may take that for the end.
    fn fail_reading(&mut self, error: &Arc<io::Error>) {
        if self.outcome.is_none() && matches!(self.reading, Ok(true)) {
            self.reading = Err(Arc::clone(error));
        }
    }

    fn push(&mut self, event: Event) {
        let news = self.news.get_or_insert_default();
        for queue in [&mut news.unasked, &mut news.untold] {
            if queue.len() == EVENTS_MAX {
                queue.pop_front();
            }
            queue.push_back(event.clone());
        }
    }

    /// The next event for whom asks.
    pub(super) fn next_unasked(&mut self) -> Option<Event> {
        self.news.as_mut()?.unasked.pop_front()
    }

    /// The next event for the callback.
    pub(super) fn next_untold(&mut self) -> Option<Event> {
        self.news.as_mut()?.untold.pop_front()
    }

    pub(super) fn is_connected_untold(&self) -> bool {
        let first = self.news.as_ref().and_then(|news| news.untold.front());
        matches!(first, Some(Event::Connected))
    }

    /// Events that the callback was not told of.
    pub(super) fn untold(&self) -> usize {
        self.news.as_ref().map_or(0, |news| news.untold.len())
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

    /// Adds to two of them. There is one writer, so that nothing gets lost between.
    #[inline]
    pub(super) fn count(bytes: &AtomicU64, calls: &AtomicU64, n: usize) {
        bytes.store(bytes.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
        calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Wakes all of them. Foreign code runs here, so no lock may be held.
pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        catch_panic("a waker", || waker.wake());
    }
}

/// The same error for one more who is told of it.
pub(super) fn same(error: &Arc<io::Error>) -> io::Error {
    io::Error::new(error.kind(), Arc::clone(error))
}
