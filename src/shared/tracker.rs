//! Which watermarks a length crosses, with hysteresis. No lock and no callback: lengths in, crossings out.

use std::ops::Range;

use super::watermarks::Watermarks;

/// The length has crossed a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crossing {
    /// It rose to the high watermark or above.
    High {
        /// The length at the crossing, in bytes.
        len: usize,
    },
    /// It fell to the low watermark or below, after it had been high; without a high watermark, after it had been above
    /// the low one.
    Low {
        /// The length at the crossing, in bytes.
        len: usize,
    },
    /// It rose to the overflow watermark or above. Reported once until `Low`.
    Overflow {
        /// The length at the crossing, in bytes.
        len: usize,
    },
}

/// How high the length is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Low,
    /// Above a low watermark without a high one. Reaching this is not reported.
    AboveLow,
    High,
    Overflow,
}

/// Follows a length across its watermarks.
///
/// It keeps the level of the length and the level that was last reported; the difference is what is still to be reported.
/// So a High and a Low that were not reported cancel out, and at most one crossing of each kind is pending.
#[derive(Debug)]
pub(super) struct WatermarkTracker {
    watermarks: Watermarks,
    level: Level,
    reported: Level,
    /// `None` before the first crossing.
    latest: Option<Box<Latest>>,
    /// The number of crossings so far.
    crossings: u32,
    /// The lengths that cross nothing.
    quiet: Range<usize>,
}

/// The lengths and the numbers of the latest crossings: low, high, overflow.
#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    lens: [usize; 3],
    numbers: [u32; 3],
}

const LOW: usize = 0;
const HIGH: usize = 1;
const OVERFLOW: usize = 2;

/// A crossing to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumberedCrossing {
    pub(super) crossing: Crossing,
    /// Crossings are numbered in their order.
    pub(super) number: u32,
}

impl Default for WatermarkTracker {
    fn default() -> Self {
        Self {
            watermarks: Watermarks::NONE,
            level: Level::Low,
            reported: Level::Low,
            latest: None,
            crossings: 0,
            quiet: 0..usize::MAX,
        }
    }
}

impl WatermarkTracker {
    pub(super) fn watermarks(&self) -> Watermarks {
        self.watermarks
    }

    /// Returns whether the high watermark was reached, and the low one not since.
    #[inline]
    pub(super) fn is_high(&self) -> bool {
        self.level >= Level::High
    }

    /// Returns the lengths that cross nothing.
    #[inline]
    pub(super) fn quiet_range(&self) -> Range<usize> {
        self.quiet.clone()
    }

    /// Returns the number of the latest crossing.
    pub(super) fn latest(&self) -> u32 {
        self.crossings
    }

    /// Updates the level after a change of the length. Returns whether the quiet range may have changed.
    #[inline]
    pub(super) fn update(&mut self, len: usize) -> bool {
        let crosses = !self.quiet.contains(&len);
        if crosses {
            let next = self.next_level(len);
            if next != self.level {
                self.cross(next, len);
            }
            self.update_quiet_range();
        }
        crosses
    }

    fn update_quiet_range(&mut self) {
        let (low, high, overflow) = self.watermarks.all();
        let start = match self.level {
            Level::Low => 0,
            _ => self.watermarks.resume().saturating_add(1),
        };
        let rising = match self.level {
            Level::Low => match (high.or(overflow), low) {
                (None, low) => low.and_then(|low| low.checked_add(1)),
                (stop, Some(low)) if high.is_none() => stop.min(low.checked_add(1)),
                (stop, _) => stop,
            },
            Level::AboveLow | Level::High => overflow,
            Level::Overflow => None,
        };
        self.quiet = start..rising.unwrap_or(usize::MAX);
    }

    fn next_level(&self, len: usize) -> Level {
        let (low, high, overflow) = self.watermarks.all();
        if self.level != Level::Low && len <= self.watermarks.resume() {
            return Level::Low;
        }
        let reached = if overflow.is_some_and(|overflow| len >= overflow) {
            Level::Overflow
        } else if high.is_some_and(|high| len >= high) {
            Level::High
        } else if high.is_none() && low.is_some_and(|low| len > low) {
            Level::AboveLow
        } else {
            Level::Low
        };
        reached.max(self.level)
    }

    fn cross(&mut self, next: Level, len: usize) {
        self.crossings = self.crossings.wrapping_add(1);
        let latest = self.latest.get_or_insert_default();
        let mut note = |kind: usize| {
            latest.lens[kind] = len;
            latest.numbers[kind] = self.crossings;
        };
        match next {
            Level::Low => note(LOW),
            // Counts as reported, unless another crossing is pending.
            Level::AboveLow => self.reported = self.reported.max(Level::AboveLow),
            Level::High => note(HIGH),
            Level::Overflow => {
                note(OVERFLOW);
                if self.level < Level::High {
                    note(HIGH);
                }
            }
        }
        self.level = next;
    }

    /// Changes the watermarks and compares the length with them.
    pub(super) fn set(&mut self, watermarks: Watermarks, len: usize) {
        let (old, new) = (self.watermarks.stop(), watermarks.stop());
        self.watermarks = watermarks;
        let continues = match (old, new) {
            (_, None) => true,
            (old, Some(new)) => len < new && old.is_none_or(|old| new > old),
        };
        if self.is_high() && continues {
            self.cross(Level::Low, len);
        } else if self.level == Level::AboveLow && (new.is_some() || watermarks.low().is_none()) {
            // Reaching this level was not reported.
            self.level = Level::Low;
            if self.reported == Level::AboveLow {
                self.reported = Level::Low;
            }
        } else if self.level == Level::Overflow
            && watermarks.overflow().is_none_or(|overflow| len < overflow)
        {
            // The next crossing of the overflow watermark is reported again.
            self.level = Level::High;
            self.reported = self.reported.min(Level::High);
        }
        self.update_quiet_range();
        self.update(len);
    }

    /// Returns the next crossing to report, and marks it as reported.
    pub(super) fn next(&mut self) -> Option<NumberedCrossing> {
        let high_is_over = self.level < Level::High && self.reported >= Level::High;
        let low_is_reached = self.level == Level::Low && self.reported == Level::AboveLow;
        let (kind, crossing): (_, fn(usize) -> Crossing) = if high_is_over || low_is_reached {
            self.reported = Level::Low;
            (LOW, |len| Crossing::Low { len })
        } else if self.reported < Level::High && self.is_high() && self.watermarks.high().is_some()
        {
            self.reported = Level::High;
            (HIGH, |len| Crossing::High { len })
        } else if self.reported < Level::Overflow && self.level == Level::Overflow {
            self.reported = Level::Overflow;
            (OVERFLOW, |len| Crossing::Overflow { len })
        } else {
            return None;
        };
        if self.level == Level::AboveLow {
            self.reported = Level::AboveLow;
        }
        let latest = self.latest.as_deref().copied().unwrap_or_default();
        Some(NumberedCrossing {
            crossing: crossing(latest.lens[kind]),
            number: latest.numbers[kind],
        })
    }

    /// Returns whether [`next`](Self::next) has a crossing to report.
    pub(super) fn has_pending(&self) -> bool {
        match self.level {
            Level::Low => self.reported != Level::Low,
            Level::AboveLow => self.reported >= Level::High,
            level => self.reported < level,
        }
    }

    /// Forgets what was not reported, since there is no subscriber.
    pub(super) fn skip_pending(&mut self) {
        self.reported = self.level;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Crossing::*, *};

    fn drain(tracker: &mut WatermarkTracker) -> impl Iterator<Item = Crossing> + '_ {
        std::iter::from_fn(|| tracker.next()).map(|next| next.crossing)
    }

    /// Returns the crossings when each length is reported at once.
    fn crossings(watermarks: Watermarks, lens: &[usize]) -> Vec<Crossing> {
        let mut tracker = WatermarkTracker::default();
        tracker.set(watermarks, 0);
        let mut reported = Vec::new();
        for &len in lens {
            tracker.update(len);
            let has_pending = tracker.has_pending();
            let before = reported.len();
            reported.extend(drain(&mut tracker));
            assert_eq!(has_pending, reported.len() > before);
        }
        reported
    }

    #[test]
    fn crossings_are_reported_once_with_hysteresis() {
        let watermarks = Watermarks::new(10, 20).unwrap();
        for (lens, expected) in [
            (&[19, 20, 30, 11, 20, 25][..], vec![High { len: 20 }]),
            (&[30, 10, 5], vec![High { len: 30 }, Low { len: 10 }]),
            (&[5, 15, 5], vec![]),
            (
                &[20, 0, 20],
                vec![High { len: 20 }, Low { len: 0 }, High { len: 20 }],
            ),
        ] {
            assert_eq!(crossings(watermarks, lens), expected, "{lens:?}");
        }
    }

    #[test]
    fn without_a_low_watermark_half_of_the_high_one_counts() {
        let ten = Watermarks::with_high(10).unwrap();
        assert_eq!(
            crossings(ten, &[10, 6, 5]),
            [High { len: 10 }, Low { len: 5 }]
        );
        let one = Watermarks::with_high(1).unwrap();
        assert_eq!(crossings(one, &[1, 0]), [High { len: 1 }, Low { len: 0 }]);
    }

    #[test]
    fn a_low_watermark_alone_is_reported_after_the_length_was_above() {
        assert_eq!(
            crossings(Watermarks::with_low(5), &[5, 6, 5, 4, 9, 0]),
            [Low { len: 5 }, Low { len: 0 }]
        );
    }

    #[test]
    fn overflow_is_reported_after_high_and_once_until_low() {
        let watermarks = Watermarks::new(10, 20).unwrap().and_overflow(30).unwrap();
        assert_eq!(
            crossings(watermarks, &[35, 25, 35, 10, 25, 30]),
            [
                High { len: 35 },
                Overflow { len: 35 },
                Low { len: 10 },
                High { len: 25 },
                Overflow { len: 30 },
            ]
        );
    }

    #[test]
    fn crossings_that_were_not_reported_cancel_out() {
        let mut tracker = WatermarkTracker::default();
        tracker.set(Watermarks::new(10, 20).unwrap(), 0);
        tracker.update(25);
        tracker.update(5);
        assert_eq!(tracker.next(), None);
        tracker.update(21);
        assert_eq!(drain(&mut tracker).collect::<Vec<_>>(), [High { len: 21 }]);
        tracker.update(5);
        tracker.update(22);
        assert_eq!(tracker.next(), None, "low and then high again");
    }

    #[test]
    fn changed_watermarks_take_effect_at_once() {
        let new = |low, high| Watermarks::new(low, high).unwrap();
        let high = [High { len: 50 }];
        let low = [High { len: 50 }, Low { len: 50 }];
        for (changed, expected) in [
            (Watermarks::NONE, &low[..]),
            (new(60, 100), &low),
            (new(10, 100), &low),
            (new(10, 30), &high),
            (new(10, 50), &high),
        ] {
            let mut tracker = WatermarkTracker::default();
            tracker.set(new(10, 40), 50);
            let mut reported: Vec<_> = drain(&mut tracker).collect();
            tracker.set(changed, 50);
            reported.extend(drain(&mut tracker));
            assert_eq!(reported, expected, "{changed:?}");
        }
        let mut tracker = WatermarkTracker::default();
        tracker.set(Watermarks::NONE, 50);
        tracker.set(new(10, 50), 50);
        assert_eq!(drain(&mut tracker).collect::<Vec<_>>(), [High { len: 50 }]);
    }

    #[test]
    fn a_writer_stops_at_the_lowest_watermark_above_and_continues_when_that_is_raised() {
        let overflow = |n| Watermarks::NONE.and_overflow(n).unwrap();
        let mut tracker = WatermarkTracker::default();
        tracker.set(overflow(40), 60);
        assert!(tracker.is_high());
        tracker.set(overflow(50), 60);
        assert!(tracker.is_high(), "still above");
        tracker.set(overflow(100), 60);
        assert!(!tracker.is_high());
        tracker.set(overflow(40), 50);
        tracker.set(Watermarks::new(10, 100).unwrap(), 50);
        assert!(!tracker.is_high());
    }

    #[test]
    fn high_is_not_reported_twice_without_low() {
        let mut tracker = WatermarkTracker::default();
        tracker.set(Watermarks::with_high(20).unwrap(), 0);
        let mut reported = Vec::new();
        tracker.update(90);
        reported.extend(drain(&mut tracker));
        for watermarks in [Watermarks::with_low(15), Watermarks::with_high(30).unwrap()] {
            tracker.set(watermarks, 90);
            assert!(tracker.has_pending());
            reported.extend(drain(&mut tracker));
            assert!(!tracker.has_pending());
        }
        assert_eq!(
            reported,
            [High { len: 90 }, Low { len: 90 }, High { len: 90 }]
        );
    }

    #[test]
    fn overflow_is_reported_again_after_its_watermark_was_removed_or_raised() {
        let base = Watermarks::new(10, 20).unwrap();
        for between in [
            base,
            base.and_overflow(100).unwrap(),
            Watermarks::new(10, 35).unwrap(),
        ] {
            let mut tracker = WatermarkTracker::default();
            tracker.set(base.and_overflow(30).unwrap(), 0);
            tracker.update(35);
            assert_eq!(drain(&mut tracker).count(), 2);
            tracker.set(between, 35);
            assert_eq!(tracker.next(), None);
            tracker.set(base.and_overflow(34).unwrap(), 35);
            assert_eq!(
                drain(&mut tracker).collect::<Vec<_>>(),
                [Overflow { len: 35 }]
            );
        }
    }

    /// The level is kept: the length has neither fallen nor risen, and a writer that waits does not get more room.
    #[test]
    fn watermarks_that_are_set_again_or_lowered_report_nothing_between_low_and_high() {
        for changed in [Watermarks::new(10, 40), Watermarks::new(10, 35)] {
            let mut tracker = WatermarkTracker::default();
            tracker.set(Watermarks::new(10, 40).unwrap(), 50);
            assert_eq!(drain(&mut tracker).count(), 1);
            tracker.update(30);
            tracker.set(changed.unwrap(), 30);
            assert!(tracker.is_high(), "{changed:?}");
            assert_eq!(tracker.next(), None, "{changed:?}");
        }
    }

    /// To be above a low watermark is no level once that is gone, or there is a high one that was not reached.
    #[test]
    fn low_is_not_reported_for_a_watermark_that_was_replaced_before() {
        for changed in [Watermarks::NONE, Watermarks::new(5, 20).unwrap()] {
            let mut tracker = WatermarkTracker::default();
            tracker.set(Watermarks::with_low(5), 0);
            tracker.update(9);
            tracker.set(changed, 9);
            assert_eq!(tracker.next(), None, "{changed:?}");
            tracker.update(0);
            assert_eq!(tracker.next(), None, "{changed:?}");
        }
    }

    #[test]
    fn each_crossing_is_reported_with_the_length_that_caused_it() {
        let mut tracker = WatermarkTracker::default();
        tracker.set(
            Watermarks::new(10, 20).unwrap().and_overflow(30).unwrap(),
            0,
        );
        tracker.update(25);
        tracker.update(35);
        assert_eq!(
            drain(&mut tracker).collect::<Vec<_>>(),
            [High { len: 25 }, Overflow { len: 35 }]
        );
    }

    #[test]
    fn overflow_is_not_reported_again_for_a_watermark_that_the_length_still_reaches() {
        let base = Watermarks::new(10, 20).unwrap();
        for changed in [35, 33] {
            let mut tracker = WatermarkTracker::default();
            tracker.set(base.and_overflow(34).unwrap(), 0);
            tracker.update(35);
            assert_eq!(drain(&mut tracker).count(), 2);
            tracker.set(base.and_overflow(changed).unwrap(), 35);
            assert_eq!(tracker.next(), None, "{changed}");
        }
    }

    #[test]
    fn every_length_outside_the_quiet_range_may_cross_and_none_inside_does() {
        for watermarks in [
            Watermarks::NONE,
            Watermarks::with_low(3),
            Watermarks::with_high(4).unwrap(),
            Watermarks::new(2, 5).unwrap(),
            Watermarks::NONE.and_overflow(6).unwrap(),
            Watermarks::with_low(3).and_overflow(6).unwrap(),
            Watermarks::new(2, 5).unwrap().and_overflow(7).unwrap(),
        ] {
            for first in 0..9 {
                for second in 0..9 {
                    let mut tracker = WatermarkTracker::default();
                    tracker.set(watermarks, first);
                    let level = tracker.level;
                    if tracker.quiet_range().contains(&second) {
                        assert_eq!(tracker.next_level(second), level, "{watermarks:?}");
                    }
                }
            }
        }
    }
}
