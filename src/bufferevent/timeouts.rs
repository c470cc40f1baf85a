//! The time limits of a connection. The time is an argument, except for the timer itself.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{task::coop, time::Instant};

use crate::{
    timer::{Backoff, Timer},
    transport::poll::yield_to_driver,
};

/// How long a connection may make no progress; `None` is without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) stall: Option<Duration>,
    /// Counts while a connection is being closed and the peer has not acknowledged everything.
    pub(super) linger: Duration,
    /// Counts from the acknowledgement to the end of the peer, and while the rest before a reset is not read.
    pub(super) close_wait: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        read: None,
        write: None,
        idle: None,
        stall: None,
        linger: Duration::from_secs(30),
        close_wait: Duration::from_secs(2),
    };

    /// Returns whether any limit counts for a connection in its present state. Otherwise no timer is needed.
    pub(super) fn any(&self, closing: bool) -> bool {
        closing
            || self.read.is_some()
            || self.write.is_some()
            || self.idle.is_some()
            || self.stall.is_some()
    }
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Read,
    Write,
    Idle,
    StalledInput,
    StalledOutput,
    Linger,
    CloseWait,
    /// Ask again whether the peer has acknowledged everything.
    CheckAcknowledged,
}

/// What a connection did since the last update, and what it waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    /// Bytes were read, or written, since the last update.
    pub(super) read: bool,
    pub(super) written: bool,
    /// Reading waits for the peer.
    pub(super) reading: bool,
    /// Output, a flush or a shutdown waits for the peer, and writing is on.
    pub(super) writing: bool,
    /// The input, or the output, is above its high watermark.
    pub(super) input_high: bool,
    pub(super) output_high: bool,
    pub(super) closing: Option<Closing>,
}

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Output is being written, flushed, or the stream is being shut down.
    Writing,
    /// Everything was written; the peer has not acknowledged it.
    Unacknowledged,
    /// The peer has everything, but has not ended its stream.
    WaitingForPeer,
    /// The peer has reset the connection, and its last bytes are read.
    ReadingRest,
}

/// Measures for how long a condition lasts, with breaks.
#[derive(Clone, Copy, Debug, Default)]
struct Stopwatch {
    /// The time until it was last stopped.
    passed: Duration,
    since: Option<Instant>,
    /// The limit was reached and reported, and the condition has not ended since.
    reported: bool,
}

impl Stopwatch {
    /// Starts or stops it. It starts from zero if the condition has `ended`.
    fn update(&mut self, now: Instant, running: bool, ended: bool) {
        if ended {
            *self = Self::default();
        }
        match self.since {
            None if running => self.since = Some(now),
            Some(since) if !running => {
                self.passed += now.saturating_duration_since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// Returns the time at which it reaches `limit`, if nothing stops it.
    fn reaches(&self, limit: Option<Duration>) -> Option<Instant> {
        if self.reported {
            return None;
        }
        self.since?.checked_add(limit?.saturating_sub(self.passed))
    }
}

/// When to ask again for an acknowledgement: no readiness event reports it.
#[derive(Clone, Copy, Debug, Default)]
struct NextCheck {
    at: Option<Instant>,
    backoff: Backoff,
}

impl NextCheck {
    fn update(&mut self, now: Instant, waiting: bool) {
        match (waiting, self.at) {
            (false, _) => *self = Self::default(),
            (true, None) => self.at = Some(now + self.backoff.next_delay()),
            (true, Some(_)) => {}
        }
    }
}

/// The stopwatches of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadlines {
    read: Stopwatch,
    write: Stopwatch,
    idle: Stopwatch,
    stalled_input: Stopwatch,
    stalled_output: Stopwatch,
    linger: Stopwatch,
    close_wait: Stopwatch,
    acknowledged: NextCheck,
}

impl Deadlines {
    /// Takes note of what happened until `now`. While a connection is being closed, only the limits of closing count.
    pub(super) fn update(&mut self, now: Instant, at: Activity) {
        let live = at.closing.is_none();
        self.read.update(now, live && at.reading, at.read);
        self.write.update(now, live && at.writing, at.written);
        let idle = live && (at.reading || at.writing);
        self.idle.update(now, idle, at.read || at.written);
        self.stalled_input
            .update(now, live && at.input_high, !at.input_high);
        self.stalled_output
            .update(now, live && at.output_high, !at.output_high);
        let delivering = matches!(at.closing, Some(Closing::Writing | Closing::Unacknowledged));
        self.linger.update(now, delivering, at.written);
        let rest = at.closing == Some(Closing::ReadingRest);
        let waiting = rest || at.closing == Some(Closing::WaitingForPeer);
        self.close_wait
            .update(now, waiting, !waiting || (rest && at.read));
        let unacknowledged = at.closing == Some(Closing::Unacknowledged);
        self.acknowledged.update(now, unacknowledged);
    }

    /// Returns the limit that is reached first if nothing changes, and when; `None` for never.
    pub(super) fn next(&self, limits: &Limits) -> Option<(Instant, Due)> {
        let each = [
            (self.read.reaches(limits.read), Due::Read),
            (self.write.reaches(limits.write), Due::Write),
            (self.idle.reaches(limits.idle), Due::Idle),
            (self.stalled_input.reaches(limits.stall), Due::StalledInput),
            (
                self.stalled_output.reaches(limits.stall),
                Due::StalledOutput,
            ),
            (self.linger.reaches(Some(limits.linger)), Due::Linger),
            (
                self.close_wait.reaches(Some(limits.close_wait)),
                Due::CloseWait,
            ),
            (self.acknowledged.at, Due::CheckAcknowledged),
        ];
        let known = each.into_iter().filter_map(|(at, due)| Some((at?, due)));
        known.min_by_key(|&(at, _)| at)
    }

    /// Takes note that `due` was reported. It is not due again before its condition has ended.
    pub(super) fn reported(&mut self, due: Due) {
        match due {
            // The direction is off now, and starts from zero when it is enabled again.
            Due::Read => self.read = Stopwatch::default(),
            Due::Write => self.write = Stopwatch::default(),
            Due::Idle => self.idle.reported = true,
            Due::StalledInput => self.stalled_input.reported = true,
            Due::StalledOutput => self.stalled_output.reported = true,
            Due::Linger => self.linger.reported = true,
            Due::CloseWait => self.close_wait.reported = true,
            Due::CheckAcknowledged => self.acknowledged.at = None,
        }
    }
}

/// The deadlines of a connection and the timer for them, created when the first of them counts.
#[derive(Debug, Default)]
pub(super) struct ConnectionTimer {
    deadlines: Deadlines,
    timer: Timer,
}

impl ConnectionTimer {
    /// Returns whether the runtime has no timers, so that no limit is ever due.
    pub(super) fn is_unavailable(&self) -> bool {
        self.timer.is_unavailable()
    }

    /// Waits for the limit that is reached first.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        mut at: Activity,
    ) -> Poll<Due> {
        loop {
            let now = Instant::now();
            self.deadlines.update(now, at);
            let Some((when, due)) = self.deadlines.next(limits) else {
                return Poll::Pending;
            };
            if when <= now {
                // Without budget the stream was not polled, so bytes may be there.
                if !coop::has_budget_remaining() {
                    yield_to_driver(cx);
                    return Poll::Pending;
                }
                self.deadlines.reported(due);
                return Poll::Ready(due);
            }
            (at.read, at.written) = (false, false);
            ready!(self.timer.poll(cx, when));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn limits() -> Limits {
        Limits {
            read: Some(secs(5)),
            ..Limits::DEFAULT
        }
    }

    const READING: Activity = Activity {
        read: false,
        written: false,
        reading: true,
        writing: false,
        input_high: false,
        output_high: false,
        closing: None,
    };
    const PAUSED: Activity = Activity {
        reading: false,
        ..READING
    };
    const CLOSING: Activity = Activity {
        closing: Some(Closing::Writing),
        ..READING
    };

    /// Updates deadlines at the given seconds, and returns what is due next, in seconds from the start.
    fn next(limits: &Limits, updates: &[(u64, Activity)]) -> Option<(u64, Due)> {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for &(at, activity) in updates {
            deadlines.update(start + secs(at), activity);
        }
        let (at, due) = deadlines.next(limits)?;
        Some(((at - start).as_secs(), due))
    }

    #[test]
    fn reading_is_due_after_its_time_without_a_byte() {
        let read = Activity {
            read: true,
            ..READING
        };
        assert_eq!(next(&limits(), &[(0, READING)]), Some((5, Due::Read)));
        assert_eq!(
            next(&limits(), &[(0, READING), (3, READING)]),
            Some((5, Due::Read))
        );
        assert_eq!(
            next(&limits(), &[(0, READING), (3, read)]),
            Some((8, Due::Read))
        );
    }

    #[test]
    fn time_in_which_reading_is_paused_does_not_count() {
        assert_eq!(next(&limits(), &[(0, PAUSED)]), None);
        let paused = [(0, READING), (3, PAUSED)];
        assert_eq!(next(&limits(), &paused), None);
        let resumed = [(0, READING), (3, PAUSED), (100, READING)];
        assert_eq!(next(&limits(), &resumed), Some((102, Due::Read)));
    }

    #[test]
    fn writing_is_due_only_while_output_is_pending() {
        let limits = Limits {
            write: Some(secs(5)),
            ..Limits::DEFAULT
        };
        let writing = Activity {
            writing: true,
            ..READING
        };
        assert_eq!(next(&limits, &[(0, READING)]), None);
        assert_eq!(
            next(&limits, &[(0, READING), (7, writing)]),
            Some((12, Due::Write))
        );
    }

    #[test]
    fn idle_counts_bytes_in_both_directions() {
        let limits = Limits {
            idle: Some(secs(5)),
            ..Limits::DEFAULT
        };
        let written = Activity {
            written: true,
            ..READING
        };
        assert_eq!(
            next(&limits, &[(0, READING), (4, written)]),
            Some((9, Due::Idle))
        );
        // No byte can come and none is pending: the user has paused the connection.
        assert_eq!(next(&limits, &[(0, PAUSED)]), None);
    }

    #[test]
    fn a_stall_lasts_although_bytes_move() {
        let limits = Limits {
            stall: Some(secs(5)),
            ..Limits::DEFAULT
        };
        let output = Activity {
            written: true,
            output_high: true,
            ..READING
        };
        let input = Activity {
            input_high: true,
            ..PAUSED
        };
        for (high, due) in [(output, Due::StalledOutput), (input, Due::StalledInput)] {
            let updates = [(0, high), (4, high)];
            assert_eq!(next(&limits, &updates), Some((5, due)));
            let updates = [(0, high), (4, READING), (6, high)];
            assert_eq!(next(&limits, &updates), Some((11, due)));
        }
    }

    #[test]
    fn linger_starts_again_with_each_write_and_not_with_a_read() {
        let read = Activity {
            read: true,
            ..CLOSING
        };
        let written = Activity {
            written: true,
            ..CLOSING
        };
        assert_eq!(next(&Limits::DEFAULT, &[(0, READING)]), None);
        let updates = [(10, CLOSING), (20, read)];
        assert_eq!(next(&Limits::DEFAULT, &updates), Some((40, Due::Linger)));
        let updates = [(10, CLOSING), (20, written)];
        assert_eq!(next(&Limits::DEFAULT, &updates), Some((50, Due::Linger)));
    }

    #[test]
    fn close_wait_counts_from_the_acknowledgement_and_linger_until_then() {
        let waiting = Activity {
            read: true,
            closing: Some(Closing::WaitingForPeer),
            ..READING
        };
        let updates = [(0, CLOSING), (10, waiting), (11, waiting)];
        assert_eq!(next(&Limits::DEFAULT, &updates), Some((12, Due::CloseWait)));
    }

    #[test]
    fn an_acknowledgement_is_asked_for_with_growing_delays() {
        let unacknowledged = Activity {
            closing: Some(Closing::Unacknowledged),
            ..READING
        };
        let start = Instant::now();
        let (mut now, mut deadlines) = (start, Deadlines::default());
        let mut delays = Vec::new();
        for _ in 0..8 {
            deadlines.update(now, unacknowledged);
            let (at, due) = deadlines.next(&Limits::DEFAULT).unwrap();
            assert_eq!(due, Due::CheckAcknowledged);
            delays.push((at - now).as_millis());
            now = at;
            deadlines.reported(due);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 50, 50]);
    }

    #[test]
    fn while_closing_only_the_limits_of_closing_count() {
        let limits = Limits {
            read: Some(Duration::ZERO),
            write: Some(Duration::ZERO),
            idle: Some(Duration::ZERO),
            stall: Some(Duration::ZERO),
            ..Limits::DEFAULT
        };
        let closing = Activity {
            writing: true,
            input_high: true,
            output_high: true,
            ..CLOSING
        };
        assert_eq!(next(&limits, &[(0, closing)]), Some((30, Due::Linger)));
    }

    #[test]
    fn a_limit_that_was_reported_counts_only_after_its_condition_ended() {
        let limits = Limits {
            idle: Some(secs(5)),
            ..Limits::DEFAULT
        };
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        deadlines.update(start, READING);
        deadlines.reported(Due::Idle);
        deadlines.update(start + secs(6), READING);
        assert_eq!(deadlines.next(&limits), None);
        let read = Activity {
            read: true,
            ..READING
        };
        deadlines.update(start + secs(7), read);
        assert_eq!(deadlines.next(&limits), Some((start + secs(12), Due::Idle)));
    }

    #[test]
    fn zero_is_due_at_once_and_the_longest_time_never() {
        let zero = Limits {
            read: Some(Duration::ZERO),
            ..Limits::DEFAULT
        };
        assert_eq!(next(&zero, &[(0, READING)]), Some((0, Due::Read)));
        let never = Limits {
            read: Some(Duration::MAX),
            ..Limits::DEFAULT
        };
        assert_eq!(next(&never, &[(0, READING)]), None);
    }
}
