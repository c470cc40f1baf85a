//! The future of a relay: polls both directions, applies the policies, and ends the connections.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    HalfClose, OnError, Peer, Progress, RelayEnd, RelayError, RelayOutcome, RelayParts,
    RelayStream, RelaySummary, Step,
    config::Limits,
    counters::Observers,
    deadlines::{Deadlines, Due},
    direction::{Direction, SinkEnd},
    flow_limits::{FlowLimits, Round, poll_rounds},
    pump::{Endpoint, Failed, Pump, Turn},
};
use crate::{
    timer::{Backoff, Timer},
    transport::{self, Finder, Hook, Socket},
};

/// What a relay does after an operation has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterError {
    /// It returns at once, and leaves the streams as they are.
    Stop,
    /// It delivers what was read for the healthy side, and then ends that.
    Deliver(OnError),
}

/// What does not change while a relay runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) half_close: HalfClose,
    pub(super) after_error: AfterError,
    /// A stream that ends with `UnexpectedEof` has ended in order.
    pub(super) allow_truncation: bool,
    /// The most bytes to read from both sides together.
    pub(super) max_bytes: u64,
}

/// A user's function. It is rare, so it is boxed twice: a pointer to it takes one word.
pub(super) struct SocketHook<S>(pub(super) Box<Hook<S>>);

/// A stream and the user's function that finds its socket.
pub(super) struct Side<S> {
    pub(super) stream: S,
    pub(super) hook: Option<Box<SocketHook<S>>>,
}

impl<S> Side<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, hook: None }
    }

    #[inline]
    pub(super) fn finder(&self) -> Finder<'_, S> {
        Finder::with_hook(self.hook.as_deref().map(|hook| &*hook.0))
    }

    #[inline]
    fn endpoint(&mut self) -> Endpoint<'_, S> {
        Endpoint {
            finder: Finder::with_hook(self.hook.as_deref().map(|hook| &*hook.0)),
            stream: &mut self.stream,
        }
    }

    pub(super) fn socket(&self) -> Option<Socket<'_>> {
        self.finder().socket(&self.stream)
    }

    fn seems_readable(&self) -> bool {
        transport::seems_readable(&self.stream, self.finder())
    }

    /// Whether closing the stream can discard bytes that were written to it: a TCP socket that the relay owns.
    fn closes_tcp(&self) -> bool {
        let finder = self.finder();
        let socket = finder.socket(&self.stream);
        finder.owns(&self.stream) && socket.is_some_and(|socket| socket.is_tcp())
    }

    fn unacknowledged(&self) -> usize {
        self.finder().unacknowledged(&self.stream).unwrap_or(0)
    }
}

/// The future of a running relay. Rarely needed parts are in boxes that are allocated on demand.
pub(super) struct Running<A, B> {
    /// `None` once the relay has ended.
    pub(super) sides: Option<(Side<A>, Side<B>)>,
    pub(super) a_to_b: Direction,
    pub(super) b_to_a: Direction,
    pub(super) settings: Settings,
    pub(super) observers: Option<Box<Observers>>,
    /// `None` without rate limits and budget.
    pub(super) flow: Option<Box<FlowLimits>>,
    /// `None` while no time limit applies.
    pub(super) deadlines: Option<Box<Deadlines>>,
    /// Set when a stream has failed. From then on the relay only writes to the other one, the healthy side.
    pub(super) failure: Option<Box<Failure>>,
    /// Why the relay has stopped reading, if it has.
    pub(super) ending: Option<RelayEnd>,
    pub(super) acknowledgement: Option<Box<AcknowledgementWait>>,
    /// The waker of the last poll, with which the streams are registered.
    pub(super) waker: Option<Waker>,
}

/// The directions to poll.
#[derive(Clone, Copy, Debug)]
struct Woken {
    a_to_b: bool,
    b_to_a: bool,
}

impl Woken {
    const BOTH: Self = Self {
        a_to_b: true,
        b_to_a: true,
    };
}

/// The first operation that failed.
#[derive(Debug)]
pub(super) struct Failure {
    peer: Peer,
    step: Step,
    error: io::Error,
}

/// Waits until the peers have acknowledged what was written to them.
#[derive(Debug)]
pub(super) struct AcknowledgementWait {
    timer: Timer,
    next: Instant,
    backoff: Backoff,
    unacknowledged: usize,
}

impl<A: RelayStream, B: RelayStream> Future for Running<A, B> {
    type Output = Result<RelaySummary, RelayError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut woken = this.woken(cx);
        loop {
            if this.flow.as_ref().is_some_and(|flow| flow.is_aborted(cx)) {
                return Poll::Ready(this.finish(Some(cx), RelayEnd::Aborted));
            }
            let turn = this.poll_directions(cx, woken);
            woken = Woken::BOTH;
            this.report_progress();
            let due = match this.poll_finished(cx) {
                Poll::Ready(end) => Due::End(end),
                Poll::Pending => ready!(this.poll_deadlines(cx, turn)),
            };
            match due {
                Due::End(RelayEnd::Lifetime) if this.ending != Some(RelayEnd::Lifetime) => {
                    this.stop_reading(RelayEnd::Lifetime);
                }
                Due::End(end) => return Poll::Ready(this.finish(Some(cx), end)),
                Due::StallCheck => this.check_stalled(),
            }
        }
    }
}

impl<A: RelayStream, B: RelayStream> Running<A, B> {
    /// Finds out which directions have something to do.
    ///
    /// A message in one direction wakes the task, and to poll the other one costs half as much as the message. A direction
    /// that waits for its source is left out if that has nothing to read and knows the waker of this task.
    #[inline]
    fn woken(&mut self, cx: &mut Context<'_>) -> Woken {
        let same_waker = self.waker.as_ref();
        if !same_waker.is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            return Woken::BOTH;
        }
        let (Some((a, b)), None) = (&self.sides, &self.flow) else {
            return Woken::BOTH;
        };
        let a_to_b = !self.a_to_b.waits_for_source || a.seems_readable();
        Woken {
            a_to_b,
            b_to_a: !a_to_b || !self.b_to_a.waits_for_source || b.seems_readable(),
        }
    }

    /// Moves what can be moved now, first in the directions that were `woken`.
    fn poll_directions(&mut self, cx: &mut Context<'_>, mut woken: Woken) -> Turn {
        let mut turn = Turn::default();
        loop {
            let failed = self.failure.is_some();
            if woken.a_to_b {
                turn += self.poll_direction(cx, Peer::A);
            }
            if woken.b_to_a {
                turn += self.poll_direction(cx, Peer::B);
            }
            if !woken.a_to_b && !turn.moved {
                // The task was woken for another reason: perhaps the runtime of a socket is gone.
                turn += self.poll_direction(cx, Peer::A);
            }
            woken = Woken::BOTH;
            let newly_failed = !failed && self.failure.is_some();
            if !newly_failed && !self.apply_half_close() && !self.apply_max_bytes() {
                return turn;
            }
            // Now a direction has more to do than when it was polled. This happens at most once for each reason.
        }
    }

    /// Moves what can be moved from the side `from` to the other one.
    fn poll_direction(&mut self, cx: &mut Context<'_>, from: Peer) -> Turn {
        if self.flow.is_none() {
            if self.settings.max_bytes != u64::MAX {
                self.direction_from(from).allowance = self.bytes_left();
            }
            return self.poll_pump(cx, from);
        }
        let polled: Result<Turn, Infallible> = poll_rounds(cx, |cx| {
            let allowed = self.poll_allowance(cx, from);
            let direction = self.direction_from(from);
            direction.allowance = allowed;
            let before = direction.read();
            let turn = self.poll_pump(cx, from);
            let direction = self.direction_from(from);
            // An error may have dropped bytes that were read before.
            let read = direction.read().saturating_sub(before);
            let blocked = direction.is_blocked();
            if let (Some(flow), true) = (&mut self.flow, allowed > 0) {
                flow.count(from, read, blocked);
            }
            Ok(Round {
                turn,
                exhausted: allowed > 0 && read >= allowed,
            })
        });
        let Ok(turn) = polled;
        turn
    }

    /// The bytes that `max_bytes` still allows to read.
    fn bytes_left(&self) -> u64 {
        let read = self.a_to_b.read() + self.b_to_a.read();
        self.settings.max_bytes.saturating_sub(read)
    }

    /// Returns how many bytes may be read from the side `from` in this poll.
    fn poll_allowance(&mut self, cx: &mut Context<'_>, from: Peer) -> u64 {
        let left = match self.settings.max_bytes {
            u64::MAX => u64::MAX,
            _ => self.bytes_left(),
        };
        if left == 0 || !self.direction_from(from).is_open() {
            return 0;
        }
        let flow = self.flow.as_mut();
        flow.map_or(left, |flow| flow.poll_allowance(cx, from, left))
    }

    /// Whether a rate limit or the budget holds up a direction.
    fn is_held_up(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_held_up())
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>, from: Peer) -> Turn {
        let limits = self.settings.limits;
        let Some((a, b)) = &mut self.sides else {
            panic!("a relay was polled after it had ended");
        };
        let (a, b) = (a.endpoint(), b.endpoint());
        let polled = match from {
            Peer::A => poll_pump(cx, &mut self.a_to_b, a, b, limits),
            Peer::B => poll_pump(cx, &mut self.b_to_a, b, a, limits),
        };
        polled.unwrap_or_else(|(step, error)| {
            let peer = match step {
                Step::Read => from,
                _ => from.other(),
            };
            self.fail(peer, step, error);
            Turn::default()
        })
    }

    fn direction_from(&mut self, peer: Peer) -> &mut Direction {
        match peer {
            Peer::A => &mut self.a_to_b,
            Peer::B => &mut self.b_to_a,
        }
    }

    fn deadlines(&mut self) -> &mut Deadlines {
        let half_close = self.settings.half_close;
        self.deadlines
            .get_or_insert_with(|| Box::new(Deadlines::new(half_close, None, None)))
    }

    /// Applies the policy for the first end of stream. Returns whether a direction has more to do now.
    fn apply_half_close(&mut self) -> bool {
        let (a_to_b, b_to_a) = (self.a_to_b.is_open(), self.b_to_a.is_open());
        // Its linger time runs also while the end cannot be read, since the other side takes nothing.
        let end_is_near = self.a_to_b.end_is_near || self.b_to_a.end_is_near;
        let is_open = a_to_b && b_to_a && !end_is_near;
        if is_open || self.failure.is_some() || self.ending.is_some() {
            return false;
        }
        if self.settings.half_close != HalfClose::Propagate {
            self.deadlines().half_closed();
        }
        if a_to_b == b_to_a || self.settings.half_close != HalfClose::Close {
            return false;
        }
        self.ending = Some(RelayEnd::FirstEof);
        self.a_to_b.end(SinkEnd::Fin);
        self.b_to_a.end(SinkEnd::Fin);
        true
    }

    /// Stops reading once this many bytes were read. Returns whether a direction has more to do now.
    fn apply_max_bytes(&mut self) -> bool {
        let max = self.settings.max_bytes;
        if max == u64::MAX || self.ending.is_some() || self.failure.is_some() {
            return false;
        }
        let is_open = self.a_to_b.is_open() || self.b_to_a.is_open();
        let reached = is_open && self.a_to_b.read() + self.b_to_a.read() >= max;
        if reached {
            self.stop_reading(RelayEnd::MaxBytes);
        }
        reached
    }

    /// Ends both directions for `reason`: delivers what was read, and then ends a sink in order if its source had sent
    /// no more than that.
    fn stop_reading(&mut self, reason: RelayEnd) {
        self.ending = Some(reason);
        self.recheck_sources();
        for direction in [&mut self.a_to_b, &mut self.b_to_a] {
            direction.end(match direction.source_is_empty() {
                true => SinkEnd::Fin,
                false => SinkEnd::Reset,
            });
        }
        self.deadlines().stopped_reading(false);
    }

    /// Records an operation that failed, and ends the directions accordingly.
    fn fail(&mut self, peer: Peer, step: Step, error: io::Error) {
        let is_truncation = step == Step::Read && error.kind() == io::ErrorKind::UnexpectedEof;
        if is_truncation && self.settings.allow_truncation {
            self.direction_from(peer).source_has_ended();
            return;
        }
        match &self.failure {
            // Writing to it had failed, and now it has no more to read, either.
            Some(failure) if failure.peer == peer && step == Step::Read => {
                self.direction_from(peer).source_has_failed(SinkEnd::Reset);
                return;
            }
            Some(_) => {
                self.a_to_b.abandon();
                self.b_to_a.abandon();
                return;
            }
            None => {}
        }
        self.failure = Some(Box::new(Failure { peer, step, error }));
        let AfterError::Deliver(on_error) = self.settings.after_error else {
            self.a_to_b.abandon();
            self.b_to_a.abandon();
            return;
        };
        self.direction_from(peer.other()).abandon();
        let sink_end = match on_error {
            OnError::Reset => SinkEnd::Reset,
            OnError::Fin => SinkEnd::Fin,
        };
        let to_healthy = self.direction_from(peer);
        if step == Step::Read {
            to_healthy.source_has_failed(sink_end);
        } else {
            // The failed side may have answered before it closed.
            to_healthy.read_rest(sink_end);
        }
        let stalled = to_healthy.is_blocked();
        self.deadlines().stopped_reading(stalled);
    }

    /// Waits until both directions are done, and everything that a close could discard was acknowledged.
    fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if !self.a_to_b.is_done() || !self.b_to_a.is_done() {
            return Poll::Pending;
        }
        ready!(self.poll_acknowledged(cx));
        Poll::Ready(self.ending.unwrap_or(RelayEnd::Eof))
    }

    /// Waits until no close can discard bytes that were written. A reset discards them, and so does closing a socket
    /// that has received bytes which were not read.
    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((a, b)) = &self.sides else {
            return Poll::Ready(());
        };
        let mut unacknowledged = 0;
        if discards_on_close(&self.b_to_a, &self.a_to_b) && a.closes_tcp() {
            unacknowledged += a.unacknowledged();
        }
        if discards_on_close(&self.a_to_b, &self.b_to_a) && b.closes_tcp() {
            unacknowledged += b.unacknowledged();
        }
        if unacknowledged == 0 {
            return Poll::Ready(());
        }
        let now = Instant::now();
        let wait = self.acknowledgement.get_or_insert_with(|| {
            let mut backoff = Backoff::default();
            Box::new(AcknowledgementWait {
                timer: Timer::default(),
                next: now + backoff.next_delay(),
                backoff,
                unacknowledged,
            })
        });
        let progress = unacknowledged < wait.unacknowledged;
        if progress {
            wait.unacknowledged = unacknowledged;
            wait.backoff = Backoff::default();
            wait.next = wait.next.min(now + wait.backoff.next_delay());
        }
        while wait.timer.poll(cx, wait.next).is_ready() {
            wait.next = now + wait.backoff.next_delay();
        }
        // Without a timer the wait would have no end.
        let polled = match wait.timer.is_unavailable() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        if progress {
            self.deadlines().note_progress();
        }
        polled
    }

    #[inline]
    fn poll_deadlines(&mut self, cx: &mut Context<'_>, turn: Turn) -> Poll<Due> {
        let held_up = self.is_held_up();
        let blocked = self.a_to_b.is_blocked() || self.b_to_a.is_blocked() || held_up;
        if self.deadlines.is_none() && (!blocked || turn.more) {
            return Poll::Pending;
        }
        if held_up {
            // Time spent waiting for a limit is not idle time.
            self.deadlines().note_progress();
        }
        self.deadlines().poll(cx, turn, blocked)
    }

    /// Looks at flows that make no progress: at their pipes, and whether a source that is not read was reset.
    fn check_stalled(&mut self) {
        let held_up = self.is_held_up();
        for peer in [Peer::A, Peer::B] {
            let direction = self.direction_from(peer);
            if !direction.is_blocked() && !held_up {
                continue;
            }
            let progress = !direction.made_no_progress();
            // A flow that moves is read again soon. A watch would end its splices.
            direction.watches_source |= !progress;
            if progress {
                self.deadlines().repeat_stall_check();
            } else if let Err(error) = direction.keep_stalled_pipe() {
                self.fail(peer, Step::Read, error);
            }
        }
    }

    /// Ends the connections and closes the streams that the relay owns. Without `cx` no end of stream is sent.
    fn finish(
        &mut self,
        mut cx: Option<&mut Context<'_>>,
        end: RelayEnd,
    ) -> Result<RelaySummary, RelayError> {
        let mut summary = self.summary(end);
        self.recheck_sources();
        if let Some((mut a, mut b)) = self.sides.take() {
            let lost = end_side(&mut a, &self.b_to_a, cx.as_deref_mut()).min(summary.b_to_a);
            summary.b_to_a -= lost;
            summary.held_b += lost;
            let lost = end_side(&mut b, &self.a_to_b, cx).min(summary.a_to_b);
            summary.a_to_b -= lost;
            summary.held_a += lost;
        }
        let Some(failure) = self.failure.take() else {
            if let Some(ending @ (RelayEnd::Lifetime | RelayEnd::MaxBytes)) = self.ending {
                summary.reason = ending;
            }
            tracing::debug!(?summary, "relay ended");
            return Ok(summary);
        };
        summary.reason = RelayEnd::Error;
        let Failure { peer, step, error } = *failure;
        tracing::debug!(?summary, %peer, ?step, %error, "relay failed");
        Err(RelayError {
            summary,
            peer,
            step,
            error,
        })
    }

    /// Takes the relay apart: returns the streams, and what was read from one and not yet written to the other.
    pub(super) fn stop(&mut self) -> Result<RelayOutcome<A, B>, RelayError> {
        let is_done = self.a_to_b.is_done() && self.b_to_a.is_done();
        if self.failure.is_some() || is_done {
            let end = self.ending.unwrap_or(RelayEnd::Eof);
            return self.finish(None, end).map(RelayOutcome::Ended);
        }
        for peer in [Peer::A, Peer::B] {
            if let Err(error) = self.direction_from(peer).return_pipe() {
                self.fail(peer, Step::Read, error);
                return self.finish(None, RelayEnd::Error).map(RelayOutcome::Ended);
            }
        }
        let summary = self.summary(RelayEnd::Stopped);
        let Some((a, b)) = self.sides.take() else {
            panic!("a relay was stopped after it had ended");
        };
        tracing::debug!(?summary, "relay stopped");
        Ok(RelayOutcome::Stopped(RelayParts {
            a: a.stream,
            b: b.stream,
            to_a: std::mem::take(&mut self.b_to_a.chain),
            to_b: std::mem::take(&mut self.a_to_b.chain),
            summary,
        }))
    }

    fn progress(&self) -> Progress {
        Progress {
            a_to_b: self.a_to_b.written,
            b_to_a: self.b_to_a.written,
        }
    }

    fn summary(&self, reason: RelayEnd) -> RelaySummary {
        RelaySummary {
            a_to_b: self.a_to_b.written,
            b_to_a: self.b_to_a.written,
            held_a: self.a_to_b.held() as u64,
            held_b: self.b_to_a.held() as u64,
            reason,
        }
    }

    fn report_progress(&mut self) {
        let progress = self.progress();
        if let Some(observers) = &mut self.observers {
            observers.report(progress);
        }
    }
}

impl<A, B> Running<A, B> {
    /// Finds out whether an open direction that ends now gets less than its source has sent.
    fn recheck_sources(&mut self) {
        let Some((a, b)) = &self.sides else { return };
        if self.a_to_b.is_open() {
            self.a_to_b.recheck_source(a.finder().unread(&a.stream));
        }
        if self.b_to_a.is_open() {
            self.b_to_a.recheck_source(b.finder().unread(&b.stream));
        }
    }
}

impl<A, B> Drop for Running<A, B> {
    /// A relay that is dropped while it runs ends as any other: a sink that gets less than its source has sent is reset.
    fn drop(&mut self) {
        if self.settings.after_error == AfterError::Stop {
            return;
        }
        self.recheck_sources();
        let Some((a, b)) = &self.sides else { return };
        if self.b_to_a.is_cut_short() && a.closes_tcp() {
            a.finder().reset_on_close(&a.stream);
        }
        if self.a_to_b.is_cut_short() && b.closes_tcp() {
            b.finder().reset_on_close(&b.stream);
        }
    }
}

fn poll_pump<R, W>(
    cx: &mut Context<'_>,
    direction: &mut Direction,
    from: Endpoint<'_, R>,
    to: Endpoint<'_, W>,
    limits: Limits,
) -> Result<Turn, Failed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut pump = Pump {
        direction,
        from,
        to,
        limits,
        is_drained: false,
    };
    pump.poll_turn(cx)
}

/// Whether closing the sink of `to` can discard bytes, if it is a TCP socket. `from` has it as its source.
fn discards_on_close(to: &Direction, from: &Direction) -> bool {
    to.written > 0 && (to.resets_sink() || !from.source_ended())
}

/// Prepares the close of a stream, to which `to` leads. Returns the number of bytes that were written to it and that the
/// close discards.
fn end_side<S: RelayStream>(
    side: &mut Side<S>,
    to: &Direction,
    cx: Option<&mut Context<'_>>,
) -> u64 {
    if !side.finder().owns(&side.stream) {
        return 0;
    }
    if to.is_cut_short() {
        if !side.closes_tcp() {
            return 0;
        }
        let unacknowledged = side.unacknowledged();
        side.finder().reset_on_close(&side.stream);
        return unacknowledged as u64;
    }
    if !to.is_open() {
        return 0;
    }
    let unread = side.finder().unread(&side.stream).unwrap_or(0);
    // The kernel resets a connection that is closed with unread bytes, and discards what the peer has not acknowledged.
    let discarded = match unread > 0 && side.closes_tcp() {
        true => side.unacknowledged(),
        false => 0,
    };
    if let Some(cx) = cx {
        // The relay ends by a time limit, so there is one attempt and no wait.
        let _ = Pin::new(&mut side.stream).poll_shutdown(cx);
    }
    discarded as u64
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_relay_of_two_sockets_is_small() {
        let size = size_of::<Running<TcpStream, TcpStream>>();
        assert!(size <= 552, "{size} bytes");
    }

    #[cfg(target_os = "linux")]
    mod splice {
        use tokio::{
            io::{AsyncReadExt, AsyncWriteExt},
            net::{TcpListener, TcpStream, UnixStream},
        };

        use crate::{
            EvBuffer, Prefixed,
            relay::{Splice, builder::Relay, splice_mode::Mode},
            transport::{Pipe, pipe_test_lock},
        };

        async fn tcp_pair() -> (TcpStream, TcpStream) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let connect = TcpStream::connect(listener.local_addr().unwrap());
            let (accepted, connected) = tokio::join!(listener.accept(), connect);
            (accepted.unwrap().0, connected.unwrap())
        }

        /// Returns whether a relay splices after `len` bytes in pieces of `piece`. Checks what it holds afterwards.
        async fn splices(mode: Splice, len: usize, piece: usize) -> bool {
            let (mut left, a) = tcp_pair().await;
            let (mut right, b) = UnixStream::pair().unwrap();
            let mut running = Relay::new(a, b).splice(mode).run_until_error();
            let traffic = async {
                let (data, mut received) = (vec![1; piece], vec![0; piece]);
                for _ in 0..len / piece {
                    let (sent, got) =
                        tokio::join!(left.write_all(&data), right.read_exact(&mut received));
                    sent.and(got.map(drop)).unwrap();
                }
                // The relay finds that there is no more.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                _ = &mut running => panic!("neither side has ended"),
                () = traffic => {}
            }
            assert!(running.a_to_b.pipe.is_none(), "an idle relay keeps no pipe");
            assert!(
                !running.b_to_a.mode.is_splicing(),
                "each direction is judged for itself"
            );
            running.a_to_b.mode.is_splicing()
        }

        #[tokio::test]
        async fn bulk_is_spliced_and_small_messages_are_not() {
            let _lock = pipe_test_lock();
            assert!(splices(Splice::Auto, 4 << 20, 100_000).await);
            assert!(!splices(Splice::Auto, 4 << 20, 1_000).await);
            assert!(!splices(Splice::Never, 4 << 20, 100_000).await);
        }

        #[tokio::test]
        async fn a_prefixed_socket_may_be_spliced_and_gives_its_prefix_as_segments() {
            let ((_left, a), (_right, mut b)) = (tcp_pair().await, tcp_pair().await);
            let a = Prefixed::new(a, EvBuffer::from(&b"prefix"[..]));
            let running = Relay::new(a, &mut b)
                .initial(EvBuffer::from(&b"first, "[..]), EvBuffer::new())
                .run_until_error();
            let (a, _) = running.sides.as_ref().unwrap();
            assert!(a.stream.prefix().is_empty());
            assert_eq!(running.a_to_b.chain, b"first, prefix"[..]);
            assert_ne!(running.a_to_b.mode, Mode::Never);
        }

        #[tokio::test]
        async fn a_unix_socket_is_spliced_to_and_not_from() {
            let ((_left, a), (_right, b)) = (tcp_pair().await, UnixStream::pair().unwrap());
            let running = Relay::new(a, b).run_until_error();
            assert_eq!(running.a_to_b.mode, Mode::START);
            assert_eq!(running.b_to_a.mode, Mode::Never);
        }

        #[tokio::test]
        async fn without_a_pipe_bytes_are_copied() {
            let _lock = pipe_test_lock();
            let all: Vec<Pipe> = std::iter::from_fn(Pipe::lease).collect();
            assert!(!all.is_empty());
            splices(Splice::Auto, 8 << 20, 100_000).await;
        }
    }
}
