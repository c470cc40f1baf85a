//! Rate limits and memory budgets of relays.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, sleep, timeout},
};
use tokio_evbuffer::{
    Relay, SharedEvBuffer,
    limits::{MemoryBudget, RateLimit, RateLimitGroup},
    relay::RelayEnd,
};
use tokio_test::{assert_pending, assert_ready, task};

const SECOND: Duration = Duration::from_secs(1);

/// The bytes that reach the other side within a time, while one side sends as fast as it can.
async fn moved_within(
    set: impl FnOnce(
        Relay<tokio::io::DuplexStream, tokio::io::DuplexStream>,
    ) -> Relay<tokio::io::DuplexStream, tokio::io::DuplexStream>,
    reversed: bool,
    time: Duration,
) -> usize {
    let ((mut left, a), (mut right, b)) = (duplex(4096), duplex(4096));
    let relay = match reversed {
        false => Relay::new(a, b),
        true => Relay::new(b, a),
    };
    let relaying = tokio::spawn(set(relay).run());
    let sending = tokio::spawn(async move { while left.write_all(&[1; 1000]).await.is_ok() {} });
    let mut received = 0;
    let reading = async {
        let mut room = vec![0; 4096];
        loop {
            received += right.read(&mut room).await.unwrap();
        }
    };
    let _ = timeout(time, reading).await;
    relaying.abort();
    sending.abort();
    received
}

#[tokio::test(start_paused = true)]
async fn each_direction_keeps_its_rate() {
    let limit = RateLimit::read(10_000).unwrap().and_burst(1000).unwrap();
    let n = moved_within(|relay| relay.rate_limit(limit), false, 10 * SECOND).await;
    assert!((99_000..=102_000).contains(&n), "{n} bytes in 10 s");
    // The write rate is that of the other direction.
    let limit = RateLimit::write(10_000).unwrap().and_burst(1000).unwrap();
    let n = moved_within(|relay| relay.rate_limit(limit), true, 10 * SECOND).await;
    assert!((99_000..=102_000).contains(&n), "{n} bytes in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_group_shares_its_rate_among_its_relays() {
    let group = RateLimitGroup::new(RateLimit::read(30_000).unwrap().and_burst(3000).unwrap());
    let one = |group: RateLimitGroup| {
        moved_within(move |relay| relay.rate_group(&group), false, 10 * SECOND)
    };
    let (a, b, c) = tokio::join!(one(group.clone()), one(group.clone()), one(group.clone()));
    let (all, least) = (a + b + c, a.min(b).min(c));
    assert!((290_000..=310_000).contains(&all), "{all} bytes in 10 s");
    assert!(least * 3 > all * 8 / 10, "{a}, {b}, {c}");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_rate_limit_takes_is_not_idle() {
    // A byte comes every 100 ms.
    for idle in [2 * SECOND, SECOND / 20] {
        let ((mut left, a), (mut right, b)) = (duplex(4096), duplex(4096));
        let limit = RateLimit::both(10).unwrap().and_burst(100).unwrap();
        let relay = Relay::new(a, b).rate_limit(limit).idle_timeout(idle);
        left.write_all(&[1; 200]).await.unwrap();
        let relaying = tokio::spawn(relay.run());
        let start = Instant::now();
        right.read_exact(&mut [0; 200]).await.unwrap();
        assert!(start.elapsed() > 9 * SECOND);
        assert_eq!(relaying.await.unwrap().unwrap().reason, RelayEnd::Idle);
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_exceeded_stops_the_reading_until_there_is_room() {
    let budget = MemoryBudget::new(100_000);
    let ((mut left, a), (mut right, b)) = (duplex(1 << 20), duplex(1000));
    let relay = Relay::new(a, b).budget(&budget).stall_buffer(1 << 20);
    let relaying = tokio::spawn(relay.run());
    let data = vec![7; 1 << 20];
    left.write_all(&data).await.unwrap();
    left.shutdown().await.unwrap();
    sleep(SECOND).await;
    let used = budget.used();
    assert!((50_000..500_000).contains(&used), "{used} bytes held");
    let mut received = Vec::new();
    right.read_to_end(&mut received).await.unwrap();
    assert!(received == data);
    drop(right);
    relaying.await.unwrap().unwrap();
    assert_eq!(budget.used(), 0);
}

/// The memory is that of another relay, whose progress wakes this one. Its wait is not idle time.
#[tokio::test(start_paused = true)]
async fn a_relay_continues_when_another_has_freed_the_budget() {
    let budget = MemoryBudget::new(100_000);
    let ((mut sender, a), (mut receiver, b)) = (duplex(1 << 20), duplex(1000));
    tokio::spawn(Relay::new(a, b).budget(&budget).stall_buffer(1 << 20).run());
    sender.write_all(&vec![7; 1 << 20]).await.unwrap();
    sleep(SECOND).await;

    let ((mut left, a), (mut right, b)) = (duplex(64), duplex(64));
    let relay = Relay::new(a, b).budget(&budget);
    tokio::spawn(relay.idle_timeout(2 * SECOND).run());
    left.write_all(b"later").await.unwrap();
    let mut received = [0; 5];
    let early = timeout(100 * SECOND, right.read_exact(&mut received)).await;
    assert!(early.is_err(), "the budget was exceeded");
    receiver.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
    let late = timeout(SECOND, right.read_exact(&mut received)).await;
    late.unwrap().unwrap();
    assert_eq!(&received, b"later");
}

/// No other direction, timeout or timer wakes it: what frees the memory has to.
#[tokio::test]
async fn a_relay_without_a_timeout_is_woken_by_the_budget() {
    let budget = MemoryBudget::new(1000);
    let hog = SharedEvBuffer::new();
    hog.set_budget(&budget);
    hog.add(&[7; 5000]).unwrap();
    let ((mut left, a), (mut right, b)) = (duplex(64), duplex(64));
    left.write_all(b"later").await.unwrap();
    let mut relaying = task::spawn(Relay::new(a, b).budget(&budget).run());
    assert_pending!(relaying.poll());
    let mut received = [0; 5];
    let mut reading = task::spawn(right.read_exact(&mut received));
    assert_pending!(reading.poll(), "the budget was exceeded");
    assert!(!relaying.is_woken());

    drop(hog);
    assert_eq!(budget.used(), 0);
    assert!(relaying.is_woken());
    assert_pending!(relaying.poll());
    assert_ready!(reading.poll()).unwrap();
    drop(reading);
    assert_eq!(&received, b"later");
}

#[tokio::test(start_paused = true)]
async fn the_largest_holder_of_a_budget_can_be_aborted() {
    let budget = MemoryBudget::new(100_000);
    let ((mut left, a), (_right, b)) = (duplex(1 << 20), duplex(1000));
    let relaying = tokio::spawn(Relay::new(a, b).budget(&budget).run());
    left.write_all(&[7; 60_000]).await.unwrap();
    sleep(SECOND).await;
    let holder = budget.largest(1).pop().unwrap();
    assert!(holder.bytes() > 0);
    holder.abort();
    let summary = relaying.await.unwrap().unwrap();
    assert_eq!(summary.reason, RelayEnd::Aborted);
    assert!(summary.held_a > 0);
    assert_eq!(budget.used(), 0);
}

/// A limit caps the length of each splice, and does not turn splicing off.
#[cfg(all(feature = "net", target_os = "linux"))]
#[tokio::test]
async fn a_limited_bulk_flow_arrives_at_its_rate() {
    use crate::support::{data::pattern, net::tcp_pair};

    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let limit = RateLimit::both(8 << 20)
        .unwrap()
        .and_burst(1 << 20)
        .unwrap();
    tokio::spawn(Relay::new(a, b).rate_limit(limit).run());
    let data = pattern(5 << 20);
    let mut received = vec![0; data.len()];
    let start = Instant::now();
    let (sent, got) = tokio::join!(client.write_all(&data), server.read_exact(&mut received));
    sent.unwrap();
    got.unwrap();
    assert!(received == data);
    assert!(
        start.elapsed() >= Duration::from_millis(450),
        "{:?}",
        start.elapsed()
    );
}
