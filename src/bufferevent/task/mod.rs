//! The task that owns the stream and moves bytes between it and the two buffers.

mod read;
mod write;

use std::{
    cell::Cell,
    future::Future,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::coop;
use tracing::Span;

use super::{
    control::CloseMode,
    endpoint::Endpoint,
    event::{CloseReason, Direction, Event},
    inner::{Control, Inner, Upgrade},
    stream_cell::StreamCell,
    task_waker::WakeFor,
    throttles::{RateControl, Throttles},
    timeouts::{Activity, Closing, ConnectionTimer, Due},
};
use crate::{
    limits::budget::Account,
    panic::catch_panic,
    transport::{
        FrameLen, ReadSizer,
        poll::{Moved, PollWork, yield_to_driver},
    },
};

/// Bytes read by a turn that has to let the I/O driver run before it reads on if it has filled the input.
const SHARE: usize = 64 << 10;

/// A turn that has read this many bytes ends, and a read has at most as many, in one block. The tasks behind it find them in
/// the cache of the CPU, and free the block before the next one is taken; otherwise the allocator returns it to the system,
/// and the next read takes a page fault for each page. With 64 KiB, four times the system calls woke the peers so often that
/// bulk took 1.4 times the CPU time. Only a read of whole frames may have more.
const TURN_READ_MAX: usize = 256 << 10;

/// Bytes of a message that is read to the stack, or written from there, instead of through a chain: what a quiet stream is
/// offered.
const MESSAGE_MAX: usize = 2 << 10;

/// One connection at work.
pub(super) struct Task<E: Endpoint> {
    stream: Arc<StreamCell<E>>,
    guard: FinishOnDrop,
    plan: Plan,
    sizer: ReadSizer,
    /// The room of the input when the task last read it. User code can only have made more since.
    room: usize,
    /// The length of the frames that tasks have waited for. The next ones are expected to be as long.
    frames: FrameLen,
    /// This turn has read its share, and reading continues after the I/O driver had its turn.
    reads_later: bool,
    /// The bytes that the peer had not acknowledged when the kernel was last asked.
    unacknowledged: Cell<usize>,
    /// The waker of the task is stored.
    registered: bool,
    timer: Option<Box<ConnectionTimer>>,
    /// `None` without a memory budget.
    account: Option<Arc<Account>>,
    /// `None` without rate limits.
    throttles: Option<Box<Throttles>>,
    /// `None` without a subscriber.
    span: Option<Box<Span>>,
}

/// Ends the connection when the task ends, for any reason.
pub(super) struct FinishOnDrop {
    inner: Arc<Inner>,
    armed: bool,
}

impl FinishOnDrop {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            armed: true,
        }
    }

    #[cfg(feature = "net")]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // The first reason counts. A task that is dropped before its end is dropped by its runtime.
        self.inner.finish(match std::thread::panicking() {
            true => CloseReason::Error(Arc::new(io::Error::other("the stream panicked"))),
            false => CloseReason::RuntimeShutdown,
        });
    }
}

/// What ends the task.
#[derive(Debug)]
enum End {
    /// The connection is over.
    Over(CloseReason),
    /// `into_inner` or `upgrade` waits for the stream.
    Detach,
    Upgrade,
}

/// What the state of the connection and the settings allow. Derived again after each command of a handle and each transition
/// that the task makes, so that a turn need not lock the state for it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    may_read: bool,
    discards: bool,
    may_write: bool,
    max_read: usize,
    max_write: usize,
    /// A time limit counts.
    is_limited: bool,
}

impl Plan {
    fn new(control: &Control) -> Self {
        let (state, settings) = (&control.state, control.settings());
        Self {
            may_read: state.may_read(),
            discards: state.read.discards(),
            may_write: state.may_write(),
            max_read: settings.max_single_read,
            max_write: settings.max_single_write,
            is_limited: settings.limits.any(state.is_ending()),
        }
    }
}

impl<E: Endpoint> Future for Task<E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let span = this.span.as_deref().cloned();
        let _entered = span.map(Span::entered);
        if !mem::replace(&mut this.registered, true) {
            // The waker of a spawned task never changes.
            this.guard.inner.task.register(cx.waker());
        }
        let end = ready!(this.poll_turn(cx));
        this.end(end);
        Poll::Ready(())
    }
}

impl<E: Endpoint> Task<E> {
    pub(super) fn new(endpoint: E, guard: FinishOnDrop, span: Span) -> Self {
        let visible = endpoint.visible_stream();
        let stream = Arc::new(StreamCell::new(endpoint));
        let mut control = guard.inner.control.lock();
        control.stream = Some(visible.unwrap_or_else(|| Arc::clone(&stream) as _));
        let account = control.account().cloned();
        let plan = Plan::new(&control);
        drop(control);
        Self {
            stream,
            guard,
            plan,
            sizer: ReadSizer::default(),
            room: 0,
            frames: FrameLen::default(),
            reads_later: false,
            unacknowledged: Cell::new(0),
            registered: false,
            timer: None,
            throttles: None,
            account,
            span: (!span.is_disabled()).then(|| Box::new(span)),
        }
    }

    /// Does what can be done now. Ready when the connection is over.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.guard.inner.task.take_commands() {
            if let Some(end) = self.apply_commands() {
                return Poll::Ready(end);
            }
        }
        // Streams that are not Tokio's own may always be ready, and do not use the budget.
        let budget = ready!(coop::poll_proceed(cx));
        let mut work = PollWork::default();
        let (mut read, mut written, mut yields) = (Moved::Again, Moved::Again, false);
        self.reads_later = false;
        while !(read.is_stuck() && written.is_stuck()) {
            if work.must_yield() {
                yield_to_driver(cx);
                yields = true;
                break;
            }
            written = match written {
                Moved::Waits => Moved::Waits,
                _ => self.write_output(cx),
            };
            read = match read {
                Moved::Waits => Moved::Waits,
                _ => self.read_input(cx, work.read),
            };
            work.add_round(read, written);
        }
        if self.reads_later && !yields {
            yield_to_driver(cx);
            yields = true;
        }
        if yields || work.any() {
            budget.made_progress();
        }
        if E::HAS_STREAM_BELOW && work.any() {
            let counters = &self.guard.inner.counters;
            (self.stream).with(|endpoint| counters.update_below(endpoint));
        }
        // Also if the task yields: a peer that sends without end must not delay the end of the output.
        let blocked = written == Moved::Waits;
        let finishing = self.finish_output(cx, blocked, work.written > 0);
        if finishing {
            let mut control = self.guard.inner.control.lock();
            control.state.write.set_blocked(true);
        }
        if !yields && read == Moved::Nothing {
            self.poll_hang_up(cx);
        }
        let held = self
            .throttles
            .as_deref_mut()
            .and_then(Throttles::take_change);
        if let Some(held) = held {
            self.guard.inner.control.lock().set_held(held);
        }
        if !(self.plan.may_read && self.plan.may_write) {
            let finished = self.guard.inner.control.lock().state.finished();
            if let Some(reason) = finished {
                return Poll::Ready(End::Over(reason));
            }
        }
        if !self.plan.is_limited {
            // The time that has passed does not count for a limit that is set later.
            self.timer = None;
            return Poll::Pending;
        }
        let activity = Activity {
            read: work.read > 0,
            written: work.written > 0,
            reading: !yields,
            writing: !yields || blocked,
            ..Activity::default()
        };
        self.poll_timer(cx, activity, finishing).map(End::Over)
    }

    /// Applies the commands of the handles. Returns an end if the task is to end at once.
    fn apply_commands(&mut self) -> Option<End> {
        let inner = &self.guard.inner;
        let mut control = inner.control.lock();
        let mode = control.state.close_mode();
        let (upgrade, is_wanted) = (control.extras()).map_or((Upgrade::None, false), |extras| {
            (extras.upgrade, extras.takers > 0)
        });
        let is_live = matches!(mode, CloseMode::Live);
        // The stream does not report it again.
        let reset = control.state.read.reset().cloned();
        let starts_upgrade =
            is_live && reset.is_none() && !is_wanted && upgrade == Upgrade::Requested;
        if starts_upgrade {
            // Under the same lock: from now on, dropping the upgrade ends the connection.
            control.extras_mut().upgrade = Upgrade::Running;
        }
        self.plan = Plan::new(&control);
        let rate = (control.rate_mut()).and_then(RateControl::take_commands);
        drop(control);
        if let Some(commands) = rate {
            Throttles::apply(&mut self.throttles, commands);
        }
        if mode.is_closing() {
            inner.output.close();
            inner.input.close();
        }
        match mode {
            CloseMode::Abort => Some(End::Over(CloseReason::Aborted)),
            _ if starts_upgrade => Some(End::Upgrade),
            _ if is_live && is_wanted && reset.is_none() => Some(End::Detach),
            _ if is_wanted || upgrade == Upgrade::Requested => {
                reset.map(|error| End::Over(CloseReason::Error(error)))
            }
            _ => None,
        }
    }

    /// Derives the plan again, after a transition.
    fn update_plan(&mut self) {
        self.plan = Plan::new(&self.guard.inner.control.lock());
    }

    /// Waits for the limit that is reached first, and applies it.
    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        mut at: Activity,
        finishing: bool,
    ) -> Poll<CloseReason> {
        let inner = Arc::clone(&self.guard.inner);
        let (reading, writing) = (at.reading, at.writing);
        loop {
            let control = inner.control.lock();
            let state = &control.state;
            let limits = control.settings().limits;
            at.closing = state.is_ending().then(|| match &state.write {
                _ if state.read.reset().is_some() => Closing::ReadingRest,
                write if write.awaits_acknowledgement() => Closing::Unacknowledged,
                write if write.has_ended() => Closing::WaitingForPeer,
                _ => Closing::Writing,
            });
            let (discards, open) = (state.read.discards(), state.read.is_open());
            let (may_read, may_write) = (state.may_read(), state.may_write());
            let expired = state.reason_after_wait();
            drop(control);
            let has_room = self.room > 0 || discards;
            let held = self
                .throttles
                .as_deref()
                .map_or_else(Default::default, Throttles::held);
            let over_budget = (self.account.as_ref()).is_some_and(|account| account.is_exceeded());
            at.reading = reading && may_read && has_room && held.read.is_none() && !over_budget;
            let has_output = finishing || !inner.task.waits_for(WakeFor::OUTPUT);
            at.writing = writing && may_write && has_output && held.write.is_none();
            at.input_high = open && !has_room && inner.input.is_high();
            at.output_high = limits.stall.is_some() && self.is_output_high();
            let timer = self.timer.get_or_insert_default();
            let due = timer.poll(cx, &limits, at);
            if timer.is_unavailable() && at.closing == Some(Closing::Unacknowledged) {
                // Without timers the task cannot ask the kernel again later. The kernel delivers the rest by itself.
                inner.control.lock().state.write.acknowledge();
                let finished = inner.control.lock().state.finished();
                return finished.map_or(Poll::Pending, Poll::Ready);
            }
            let due = ready!(due);
            (at.read, at.written) = (false, false);
            match due {
                Due::Read => self.time_out(Direction::Read),
                Due::Write => self.time_out(Direction::Write),
                Due::Idle => inner.report(Event::IdleTimeout),
                Due::StalledInput | Due::StalledOutput => inner.report(Event::Stalled),
                Due::Linger => return Poll::Ready(CloseReason::LingerExpired),
                Due::CloseWait => return Poll::Ready(expired),
                Due::CheckAcknowledged => {
                    at.written = self.check_acknowledged();
                    if let Some(reason) = inner.control.lock().state.finished() {
                        return Poll::Ready(reason);
                    }
                }
            }
        }
    }

    fn time_out(&mut self, direction: Direction) {
        self.guard.inner.time_out(direction);
        self.update_plan();
    }

    /// Drops the stream or hands it over.
    fn end(&mut self, end: End) {
        let inner = Arc::clone(&self.guard.inner);
        match end {
            End::Over(reason) => {
                self.drop_stream();
                self.throttles = None;
                inner.finish(reason);
            }
            End::Detach => {
                if let Some(endpoint) = self.stream.take() {
                    inner.hand_over(endpoint.into_any());
                }
                self.throttles = None;
                inner.finish(CloseReason::Detached);
            }
            End::Upgrade => {
                // From now on the call ends the connection.
                self.guard.armed = false;
                if let Some(throttles) = self.throttles.take() {
                    inner.control.lock().keep_throttles(throttles);
                }
                if let Some(endpoint) = self.stream.take() {
                    inner.hand_over_for_upgrade(endpoint.into_any(), self.span.take());
                }
            }
        }
    }

    /// Drops the stream. The peer must not mistake this for the end of the output, unless it is.
    fn drop_stream(&mut self) {
        let Some(mut endpoint) = self.stream.take() else {
            return;
        };
        let inner = &self.guard.inner;
        if !inner.control.lock().state.write.has_ended() {
            endpoint.reset_on_drop();
        }
        inner.counters.update_below(&endpoint);
        catch_panic("the drop of a stream", || drop(endpoint));
    }
}

/// The runtime was shut down, or the stream panicked.
impl<E: Endpoint> Drop for Task<E> {
    fn drop(&mut self) {
        self.drop_stream();
    }
}
