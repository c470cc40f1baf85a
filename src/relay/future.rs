//! The future of a relay: polls the directions that have something to do, and waits for the deadlines.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::time::Instant;

use super::{
    HalfClose, OnError, Peer, Progress, RelayEnd, RelayError, RelayStream, RelaySummary, Step,
    config::Limits,
    counters::Observers,
    deadlines::{Deadlines, Due},
    direction::Direction,
    flow_limits::{FlowLimits, Round, poll_rounds},
    pump::{self, Turn},
    side::Side,
};
use crate::{
    timer::{Backoff, Timer},
    transport::poll::yield_to_driver,
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
    pub(super) peer: Peer,
    pub(super) step: Step,
    pub(super) error: io::Error,
    /// Bytes from A, and from B, that were read and then dropped, since the side that they were for has failed.
    pub(super) dropped: [u64; 2],
}

/// Waits until the peers have acknowledged what was written to them.
#[derive(Debug)]
pub(super) struct AcknowledgementWait {
    pub(super) timer: Timer,
    pub(super) next: Instant,
    pub(super) backoff: Backoff,
    pub(super) unacknowledged: usize,
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
        let last = self.waker.as_ref();
        if !last.is_some_and(|last| last.will_wake(cx.waker())) {
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

    /// Returns the bytes that were read from both sides.
    pub(super) fn read(&self) -> u64 {
        let [from_a, from_b] = self.dropped();
        self.a_to_b.read() + self.b_to_a.read() + from_a + from_b
    }

    /// Returns the bytes from A, and from B, that were read and then dropped.
    fn dropped(&self) -> [u64; 2] {
        let failure = self.failure.as_ref();
        failure.map_or([0; 2], |failure| failure.dropped)
    }

    /// Returns the bytes that `max_bytes` still allows to read.
    fn bytes_left(&self) -> u64 {
        self.settings.max_bytes.saturating_sub(self.read())
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

    /// Returns whether a rate limit or the budget holds up a direction.
    pub(super) fn is_held_up(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_held_up())
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>, from: Peer) -> Turn {
        let limits = self.settings.limits;
        let Some((a, b)) = &mut self.sides else {
            panic!("a relay was polled after it had ended");
        };
        let (a, b) = (a.endpoint(), b.endpoint());
        let polled = match from {
            Peer::A => pump::poll_turn(cx, &mut self.a_to_b, a, b, limits),
            Peer::B => pump::poll_turn(cx, &mut self.b_to_a, b, a, limits),
        };
        if matches!(polled, Ok(Turn { moved: true, .. })) {
            // The other direction may carry messages that wait for each other with these.
            self.stop_gathering(from.other());
        }
        polled.unwrap_or_else(|(step, error)| {
            let peer = match step {
                Step::Read => from,
                _ => from.other(),
            };
            self.fail(peer, step, error);
            // The direction may have held bytes or an end to deliver. After a second failure nothing else wakes the task.
            let more = !self.direction_from(from).is_done();
            if more {
                yield_to_driver(cx);
            }
            Turn { moved: false, more }
        })
    }

    pub(super) fn direction_from(&mut self, peer: Peer) -> &mut Direction {
        match peer {
            Peer::A => &mut self.a_to_b,
            Peer::B => &mut self.b_to_a,
        }
    }

    pub(super) fn deadlines(&mut self) -> &mut Deadlines {
        let half_close = self.settings.half_close;
        self.deadlines
            .get_or_insert_with(|| Box::new(Deadlines::new(half_close, None, None)))
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
            let written = direction.written;
            let progress = self.deadlines().note_written(peer, written);
            let direction = self.direction_from(peer);
            // A flow that moves is read again soon. A watch would end its splices.
            direction.watches_source |= !progress;
            if progress {
                self.deadlines().repeat_stall_check();
            } else if let Err(error) = direction.keep_stalled_pipe() {
                self.fail(peer, Step::Read, error);
            }
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            a_to_b: self.a_to_b.written,
            b_to_a: self.b_to_a.written,
        }
    }

    pub(super) fn summary(&self, reason: RelayEnd) -> RelaySummary {
        let [from_a, from_b] = self.dropped();
        RelaySummary {
            a_to_b: self.a_to_b.written,
            b_to_a: self.b_to_a.written,
            held_a: self.a_to_b.held() as u64 + from_a,
            held_b: self.b_to_a.held() as u64 + from_b,
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
            net::UnixStream,
        };

        use crate::{
            EvBuffer, Prefixed,
            relay::{Splice, builder::Relay, splice_mode::Mode},
            test_net::tcp_pair,
            transport::{Pipe, pipe_test_lock},
        };

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
