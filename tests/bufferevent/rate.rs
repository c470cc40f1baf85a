//! Rate limits of BufferEvents and their groups, on a paused clock.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tokio_evbuffer::{
    BufferEvent, Event,
    bufferevent::{Builder, CloseReason, Direction, PauseReason},
    limits::{RateLimit, RateLimitGroup},
};

const RUN: Duration = Duration::from_secs(10);

fn limited(limit: RateLimit) -> Builder {
    BufferEvent::builder().rate_limit(limit)
}

/// A connection whose peer sends without end.
fn flooded(builder: Builder) -> BufferEvent {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let data = [7; 16 << 10];
        while far.write_all(&data).await.is_ok() {}
    });
    builder.spawn(near)
}

/// Takes everything out of the input for as long as `time`.
async fn drain(bev: &BufferEvent, time: Duration) {
    let draining = async {
        while bev.input().readable(1).await.is_ok() {
            bev.input().lock().clear().unwrap();
        }
    };
    let _ = timeout(time, draining).await;
}

fn assert_near(bytes: u64, expected: u64) {
    let difference = bytes.abs_diff(expected) as f64;
    assert!(
        difference <= 0.02 * expected as f64,
        "{bytes} instead of {expected}"
    );
}

#[tokio::test(start_paused = true)]
async fn reading_keeps_its_rate_and_its_burst() {
    for rate in [500, 100_000, 5_000_000] {
        let limit = RateLimit::read(rate).unwrap().and_burst(rate / 10).unwrap();
        let bev = flooded(limited(limit));
        drain(&bev, RUN).await;
        assert_near(bev.metrics().bytes_in, 10 * rate + rate / 10);
        // Nothing was saved up beyond the burst.
        bev.disable(Direction::Read);
        sleep(RUN).await;
        let before = bev.metrics().bytes_in;
        bev.enable(Direction::Read);
        drain(&bev, Duration::from_millis(1)).await;
        let burst = bev.metrics().bytes_in - before;
        assert!(burst <= rate / 10 + rate / 500 + 1, "{burst} at {rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn writing_keeps_its_rate_and_reading_is_not_limited_by_it() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let bev = limited(RateLimit::write(10_000).unwrap()).spawn(near);
    let start = Instant::now();
    far.write_all(&[1; 200_000]).await.unwrap();
    bev.input().readable(200_000).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);

    bev.output().add(&[2; 110_000]).unwrap();
    let mut received = vec![0; 110_000];
    far.read_exact(&mut received).await.unwrap();
    let took = start.elapsed().as_secs_f64();
    assert!((took - 10.0).abs() < 0.2, "{took}");
    assert_eq!(bev.metrics().bytes_out, 110_000);
}

#[tokio::test(start_paused = true)]
async fn the_smallest_of_all_limits_counts() {
    // libevent writes 50,000 bytes at once with a limit above `max_single_write`.
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let builder = limited(RateLimit::both(1_000_000).unwrap()).max_single_write(1000);
    let bev = builder.spawn(near);
    bev.output().add(&[0; 50_000]).unwrap();
    bev.flush().await.unwrap();
    assert_eq!(bev.metrics().writes, 50);
    far.read_exact(&mut [0; 50_000]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_direction_that_waits_shows_why() {
    let group = RateLimitGroup::new(RateLimit::both(50).unwrap());
    let bev = flooded(limited(RateLimit::read(100).unwrap()).rate_group(&group));
    assert_eq!(group.members(), 1);
    drain(&bev, Duration::from_millis(1500)).await;
    let paused = bev.paused(Direction::Read);
    assert!(paused.contains(PauseReason::GroupRateLimit), "{paused:?}");
    assert!(bev.paused(Direction::Write).is_empty());

    group.set_limit(RateLimit::both(1_000_000).unwrap());
    drain(&bev, Duration::from_secs(1)).await;
    let paused = bev.paused(Direction::Read);
    assert!(paused.contains(PauseReason::RateLimit), "{paused:?}");

    bev.set_rate_limit(None);
    group.set_limit(RateLimit::write(1).unwrap());
    let before = bev.metrics().bytes_in;
    while bev.metrics().bytes_in < before + 1_000_000 {
        bev.input().readable(1).await.unwrap();
        bev.input().lock().clear().unwrap();
    }
    assert!(!bev.paused(Direction::Read).contains(PauseReason::RateLimit));
    assert_eq!(group.totals().0, bev.metrics().bytes_in);
    bev.abort();
    bev.closed().await;
    assert_eq!(group.members(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_changed_while_it_holds_applies_at_once() {
    let bev = flooded(limited(RateLimit::both(1).unwrap()));
    drain(&bev, Duration::from_secs(3)).await;
    assert!(bev.metrics().bytes_in <= 4);
    bev.set_rate_limit(Some(RateLimit::both(1_000_000).unwrap()));
    let before = bev.metrics().bytes_in;
    drain(&bev, RUN).await;
    assert_near(bev.metrics().bytes_in - before, 10_000_000);
    bev.set_rate_limit(Some(RateLimit::both(1).unwrap()));
    let before = bev.metrics().bytes_in;
    drain(&bev, RUN).await;
    assert!(bev.metrics().bytes_in - before <= 11);
}

#[tokio::test(start_paused = true)]
async fn consumed_allowance_counts_as_moved() {
    let bev = flooded(limited(RateLimit::both(1000).unwrap()));
    drain(&bev, Duration::from_secs(1)).await;
    bev.consume_rate(Direction::Read, 5000);
    let before = bev.metrics().bytes_in;
    drain(&bev, Duration::from_millis(4900)).await;
    assert_eq!(bev.metrics().bytes_in, before);
    bev.consume_rate(Direction::Read, -1000);
    drain(&bev, Duration::from_millis(1)).await;
    assert_near(bev.metrics().bytes_in - before, 900);
    bev.consume_rate(Direction::Write, i64::MAX);
    bev.consume_rate(Direction::Write, i64::MIN);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_a_hundred_shares_fairly() {
    let group = RateLimitGroup::new(RateLimit::read(1_000_000).unwrap());
    let members: Vec<_> = (0..100)
        .map(|at| {
            flooded(
                BufferEvent::builder()
                    .max_single_read(500 << (at % 6))
                    .rate_group(&group),
            )
        })
        .collect();
    assert_eq!(group.members(), 100);
    let draining = members.iter().map(|bev| drain(bev, RUN));
    futures::future::join_all(draining).await;
    let read: Vec<_> = members.iter().map(|bev| bev.metrics().bytes_in).collect();
    let total: u64 = read.iter().sum();
    assert_near(total, 11_000_000);
    assert_eq!(group.totals(), (total, 0));
    let least = *read.iter().min().unwrap();
    assert!(
        least as f64 >= 0.8 * total as f64 / 100.0,
        "{least} of {total}"
    );
}

/// With a share of zero bytes libevent reports an end of stream.
#[tokio::test(start_paused = true)]
async fn a_group_without_a_minimum_share_ends_no_stream() {
    let group = RateLimitGroup::new(RateLimit::both(5).unwrap());
    group.set_min_share(0);
    let members: Vec<_> = (0..20)
        .map(|_| flooded(BufferEvent::builder().rate_group(&group)))
        .collect();
    futures::future::join_all(members.iter().map(|bev| drain(bev, RUN))).await;
    let total: u64 = members.iter().map(|bev| bev.metrics().bytes_in).sum();
    assert!((50..=55).contains(&total), "{total}");
    for bev in &members {
        bev.output().add(b"still open").unwrap();
        assert!(bev.is_enabled(Direction::Read) && bev.is_enabled(Direction::Write));
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_a_limit_takes_is_no_timeout() {
    let limit = RateLimit::both(10).unwrap();
    let second = Duration::from_secs(1);
    let bev = flooded(limited(limit).read_timeout(second).write_timeout(second));
    bev.output().add(&[0; 300]).unwrap();
    bev.consume_rate(Direction::Read, 200);
    bev.consume_rate(Direction::Write, 200);
    drain(&bev, Duration::from_secs(15)).await;
    assert!(timeout(second, bev.next_event()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_limited_connection_closes_in_order() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let bev = limited(RateLimit::both(1000).unwrap()).spawn(near);
    bev.output().add(&[3; 5000]).unwrap();
    let receiving = tokio::spawn(async move {
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        received.len()
    });
    let start = Instant::now();
    let summary = bev.close().await.unwrap();
    assert_eq!((summary.bytes_out, summary.unsent), (5000, 0));
    assert_eq!(receiving.await.unwrap(), 5000);
    assert!(start.elapsed() >= Duration::from_millis(3900));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_dropped_returns_its_tokens() {
    let group = RateLimitGroup::new(RateLimit::read(10_000).unwrap());
    let steady = flooded(BufferEvent::builder().rate_group(&group));
    for round in 0..50 {
        let guest = flooded(BufferEvent::builder().rate_group(&group));
        drain(&steady, Duration::from_millis(37 + round)).await;
        drop(guest);
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(group.members(), 1);
    steady.input().lock().clear().unwrap();
    drain(&steady, Duration::from_secs(1)).await;
    let before = steady.metrics().bytes_in;
    drain(&steady, RUN).await;
    assert_near(steady.metrics().bytes_in - before, 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_gone_is_noticed_while_a_limit_holds() {
    let (near, far) = BufferEvent::pair();
    near.set_rate_limit(Some(RateLimit::read(1).unwrap()));
    near.consume_rate(Direction::Read, 1_000_000);
    far.abort();
    let event = timeout(Duration::from_secs(1), near.next_event())
        .await
        .unwrap();
    assert!(matches!(event, Some(Event::ReadError(_))), "{event:?}");
    assert!(matches!(near.closed().await.reason, CloseReason::Error(_)));
}

/// The member has computed its turn from an allowance that was used up for days.
#[tokio::test(start_paused = true)]
async fn allowance_that_is_given_back_serves_a_member_that_waits() {
    const DAYS: i64 = 1 << 30;
    let group = RateLimitGroup::new(RateLimit::read(1000).unwrap());
    let (near, _peer) = tokio::io::duplex(64);
    let other = BufferEvent::builder().rate_group(&group).spawn(near);
    other.disable(Direction::Read);
    // The burst is used up, too.
    other.consume_rate(Direction::Read, 1000 + DAYS);
    sleep(Duration::from_millis(1)).await;
    let bev = flooded(BufferEvent::builder().rate_group(&group));
    sleep(Duration::from_millis(1)).await;
    other.consume_rate(Direction::Read, -DAYS);
    drain(&bev, RUN).await;
    let read = bev.metrics().bytes_in;
    assert!(read >= 9000, "{read} bytes in 10 s");
}
