//! What crossing the marks means: the hysteresis. No lock, no callback: lengths in, crossings out.

use super::Watermarks;

/// The length has crossed a mark; `len` is what it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crossing {
    /// It rose to the high mark or above.
    High {
        /// The length at the crossing, in bytes.
        len: usize,
    },
    /// It fell to the low mark or below, having been high; or, where there is no high mark, above the low one.
    Low {
        /// The length at the crossing, in bytes.
        len: usize,
    },
    /// It rose to the overflow mark or above. Once, until `Low`.
    Overflow {
        /// The length at the crossing, in bytes.
        len: usize,
    },
}

/// How far a length has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Below,
    /// Above a low mark that stands alone. Coming here is not told.
    Above,
    High,
    Overflow,
}

/// Follows a length along its marks.
///
/// It keeps how far the length has come and how far the listeners have been told; what lies between is what has to be
/// told yet. So High and then Low that nobody has heard of are nothing, and one of each kind at most waits.
#[derive(Debug)]
pub(super) struct Gauge {
    marks: Watermarks,
    stage: Stage,
    told: Stage,
    /// The lengths at the latest crossings.
    at_high: usize,
    at_overflow: usize,
    at_low: usize,
    /// Lengths from `quiet_from` to below `quiet_to` cross nothing.
    quiet_from: usize,
    quiet_to: usize,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            marks: Watermarks::NONE,
            stage: Stage::Below,
            told: Stage::Below,
            at_high: 0,
            at_overflow: 0,
            at_low: 0,
            quiet_from: 0,
            quiet_to: usize::MAX,
        }
    }
}

impl Gauge {
    pub(super) fn marks(&self) -> Watermarks {
        self.marks
    }

    /// Whether the high mark was reached, and the low one not since.
    #[inline]
    pub(super) fn is_high(&self) -> bool {
        self.stage >= Stage::High
    }

    /// Whether a length of `len` crosses nothing.
    #[inline]
    pub(super) fn is_quiet(&self, len: usize) -> bool {
        self.quiet_from <= len && len < self.quiet_to
    }

    /// The least length that may cross something.
    #[inline]
    pub(super) fn quiet_below(&self) -> usize {
        match self.quiet_from {
            0 => self.quiet_to,
            _ => 0,
        }
    }

    /// Takes in the length after a change.
    #[inline]
    pub(super) fn update(&mut self, len: usize) {
        if !self.is_quiet(len) {
            let next = self.next_stage(len);
            if next != self.stage {
                self.cross(next, len);
            }
            self.find_quiet();
        }
    }

    fn find_quiet(&mut self) {
        let Watermarks {
            low,
            high,
            overflow,
        } = self.marks;
        self.quiet_from = match self.stage {
            Stage::Below => 0,
            _ => self.marks.resume().saturating_add(1),
        };
        let rising = match self.stage {
            Stage::Below => high
                .or(overflow)
                .into_iter()
                .chain(low_alone(low, high))
                .min(),
            Stage::Above | Stage::High => overflow,
            Stage::Overflow => None,
        };
        self.quiet_to = rising.unwrap_or(usize::MAX);
    }

    fn next_stage(&self, len: usize) -> Stage {
        let Watermarks {
            low,
            high,
            overflow,
        } = self.marks;
        if self.stage != Stage::Below && len <= self.marks.resume() {
            return Stage::Below;
        }
        let reached = if overflow.is_some_and(|mark| len >= mark) {
            Stage::Overflow
        } else if high.is_some_and(|mark| len >= mark) {
            Stage::High
        } else if high.is_none() && low.is_some_and(|mark| len > mark) {
            Stage::Above
        } else {
            Stage::Below
        };
        reached.max(self.stage)
    }

    fn cross(&mut self, next: Stage, len: usize) {
        match next {
            Stage::Below => self.at_low = len,
            Stage::Above => self.told = self.told.max(Stage::Above),
            Stage::High => self.at_high = len,
            Stage::Overflow => {
                if self.stage < Stage::High {
                    self.at_high = len;
                }
                self.at_overflow = len;
            }
        }
        self.stage = next;
    }

    /// Moves the marks and looks at the length anew.
    pub(super) fn set(&mut self, marks: Watermarks, len: usize) {
        let raised = match (self.marks.high, marks.high) {
            (Some(old), Some(new)) => new > old && len < new,
            (Some(_), None) => true,
            // What stood until now was the overflow mark alone.
            (None, Some(new)) => len < new,
            (None, None) => false,
        };
        let nowhere = marks.high.is_none() && marks.overflow.is_none();
        self.marks = marks;
        if self.is_high() && (raised || nowhere) {
            self.cross(Stage::Below, len);
        } else if self.stage == Stage::Above && (marks.high.is_some() || marks.low.is_none()) {
            // Only a low mark that stands alone is watched from above, and nobody was told.
            (self.stage, self.told) = (Stage::Below, Stage::Below);
        } else if self.stage == Stage::Overflow && marks.overflow.is_none() {
            self.stage = Stage::High;
        }
        self.find_quiet();
        self.update(len);
    }

    /// The next crossing that has not been told, which then is.
    pub(super) fn next(&mut self) -> Option<Crossing> {
        if self.stage == Stage::Below {
            let told = std::mem::take(&mut self.told);
            return (told != Stage::Below).then_some(Crossing::Low { len: self.at_low });
        }
        if self.told < Stage::High && self.stage >= Stage::High && self.marks.high.is_some() {
            self.told = Stage::High;
            return Some(Crossing::High { len: self.at_high });
        }
        if self.told < Stage::Overflow && self.stage == Stage::Overflow {
            self.told = Stage::Overflow;
            return Some(Crossing::Overflow {
                len: self.at_overflow,
            });
        }
        None
    }

    /// Whether [`next`](Self::next) has something to tell.
    pub(super) fn has_news(&self) -> bool {
        match self.stage {
            Stage::Below => self.told != Stage::Below,
            Stage::Above => false,
            stage => self.told < stage,
        }
    }

    /// Nobody listens: what was not told never will be.
    pub(super) fn forget_news(&mut self) {
        self.told = self.stage;
    }
}

/// The first length above a low mark that stands alone.
fn low_alone(low: Option<usize>, high: Option<usize>) -> Option<usize> {
    match high {
        Some(_) => None,
        None => low?.checked_add(1),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Crossing::*, *};

    /// What is told when each length is told at once.
    fn told(marks: Watermarks, lens: &[usize]) -> Vec<Crossing> {
        let mut gauge = Gauge::default();
        gauge.set(marks, 0);
        let mut told = Vec::new();
        for &len in lens {
            gauge.update(len);
            told.extend(std::iter::from_fn(|| gauge.next()));
        }
        told
    }

    #[test]
    fn crossings_are_told_once_with_hysteresis() {
        let marks = Watermarks::new(10, 20).unwrap();
        for (lens, expected) in [
            (&[19, 20, 30, 11, 20, 25][..], vec![High { len: 20 }]),
            (&[30, 10, 5], vec![High { len: 30 }, Low { len: 10 }]),
            (&[5, 15, 5], vec![]),
            (
                &[20, 0, 20],
                vec![High { len: 20 }, Low { len: 0 }, High { len: 20 }],
            ),
        ] {
            assert_eq!(told(marks, lens), expected, "{lens:?}");
        }
    }

    #[test]
    fn half_of_high_is_where_it_goes_on() {
        let marks = Watermarks::with_high(10).unwrap();
        assert_eq!(told(marks, &[10, 6, 5]), [High { len: 10 }, Low { len: 5 }]);
        let one = Watermarks::with_high(1).unwrap();
        assert_eq!(told(one, &[1, 0]), [High { len: 1 }, Low { len: 0 }]);
    }

    #[test]
    fn a_plain_low_mark_is_told_after_having_been_above() {
        let marks = Watermarks::with_low(5);
        assert_eq!(
            told(marks, &[5, 6, 5, 4, 9, 0]),
            [Low { len: 5 }, Low { len: 0 }]
        );
    }

    #[test]
    fn overflow_is_told_after_high_and_once_until_low() {
        let marks = Watermarks::new(10, 20).unwrap().and_overflow(30).unwrap();
        assert_eq!(
            told(marks, &[35, 25, 35, 10, 25, 30]),
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
    fn what_nobody_has_heard_of_cancels() {
        let mut gauge = Gauge::default();
        gauge.set(Watermarks::new(10, 20).unwrap(), 0);
        gauge.update(25);
        gauge.update(5);
        assert_eq!(gauge.next(), None);
        gauge.update(21);
        assert_eq!(gauge.next(), Some(High { len: 21 }));
        gauge.update(5);
        gauge.update(22);
        assert_eq!(gauge.next(), None, "low and then high again");
    }

    #[test]
    fn moving_the_marks_looks_at_once() {
        let marks = |low, high| Watermarks::new(low, high).unwrap();
        let high = [High { len: 50 }];
        let low = [High { len: 50 }, Low { len: 50 }];
        for (new, expected) in [
            (Watermarks::NONE, &low[..]),
            (marks(60, 100), &low),
            (marks(10, 100), &low),
            (marks(10, 30), &high),
            (marks(10, 50), &high),
        ] {
            let mut gauge = Gauge::default();
            gauge.set(marks(10, 40), 50);
            let mut told: Vec<_> = std::iter::from_fn(|| gauge.next()).collect();
            gauge.set(new, 50);
            told.extend(std::iter::from_fn(|| gauge.next()));
            assert_eq!(told, expected, "{new:?}");
        }
        let mut gauge = Gauge::default();
        gauge.set(Watermarks::NONE.and_overflow(40).unwrap(), 50);
        gauge.set(marks(10, 100), 50);
        assert!(!gauge.is_high(), "nothing is reached");
        let mut gauge = Gauge::default();
        gauge.set(Watermarks::NONE, 50);
        gauge.set(marks(10, 50), 50);
        assert_eq!(gauge.next(), Some(High { len: 50 }));
    }
}
