//! The arithmetic of a token bucket. Time is an argument; nothing here reads a clock or waits.

use std::time::Duration;

use tokio::time::Instant;

use super::rate_limit::Rate;

/// Tokens are counted in billionths of a byte: a rate in bytes per second times nanoseconds is then exact.
const TOKENS_PER_BYTE: i128 = 1_000_000_000;

/// A waiting flow continues once so many bytes have gathered: a large read, for which the wake-up costs little.
const RESUME_LEN: u64 = 256 << 10;

/// A slower flow does not wait longer than for this part of a second's worth: with a larger one it feels jerky.
const RESUME_FRACTION_SLOW: u64 = 16;

/// A faster flow waits for this part of a second's worth. At half of it a bulk flow takes twice the wake-ups.
const RESUME_FRACTION_FAST: u64 = 64;

/// Deadlines are at most this far away, which timers can represent.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Tokens that refill at a rate, up to a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// At most the burst. Below zero after more was taken than there was.
    tokens: i128,
    /// The time for which `tokens` is right.
    updated: Instant,
}

impl Bucket {
    /// Returns a bucket that holds one second's worth, or the burst if that is less.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            tokens: tokens(rate.burst.min(rate.per_second)),
            updated: now,
        }
    }

    /// Changes the rate from `now` on. The tokens stay, up to the new burst.
    pub(super) fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.refill(now);
        self.rate = rate;
        self.tokens = self.tokens.min(tokens(rate.burst));
    }

    /// Returns the bytes that may move at `now`.
    pub(super) fn available(&mut self, now: Instant) -> u64 {
        self.refill(now);
        u64::try_from(self.tokens / TOKENS_PER_BYTE).unwrap_or(0)
    }

    /// Takes `n` bytes' worth, which may be more than there is. Call [`available`](Self::available) before: time that
    /// has passed since counts as time after.
    pub(super) fn take(&mut self, n: u64) {
        self.tokens -= tokens(n);
    }

    /// Puts back `n` bytes' worth, up to the burst.
    pub(super) fn put_back(&mut self, n: u64) {
        self.tokens = (self.tokens + tokens(n)).min(tokens(self.rate.burst));
    }

    /// Returns the bytes for which an empty bucket should wait: at least one, at most half of the burst, so that a late
    /// timer loses no tokens.
    pub(super) fn resume_at(&self) -> u64 {
        let Rate { per_second, burst } = self.rate;
        let gathered = RESUME_LEN
            .min(per_second / RESUME_FRACTION_SLOW)
            .max(per_second / RESUME_FRACTION_FAST);
        gathered.min(burst / 2).max(1)
    }

    /// Returns the largest number of bytes that the bucket ever holds.
    pub(super) fn burst(&self) -> u64 {
        self.rate.burst
    }

    /// Returns the time at which `n` bytes may move, if nothing is taken before. For more than the burst, it is the
    /// time by which that much has flowed in.
    pub(super) fn time_of(&self, n: u64) -> Instant {
        let missing = (tokens(n) - self.tokens).max(0);
        let rate = i128::from(self.rate.per_second);
        let nanoseconds = missing / rate + i128::from(missing % rate > 0);
        let wait = u64::try_from(nanoseconds).map_or(WAIT_MAX, Duration::from_nanos);
        self.updated + wait.min(WAIT_MAX)
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_nanos();
        let elapsed = i128::try_from(elapsed).unwrap_or(i128::MAX);
        let gained = elapsed.saturating_mul(i128::from(self.rate.per_second));
        let full = tokens(self.rate.burst);
        self.tokens = self.tokens.saturating_add(gained).min(full);
        self.updated = self.updated.max(now);
    }
}

fn tokens(bytes: u64) -> i128 {
    i128::from(bytes) * TOKENS_PER_BYTE
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bucket(per_second: u64, burst: u64) -> (Bucket, Instant) {
        let now = Instant::now();
        (Bucket::new(Rate { per_second, burst }, now), now)
    }

    #[test]
    fn a_bucket_starts_with_the_smaller_of_burst_and_one_second() {
        let (mut small, now) = bucket(100, 30);
        assert_eq!(small.available(now), 30);
        let (mut large, now) = bucket(100, 500);
        assert_eq!(large.available(now), 100);
        assert_eq!(large.available(now + 3 * SECOND), 400);
        assert_eq!(
            large.available(now + 9 * SECOND),
            500,
            "never more than the burst"
        );
    }

    #[test]
    fn no_fraction_of_a_byte_is_lost() {
        let (mut bucket, start) = bucket(3, 100);
        bucket.take(3);
        let mut taken = 0;
        for step in 1..=10_000_u32 {
            let n = bucket.available(start + step * Duration::from_millis(1));
            bucket.take(n);
            taken += n;
        }
        assert_eq!(taken, 30);
    }

    #[test]
    fn the_deadline_is_the_first_moment_at_which_the_bytes_may_move() {
        for (rate, need) in [(3, 2), (7, 7), (1_000_003, 11), (u64::MAX, u64::MAX)] {
            let (mut bucket, start) = bucket(rate, rate);
            bucket.take(rate);
            let at = bucket.time_of(need);
            assert!(bucket.available(at - Duration::from_nanos(1)) < need);
            assert!(bucket.available(at) >= need, "{rate} {need}");
            assert!(at > start);
        }
    }

    #[test]
    fn a_debt_is_paid_before_anything_moves() {
        let (mut bucket, start) = bucket(10, 10);
        bucket.take(35);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.time_of(1), start + Duration::from_millis(2600));
        bucket.put_back(100);
        assert_eq!(
            bucket.available(start),
            10,
            "a gift is capped by the burst, too"
        );
    }

    #[test]
    fn an_empty_bucket_waits_for_a_large_read_but_not_for_long() {
        for (per_second, burst, expected) in [
            (1, 1, 1),
            (16_000, 16_000, 1_000),
            (8 << 20, 8 << 20, 256 << 10),
            (8 << 20, 64 << 10, 32 << 10),
            (64 << 20, 64 << 20, 1 << 20),
        ] {
            let (bucket, _) = bucket(per_second, burst);
            assert_eq!(bucket.resume_at(), expected, "{per_second} {burst}");
        }
    }

    #[test]
    fn extreme_numbers_neither_overflow_nor_wait_for_centuries() {
        let (mut most, now) = bucket(u64::MAX, u64::MAX);
        for _ in 0..5 {
            most.take(u64::MAX);
        }
        assert_eq!(most.available(now + 100 * WAIT_MAX), u64::MAX);

        let (mut least, now) = bucket(1, 1);
        least.take(i64::MAX as u64);
        assert_eq!(least.time_of(1), now + WAIT_MAX);
        assert_eq!(least.resume_at(), 1);
    }

    #[test]
    fn a_new_rate_counts_from_now_on_and_only_clips_the_tokens() {
        let (mut bucket, start) = bucket(100, 100);
        bucket.take(100);
        let later = start + SECOND / 2;
        bucket.set_rate(
            Rate {
                per_second: 10,
                burst: 20,
            },
            later,
        );
        assert_eq!(bucket.available(later), 20, "50 came in, and 20 fit");
        bucket.take(20);
        bucket.set_rate(
            Rate {
                per_second: 1000,
                burst: 1000,
            },
            later,
        );
        assert_eq!(bucket.available(later), 0, "a new rate gives no tokens");
        assert_eq!(bucket.available(later + SECOND), 1000);
    }

    #[test]
    fn a_clock_that_stops_or_goes_back_adds_no_tokens() {
        let (mut bucket, start) = bucket(10, 10);
        bucket.take(10);
        let later = start + SECOND / 2;
        assert_eq!(bucket.available(later), 5);
        assert_eq!(bucket.available(start), 5);
        assert_eq!(bucket.available(later), 5);
    }
}
