//! The task that owns the stream: moves bytes between it and the two buffers, and does as it is told.

mod write;

use std::{
    future::Future,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::task::coop;
use tracing::Span;

use super::{
    CloseReason, Direction, Event,
    clock::Clock,
    endpoint::Wire,
    inner::{Counters, Hears, Inner, Orders, Wish},
    task_waker::Wanted,
    timeouts::{Due, Limits, Standing},
};
use crate::{
    BufferError, EvBuffer,
    panic::catch_panic,
    transport::{
        ReadSizer,
        poll::{Moved, PollWork, yield_to_driver},
    },
};

/// The most bytes in one read or write, and for how long a connection may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) max_single_read: usize,
    pub(super) max_single_write: usize,
    pub(super) limits: Limits,
}

impl Settings {
    pub(super) const DEFAULT: Self = Self {
        max_single_read: 256 * 1024,
        max_single_write: 256 * 1024,
        limits: Limits {
            read: None,
            write: None,
            idle: None,
            stall: None,
            linger: Duration::from_secs(30),
        },
    };
}

/// One connection at work.
pub(super) struct Task<W> {
    /// `None` once it was given away, or has ended.
    wire: Option<W>,
    inner: Ends,
    /// `None` for the default.
    settings: Option<Box<Settings>>,
    orders: Orders,
    sizer: ReadSizer,
    /// Bytes that the input takes at least.
    room: usize,
    reading: bool,
    writing: Writing,
    /// Nobody wants what is read.
    discards: bool,
    /// It is known whom to wake.
    registered: bool,
    clock: Option<Box<Clock>>,
    /// `None` if nobody listens.
    span: Option<Box<Span>>,
}

/// How far writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// There will be nothing more to write; the stream is to be ended.
    Ending,
    Ended,
    Failed,
}

/// Tells the handles that it is over, whatever ends the task.
pub(super) struct Ends(Arc<Inner>);

impl Ends {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self(Arc::clone(inner))
    }

    #[cfg(feature = "net")]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // It is told of the first end only. To be dropped before is the end of the runtime.
        self.0.finish(match std::thread::panicking() {
            true => CloseReason::Error(Arc::new(io::Error::other("the stream panicked"))),
            false => CloseReason::RuntimeShutdown,
        });
    }
}

impl<W: Wire> Future for Task<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let span = this.span.as_deref().cloned();
        let _entered = span.map(Span::entered);
        if !mem::replace(&mut this.registered, true) {
            // A task that is polled by the runtime itself has the same waker for ever.
            this.inner.0.signal.register(cx.waker());
        }
        let reason = ready!(this.turn(cx));
        this.end(reason);
        Poll::Ready(())
    }
}

impl<W: Wire> Task<W> {
    pub(super) fn new(wire: W, inner: Ends, settings: Settings, span: Span) -> Self {
        let orders = inner.0.control.lock().orders;
        Self {
            wire: Some(wire),
            inner,
            settings: (settings != Settings::DEFAULT).then(|| Box::new(settings)),
            orders,
            sizer: ReadSizer::default(),
            room: 0,
            reading: true,
            writing: Writing::Open,
            discards: false,
            registered: false,
            clock: None,
            span: (!span.is_disabled()).then(|| Box::new(span)),
        }
    }

    /// Does what can be done now. Ready when the connection is over.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.obey();
        if self.orders.wish == Wish::Abort {
            return Poll::Ready(CloseReason::Aborted);
        }
        if self.orders.takers > 0 && self.orders.wish == Wish::Live {
            return Poll::Ready(CloseReason::Detached);
        }
        // Streams that are not Tokio's own may be ready for ever and know of no budget.
        let budget = ready!(coop::poll_proceed(cx));
        let mut work = PollWork::default();
        let (mut fill, mut drain, mut more) = (Moved::Again, Moved::Again, false);
        while !(fill.is_stuck() && drain.is_stuck()) {
            if work.must_yield() {
                yield_to_driver(cx);
                more = true;
                break;
            }
            if drain != Moved::Waits {
                drain = self.drain(cx);
            }
            if fill != Moved::Waits {
                fill = self.fill(cx);
            }
            work.add_round(fill, drain);
        }
        if more || work.any() {
            budget.made_progress();
        }
        self.note_waiting(drain == Moved::Waits);
        // Also while there is more to do: a peer that sends without end does not hold up the end of what is written.
        self.end_writing(cx);
        if let Some(reason) = self.finished() {
            return Poll::Ready(reason);
        }
        let standing = Standing {
            read: work.read > 0,
            written: work.written > 0,
            reading: !more,
            writing: !more || drain == Moved::Waits,
            ..Standing::default()
        };
        self.poll_clock(cx, standing)
    }

    /// Takes in what the handles have ordered.
    fn obey(&mut self) {
        let inner = &self.inner.0;
        if !inner.signal.take_orders() {
            return;
        }
        let control = inner.control.lock();
        self.orders = control.orders;
        let timeouts = control.timeouts;
        drop(control);
        if timeouts != self.settings().limits.timeouts() {
            let mut settings = *self.settings();
            settings.limits.read = timeouts.read;
            settings.limits.write = timeouts.write;
            self.settings = Some(Box::new(settings));
        }
        let inner = &self.inner.0;
        if self.orders.wish >= Wish::Close {
            inner.output.close();
            inner.input.close();
            self.discards = true;
            if self.writing == Writing::Open {
                self.writing = Writing::Ending;
            }
        }
    }

    fn settings(&self) -> &Settings {
        self.settings.as_deref().unwrap_or(&Settings::DEFAULT)
    }

    fn may_write(&self) -> bool {
        let open = matches!(self.writing, Writing::Open | Writing::Ending);
        open && (self.orders.write_enabled || self.orders.wish >= Wish::Close)
    }

    fn may_read(&self) -> bool {
        self.reading && (self.orders.read_enabled || self.discards)
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Moved {
        if !self.may_read() {
            return Moved::Nothing;
        }
        let want = self.sizer.offer().min(self.settings().max_single_read);
        if self.inner.0.signal.take_marks() || self.room < want {
            self.look_for_room();
        }
        let offered = want.min(self.room);
        if offered == 0 {
            return Moved::Nothing;
        }
        let Some(wire) = &mut self.wire else {
            return Moved::Nothing;
        };
        let mut chain = EvBuffer::new();
        match wire.poll_fill(cx, &mut chain, offered) {
            Poll::Pending => Moved::Waits,
            Poll::Ready(Ok(0)) => self.end_reading(None),
            Poll::Ready(Ok(n)) => {
                self.sizer.record(offered, n);
                let counters = &self.inner.0.counters;
                Counters::count(&counters.bytes_in, &counters.reads, n);
                self.link(chain);
                Moved::Bytes(n)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Moved::Again,
            Poll::Ready(Err(error)) => self.end_reading(Some(error)),
        }
    }

    /// Asks the input how much it takes, and has it tell when it takes more than nothing.
    fn look_for_room(&mut self) {
        if self.discards {
            self.room = usize::MAX;
            return;
        }
        let inner = &self.inner.0;
        let guard = inner.input.lock();
        self.room = guard.room();
        if self.room == 0 {
            inner.signal.want(Wanted::ROOM);
        }
    }

    /// Links what was read into the input.
    fn link(&mut self, mut chain: EvBuffer) {
        if self.discards {
            return;
        }
        let inner = &self.inner.0;
        let n = chain.len();
        let mut guard = inner.input.lock();
        let linked = guard.add_read(&mut chain);
        let (len, low) = (guard.len(), guard.marks().low());
        self.room = guard.room();
        drop(guard);
        match linked {
            Ok(_) => {
                tracing::trace!(n, len, "read");
                if len >= low.unwrap_or(0) {
                    inner.call(Hears::READ);
                }
            }
            // The user wants no more of it.
            Err(BufferError::Closed) => self.discards = true,
            Err(error) => {
                self.end_reading(Some(error.into()));
            }
        }
    }

    fn end_reading(&mut self, error: Option<io::Error>) -> Moved {
        self.reading = false;
        self.inner.0.reading_ended(error.map(Arc::new));
        Moved::Again
    }

    /// Why it is over, if it is.
    fn finished(&self) -> Option<CloseReason> {
        let wish = self.orders.wish;
        let over = match self.writing {
            Writing::Open | Writing::Ending => false,
            Writing::Ended => !self.reading || wish == Wish::Drop,
            Writing::Failed => !self.reading || wish >= Wish::Close,
        };
        if !over {
            return None;
        }
        let error = self.inner.0.control.lock().error();
        Some(match error {
            Some(error) => CloseReason::Error(error),
            None if wish == Wish::Drop => CloseReason::Dropped,
            None => CloseReason::Finished,
        })
    }

    /// Waits for what is due next, and tells of it.
    fn poll_clock(&mut self, cx: &mut Context<'_>, mut at: Standing) -> Poll<CloseReason> {
        at.closing = self.orders.wish >= Wish::Close;
        if !self.settings().limits.any(at.closing) {
            // What has passed by now counts for no limit that is set later.
            self.clock = None;
            return Poll::Pending;
        }
        let (read_waits, write_waits) = (at.reading, at.writing);
        loop {
            let takes = self.room > 0 || self.discards;
            at.reading = read_waits && self.may_read() && takes;
            let empty = self.inner.0.signal.wants(Wanted::OUTPUT);
            at.writing = write_waits && self.may_write() && !empty;
            at.high = self.settings().limits.stall.is_some() && self.is_output_high();
            let limits = self.settings().limits;
            let clock = self.clock.get_or_insert_default();
            let due = ready!(clock.poll(cx, &limits, at));
            (at.read, at.written) = (false, false);
            match due {
                Due::Read => self.time_out(Direction::Read),
                Due::Write => self.time_out(Direction::Write),
                Due::Idle => self.inner.0.tell(Event::IdleTimeout),
                Due::Stall => self.inner.0.tell(Event::Stalled),
                Due::Linger => return Poll::Ready(CloseReason::LingerExpired),
            }
        }
    }

    /// Whether the output is too long; if not, it will tell when it is.
    fn is_output_high(&self) -> bool {
        let inner = &self.inner.0;
        let guard = inner.output.lock();
        let high = guard.is_high();
        if !high {
            inner.signal.want(Wanted::HIGH);
        }
        high
    }

    /// Switches off the direction in which nothing has moved.
    fn time_out(&mut self, direction: Direction) {
        match direction {
            Direction::Read => self.orders.read_enabled = false,
            Direction::Write => self.orders.write_enabled = false,
        }
        self.inner.0.time_out(direction);
    }

    /// Lets go of the stream, or hands it over, and then says so.
    fn end(&mut self, reason: CloseReason) {
        let inner = &self.inner.0;
        let Some(wire) = self.wire.take() else { return };
        if matches!(reason, CloseReason::Detached) {
            inner.give(wire.into_any());
        } else {
            catch_panic("the drop of a stream", || drop(wire));
        }
        inner.finish(reason);
    }
}
