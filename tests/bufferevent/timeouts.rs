//! The time limits of a `BufferEvent`, on a paused clock.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{Instant, sleep, timeout},
};
use tokio_evbuffer::{
    BufferEvent, Watermarks,
    bufferevent::{Direction, PauseReason, Side},
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the next event, and how many seconds after `start` it arrived.
async fn next(bev: &BufferEvent, start: Instant) -> (String, u64) {
    let event = timeout(1000 * SECOND, bev.next_event()).await;
    let event = event.expect("no event").unwrap();
    (format!("{event:?}"), start.elapsed().as_secs())
}

fn expected(event: &str, at: u64) -> (String, u64) {
    (event.to_owned(), at)
}

async fn nothing_comes(bev: &BufferEvent) {
    assert!(timeout(1000 * SECOND, bev.next_event()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_one_read_timeout() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::builder().read_timeout(5 * SECOND).spawn(near);
    let start = Instant::now();
    sleep(3 * SECOND).await;
    far.write_all(b"1").await.unwrap();
    assert_eq!(next(&bev, start).await, expected("ReadTimeout", 8));
    assert!(!bev.is_enabled(Direction::Read) && bev.is_enabled(Direction::Write));
    assert!(bev.paused(Direction::Read).contains(PauseReason::User));
    nothing_comes(&bev).await;
}

#[tokio::test(start_paused = true)]
async fn a_direction_that_timed_out_can_be_enabled_again() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::builder().read_timeout(5 * SECOND).spawn(near);
    let start = Instant::now();
    assert_eq!(next(&bev, start).await, expected("ReadTimeout", 5));
    sleep(5 * SECOND).await;
    bev.enable(Direction::Read);
    assert_eq!(next(&bev, start).await, expected("ReadTimeout", 15));
    bev.enable(Direction::Read);
    far.write_all(b"late").await.unwrap();
    timeout(SECOND, bev.input().readable(4))
        .await
        .unwrap()
        .unwrap();
}

/// Bytes read in a poll that yields to other tasks restart the timeout.
#[tokio::test(start_paused = true)]
async fn bytes_read_in_a_poll_that_yields_restart_the_timeout() {
    for n in 1..=40 {
        let (near, mut far) = duplex(64);
        let bev = BufferEvent::builder()
            .read_timeout(5 * SECOND)
            .max_single_read(1)
            .spawn(near);
        let start = Instant::now();
        sleep(3 * SECOND).await;
        far.write_all(&vec![1; n]).await.unwrap();
        assert_eq!(
            next(&bev, start).await,
            expected("ReadTimeout", 8),
            "{n} bytes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_written_in_a_poll_that_yields_restart_the_timeout() {
    for n in 1..=40 {
        let (near, mut far) = duplex(n);
        let bev = BufferEvent::builder()
            .write_timeout(5 * SECOND)
            .max_single_write(1)
            .spawn(near);
        let start = Instant::now();
        bev.output().add(&vec![1; 3 * n]).unwrap();
        sleep(3 * SECOND).await;
        far.read_exact(&mut vec![0; n]).await.unwrap();
        assert_eq!(
            next(&bev, start).await,
            expected("WriteTimeout", 8),
            "{n} bytes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_which_reading_is_paused_does_not_count() {
    for by_mark in [false, true] {
        let (near, mut far) = duplex(64);
        let bev = BufferEvent::builder()
            .read_timeout(5 * SECOND)
            .idle_timeout(7 * SECOND)
            .read_watermarks(Watermarks::new(1, 4).unwrap())
            .spawn(near);
        let start = Instant::now();
        if by_mark {
            far.write_all(b"12345678").await.unwrap();
            bev.input().readable(4).await.unwrap();
            assert!(
                bev.paused(Direction::Read)
                    .contains(PauseReason::HighWatermark)
            );
        } else {
            bev.disable(Direction::Read);
        }
        sleep(100 * SECOND).await;
        bev.input().drain(4).unwrap();
        bev.enable(Direction::Read);
        if by_mark {
            bev.input().readable(4).await.unwrap();
            bev.input().drain(4).unwrap();
        }
        assert_eq!(next(&bev, start).await, expected("ReadTimeout", 105));
    }
}

#[tokio::test(start_paused = true)]
async fn defect_d33_an_idle_output_has_no_write_timeout() {
    let (near, mut far) = duplex(4);
    let bev = BufferEvent::builder().write_timeout(5 * SECOND).spawn(near);
    nothing_comes(&bev).await;
    bev.output().add(b"1234567").unwrap();
    let start = Instant::now();
    assert_eq!(next(&bev, start).await, expected("WriteTimeout", 5));
    assert!(bev.is_enabled(Direction::Read) && !bev.is_enabled(Direction::Write));
    assert_eq!(bev.output().len(), 3);
    far.write_all(b"1").await.unwrap();
    bev.input().readable(1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_means_no_byte_in_either_direction() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::builder().idle_timeout(5 * SECOND).spawn(near);
    let start = Instant::now();
    sleep(4 * SECOND).await;
    far.write_all(b"1").await.unwrap();
    sleep(4 * SECOND).await;
    bev.output().add(b"1").unwrap();
    assert_eq!(next(&bev, start).await, expected("IdleTimeout", 13));
    nothing_comes(&bev).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_a_stall() {
    let (near, mut far) = duplex(1);
    let bev = BufferEvent::builder()
        .write_watermarks(Watermarks::new(4, 8).unwrap())
        .write_timeout(5 * SECOND)
        .stall_timeout(6 * SECOND)
        .spawn(near);
    let start = Instant::now();
    bev.output().add(&[1; 20]).unwrap();
    let slow = tokio::spawn(async move {
        for _ in 0..8 {
            sleep(SECOND).await;
            far.read_exact(&mut [0]).await.unwrap();
        }
        far
    });
    assert_eq!(next(&bev, start).await, expected("Stalled", 6));
    drop(slow.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_output_that_falls_to_its_low_watermark_in_time_does_not_stall() {
    let (near, mut far) = duplex(1);
    let bev = BufferEvent::builder()
        .write_watermarks(Watermarks::new(4, 8).unwrap())
        .stall_timeout(6 * SECOND)
        .spawn(near);
    bev.output().add(&[1; 9]).unwrap();
    for _ in 0..5 {
        sleep(SECOND).await;
        far.read_exact(&mut [0]).await.unwrap();
    }
    nothing_comes(&bev).await;
    let start = Instant::now();
    bev.output().add(&[1; 9]).unwrap();
    assert_eq!(next(&bev, start).await, expected("Stalled", 6));
}

#[tokio::test(start_paused = true)]
async fn timeouts_can_be_set_and_removed_at_any_time() {
    let (near, _far) = duplex(4);
    let bev = BufferEvent::new(near);
    sleep(10 * SECOND).await;
    let start = Instant::now();
    bev.set_timeouts(Some(5 * SECOND), Some(6 * SECOND));
    bev.output().add(b"1234567").unwrap();
    assert_eq!(next(&bev, start).await, expected("ReadTimeout", 5));
    bev.set_timeouts(None, None);
    bev.enable(Direction::Read);
    nothing_comes(&bev).await;
}

#[tokio::test(start_paused = true)]
async fn zero_expires_at_once_and_duration_max_never() {
    let (near, _far) = duplex(4);
    let bev = BufferEvent::builder()
        .read_timeout(Duration::ZERO)
        .spawn(near);
    let start = Instant::now();
    assert_eq!(next(&bev, start).await, expected("ReadTimeout", 0));

    let (near, _far) = duplex(4);
    let bev = BufferEvent::builder()
        .read_timeout(Duration::MAX)
        .write_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .stall_timeout(Duration::MAX)
        .linger(Duration::MAX)
        .write_watermarks(Watermarks::new(1, 2).unwrap())
        .spawn(near);
    bev.output().add(b"1234567").unwrap();
    nothing_comes(&bev).await;
    assert!(timeout(1000 * SECOND, bev.close()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_bufferevent_without_timeouts_needs_no_timer() {
    let (near, _far) = duplex(4);
    let bev = BufferEvent::new(near);
    bev.set_watermarks(Side::Output, Watermarks::new(1, 2).unwrap());
    bev.output().add(b"1234567").unwrap();
    nothing_comes(&bev).await;
    assert!(bev.paused(Direction::Write).contains(PauseReason::Peer));
}

/// A read or write does not wait for a direction that timed out.
#[tokio::test(start_paused = true)]
async fn a_timeout_fails_all_waits_until_the_direction_is_enabled() {
    let (near, mut far) = duplex(4);
    let bev = BufferEvent::builder()
        .read_timeout(5 * SECOND)
        .write_timeout(6 * SECOND)
        .write_watermarks(Watermarks::new(1, 2).unwrap())
        .spawn(near);
    let (mut reader, mut writer, mut flusher) = (bev.clone(), bev.clone(), bev.clone());
    far.write_all(b"ab").await.unwrap();
    bev.output().add(b"1234567").unwrap();
    let waiting = async {
        let mut two = [0; 2];
        reader.read_exact(&mut two).await.unwrap();
        tokio::join!(
            reader.read_u8(),
            writer.write(b"x"),
            AsyncWriteExt::flush(&mut flusher),
            bev.flush(),
        )
    };
    let (read, written, flushed, handed_over) = timeout(100 * SECOND, waiting)
        .await
        .expect("the wait does not end");
    for kind in [
        read.unwrap_err().kind(),
        written.unwrap_err().kind(),
        flushed.unwrap_err().kind(),
        handed_over.unwrap_err().kind(),
    ] {
        assert_eq!(kind, std::io::ErrorKind::TimedOut);
    }
    // Later waits fail at once, and no byte is lost.
    assert!(reader.read_u8().await.is_err() && bev.flush().await.is_err());
    bev.enable(Direction::Read);
    far.write_all(b"c").await.unwrap();
    assert_eq!(reader.read_u8().await.unwrap(), b'c');
    assert!(
        timeout(SECOND, bev.shutdown())
            .await
            .expect("the wait does not end")
            .is_err()
    );
    bev.enable(Direction::Write);
    let mut all = vec![0; 7];
    far.read_exact(&mut all).await.unwrap();
    assert_eq!(all, b"1234567");
    bev.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_set_again_counts_bytes_in_between() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::builder().read_timeout(5 * SECOND).spawn(near);
    sleep(SECOND).await;
    bev.set_timeouts(None, None);
    sleep(100 * SECOND).await;
    far.write_all(b"x").await.unwrap();
    bev.input().readable(1).await.unwrap();
    bev.set_timeouts(Some(5 * SECOND), None);
    let start = Instant::now();
    assert_eq!(next(&bev, start).await, expected("ReadTimeout", 5));
}
