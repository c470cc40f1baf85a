//! The time limits of a relay: when it ends because nothing moves, and when it checks flows that are stalled.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{task::coop, time::Instant};

use super::{
    Peer, RelayEnd,
    config::{DEFAULT_LINGER, HalfClose},
    pump::Turn,
};
use crate::{timer::Timer, transport::poll::yield_to_driver};

/// How long a flow may wait for its sink before the relay decides about its pipe and watches its source for a reset.
const STALL_CHECK: Duration = Duration::from_millis(100);

/// How long a sink that is stalled when the other side fails may continue to take nothing.
const LINGER_OF_STALLED: Duration = Duration::from_secs(2);

/// What a deadline asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The relay ends, for this reason.
    End(RelayEnd),
    /// A flow has waited for its sink: see [`STALL_CHECK`].
    StallCheck,
}

/// The deadlines of a relay and the one timer for them.
#[derive(Debug)]
pub(super) struct Deadlines {
    idle: Option<Duration>,
    linger: Option<Duration>,
    lingering: bool,
    /// When bytes last moved; `None` until a limit first mattered.
    since: Option<Instant>,
    lifetime: Lifetime,
    stall_check: StallCheck,
    /// What each direction had written, from A and from B, when it was last checked.
    checked: [u64; 2],
    timer: Timer,
    /// Bytes have moved since the deadlines were last computed.
    moved: bool,
}

#[derive(Clone, Copy, Debug)]
enum Lifetime {
    Unlimited,
    /// Counts from the first poll.
    Of(Duration),
    EndsAt(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StallCheck {
    /// No flow waits for its sink.
    Off,
    At(Instant),
    /// The check was made, and nothing has moved since.
    Done,
}

impl Deadlines {
    pub(super) fn new(
        half_close: HalfClose,
        idle: Option<Duration>,
        lifetime: Option<Duration>,
    ) -> Self {
        Self {
            idle,
            linger: half_close.linger(),
            lingering: false,
            since: None,
            lifetime: lifetime.map_or(Lifetime::Unlimited, Lifetime::Of),
            stall_check: StallCheck::Off,
            checked: [0; 2],
            timer: Timer::default(),
            moved: false,
        }
    }

    /// Starts `linger`: the first end of stream has come.
    pub(super) fn half_closed(&mut self) {
        if !self.lingering && self.linger.is_some() {
            self.lingering = true;
            self.since = None;
        }
    }

    /// Starts `linger` for what is left to deliver after an error, or after the relay has stopped reading.
    ///
    /// A sink that was already `stalled` gets less time.
    pub(super) fn stopped_reading(&mut self, stalled: bool) {
        let linger = self.linger.unwrap_or(DEFAULT_LINGER);
        self.linger = Some(match stalled {
            true => linger.min(LINGER_OF_STALLED),
            false => linger,
        });
        self.lingering = true;
        self.lifetime = Lifetime::Unlimited;
        self.since = None;
    }

    /// Records progress that is not a turn: the peer has acknowledged bytes.
    pub(super) fn note_progress(&mut self) {
        self.moved = true;
    }

    /// Records at a stall check what the direction from the side `from` has written, and returns whether that is more than
    /// at the last one.
    pub(super) fn note_written(&mut self, from: Peer, written: u64) -> bool {
        let checked = &mut self.checked[usize::from(from == Peer::B)];
        std::mem::replace(checked, written) != written
    }

    /// Schedules another stall check, since a flow that waits has made progress since the last one.
    pub(super) fn repeat_stall_check(&mut self) {
        self.stall_check = StallCheck::Off;
    }

    /// Waits for the next deadline of a relay that has just had its `turn`. `blocked`: a flow waits for its sink.
    ///
    /// Moving bytes do not move the timer: it is moved when it has fired too early.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, turn: Turn, blocked: bool) -> Poll<Due> {
        self.moved |= turn.moved;
        // While there is more to do the relay does not wait.
        if turn.more {
            return Poll::Pending;
        }
        if !coop::has_budget_remaining() {
            // Perhaps nothing could be tried for lack of budget, and the timer would not be polled either. Streams that
            // ignore the budget do not wake the task for it.
            yield_to_driver(cx);
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let Some((at, due)) = self.next(now, blocked) else {
                return Poll::Pending;
            };
            if at <= now {
                if due == Due::StallCheck {
                    self.stall_check = StallCheck::Done;
                }
                return Poll::Ready(due);
            }
            ready!(self.timer.poll(cx, at));
        }
    }

    /// Returns the next deadline. At `now` nothing more can be done; `blocked`: a flow waits for its sink.
    fn next(&mut self, now: Instant, blocked: bool) -> Option<(Instant, Due)> {
        let moved = std::mem::take(&mut self.moved);
        if moved || self.since.is_none() {
            self.since = Some(now);
        }
        self.stall_check = match self.stall_check {
            _ if !blocked => StallCheck::Off,
            StallCheck::Done if !moved => StallCheck::Done,
            StallCheck::At(at) => StallCheck::At(at),
            StallCheck::Off | StallCheck::Done => StallCheck::At(now + STALL_CHECK),
        };
        if let Lifetime::Of(lifetime) = self.lifetime {
            self.lifetime = match now.checked_add(lifetime) {
                Some(at) => Lifetime::EndsAt(at),
                None => Lifetime::Unlimited,
            };
        }

        let since = self.since?;
        let end = |limit: Option<Duration>, end| Some((since.checked_add(limit?)?, Due::End(end)));
        let linger = self.linger.filter(|_| self.lingering);
        let lifetime = match self.lifetime {
            Lifetime::EndsAt(at) => Some((at, Due::End(RelayEnd::Lifetime))),
            _ => None,
        };
        let stall_check = match self.stall_check {
            StallCheck::At(at) => Some((at, Due::StallCheck)),
            _ => None,
        };
        // Of several that are due at the same time the first one counts.
        let deadlines = [
            lifetime,
            end(linger, RelayEnd::LingerExpired),
            end(self.idle, RelayEnd::Idle),
            stall_check,
        ];
        deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const EXPIRED: Due = Due::End(RelayEnd::LingerExpired);

    fn deadlines(half_close: HalfClose, idle: Option<Duration>) -> Deadlines {
        Deadlines::new(half_close, idle, None)
    }

    /// The next deadline of a relay in which no flow waits for its sink.
    fn next(deadlines: &mut Deadlines, now: Instant, moved: bool) -> Option<(Instant, Due)> {
        deadlines.moved |= moved;
        deadlines.next(now, false)
    }

    #[test]
    fn an_open_relay_without_limits_has_no_deadline() {
        for policy in [HalfClose::Propagate, HalfClose::default(), HalfClose::Close] {
            assert_eq!(
                next(&mut deadlines(policy, None), Instant::now(), true),
                None
            );
        }
    }

    #[test]
    fn linger_counts_from_the_first_end_and_again_from_each_move() {
        let start = Instant::now();
        let mut deadlines = deadlines(HalfClose::Linger(5 * SECOND), None);
        deadlines.half_closed();
        assert_eq!(
            next(&mut deadlines, start, false),
            Some((start + 5 * SECOND, EXPIRED))
        );
        let later = start + 3 * SECOND;
        assert_eq!(
            next(&mut deadlines, later, false),
            Some((start + 5 * SECOND, EXPIRED))
        );
        assert_eq!(
            next(&mut deadlines, later, true),
            Some((later + 5 * SECOND, EXPIRED))
        );
        deadlines.half_closed();
        assert_eq!(
            next(&mut deadlines, later + SECOND, false),
            Some((later + 5 * SECOND, EXPIRED)),
            "only the first end starts it"
        );
    }

    #[test]
    fn time_spent_idle_before_the_first_end_does_not_count_as_linger() {
        let start = Instant::now();
        let mut deadlines = deadlines(HalfClose::Linger(2 * SECOND), Some(100 * SECOND));
        next(&mut deadlines, start, false);
        deadlines.half_closed();
        let end = start + 50 * SECOND;
        assert_eq!(
            next(&mut deadlines, end, false),
            Some((end + 2 * SECOND, EXPIRED))
        );
    }

    #[test]
    fn the_earlier_of_linger_and_idle_ends_the_relay() {
        let start = Instant::now();
        for (linger, idle, first) in [
            (1, 2, RelayEnd::LingerExpired),
            (2, 1, RelayEnd::Idle),
            (1, 1, RelayEnd::LingerExpired),
        ] {
            let mut deadlines = deadlines(HalfClose::Linger(linger * SECOND), Some(idle * SECOND));
            deadlines.half_closed();
            assert_eq!(
                next(&mut deadlines, start, false),
                Some((start + SECOND, Due::End(first)))
            );
        }
    }

    #[test]
    fn zero_is_due_at_once_and_the_longest_duration_never() {
        let now = Instant::now();
        let mut at_once = deadlines(HalfClose::Propagate, Some(Duration::ZERO));
        assert_eq!(
            next(&mut at_once, now, true),
            Some((now, Due::End(RelayEnd::Idle)))
        );
        let max = Some(Duration::MAX);
        let mut never = Deadlines::new(HalfClose::Linger(Duration::MAX), max, max);
        never.half_closed();
        assert_eq!(next(&mut never, now, false), None);
    }

    #[test]
    fn a_failed_relay_is_bounded_with_every_policy() {
        let now = Instant::now();
        for (policy, stalled, bound) in [
            (HalfClose::Propagate, false, DEFAULT_LINGER),
            (HalfClose::Close, false, DEFAULT_LINGER),
            (HalfClose::Linger(SECOND), false, SECOND),
            (HalfClose::Linger(SECOND), true, SECOND),
            (HalfClose::Propagate, true, LINGER_OF_STALLED),
        ] {
            let mut deadlines = deadlines(policy, None);
            deadlines.stopped_reading(stalled);
            assert_eq!(
                next(&mut deadlines, now, false),
                Some((now + bound, EXPIRED))
            );
        }
    }

    #[test]
    fn the_lifetime_counts_from_the_first_poll_whether_bytes_move_or_not() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(HalfClose::default(), None, Some(9 * SECOND));
        let end = Some((start + 9 * SECOND, Due::End(RelayEnd::Lifetime)));
        assert_eq!(next(&mut deadlines, start, false), end);
        assert_eq!(next(&mut deadlines, start + 8 * SECOND, true), end);
        deadlines.stopped_reading(false);
        let now = start + 9 * SECOND;
        assert_eq!(
            next(&mut deadlines, now, false),
            Some((now + DEFAULT_LINGER, EXPIRED)),
            "it ends once"
        );
    }

    #[test]
    fn a_blocked_flow_is_checked_once_until_bytes_move_again() {
        let start = Instant::now();
        let mut deadlines = deadlines(HalfClose::default(), None);
        let check = |at| Some((at + STALL_CHECK, Due::StallCheck));
        assert_eq!(deadlines.next(start, true), check(start));
        deadlines.moved = true;
        let later = start + STALL_CHECK / 2;
        assert_eq!(deadlines.next(later, true), check(start), "not postponed");
        deadlines.stall_check = StallCheck::Done;
        assert_eq!(deadlines.next(start + SECOND, true), None);
        deadlines.moved = true;
        let later = start + 2 * SECOND;
        assert_eq!(deadlines.next(later, true), check(later));
        assert_eq!(deadlines.next(later, false), None);
    }
}
