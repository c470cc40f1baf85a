//! Buckets and groups against a model, over thousands of random schedules. No runtime: the time is an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    RateLimit, RateLimitGroup,
    bucket::Bucket,
    group::Seat,
    rate_limit::Rate,
    tests::{Random, limit},
};

const BUCKET_SCHEDULES: u64 = 10_000;
const GROUP_SCHEDULES: u64 = 2_000;

const YEAR: u64 = 365 * 24 * 3600 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// Tokens are counted in billionths of a byte.
const BYTE: i128 = 1_000_000_000;

/// The model: a bucket knows only when it will be full. That time is exact in units of a nanosecond divided by the rate.
struct Model {
    rate: Rate,
    full_at: i128,
}

impl Model {
    fn new(rate: Rate) -> Self {
        let level = i128::from(rate.burst.min(rate.per_second)) * BYTE;
        let full = i128::from(rate.burst) * BYTE;
        Self {
            rate,
            full_at: full - level,
        }
    }

    fn missing(&self, now: u64) -> i128 {
        (self.full_at - i128::from(now) * i128::from(self.rate.per_second)).max(0)
    }

    fn set_missing(&mut self, now: u64, missing: i128) {
        self.full_at = i128::from(now) * i128::from(self.rate.per_second) + missing.max(0);
    }

    fn available(&self, now: u64) -> u64 {
        let level = i128::from(self.rate.burst) * BYTE - self.missing(now);
        u64::try_from(level.div_euclid(BYTE)).unwrap_or(0)
    }

    fn take(&mut self, now: u64, n: i128) {
        self.set_missing(now, self.missing(now) + n * BYTE);
    }

    fn set_rate(&mut self, now: u64, rate: Rate) {
        let level = i128::from(self.rate.burst) * BYTE - self.missing(now);
        self.rate = rate;
        self.set_missing(now, i128::from(rate.burst) * BYTE - level);
    }
}

/// A number of up to `digits` binary digits, all of them equally likely.
fn any_size(random: &mut Random, digits: u64) -> u64 {
    let digits = random.below(digits);
    1 + random.below(1 << digits)
}

fn any_rate(random: &mut Random) -> Rate {
    Rate {
        per_second: any_size(random, 40),
        burst: any_size(random, 40),
    }
}

fn bucket_schedule(seed: u64) {
    let mut random = Random::new(seed);
    let start = Instant::now();
    let rate = any_rate(&mut random);
    let (mut bucket, mut model, mut now) = (Bucket::new(rate, start), Model::new(rate), 0);
    let at = |now| start + Duration::from_nanos(now);
    for _ in 0..100 {
        now += any_size(&mut random, 32) - 1;
        let available = bucket.available(at(now));
        assert_eq!(available, model.available(now), "seed {seed} at {now}");
        match random.below(8) {
            0 => {
                // More than there is, as `consume_rate` may take.
                let n = any_size(&mut random, 40);
                bucket.take(n);
                model.take(now, n.into());
            }
            1 => {
                let n = any_size(&mut random, 40);
                bucket.put_back(n);
                model.take(now, -i128::from(n));
            }
            2 => {
                let rate = any_rate(&mut random);
                bucket.set_rate(rate, at(now));
                model.set_rate(now, rate);
            }
            3 => {
                let n = 1 + random.below(model.rate.burst);
                let due = bucket.time_of(n).saturating_duration_since(start);
                let due = u64::try_from(due.as_nanos()).unwrap();
                if due.saturating_sub(now) >= YEAR {
                    // Timers represent no more, and the caller asks again.
                    continue;
                }
                assert!(model.available(due) >= n, "seed {seed} at {now}: too early");
                assert!(
                    due <= now || model.available(due - 1) < n,
                    "seed {seed} at {now}: too late"
                );
                now = now.max(due);
            }
            _ => {
                let n = random.below(available + 1);
                bucket.take(n);
                model.take(now, n.into());
            }
        }
    }
}

#[test]
fn a_bucket_equals_its_model_in_thousands_of_random_schedules() {
    for seed in 1..=BUCKET_SCHEDULES {
        bucket_schedule(seed);
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Member {
    seat: Seat,
    woken: Arc<Flag>,
    waker: Waker,
    /// When it asks again without being woken.
    due: u64,
    moved: u64,
    /// The most bytes that it moves at once.
    piece: u64,
    /// It always has more to move.
    is_hungry: bool,
}

impl Member {
    fn new(group: &RateLimitGroup, piece: u64, is_hungry: bool) -> Self {
        let woken = Arc::new(Flag::default());
        Self {
            seat: Seat::pair(group).0,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
            due: 0,
            moved: 0,
            piece,
            is_hungry,
        }
    }

    /// When it is polled next, if that is not before `now`.
    fn polled_at(&self, now: u64) -> u64 {
        match self.woken.0.load(Relaxed) {
            true => now,
            false => self.due.max(now),
        }
    }

    /// Moves what it may, once. Returns the number of bytes.
    fn poll(&mut self, random: &mut Random, start: Instant, now: u64) -> u64 {
        self.woken.0.store(false, Relaxed);
        let at = start + Duration::from_nanos(now);
        let share = match self.seat.allowance(at, &self.waker) {
            Ok(share) => share,
            Err(due) => {
                let due = due.saturating_duration_since(start).as_nanos();
                // A deadline that has passed is not asked for again at the same moment.
                self.due = u64::try_from(due).unwrap().max(now + 1);
                return 0;
            }
        };
        let asked = share.min(self.piece);
        assert!(asked > 0);
        let n = match self.is_hungry {
            true => asked,
            false => random.below(asked + 1),
        };
        self.seat.moved(at, asked, n);
        self.due = match self.is_hungry {
            true => now,
            // The stream has no more for a while.
            false => now + random.below(300_000_000),
        };
        self.moved += n;
        n
    }
}

fn group_schedule(seed: u64) {
    const END: u64 = 3 * SECOND;
    let mut random = Random::new(seed);
    let created = Instant::now();
    // The burst has room for a share of each member.
    let per_second = 50_000 + any_size(&mut random, 30);
    let burst = per_second / 20 + random.below(per_second);
    let group = RateLimitGroup::new(limit(per_second).and_burst(burst).unwrap());
    let start = Instant::now();
    let early = u128::from(per_second) * (start - created).as_nanos() / BYTE as u128 + 1;
    let hungry = 1 + random.below(6) as usize;
    let mut members: Vec<_> = (0..hungry + random.below(6) as usize)
        .map(|at| {
            let piece = any_size(&mut random, 20) + per_second / 1_000;
            Member::new(&group, piece, at < hungry)
        })
        .collect();
    let (mut now, mut total) = (0, 0);
    // What each had moved when nothing was left of the first burst, for which no member waits.
    let mut before = None;
    while now < END {
        if now >= 3 * SECOND / 2 && before.is_none() {
            before = Some(
                members
                    .iter()
                    .map(|member| member.moved)
                    .collect::<Vec<_>>(),
            );
        }
        let next = members.iter().map(|member| member.polled_at(now)).min();
        now = next.unwrap();
        // Any of those that are due: the runtime promises no order.
        let due: Vec<_> = (0..members.len())
            .filter(|at| members[*at].polled_at(now) == now)
            .collect();
        let chosen = due[random.below(due.len() as u64) as usize];
        total += members[chosen].poll(&mut random, start, now);
        let most = u128::from(per_second) * u128::from(now) / BYTE as u128 + early;
        let most = burst.min(per_second) + u64::try_from(most).unwrap();
        assert!(total <= most, "seed {seed}: {total} of {most} at {now}");
        if random.below(500) == 0 && members.len() > hungry {
            // It leaves with what it was granted, or while it waits; another one comes.
            let last = members.last_mut().unwrap();
            // The drop of a seat reads the clock.
            last.seat.leave(start + Duration::from_nanos(now));
            *last = Member::new(&group, last.piece, false);
            last.due = now;
        }
    }
    // The rate is used up, but for what is granted and for one refill.
    let expected = per_second * 3 + burst.min(per_second);
    let granted = burst + per_second / 8;
    assert!(
        total + granted >= expected,
        "seed {seed}: {total} of {expected}"
    );
    let moved = members.iter().zip(before.unwrap());
    let moved: Vec<_> = (moved.take(hungry))
        .map(|(member, before)| member.moved - before)
        .collect();
    let mean = moved.iter().sum::<u64>() / hungry as u64;
    let least = *moved.iter().min().unwrap();
    assert!(
        least as f64 >= 0.8 * mean as f64,
        "seed {seed}: {least} of {mean}, {moved:?}"
    );
    assert_eq!(group.members(), members.len());
}

#[test]
fn a_group_is_fair_and_keeps_its_rate_in_thousands_of_random_schedules() {
    for seed in 1..=GROUP_SCHEDULES {
        group_schedule(seed);
    }
}

#[test]
fn extreme_limits_neither_overflow_nor_stop_a_group() {
    let start = Instant::now();
    for (per_second, burst) in [(1, 1), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
        let limit = RateLimit::both(per_second).unwrap();
        let group = RateLimitGroup::new(limit.and_burst(burst).unwrap());
        group.set_min_share(0);
        let mut members: Vec<_> = (0..3)
            .map(|_| Member::new(&group, u64::MAX, true))
            .collect();
        for second in 0..20 {
            for member in &mut members {
                member.poll(&mut Random::new(1), start, second * SECOND);
            }
        }
        let moved: Vec<_> = members.iter().map(|member| member.moved).collect();
        assert!(moved.iter().all(|moved| *moved > 0), "{moved:?}");
        if per_second == 1 {
            let total: u64 = moved.iter().sum();
            assert!((15..=20).contains(&total), "{total}");
        }
    }
}
