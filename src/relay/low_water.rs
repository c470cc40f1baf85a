//! Decides when the source of a spliced flow gathers bytes before it wakes the task. No I/O and no clock.
//!
//! ```text
//! Counting --- many wake-ups in a row, soon after each other, that brought little ---> Raised
//!    ^--- a look at the source finds little, or stop() ----------------------------------'
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// The most bytes that a source gathers.
const MARK_MAX: u64 = 256 << 10;

/// The smallest read that counts as one of a bulk flow, in bytes.
const BULK_MIN: usize = 16 << 10;

/// How long the first byte waits for the mark at the rate of the flow, and how long any byte waits for another one.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// The wake-ups in a row that have to bring little before a source gathers.
const PROVEN: u16 = 16;

/// The most that this grows to for a source that has gathered without effect.
const PROVEN_MAX: u16 = 2048;

/// What to do with the low-water mark of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Set it to this many bytes.
    Raise(u32),
    /// Set it to what it was before.
    Lower,
}

/// The state of one source.
#[derive(Debug)]
pub(super) struct LowWater {
    state: State,
    /// The wake-ups that have to bring little before the mark is raised.
    needed: u16,
}

#[derive(Debug)]
enum State {
    /// Every byte wakes the task.
    Counting(Run),
    /// So many bytes wake the task, or the time at which it looks at the source.
    Raised {
        mark: u32,
        look_at: Instant,
        /// The last look found little.
        found_little: bool,
    },
}

/// Wake-ups in a row that have brought little.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    wakes: u16,
    /// Without the first one, as the time counts from it.
    bytes: u64,
    since: Option<Instant>,
}

impl Default for LowWater {
    fn default() -> Self {
        Self {
            state: State::Counting(Run::default()),
            needed: PROVEN,
        }
    }
}

impl LowWater {
    pub(super) fn is_raised(&self) -> bool {
        matches!(self.state, State::Raised { .. })
    }

    /// Returns when to look at the source although the mark was not reached.
    pub(super) fn look_at(&self) -> Option<Instant> {
        match self.state {
            State::Raised { look_at, .. } => Some(look_at),
            State::Counting(_) => None,
        }
    }

    /// Records that a turn has read `read` bytes, and then there were no more. `looked`: not since the mark was
    /// reached, but since it was time to look.
    pub(super) fn drained(&mut self, read: usize, looked: bool, now: Instant) -> Option<Change> {
        match &mut self.state {
            State::Counting(run) => {
                let mark = run.count(read, self.needed, now)?;
                let look_at = now + WAIT_MAX;
                self.state = State::Raised {
                    mark,
                    look_at,
                    found_little: false,
                };
                Some(Change::Raise(mark))
            }
            State::Raised {
                mark,
                look_at,
                found_little,
            } => {
                if read > 0 {
                    *look_at = now + WAIT_MAX;
                }
                if read >= *mark as usize {
                    self.needed = (self.needed - 1).max(PROVEN);
                }
                let finds_little = looked && read < *mark as usize / 2;
                let found_little = std::mem::replace(found_little, finds_little);
                if finds_little && read >= BULK_MIN && found_little {
                    // The flow has become slower, or its source waits for an answer to what was gathered.
                    self.needed = (self.needed * 2).min(PROVEN_MAX);
                    return self.stop();
                }
                if looked && read < BULK_MIN {
                    return self.stop();
                }
                None
            }
        }
    }

    /// Makes every byte wake the task again, at least for the next wake-ups: the flow has ended, or the other direction
    /// moves, so that these may be messages that wait for each other.
    pub(super) fn stop(&mut self) -> Option<Change> {
        let raised = self.is_raised();
        self.state = State::Counting(Run::default());
        raised.then_some(Change::Lower)
    }
}

impl Run {
    /// Counts a wake-up that has brought `read` bytes. Returns the mark after `needed` ones that had brought little, if it
    /// is worthwhile.
    fn count(&mut self, read: usize, needed: u16, now: Instant) -> Option<u32> {
        if read < BULK_MIN {
            *self = Self::default();
            return None;
        }
        let Some(since) = self.since else {
            self.since = Some(now);
            return None;
        };
        self.wakes += 1;
        self.bytes += read as u64;
        if self.wakes < needed {
            return None;
        }
        let Self { wakes, bytes, .. } = std::mem::take(self);
        let took = now.duration_since(since).as_nanos().max(1);
        let at_this_rate = u128::from(bytes) * WAIT_MAX.as_nanos() / took;
        let mark = u64::try_from(at_this_rate).map_or(MARK_MAX, |mark| mark.min(MARK_MAX));
        // Else most reads would reach it by themselves.
        let is_worthwhile = mark > bytes / u64::from(wakes) * 3 / 2;
        is_worthwhile.then_some(mark as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 16 << 10;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// A flow that has brought `count` pieces, one each `gap`.
    fn paced(
        low_water: &mut LowWater,
        now: &mut Instant,
        count: u16,
        piece: usize,
        gap: Duration,
    ) -> Option<Change> {
        let mut change = None;
        for _ in 0..count {
            assert_eq!(change, None, "raised early");
            *now += gap;
            change = low_water.drained(piece, false, *now);
        }
        change
    }

    #[test]
    fn the_mark_is_what_the_flow_brings_in_a_millisecond() {
        for (piece, gap, change) in [
            (PIECE, micros(25), Some(Change::Raise(256 << 10))),
            (4 * PIECE, micros(400), Some(Change::Raise(163_840))),
            (PIECE, micros(100), Some(Change::Raise(163_840))),
            (PIECE, micros(600), Some(Change::Raise(27_306))),
            // The next piece is as late as the mark would be.
            (PIECE, micros(700), None),
            (PIECE, Duration::from_secs(1), None),
            // Messages, and reads that bring enough by themselves.
            (PIECE - 1, micros(25), None),
            (11 * PIECE, micros(25), None),
            (PIECE, Duration::ZERO, Some(Change::Raise(256 << 10))),
        ] {
            let (mut low_water, mut now) = (LowWater::default(), Instant::now());
            assert_eq!(
                paced(&mut low_water, &mut now, PROVEN + 1, piece, gap),
                change,
                "{piece} bytes each {gap:?}"
            );
            assert_eq!(low_water.is_raised(), change.is_some());
        }
    }

    #[test]
    fn wake_ups_count_only_in_a_row() {
        for other in [0, PIECE - 1] {
            let (mut low_water, mut now) = (LowWater::default(), Instant::now());
            assert_eq!(
                paced(&mut low_water, &mut now, PROVEN, PIECE, micros(25)),
                None
            );
            assert_eq!(low_water.drained(other, false, now), None);
            assert_eq!(
                paced(&mut low_water, &mut now, PROVEN, PIECE, micros(25)),
                None
            );
            low_water.stop();
            assert_eq!(
                paced(&mut low_water, &mut now, PROVEN, PIECE, micros(25)),
                None
            );
        }
    }

    fn raised(now: &mut Instant) -> LowWater {
        let mut low_water = LowWater::default();
        let change = paced(&mut low_water, now, PROVEN + 1, PIECE, micros(25));
        assert_eq!(change, Some(Change::Raise(256 << 10)));
        low_water
    }

    #[test]
    fn a_source_is_looked_at_a_millisecond_after_the_last_bytes() {
        let mut now = Instant::now();
        let mut low_water = raised(&mut now);
        assert_eq!(low_water.look_at(), Some(now + WAIT_MAX));
        for (read, looked, moves) in [
            (256 << 10, false, true),
            (0, false, false),
            (100, false, true),
            (128 << 10, true, true),
            (1 << 20, true, true),
        ] {
            let before = low_water.look_at();
            now += micros(300);
            assert_eq!(low_water.drained(read, looked, now), None);
            let expected = if moves { Some(now + WAIT_MAX) } else { before };
            assert_eq!(low_water.look_at(), expected, "{read} bytes");
        }
    }

    #[test]
    fn looks_that_find_little_lower_the_mark() {
        let (little, enough, message) = ((128 << 10) - 1, 128 << 10, PIECE - 1);
        for (found, lowers) in [
            (&[0][..], true),
            (&[message], true),
            (&[little], false),
            (&[little, little], true),
            (&[little, enough, little], false),
            (&[enough, message], true),
        ] {
            let mut now = Instant::now();
            let mut low_water = raised(&mut now);
            let changes = found.iter().map(|&read| low_water.drained(read, true, now));
            let expected = if lowers { Some(Change::Lower) } else { None };
            assert_eq!(changes.last(), Some(expected), "{found:?}");
            assert_eq!(low_water.is_raised(), !lowers);
            assert_eq!(low_water.look_at().is_some(), !lowers);
        }
    }

    #[test]
    fn a_stop_lowers_the_mark_once() {
        let mut now = Instant::now();
        let mut low_water = raised(&mut now);
        assert_eq!(low_water.stop(), Some(Change::Lower));
        assert_eq!(low_water.stop(), None);
        assert_eq!(
            paced(&mut low_water, &mut now, PROVEN, PIECE, micros(25)),
            None
        );
    }

    #[test]
    fn a_flow_that_gathers_without_effect_has_to_prove_itself_longer() {
        let mut now = Instant::now();
        let mut low_water = LowWater::default();
        let mut needed = PROVEN;
        for _ in 0..10 {
            let change = paced(&mut low_water, &mut now, needed + 1, PIECE, micros(25));
            assert_eq!(change, Some(Change::Raise(256 << 10)));
            assert_eq!(low_water.drained(PIECE, true, now), None);
            assert_eq!(low_water.drained(PIECE, true, now), Some(Change::Lower));
            needed = (needed * 2).min(PROVEN_MAX);
        }
        assert!(paced(&mut low_water, &mut now, needed + 1, PIECE, micros(25)).is_some());
        for _ in 0..PROVEN_MAX {
            assert_eq!(low_water.drained(256 << 10, false, now), None);
        }
        assert_eq!(low_water.needed, PROVEN, "the mark was reached many times");
    }
}
