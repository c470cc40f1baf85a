//! When a connection has stood still for too long. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::inner::Timeouts;

/// For how long something may stand still; `None` for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) stall: Option<Duration>,
    /// Counts only while a connection is being closed.
    pub(super) linger: Duration,
}

/// What has stood still for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Read,
    Write,
    Idle,
    Stall,
    Linger,
}

/// How things stand after all was moved that could be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// Bytes were read, or written, since the last look.
    pub(super) read: bool,
    pub(super) written: bool,
    /// Reading waits for the peer, and not for us.
    pub(super) reading: bool,
    /// Output waits, and writing is not switched off.
    pub(super) writing: bool,
    /// The output stands above its high mark.
    pub(super) high: bool,
    /// The connection is being closed.
    pub(super) closing: bool,
}

/// Measures how long something lasts, with breaks.
#[derive(Clone, Copy, Debug, Default)]
struct Stopwatch {
    /// What had passed when it was last stopped.
    passed: Duration,
    since: Option<Instant>,
    /// What it measures was told, and has not ended since.
    told: bool,
}

impl Stopwatch {
    /// Lets it run or stops it, from zero if the thing it measures has `ended`.
    fn look(&mut self, now: Instant, running: bool, ended: bool) {
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

    /// When it will have run for as long as `limit`, if nothing stops it.
    fn reaches(&self, limit: Option<Duration>) -> Option<Instant> {
        if self.told {
            return None;
        }
        self.since?.checked_add(limit?.saturating_sub(self.passed))
    }
}

/// The stopwatches of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadlines {
    read: Stopwatch,
    write: Stopwatch,
    idle: Stopwatch,
    stall: Stopwatch,
    linger: Stopwatch,
}

impl Deadlines {
    /// Takes in how things stand at `now`.
    pub(super) fn look(&mut self, now: Instant, at: Standing) {
        self.read.look(now, at.reading, at.read);
        self.write.look(now, at.writing, at.written);
        self.idle
            .look(now, at.reading || at.writing, at.read || at.written);
        self.stall.look(now, at.high, !at.high);
        self.linger.look(now, at.closing, at.written);
    }

    /// What is due first if nothing changes, and when; `None` for never.
    pub(super) fn next(&self, limits: &Limits) -> Option<(Instant, Due)> {
        let each = [
            (self.read.reaches(limits.read), Due::Read),
            (self.write.reaches(limits.write), Due::Write),
            (self.idle.reaches(limits.idle), Due::Idle),
            (self.stall.reaches(limits.stall), Due::Stall),
            (self.linger.reaches(Some(limits.linger)), Due::Linger),
        ];
        let known = each.into_iter().filter_map(|(at, due)| Some((at?, due)));
        known.min_by_key(|&(at, _)| at)
    }

    /// Takes note that `due` was told: it counts anew, or not again before it was over.
    pub(super) fn told(&mut self, due: Due) {
        match due {
            // The direction is off now, and starts from zero when it is enabled again.
            Due::Read => self.read = Stopwatch::default(),
            Due::Write => self.write = Stopwatch::default(),
            Due::Idle => self.idle.told = true,
            Due::Stall => self.stall.told = true,
            Due::Linger => self.linger.told = true,
        }
    }
}

impl Limits {
    /// The part that may be changed later.
    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            read: self.read,
            write: self.write,
        }
    }

    /// Whether any of them counts for a connection that is being closed or not. If not, nobody needs the time.
    pub(super) fn any(&self, closing: bool) -> bool {
        closing
            || self.read.is_some()
            || self.write.is_some()
            || self.idle.is_some()
            || self.stall.is_some()
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
            ..Limits::default()
        }
    }

    const READING: Standing = Standing {
        read: false,
        written: false,
        reading: true,
        writing: false,
        high: false,
        closing: false,
    };
    const PAUSED: Standing = Standing {
        reading: false,
        ..READING
    };

    /// Looks at each second and returns what is due next at the end, in seconds from the start.
    fn next(limits: &Limits, looks: &[(u64, Standing)]) -> Option<(u64, Due)> {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for &(at, standing) in looks {
            deadlines.look(start + secs(at), standing);
        }
        let (at, due) = deadlines.next(limits)?;
        Some(((at - start).as_secs(), due))
    }

    #[test]
    fn reading_is_due_after_its_time_without_a_byte() {
        let read = Standing {
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
    fn the_time_of_a_pause_of_ours_does_not_count() {
        assert_eq!(next(&limits(), &[(0, PAUSED)]), None);
        let paused = [(0, READING), (3, PAUSED)];
        assert_eq!(next(&limits(), &paused), None);
        let resumed = [(0, READING), (3, PAUSED), (100, READING)];
        assert_eq!(next(&limits(), &resumed), Some((102, Due::Read)));
    }

    #[test]
    fn writing_is_due_only_while_output_waits() {
        let limits = Limits {
            write: Some(secs(5)),
            ..Limits::default()
        };
        let writing = Standing {
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
    fn idle_counts_what_moves_either_way() {
        let limits = Limits {
            idle: Some(secs(5)),
            ..Limits::default()
        };
        let written = Standing {
            written: true,
            ..READING
        };
        assert_eq!(
            next(&limits, &[(0, READING), (4, written)]),
            Some((9, Due::Idle))
        );
        // Neither can a byte come nor is there one to go: that is our doing.
        assert_eq!(next(&limits, &[(0, PAUSED)]), None);
    }

    #[test]
    fn a_stall_lasts_although_bytes_move() {
        let limits = Limits {
            stall: Some(secs(5)),
            ..Limits::default()
        };
        let high = Standing {
            written: true,
            high: true,
            ..READING
        };
        let looks = [(0, high), (4, high)];
        assert_eq!(next(&limits, &looks), Some((5, Due::Stall)));
        assert_eq!(
            next(&limits, &[(0, high), (4, READING), (6, high)]),
            Some((11, Due::Stall))
        );
    }

    #[test]
    fn linger_starts_anew_with_each_write_and_not_with_a_read() {
        let limits = Limits {
            linger: secs(30),
            ..Limits::default()
        };
        let closing = Standing {
            closing: true,
            ..READING
        };
        let read = Standing {
            read: true,
            ..closing
        };
        let written = Standing {
            written: true,
            ..closing
        };
        assert_eq!(next(&limits, &[(0, READING)]), None);
        let looks = [(10, closing), (20, read)];
        assert_eq!(next(&limits, &looks), Some((40, Due::Linger)));
        let looks = [(10, closing), (20, written)];
        assert_eq!(next(&limits, &looks), Some((50, Due::Linger)));
    }

    #[test]
    fn what_was_told_counts_only_after_it_was_over() {
        let limits = Limits {
            idle: Some(secs(5)),
            ..Limits::default()
        };
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        deadlines.look(start, READING);
        deadlines.told(Due::Idle);
        deadlines.look(start + secs(6), READING);
        assert_eq!(deadlines.next(&limits), None);
        let read = Standing {
            read: true,
            ..READING
        };
        deadlines.look(start + secs(7), read);
        assert_eq!(deadlines.next(&limits), Some((start + secs(12), Due::Idle)));
    }

    #[test]
    fn zero_is_due_at_once_and_the_longest_time_never() {
        let zero = Limits {
            read: Some(Duration::ZERO),
            ..Limits::default()
        };
        assert_eq!(next(&zero, &[(0, READING)]), Some((0, Due::Read)));
        let never = Limits {
            read: Some(Duration::MAX),
            ..Limits::default()
        };
        assert_eq!(next(&never, &[(0, READING)]), None);
    }
}
