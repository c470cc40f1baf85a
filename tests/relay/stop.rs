//! Relays that are stopped, or that end after a lifetime or a number of bytes.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_evbuffer::{
    EvBuffer, Relay,
    relay::{RelayEnd, RelayOutcome, RelayParts},
};

use crate::support::data::pattern;

const SECOND: Duration = Duration::from_secs(1);

async fn stopped(
    relay: Relay<DuplexStream, DuplexStream>,
    stop: oneshot::Receiver<()>,
) -> Option<RelayParts<DuplexStream, DuplexStream>> {
    let stop = async { stop.await.unwrap() };
    match relay.run_until(stop).await.unwrap() {
        RelayOutcome::Stopped(parts) => Some(parts),
        _ => None,
    }
}

/// A relay is stopped repeatedly, with bytes in transit in both directions, and the next one takes over.
#[tokio::test]
async fn a_relay_that_is_stopped_loses_nothing() {
    let (mut left, mut a) = duplex(7);
    let (mut right, mut b) = duplex(5);
    let (to_right, to_left) = (pattern(2000), pattern(1500));
    let (mut from_left, mut from_right) = (EvBuffer::new(), EvBuffer::new());
    let (sent, answer) = (to_right.clone(), to_left.clone());
    let traffic = tokio::spawn(async move {
        let (mut left_read, mut left_write) = tokio::io::split(&mut left);
        let (mut right_read, mut right_write) = tokio::io::split(&mut right);
        let (mut at_right, mut at_left) = (vec![0; sent.len()], vec![0; answer.len()]);
        let (sent_right, sent_left, got_right, got_left) = tokio::join!(
            left_write.write_all(&sent),
            right_write.write_all(&answer),
            right_read.read_exact(&mut at_right),
            left_read.read_exact(&mut at_left),
        );
        sent_right.and(sent_left).unwrap();
        got_right.and(got_left).unwrap();
        (at_right, at_left)
    });
    let mut stops = 0;
    while !traffic.is_finished() {
        let (stop, is_stopped) = oneshot::channel();
        let relay = Relay::new(a, b).initial(from_left, from_right).buffer(64);
        let stopping = async {
            for _ in 0..stops % 5 {
                tokio::task::yield_now().await;
            }
            let _ = stop.send(());
        };
        let (parts, ()) = tokio::join!(stopped(relay, is_stopped), stopping);
        // Both sides have ended when they have everything.
        let Some(parts) = parts else { break };
        assert_eq!(parts.summary.reason, RelayEnd::Stopped);
        assert_eq!(parts.summary.held_a, parts.to_b.len() as u64);
        assert_eq!(parts.summary.held_b, parts.to_a.len() as u64);
        (a, b, from_left, from_right) = (parts.a, parts.b, parts.to_b, parts.to_a);
        stops += 1;
    }
    assert!(stops > 3, "{stops}");
    let (at_right, at_left) = traffic.await.unwrap();
    assert!(at_right == to_right && at_left == to_left);
}

#[tokio::test]
async fn a_relay_that_ends_before_it_is_stopped_returns_its_summary() {
    let ((left, a), (right, b)) = (duplex(8), duplex(8));
    drop((left, right));
    let outcome = Relay::new(a, b).run_until(std::future::pending()).await;
    match outcome.unwrap() {
        RelayOutcome::Ended(summary) => assert_eq!(summary.reason, RelayEnd::Eof),
        outcome => panic!("{outcome:?}"),
    }
}

#[cfg(all(feature = "net", target_os = "linux"))]
#[tokio::test]
async fn bytes_in_a_kernel_pipe_are_returned() {
    use crate::support::net::tcp_pair;

    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    let (stop, is_stopped) = oneshot::channel::<()>();
    let relay = Relay::new(a, b).stall_buffer(1 << 20);
    let relaying = tokio::spawn(relay.run_until(async { is_stopped.await.unwrap() }));
    let data = pattern(3 << 20);
    let mut room = vec![0; data.len()];
    let (sent, got) = tokio::join!(client.write_all(&data), server.read_exact(&mut room));
    sent.unwrap();
    got.unwrap();
    assert!(room == data);
    // The server reads no more. Some of this is in the pipe when the relay stops.
    let mut sent = 0;
    let stuck = async {
        loop {
            sent += client.write(&data[sent % data.len()..]).await.unwrap();
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(50), stuck).await;
    stop.send(()).unwrap();
    let RelayOutcome::Stopped(mut parts) = relaying.await.unwrap().unwrap() else {
        panic!("the relay was stopped");
    };
    drop(client);
    let (mut at_b, mut unread) = (Vec::new(), Vec::new());
    drop(parts.b);
    server.read_to_end(&mut at_b).await.unwrap();
    at_b.extend(parts.to_b.take_bytes(usize::MAX).unwrap());
    parts.a.read_to_end(&mut unread).await.unwrap();
    at_b.extend(unread);
    assert_eq!(at_b.len(), sent);
    assert!(
        at_b.iter()
            .zip(data.iter().cycle())
            .all(|(got, put)| got == put)
    );
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_ends_a_relay_in_which_bytes_move() {
    for swapped in [false, true] {
        let ((mut left, a), (mut right, b)) = (duplex(100), duplex(100));
        let (a, b) = if swapped { (b, a) } else { (a, b) };
        let start = Instant::now();
        let relaying = tokio::spawn(Relay::new(a, b).max_lifetime(10 * SECOND).run());
        let mut received = 0;
        while left.write_all(&[1; 10]).await.is_ok() {
            match right.read(&mut [0; 100]).await.unwrap() {
                0 => break,
                n => received += n as u64,
            }
            sleep(SECOND).await;
        }
        let summary = relaying.await.unwrap().unwrap();
        assert_eq!(summary.reason, RelayEnd::Lifetime);
        assert_eq!(summary.a_to_b + summary.b_to_a, received);
        assert_eq!(summary.held_a + summary.held_b, 0);
        assert!((10..=11).contains(&start.elapsed().as_secs()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_delivers_what_was_read_and_does_not_wait_longer_than_linger() {
    let ((mut left, a), (mut right, b)) = (duplex(1000), duplex(10));
    let relaying = tokio::spawn(Relay::new(a, b).max_lifetime(SECOND).run());
    left.write_all(&[7; 500]).await.unwrap();
    sleep(2 * SECOND).await;
    let mut received = Vec::new();
    right.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, [7; 500]);
    assert_eq!(relaying.await.unwrap().unwrap().reason, RelayEnd::Lifetime);

    let ((mut left, a), (_right, b)) = (duplex(1000), duplex(10));
    let relaying = tokio::spawn(Relay::new(a, b).max_lifetime(SECOND).run());
    left.write_all(&[7; 500]).await.unwrap();
    let start = Instant::now();
    let summary = relaying.await.unwrap().unwrap();
    assert_eq!(summary.reason, RelayEnd::Lifetime);
    assert_eq!((summary.a_to_b, summary.held_a), (10, 490));
    assert_eq!(start.elapsed().as_secs(), 31);
}

#[tokio::test]
async fn no_more_than_max_bytes_are_read_and_all_of_them_arrive() {
    for (max, splits) in [(0, 1), (1, 1), (1000, 1), (1000, 7), (1500, 3)] {
        let ((mut left, mut a), (mut right, b)) = (duplex(4000), duplex(4000));
        let data = pattern(2000);
        for piece in data.chunks(data.len() / splits) {
            left.write_all(piece).await.unwrap();
        }
        let summary = Relay::new(&mut a, b).max_bytes(max).run().await.unwrap();
        assert_eq!(summary.reason, RelayEnd::MaxBytes);
        assert_eq!((summary.a_to_b, summary.b_to_a), (max, 0));
        let mut received = Vec::new();
        right.read_to_end(&mut received).await.unwrap();
        assert!(received == data[..max as usize]);
        // The rest is still in the stream.
        let mut rest = vec![0; data.len() - max as usize];
        a.read_exact(&mut rest).await.unwrap();
        assert!(rest == data[max as usize..]);
    }
}

#[tokio::test]
async fn max_bytes_counts_both_directions() {
    let ((mut left, a), (mut right, b)) = (duplex(64), duplex(64));
    let relaying = tokio::spawn(Relay::new(a, b).max_bytes(10).run());
    left.write_all(b"1234").await.unwrap();
    right.read_exact(&mut [0; 4]).await.unwrap();
    right.write_all(b"ab").await.unwrap();
    left.read_exact(&mut [0; 2]).await.unwrap();
    right.write_all(b"cdefghij").await.unwrap();
    let mut answer = Vec::new();
    left.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"cdef");
    let summary = relaying.await.unwrap().unwrap();
    assert_eq!((summary.a_to_b, summary.b_to_a), (4, 6));
    assert_eq!(summary.reason, RelayEnd::MaxBytes);
}

#[tokio::test(start_paused = true)]
async fn max_bytes_ends_a_half_closed_relay_at_once() {
    let ((mut left, a), (mut right, b)) = (duplex(64), duplex(64));
    left.shutdown().await.unwrap();
    let relaying = tokio::spawn(Relay::new(a, b).max_bytes(10).run());
    right.read_to_end(&mut Vec::new()).await.unwrap();
    right.write_all(&[1; 20]).await.unwrap();
    let start = Instant::now();
    let summary = relaying.await.unwrap().unwrap();
    assert_eq!((summary.b_to_a, summary.reason), (10, RelayEnd::MaxBytes));
    assert_eq!(start.elapsed(), Duration::ZERO);
}
