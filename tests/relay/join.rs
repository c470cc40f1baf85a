//! `BufferEvent::join`: two live connections, joined in either order.

use std::{
    future::Future,
    io,
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::{JoinHandle, yield_now},
    time::{Instant, sleep},
};
use tokio_evbuffer::{
    BufferEvent, Watermarks,
    bufferevent::{Direction, PauseReason, Side},
    relay::{Peer, RelayEnd, RelayError, RelaySummary, Step},
};

use crate::support::{
    filters::pass,
    tasks::{soon, until, yield_many},
};

/// A join of `near` and `far`, with the ends swapped or not.
fn join(
    near: BufferEvent,
    far: BufferEvent,
    swapped: bool,
) -> JoinHandle<Result<RelaySummary, RelayError>> {
    tokio::spawn(async move {
        let joined = match swapped {
            false => BufferEvent::join(near, far).await,
            true => BufferEvent::join(far, near).await,
        };
        if !swapped {
            return joined;
        }
        // As seen from the near side.
        match joined {
            Ok(mut summary) => {
                swap(&mut summary);
                Ok(summary)
            }
            Err(mut failed) => {
                swap(&mut failed.summary);
                failed.peer = match failed.peer {
                    Peer::A => Peer::B,
                    Peer::B => Peer::A,
                };
                Err(failed)
            }
        }
    })
}

fn swap(summary: &mut RelaySummary) {
    std::mem::swap(&mut summary.a_to_b, &mut summary.b_to_a);
    std::mem::swap(&mut summary.held_a, &mut summary.held_b);
}

/// A client, its connection, the connection of a server, and the server.
fn connections(buffer: usize) -> (DuplexStream, BufferEvent, BufferEvent, DuplexStream) {
    let (client, near) = tokio::io::duplex(buffer);
    let (server, far) = tokio::io::duplex(buffer);
    (
        client,
        BufferEvent::new(near),
        BufferEvent::new(far),
        server,
    )
}

async fn read_all(mut stream: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn everything_moves_both_ways_with_half_closes() {
    for swapped in [false, true] {
        for len in [0, 1, 1000, 3 << 20] {
            let (mut client, near, far, mut server) = connections(4096);
            let joined = join(near, far, swapped);
            let request: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let sending = async {
                client.write_all(&request).await.unwrap();
                client.shutdown().await.unwrap();
                read_all(client).await
            };
            let serving = async {
                let mut received = Vec::new();
                server.read_to_end(&mut received).await.unwrap();
                // Answers after the end of the request.
                server.write_all(&received).await.unwrap();
                server.shutdown().await.unwrap();
                received
            };
            let (answer, received) = tokio::join!(sending, serving);
            assert!(received == request && answer == request);
            let summary = joined.await.unwrap().unwrap();
            let len = len as u64;
            assert_eq!((summary.a_to_b, summary.b_to_a), (len, len));
            assert_eq!((summary.held_a, summary.held_b), (0, 0));
            assert_eq!(summary.reason, RelayEnd::Eof);
        }
    }
}

#[tokio::test]
async fn what_is_buffered_before_is_sent_first_and_only_moved_bytes_count() {
    let (mut client, near, far, server) = connections(4096);
    client.write_all(b"PROXY line\nrequest").await.unwrap();
    client.shutdown().await.unwrap();
    near.input().readable(18).await.unwrap();
    assert_eq!(near.input().take_bytes(11).unwrap(), "PROXY line\n");
    far.output().add(b"announced, ").unwrap();
    let joined = join(near, far, false);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let mut received = String::new();
    from_server.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "announced, request");
    to_server.shutdown().await.unwrap();
    assert_eq!(joined.await.unwrap().unwrap().a_to_b, 7);
}

/// Segments change the buffer: the bytes are at the same place in memory.
#[tokio::test]
async fn segments_move_without_a_copy() {
    let (source, near) = BufferEvent::pair();
    let (far, sink) = BufferEvent::pair();
    let joined = join(near, far, false);
    let bytes = bytes::Bytes::from(vec![7; 30_000]);
    source.output().add_reference(bytes.clone()).unwrap();
    sink.input().readable(30_000).await.unwrap();
    let place = bytes.as_ptr_range();
    let moved = |chunk: &&[u8]| place.contains(&chunk.as_ptr());
    let in_place: usize = (sink.input().lock().chunks())
        .filter(moved)
        .map(<[u8]>::len)
        .sum();
    assert!(
        in_place > 25_000,
        "{in_place} of 30,000 bytes were not copied"
    );
    drop((source, sink));
    let _ = joined.await.unwrap();
}

#[tokio::test]
async fn backpressure_pauses_the_source_and_shows_the_peer() {
    for swapped in [false, true] {
        let (mut client, near, far, server) = connections(1024);
        near.set_watermarks(Side::Input, Watermarks::with_high(4096).unwrap());
        far.set_watermarks(Side::Output, Watermarks::with_high(4096).unwrap());
        let (near_view, far_view) = (near.clone(), far.clone());
        let joined = join(near, far, swapped);
        let data = vec![5; 1 << 20];
        let sending = tokio::spawn(async move {
            client.write_all(&data).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        while !near_view
            .paused(Direction::Read)
            .contains(PauseReason::Peer)
        {
            yield_now().await;
        }
        yield_many().await;
        let held = near_view.input().len() + far_view.output().len();
        assert!(held <= 3 * 4096, "{held}");
        assert!(!sending.is_finished());

        let (mut from_server, to_server) = tokio::io::split(server);
        let mut received = Vec::new();
        from_server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 1 << 20);
        assert!(
            !near_view
                .paused(Direction::Read)
                .contains(PauseReason::Peer)
        );
        drop((from_server, to_server));
        let _client = sending.await.unwrap();
        assert_eq!(joined.await.unwrap().unwrap().a_to_b, 1 << 20);
    }
}

#[tokio::test]
async fn a_failed_read_delivers_what_was_read_and_then_an_error() {
    for swapped in [false, true] {
        let (source, near) = BufferEvent::pair();
        let (far, sink) = BufferEvent::pair();
        let joined = join(near, far, swapped);
        source.output().add(&[1; 50_000]).unwrap();
        source.flush().await.unwrap();
        source.abort();
        let failed = joined.await.unwrap().unwrap_err();
        assert_eq!((failed.peer, failed.step), (Peer::A, Step::Read));
        assert_eq!(failed.summary.reason, RelayEnd::Error);
        let mut received = Vec::new();
        let end = sink.clone().read_to_end(&mut received).await;
        assert!(end.is_err(), "no orderly end after an error");
        assert_eq!(received.len() as u64, failed.summary.a_to_b);
    }
}

#[tokio::test]
async fn a_failed_write_is_reported_with_its_side() {
    for swapped in [false, true] {
        let (mut client, near, far, server) = connections(64);
        let joined = join(near, far, swapped);
        drop(server);
        let mut writing = tokio::spawn(async move {
            while client.write_all(&[1; 100]).await.is_ok() {
                yield_now().await;
            }
        });
        let failed = joined.await.unwrap().unwrap_err();
        assert_eq!(failed.peer, Peer::B);
        assert_eq!(failed.error.kind(), io::ErrorKind::BrokenPipe);
        soon("the end of the writer", &mut writing).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_fails_while_the_sink_is_stuck_ends_the_join() {
    let (source, near) = BufferEvent::pair();
    let (far, _sink) = BufferEvent::pair();
    far.disable(Direction::Write);
    far.set_watermarks(Side::Output, Watermarks::with_high(100).unwrap());
    let view = near.clone();
    let far_view = far.clone();
    let joined = join(near, far, false);
    source.output().add(&[1; 1000]).unwrap();
    until("reading waits for the peer", || {
        view.paused(Direction::Read).contains(PauseReason::Peer)
    })
    .await;
    source.abort();
    // What was read is delivered before the join ends.
    until("the input is delivered", || view.input().is_empty()).await;
    far_view.enable(Direction::Write);
    let failed = joined.await.unwrap().unwrap_err();
    assert_eq!((failed.peer, failed.step), (Peer::A, Step::Read));
}

#[tokio::test(start_paused = true)]
async fn bytes_for_outputs_that_were_shut_down_before_count_as_held() {
    let (mut client, near, far, mut server) = connections(64);
    near.shutdown().await.unwrap();
    far.shutdown().await.unwrap();
    client.write_all(b"late").await.unwrap();
    server.write_all(b"answer").await.unwrap();
    near.input().readable(4).await.unwrap();
    far.input().readable(6).await.unwrap();
    let joined = soon("the end of the join", join(near, far, false)).await;
    let failed = joined.unwrap().unwrap_err();
    assert_eq!((failed.peer, failed.step), (Peer::B, Step::Write));
    let summary = failed.summary;
    assert_eq!((summary.a_to_b, summary.held_a), (0, 4));
    assert_eq!((summary.b_to_a, summary.held_b), (0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_join_ends_when_nothing_moves() {
    for swapped in [false, true] {
        let (mut client, near, far, server) = connections(64);
        let joined = join(near, far, swapped);
        client.write_all(b"bye").await.unwrap();
        client.shutdown().await.unwrap();
        let start = Instant::now();
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let mut request = String::new();
        from_server.read_to_string(&mut request).await.unwrap();
        sleep(Duration::from_secs(20)).await;
        to_server.write_all(b"still here").await.unwrap();
        client.read_exact(&mut [0; 10]).await.unwrap();
        let summary = joined.await.unwrap().unwrap();
        assert_eq!(summary.reason, RelayEnd::LingerExpired);
        assert_eq!((summary.a_to_b, summary.b_to_a), (3, 10));
        let took = start.elapsed().as_secs();
        assert!((50..=81).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_join_ends_after_the_shorter_linger_of_the_two() {
    for swapped in [false, true] {
        let ((mut client, near), (_server, far)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let near = BufferEvent::builder()
            .linger(Duration::from_secs(7))
            .spawn(near);
        let joined = join(near, BufferEvent::new(far), swapped);
        let start = Instant::now();
        client.shutdown().await.unwrap();
        let summary = joined.await.unwrap().unwrap();
        assert_eq!(summary.reason, RelayEnd::LingerExpired);
        assert_eq!(start.elapsed().as_secs(), 7);
    }
}

/// Bytes that a slow client takes out of an output count as well, though none are read meanwhile.
#[tokio::test(start_paused = true)]
async fn a_half_closed_join_continues_while_an_output_drains() {
    for swapped in [false, true] {
        let (mut client, near, far, _server) = connections(64);
        near.output().add(&[7; 5 * 64]).unwrap();
        client.shutdown().await.unwrap();
        let joined = join(near, far, swapped);
        for _ in 0..5 {
            sleep(Duration::from_secs(20)).await;
            client.read_exact(&mut [0; 64]).await.unwrap();
        }
        let summary = joined.await.unwrap().unwrap();
        assert_eq!(summary.reason, RelayEnd::LingerExpired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_open_both_ways_may_be_idle() {
    let (mut client, near, far, mut server) = connections(64);
    let joined = join(near, far, false);
    for _ in 0..3 {
        sleep(Duration::from_secs(3600)).await;
        client.write_all(b"ping").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
    }
    assert!(!joined.is_finished());
}

/// A connection fails after it has sent `len` bytes, which the other side of the join has for its client.
async fn failed_with_bytes_to_deliver(
    len: usize,
) -> (DuplexStream, JoinHandle<Result<RelaySummary, RelayError>>) {
    let (client, near) = tokio::io::duplex(64);
    let (far, server) = BufferEvent::pair();
    let view = far.clone();
    let joined = join(BufferEvent::new(near), far, false);
    server.output().add(&vec![7; len]).unwrap();
    server.flush().await.unwrap();
    until("all bytes are read", || {
        view.metrics().bytes_in == len as u64
    })
    .await;
    server.abort();
    (client, joined)
}

#[tokio::test(start_paused = true)]
async fn after_an_error_a_slow_client_gets_everything_while_it_makes_progress() {
    let (mut client, joined) = failed_with_bytes_to_deliver(5 * 64).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(20)).await;
        client.read_exact(&mut [0; 64]).await.unwrap();
    }
    let failed = joined.await.unwrap().unwrap_err();
    assert_eq!((failed.peer, failed.step), (Peer::B, Step::Read));
    assert_eq!((failed.summary.b_to_a, failed.summary.held_b), (5 * 64, 0));
}

#[tokio::test(start_paused = true)]
async fn after_an_error_a_client_that_takes_nothing_is_given_up_after_the_linger_time() {
    let (_client, joined) = failed_with_bytes_to_deliver(5 * 64).await;
    let start = Instant::now();
    let failed = joined.await.unwrap().unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!((failed.peer, failed.step), (Peer::B, Step::Read));
    assert_eq!((failed.summary.b_to_a, failed.summary.held_b), (64, 4 * 64));
}

#[tokio::test]
async fn a_dropped_join_leaves_every_byte_in_the_buffers() {
    let (mut client, near, far, mut server) = connections(4096);
    let (near_view, far_view) = (near.clone(), far.clone());
    let joined = join(near, far, false);
    client.write_all(b"first").await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    joined.abort();
    assert!(joined.await.unwrap_err().is_cancelled());

    client.write_all(b"second").await.unwrap();
    near_view.input().readable(6).await.unwrap();
    assert_eq!(near_view.input().take_bytes(6).unwrap(), "second");
    far_view.output().add(b"third").unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    assert!(near_view.paused(Direction::Read).is_empty());
}

#[tokio::test]
async fn filtered_connections_can_be_joined() {
    let (mut client, near, far, server) = connections(1024);
    let joined = join(near.filter(pass, pass), far.filter(pass, pass), false);
    let data = vec![9; 200_000];
    let sending = async {
        client.write_all(&data).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let receiving = async {
        let mut received = Vec::new();
        from_server.read_to_end(&mut received).await.unwrap();
        to_server.shutdown().await.unwrap();
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == data);
    assert_eq!(joined.await.unwrap().unwrap().a_to_b, 200_000);
}

#[cfg(feature = "net")]
mod sockets {
    use std::{
        io::{Read, Write},
        net::Shutdown,
        thread,
    };

    use super::*;
    use crate::support::net::tcp_pair;

    /// A slow client gets everything that counts as delivered, and then a reset.
    #[tokio::test]
    async fn a_reset_does_not_overtake_what_was_delivered() {
        for swapped in [false, true] {
            let ((mut client, near), (server, far)) = (tcp_pair().await, tcp_pair().await);
            let far = BufferEvent::new(far);
            let view = far.clone();
            let joined = join(BufferEvent::new(near), far, swapped);
            let mut server = server;
            server.write_all(&[3; 200_000]).await.unwrap();
            let all_read = async {
                while view.metrics().bytes_in < 200_000 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            soon("all is read", all_read).await;
            #[allow(deprecated)]
            server.set_linger(Some(Duration::ZERO)).unwrap();
            drop(server);
            sleep(Duration::from_millis(200)).await;
            let mut received = Vec::new();
            let end = client.read_to_end(&mut received).await;
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let failed = joined.await.unwrap().unwrap_err();
            assert_eq!((failed.peer, failed.step), (Peer::B, Step::Read));
            assert_eq!(received.len() as u64, failed.summary.b_to_a);
            assert_eq!(received.len(), 200_000);
        }
    }

    /// While bulk moves from one task to the next, the runtime still polls the sockets of other tasks.
    #[tokio::test]
    async fn bulk_waits_for_the_io_driver() {
        const EACH: usize = 16 << 20;
        const CONNECTIONS: usize = 4;
        // Each connection reads 256 KiB in a turn, and rarely has a second turn before the driver.
        const MOST: u64 = 2 * 4 * 256 * 1024;

        let (mut sources, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let ((client, near), (server, far)) = (tcp_pair().await, tcp_pair().await);
            let [mut client, mut server] = [client, server].map(|stream| {
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                stream
            });
            threads.push(thread::spawn(move || {
                client.write_all(&vec![7; EACH]).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                client.read_to_end(&mut Vec::new()).unwrap()
            }));
            threads.push(thread::spawn(move || {
                let mut received = Vec::new();
                server.read_to_end(&mut received).unwrap()
            }));
            let near = BufferEvent::new(near);
            sources.push(near.clone());
            drop(join(near, BufferEvent::new(far), false));
        }
        let watching = async {
            let (mut before, mut most) = (0, 0);
            while before < (CONNECTIONS * EACH) as u64 {
                // This continues after the runtime has polled its I/O driver.
                yield_now().await;
                let now = (sources.iter()).map(|bev| bev.metrics().bytes_in).sum();
                most = most.max(now - before);
                before = now;
            }
            most
        };
        let most = soon("the bytes", watching).await;
        assert!(most <= MOST, "{most} bytes between two turns of the driver");
        for source in &sources {
            source.closed().await;
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

#[tokio::test]
async fn only_outputs_with_the_default_watermarks_are_larger_while_they_are_joined() {
    let (_source, near) = BufferEvent::pair();
    let (far, _sink) = BufferEvent::pair();
    let default = near.output().watermarks();
    let small = Watermarks::with_high(100).unwrap();
    far.set_watermarks(Side::Output, small);
    let (near_view, far_view) = (near.clone(), far.clone());
    let mut joined = Box::pin(BufferEvent::join(near, far));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(joined.as_mut().poll(&mut cx).is_pending());
    assert_eq!(near_view.output().watermarks().high(), Some(256 * 1024));
    assert_eq!(far_view.output().watermarks(), small);
    drop(joined);
    assert_eq!(near_view.output().watermarks(), default);
    assert_eq!(far_view.output().watermarks(), small);
}
