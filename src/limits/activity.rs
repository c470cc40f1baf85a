//! Counts the members of a group that were active lately.

use std::time::Duration;

use tokio::time::Instant;

/// Members that reserved bytes within this time count as active.
const ACTIVITY: Duration = Duration::from_millis(100);

/// How many members were active lately.
pub(super) struct Activity {
    /// The number of the current period.
    period: u64,
    ends: Instant,
    current: u64,
    previous: u64,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            period: 1,
            ends: now + ACTIVITY,
            current: 0,
            previous: 0,
        }
    }

    /// Counts a member that is active `now`; returns how many are, at least one.
    pub(super) fn note(&mut self, now: Instant, seen: &mut u64) -> u64 {
        if now >= self.ends {
            let follows = now < self.ends + ACTIVITY;
            self.previous = if follows { self.current } else { 0 };
            self.current = 0;
            self.period += 1;
            self.ends = now + ACTIVITY;
        }
        if *seen != self.period {
            *seen = self.period;
            self.current += 1;
        }
        self.current.max(self.previous).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that the test moves, and the activity of a group that was created at its start.
    struct Clock {
        now: Instant,
        activity: Activity,
    }

    impl Clock {
        fn new() -> Self {
            let now = Instant::now();
            let activity = Activity::new(now);
            Self { now, activity }
        }

        fn note(&mut self, seen: &mut u64) -> u64 {
            self.activity.note(self.now, seen)
        }
    }

    #[test]
    fn a_member_counts_once_in_a_period_and_until_the_end_of_the_next() {
        let mut clock = Clock::new();
        let [mut a, mut b, mut c] = [0; 3];
        assert_eq!(clock.note(&mut a), 1);
        assert_eq!(clock.note(&mut b), 2);
        assert_eq!(clock.note(&mut c), 3);
        assert_eq!(clock.note(&mut a), 3, "again");
        clock.now += ACTIVITY;
        assert_eq!(clock.note(&mut a), 3, "three in the period before");
        clock.now += ACTIVITY - Duration::from_nanos(1);
        assert_eq!(clock.note(&mut b), 3, "the same period");
        clock.now += Duration::from_nanos(1);
        assert_eq!(clock.note(&mut a), 2, "two in the period before");
        clock.now += ACTIVITY;
        assert_eq!(clock.note(&mut a), 1);
    }

    #[test]
    fn members_that_were_active_before_a_break_do_not_count() {
        for (silence, active) in [
            (2 * ACTIVITY - Duration::from_nanos(1), 2),
            (2 * ACTIVITY, 1),
            (100 * ACTIVITY, 1),
        ] {
            let mut clock = Clock::new();
            let [mut a, mut b] = [0; 2];
            clock.note(&mut a);
            clock.note(&mut b);
            clock.now += silence;
            assert_eq!(clock.note(&mut a), active, "{silence:?}");
        }
    }
}
