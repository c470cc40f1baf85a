//! Limits against the clock: flows on a paused clock, with random schedules.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout},
};

use super::{Held, RateLimit, RateLimitGroup, Throttle};

const SECONDS: u64 = 10;
const RUN: Duration = Duration::from_secs(SECONDS);

/// A small generator, so that each schedule can be repeated.
pub(super) struct Random(u64);

impl Random {
    /// Spreads the bits of a small `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

pub(super) fn limit(rate: u64) -> RateLimit {
    RateLimit::both(rate).unwrap()
}

/// Moves `n` bytes at most, when it may; returns how many.
async fn step(throttle: &mut Throttle, n: u64) -> u64 {
    let allowed = poll_fn(|cx| throttle.poll_allowance(cx, n)).await;
    assert!(0 < allowed && allowed <= n);
    throttle.moved(allowed);
    allowed
}

/// Moves bytes without end, in pieces of up to `piece`.
async fn bulk(mut throttle: Throttle, piece: u64, count: Arc<AtomicU64>) {
    loop {
        let n = step(&mut throttle, piece).await;
        count.fetch_add(n, Ordering::Relaxed);
        yield_now().await;
    }
}

/// Takes bytes at random times in random pieces, and checks each moment against the definition of a token bucket.
async fn random_schedule(seed: u64) {
    let mut random = Random(seed);
    let digits = random.below(30);
    let rate = 1 + random.below(1 << digits);
    let burst = (rate / 100).max(1) + random.below(2 * rate);
    let limit = limit(rate).and_burst(burst).unwrap();
    let (mut throttle, _) = Throttle::pair(Some(limit), None);
    let (start, mut moved) = (Instant::now(), 0);
    let hungry = random.below(2) == 0;
    // The model: the most bytes that may have moved at any moment, as in a bucket of fluid.
    let (mut level, mut at) = (burst.min(rate) as f64, start);
    while start.elapsed() < RUN {
        if !hungry && random.below(4) == 0 {
            sleep(Duration::from_millis(random.below(500))).await;
        }
        let piece = 1 + random.below(rate.max(16) / 8);
        let Ok(n) = timeout(RUN, step(&mut throttle, piece)).await else {
            break;
        };
        level = (level + at.elapsed().as_secs_f64() * rate as f64).min(burst as f64) - n as f64;
        at = Instant::now();
        moved += n;
        assert!(
            level > -1e-3,
            "seed {seed}: {level} below zero, rate {rate}, burst {burst}"
        );
    }
    let seconds = start.elapsed().as_secs_f64();
    let most = (rate as f64) * seconds + burst.min(rate) as f64;
    assert!(moved as f64 <= most + 1.0, "seed {seed}");
    // With a burst of several milliseconds' worth, the timer's resolution costs nothing.
    if hungry && burst * 200 >= rate && rate > 1000 {
        assert!(
            moved as f64 >= most * 0.98,
            "seed {seed}: {moved} of {most}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_on_a_clock_for_random_schedules() {
    for seed in 1..=200 {
        random_schedule(seed * 0x9e37_79b9).await;
    }
}

/// A few tokens come in while each piece moves. They do not make the next piece.
#[tokio::test(start_paused = true)]
async fn a_flow_at_its_limit_moves_in_large_pieces() {
    const RATE: u64 = 1_000_000;
    let group = RateLimitGroup::new(limit(RATE));
    for (own, group) in [(Some(limit(RATE)), None), (None, Some(&group))] {
        let (mut throttle, _) = Throttle::pair(own, group);
        let (start, mut moved, mut pieces) = (Instant::now(), 0, 0);
        while start.elapsed() < RUN {
            moved += step(&mut throttle, u64::MAX).await;
            pieces += 1;
            tokio::time::advance(Duration::from_micros(50)).await;
        }
        assert!(moved >= 98 * RATE * SECONDS / 100, "{moved}");
        assert!(pieces <= 20 * SECONDS, "{pieces} pieces");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_shares_fairly_and_keeps_its_rate() {
    for (members, rate) in [(2, 5_000), (100, 1_000_000), (100, 20_000), (7, 100 << 20)] {
        let group = RateLimitGroup::new(limit(rate));
        let counts: Vec<_> = (0..members).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let mut tasks = JoinSet::new();
        for (at, count) in counts.iter().enumerate() {
            let (throttle, _) = Throttle::pair(None, Some(&group));
            // Pieces of different sizes must not matter.
            tasks.spawn(bulk(throttle, 1000 << (at % 8), Arc::clone(count)));
        }
        sleep(RUN).await;
        let moved: Vec<_> = counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let total: u64 = moved.iter().sum();
        let most = rate * SECONDS + rate;
        assert!(total <= most + 1, "{total} of {most}");
        assert!(total as f64 >= 0.98 * most as f64, "{total} of {most}");
        let mean = total as f64 / members as f64;
        let least = *moved.iter().min().unwrap() as f64;
        assert!(
            least >= 0.8 * mean,
            "{least} of {mean}, {members} members at {rate}: {moved:?}"
        );
        assert_eq!(group.members(), members);
        assert_eq!(group.totals(), (total, 0));
        tasks.shutdown().await;
        assert_eq!(group.members(), 0);
    }
}

/// Members come and go, pause, have separate limits and are dropped while they wait or hold tokens.
async fn random_group(seed: u64) {
    let mut random = Random(seed);
    let digits = 10 + random.below(15);
    let rate = 1000 + random.below(1 << digits);
    let burst = rate / 50 + random.below(rate);
    let group = RateLimitGroup::new(limit(rate).and_burst(burst).unwrap());
    group.set_min_share(random.below(2 * burst));
    let steady = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let (throttle, _) = Throttle::pair(None, Some(&group));
    tasks.spawn(bulk(throttle, 1 << 20, Arc::clone(&steady)));
    let start = Instant::now();
    for _ in 0..20 {
        let own = (random.below(3) == 0).then(|| limit(1 + random.below(rate)));
        let (mut read, _write) = Throttle::pair(own, Some(&group));
        let (mut choice, life) = (Random(seed + random.below(1 << 40)), random.below(3000));
        tasks.spawn(async move {
            let work = async {
                loop {
                    let allowed = poll_fn(|cx| read.poll_allowance(cx, 10_000)).await;
                    match choice.below(8) {
                        0 => read.moved(0),
                        1 => read.moved(1 + choice.below(allowed)),
                        // The member leaves, or asks again, without reporting what it moved.
                        2 => sleep(Duration::from_millis(choice.below(2000))).await,
                        3 => read.release(),
                        _ => read.moved(allowed),
                    }
                }
            };
            let _ = timeout(Duration::from_millis(life), work).await;
        });
        sleep(Duration::from_millis(random.below(500))).await;
        let (moved, most) = (group.totals().0, burst.min(rate) as f64);
        let most = most + rate as f64 * start.elapsed().as_secs_f64();
        assert!(moved as f64 <= most + 1.0, "seed {seed}: {moved} of {most}");
    }
    sleep(Duration::from_secs(4)).await;
    // All others are gone and have returned what they were granted. A share may be as large as the burst.
    let (before, at) = (steady.load(Ordering::Relaxed), Instant::now());
    sleep(RUN).await;
    let moved = (steady.load(Ordering::Relaxed) - before) as f64;
    let expected = rate as f64 * at.elapsed().as_secs_f64();
    assert!(
        (moved - expected).abs() <= 0.02 * expected + burst as f64,
        "seed {seed}: {moved} of {expected}"
    );
    assert_eq!(group.members(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_survives_members_that_leave_at_any_moment() {
    for seed in 1..=30 {
        random_group(seed * 0x1234_5679).await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_members_take_no_share() {
    let group = RateLimitGroup::new(limit(10_000));
    let idle: Vec<_> = (0..1000)
        .map(|_| Throttle::pair(None, Some(&group)))
        .collect();
    let (mut busy, _) = Throttle::pair(None, Some(&group));
    let start = Instant::now();
    let mut moved = 0;
    while moved < 110_000 {
        moved += step(&mut busy, 5_000).await;
    }
    let took = start.elapsed();
    assert!(
        took >= RUN && took < RUN + Duration::from_millis(200),
        "{took:?}"
    );
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_polled_holds_up_no_other() {
    let group = RateLimitGroup::new(limit(10_000));
    let (mut stalled, _) = Throttle::pair(None, Some(&group));
    let (mut busy, _) = Throttle::pair(None, Some(&group));
    while group.totals().0 < 10_000 {
        step(&mut busy, 10_000).await;
    }
    // It is first in the queue, and is never polled again.
    let first = poll_fn(|cx| Poll::Ready(stalled.poll_allowance(cx, 10_000))).await;
    assert!(first.is_pending());
    let start = Instant::now();
    let mut moved = 0;
    while moved < 100_000 {
        moved += step(&mut busy, 10_000).await;
    }
    let took = start.elapsed();
    assert!(took < RUN + Duration::from_millis(300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_limit_reaches_members_that_wait() {
    let group = RateLimitGroup::new(limit(1));
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (mut throttle, _) = Throttle::pair(None, Some(&group));
        tasks.spawn(async move {
            let mut moved = 0;
            while moved < 1000 {
                moved += step(&mut throttle, 1000).await;
            }
        });
    }
    sleep(Duration::from_secs(5)).await;
    assert!(group.totals().0 <= 6);
    let start = Instant::now();
    group.set_limit(RateLimit::write(1).unwrap());
    while tasks.join_next().await.is_some() {}
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "reading has no limit any more"
    );
}

/// What `throttle` may move now.
fn allowed_now(throttle: &mut Throttle) -> Poll<u64> {
    throttle.poll_allowance(&mut Context::from_waker(Waker::noop()), 1000)
}

#[tokio::test(start_paused = true)]
async fn what_a_member_does_not_use_is_there_for_the_others_at_once() {
    let ways: [fn(&mut Throttle); 2] = [Throttle::release, |throttle| throttle.moved(0)];
    for give_back in ways {
        // One byte is all that there is.
        let group = RateLimitGroup::new(limit(1));
        let [mut first, mut second] = [0; 2].map(|_| Throttle::pair(None, Some(&group)).0);
        assert_eq!(allowed_now(&mut first), Poll::Ready(1));
        assert_eq!(allowed_now(&mut second), Poll::Pending);
        give_back(&mut first);
        assert_eq!(allowed_now(&mut second), Poll::Ready(1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_member_consumes_is_not_there_for_the_others() {
    let group = RateLimitGroup::new(limit(1));
    let [mut first, mut second] = [0; 2].map(|_| Throttle::pair(None, Some(&group)).0);
    first.consume(1);
    assert_eq!(allowed_now(&mut second), Poll::Pending);
    first.consume(-1);
    assert_eq!(allowed_now(&mut second), Poll::Ready(1));
}

#[tokio::test(start_paused = true)]
async fn a_new_own_limit_applies_while_paused() {
    let (mut read, mut write) = Throttle::pair(Some(limit(1)), None);
    step(&mut read, 1).await;
    let held = poll_fn(|cx| Poll::Ready(read.poll_allowance(cx, 100))).await;
    assert!(held.is_pending());
    assert_eq!((read.held(), write.held()), (Some(Held::Own), None));
    let start = Instant::now();
    Throttle::set_limit(&mut read, &mut write, Some(limit(u64::MAX)));
    assert_eq!(read.held(), None, "not known before it asks again");
    while step(&mut read, 100).await < 100 {}
    assert!(start.elapsed() <= Duration::from_millis(17));
    Throttle::set_limit(&mut read, &mut write, None);
    assert_eq!(step(&mut read, u64::MAX).await, u64::MAX);
    assert_eq!(read.held(), None);
}

#[tokio::test(start_paused = true)]
async fn consumed_allowance_delays_and_returned_allowance_does_not_exceed_the_burst() {
    let (mut read, _) = Throttle::pair(Some(limit(1000)), None);
    let start = Instant::now();
    read.consume(3000);
    step(&mut read, 1).await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    read.consume(-5000);
    assert_eq!(step(&mut read, 9000).await, 1000);
    for extreme in [i64::MIN, i64::MAX, i64::MIN, i64::MAX] {
        read.consume(extreme);
    }
    assert!(
        poll_fn(|cx| Poll::Ready(read.poll_allowance(cx, 1)))
            .await
            .is_pending()
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_shows_which_limit_holds() {
    let group = RateLimitGroup::new(limit(100));
    let (mut read, _) = Throttle::pair(Some(limit(50)), Some(&group));
    let mut moved = 0;
    while read.held().is_none() {
        let asked = poll_fn(|cx| Poll::Ready(read.poll_allowance(cx, 1000))).await;
        if let Poll::Ready(n) = asked {
            read.moved(n);
            moved += n;
        }
    }
    assert_eq!((moved, read.held()), (50, Some(Held::Own)));
    read.consume(-50);
    let mut held = None;
    while held.is_none() {
        let asked = poll_fn(|cx| Poll::Ready(read.poll_allowance(cx, 1000))).await;
        if let Poll::Ready(n) = asked {
            read.moved(n);
        }
        held = read.held();
    }
    // The group got its 50 back, too.
    assert_eq!(held, Some(Held::Own));
    assert_eq!(group.totals(), (100, 0));
}

/// A minimum share of zero counts as one byte: nothing is ever allowed that is zero.
#[tokio::test(start_paused = true)]
async fn a_share_is_never_zero() {
    for min_share in [0, 1, u64::MAX] {
        let group = RateLimitGroup::new(limit(3));
        group.set_min_share(min_share);
        let mut tasks = JoinSet::new();
        for _ in 0..5 {
            let (throttle, _) = Throttle::pair(None, Some(&group));
            tasks.spawn(bulk(throttle, 1000, Arc::default()));
        }
        sleep(RUN).await;
        let moved = group.totals().0;
        assert!((30..=33).contains(&moved), "{moved}");
    }
}

#[test]
fn nothing_is_held_back_on_a_runtime_without_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let group = RateLimitGroup::new(limit(1));
        let (mut read, _) = Throttle::pair(Some(limit(1)), Some(&group));
        for _ in 0..3 {
            step(&mut read, 1000).await;
        }
        assert!(group.totals().0 > 1000);
    });
}
