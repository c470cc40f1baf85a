//! What a relay does when one side ends, fails or falls silent: settings and the deadlines they set. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::RelayEnd;

/// For how long a half-closed or failed relay may stand still unless set otherwise.
pub(super) const DEFAULT_LINGER: Duration = Duration::from_secs(30);

/// What the end of one side's stream means for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// The end goes on to the other side; the relay ends when both have come. A side that never ends its
    /// stream keeps the relay for ever, unless there is an idle timeout.
    Propagate,
    /// The same, and after the first end the rest may stand still for at most so long. Each byte that
    /// moves starts the time anew. The default, with 30 s. [`Duration::ZERO`] ends the relay as soon as
    /// the rest has to be waited for.
    Linger(Duration),
    /// The first end ends both directions, once what was read is written. That may stand still for at
    /// most 30 s.
    Close,
}

impl Default for HalfClose {
    fn default() -> Self {
        Self::Linger(DEFAULT_LINGER)
    }
}

/// What the healthy side gets to see when the other fails.
///
/// What was read before is delivered first, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// A reset, so that a truncated answer does not look complete. The default where the healthy side is
    /// a TCP socket. It is sent when the socket is closed, which is what dropping the stream does; any
    /// other kind of stream is left as it is, without an end of stream.
    Reset,
    /// The end of stream, as if the other side had ended in order.
    Fin,
}

/// Whether the kernel may move the bytes of bulk flows without copying them through the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Splice {
    /// Where it can: on Linux, from socket to socket, once a flow has proved to be bulk, and for as long as it is. The
    /// default.
    #[default]
    Auto,
    /// Not at all.
    Never,
}

/// When a relay in which nothing moves has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    idle: Option<Duration>,
    linger: Option<Duration>,
    /// When something last moved; `None` until a limit first mattered.
    since: Option<Instant>,
    lingering: bool,
}

impl Deadlines {
    pub(super) fn new(half_close: HalfClose, idle: Option<Duration>) -> Self {
        Self {
            idle,
            linger: match half_close {
                HalfClose::Propagate => None,
                HalfClose::Linger(linger) => Some(linger),
                HalfClose::Close => Some(DEFAULT_LINGER),
            },
            since: None,
            lingering: false,
        }
    }

    /// The first end of stream has come: `linger` counts from the next look on.
    pub(super) fn half_closed(&mut self) {
        if !self.lingering && self.linger.is_some() {
            self.lingering = true;
            self.since = None;
        }
    }

    /// One side has failed: what is left for the other is given the time of a half-closed relay.
    pub(super) fn failed(&mut self) {
        self.linger.get_or_insert(DEFAULT_LINGER);
        self.lingering = true;
        self.since = None;
    }

    /// Whether any limit counts now. If not, nobody needs to know the time.
    pub(super) fn any(&self) -> bool {
        self.idle.is_some() || self.lingering
    }

    /// Takes notice that at `now` nothing more can be done, and whether anything had `moved` before.
    ///
    /// Returns what ends the relay first, and when; `None` for never.
    pub(super) fn waiting(&mut self, now: Instant, moved: bool) -> Option<(Instant, RelayEnd)> {
        if moved || self.since.is_none() {
            self.since = Some(now);
        }
        let since = self.since?;
        let linger = self.linger.filter(|_| self.lingering);
        let linger = linger.and_then(|d| Some((since.checked_add(d)?, RelayEnd::LingerExpired)));
        let idle = self.idle;
        let idle = idle.and_then(|d| Some((since.checked_add(d)?, RelayEnd::Idle)));
        match (linger, idle) {
            (Some(linger), Some(idle)) => Some(if idle.0 < linger.0 { idle } else { linger }),
            (linger, idle) => linger.or(idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_open_relay_without_idle_timeout_needs_no_clock() {
        for policy in [HalfClose::Propagate, HalfClose::default(), HalfClose::Close] {
            assert!(!Deadlines::new(policy, None).any());
        }
    }

    #[test]
    fn linger_counts_from_the_first_end_and_anew_from_each_move() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(HalfClose::Linger(5 * SECOND), None);
        deadlines.half_closed();
        let expired = RelayEnd::LingerExpired;
        assert_eq!(
            deadlines.waiting(start, false),
            Some((start + 5 * SECOND, expired))
        );
        let later = start + 3 * SECOND;
        assert_eq!(
            deadlines.waiting(later, false),
            Some((start + 5 * SECOND, expired))
        );
        assert_eq!(
            deadlines.waiting(later, true),
            Some((later + 5 * SECOND, expired))
        );
        deadlines.half_closed();
        assert_eq!(
            deadlines.waiting(later + SECOND, false),
            Some((later + 5 * SECOND, expired)),
            "the second end is no first one"
        );
    }

    #[test]
    fn time_spent_idle_before_the_first_end_does_not_count_as_linger() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(HalfClose::Linger(2 * SECOND), Some(100 * SECOND));
        deadlines.waiting(start, false);
        deadlines.half_closed();
        let end = start + 50 * SECOND;
        assert_eq!(
            deadlines.waiting(end, false),
            Some((end + 2 * SECOND, RelayEnd::LingerExpired))
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
            let mut deadlines =
                Deadlines::new(HalfClose::Linger(linger * SECOND), Some(idle * SECOND));
            deadlines.half_closed();
            assert_eq!(
                deadlines.waiting(start, false),
                Some((start + SECOND, first))
            );
        }
    }

    #[test]
    fn zero_is_due_at_once_and_the_longest_duration_never() {
        let now = Instant::now();
        let mut at_once = Deadlines::new(HalfClose::Propagate, Some(Duration::ZERO));
        assert_eq!(at_once.waiting(now, true), Some((now, RelayEnd::Idle)));
        let mut never = Deadlines::new(HalfClose::Linger(Duration::MAX), Some(Duration::MAX));
        never.half_closed();
        assert_eq!(never.waiting(now, false), None);
    }

    #[test]
    fn a_failed_relay_is_bounded_whatever_the_policy() {
        let now = Instant::now();
        for (policy, bound) in [
            (HalfClose::Propagate, DEFAULT_LINGER),
            (HalfClose::Close, DEFAULT_LINGER),
            (HalfClose::Linger(SECOND), SECOND),
        ] {
            let mut deadlines = Deadlines::new(policy, None);
            deadlines.failed();
            assert_eq!(
                deadlines.waiting(now, false),
                Some((now + bound, RelayEnd::LingerExpired))
            );
        }
    }
}
