//! The options of the builder, the addresses, and what can be asked of a connection that is made.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_evbuffer::{
    BufferEvent, Event,
    bufferevent::{AddressFamily, Builder, CloseReason, Direction},
    shared::WaitError,
};

use crate::support::{
    faulty_stream::{Ending, Faults, FaultyStream},
    net::{ClosedPort, SilentPort, tcp_pair},
    sim::Sim,
    tasks::{HANG, soon, yield_many},
};

fn nodelay(bev: &BufferEvent) -> bool {
    bev.with_stream(|tcp: &TcpStream| tcp.nodelay())
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn nodelay_is_on_unless_it_is_switched_off() {
    for on in [true, false] {
        let builder = || match on {
            true => BufferEvent::builder(),
            false => BufferEvent::builder().nodelay(false),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connected = builder().connect(listener.local_addr().unwrap());
        connected.connected().await.unwrap();
        assert_eq!(nodelay(&connected), on);

        let (accepted, _) = listener.accept().await.unwrap();
        accepted.set_nodelay(false).unwrap();
        assert_eq!(nodelay(&builder().spawn(accepted)), on);
    }
}

#[tokio::test]
async fn a_truncated_stream_is_an_error_unless_it_is_allowed() {
    for allowed in [true, false] {
        let faults = Faults {
            ending: Ending::Error(io::ErrorKind::UnexpectedEof),
            ..Faults::default()
        };
        let mut bev = BufferEvent::builder()
            .allow_truncation(allowed)
            .spawn(FaultyStream::new(&Sim::new(1), 0, b"cut", faults));
        let mut got = Vec::new();
        let end = bev.read_to_end(&mut got).await;
        assert_eq!(got, b"cut");
        match allowed {
            true => {
                assert_eq!(end.unwrap(), 3);
                assert_eq!(bev.next_event().await, Some(Event::Eof));
                assert_eq!(bev.close().await.unwrap().reason, CloseReason::Finished);
            }
            false => {
                assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                assert!(matches!(bev.next_event().await, Some(Event::ReadError(_))));
                bev.close().await.unwrap_err();
            }
        }
    }
}

#[tokio::test]
async fn the_most_bytes_of_a_read_can_be_changed_while_running() {
    let (near, far) = BufferEvent::pair();
    far.set_max_single(Direction::Read, 0);
    near.output().add(&[1; 10]).unwrap();
    far.input().readable(10).await.unwrap();
    assert_eq!(far.metrics().reads, 10, "zero counts as 1");
    far.set_max_single(Direction::Read, 100);
    near.output().add(&[1; 100]).unwrap();
    far.input().readable(110).await.unwrap();
    assert_eq!(far.metrics().reads, 11);
}

#[tokio::test]
async fn a_clone_of_a_builder_has_its_settings_and_no_callbacks() {
    let original: Builder = BufferEvent::builder()
        .max_single_write(10)
        .on_event(|_, _| panic!("the callback of the original"));
    let (near, mut far) = duplex(1024);
    let bev = original.clone().spawn(near);
    bev.output().add(&[1; 100]).unwrap();
    far.read_exact(&mut [0; 100]).await.unwrap();
    assert_eq!(bev.metrics().writes, 10);
    drop(far);
    assert_eq!(bev.next_event().await, Some(Event::Eof));
    yield_many().await;
}

#[tokio::test]
async fn addresses_are_those_of_the_socket_while_it_is_there() {
    let (near, far) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    assert_eq!(bev.peer_addr(), Some(far.local_addr().unwrap()));
    assert_eq!(bev.local_addr(), Some(far.peer_addr().unwrap()));
    bev.abort();
    bev.closed().await;
    assert_eq!((bev.peer_addr(), bev.local_addr()), (None, None));
    let (memory, _peer) = duplex(1);
    assert_eq!(BufferEvent::new(memory).peer_addr(), None);
}

#[tokio::test]
async fn a_refused_connect_is_the_error_of_every_wait() {
    let closed = ClosedPort::new();
    let refused = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let bev = BufferEvent::builder().connect(closed.addr());
    bev.output().add(b"never sent").unwrap();
    let (flushed, shut_down) = (bev.clone(), bev.clone());
    let flushing = tokio::spawn(async move { flushed.flush().await });
    let shutting_down = tokio::spawn(async move { shut_down.shutdown().await });
    refused(bev.connected().await.unwrap_err());
    refused(bev.connected().await.unwrap_err());
    refused(flushing.await.unwrap().unwrap_err());
    refused(shutting_down.await.unwrap().unwrap_err());
    refused(bev.flush().await.unwrap_err());
    match bev.input().readable(1).await.unwrap_err() {
        WaitError::Stream(error) => assert!(error.raw_os_error().is_some(), "{error:?}"),
        other => panic!("{other:?}"),
    }
    bev.peer_closed().await;
    assert!(matches!(
        bev.next_event().await,
        Some(Event::ConnectError(_))
    ));
    refused(bev.close().await.unwrap_err());
}

#[tokio::test]
async fn connected_waits_and_ends_with_the_connection() {
    let (near, _far) = duplex(1);
    BufferEvent::new(near).connected().await.unwrap();

    let silent = SilentPort::new().await;
    let bev = BufferEvent::builder().connect(silent.addr());
    let waiting = timeout(Duration::from_millis(20), bev.connected()).await;
    assert!(waiting.is_err(), "dropping the future has no effect");
    bev.abort();
    let error = soon("the end", bev.connected()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_resolver_and_a_family_can_be_selected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let v6 = "[::1]:9".parse().unwrap();
    let bev = BufferEvent::builder()
        .address_family(AddressFamily::V4)
        .connect_resolved(async move { Ok(vec![v6, addr]) });
    bev.connected().await.unwrap();
    assert_eq!(bev.peer_addr(), Some(addr));

    let bev = BufferEvent::builder()
        .address_family(AddressFamily::V6)
        .connect_resolved(async move { Ok(vec![addr]) });
    let error = bev.connected().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);

    let bev = BufferEvent::builder()
        .connect_resolved(async { Err(io::Error::from(io::ErrorKind::HostUnreachable)) });
    let error = bev.connected().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
}

/// The first address refuses, the second does not answer, the third accepts.
#[tokio::test]
async fn every_address_gets_its_attempt_while_others_are_pending() {
    let (closed, silent) = (ClosedPort::new(), SilentPort::new().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let addrs = vec![closed.addr(), silent.addr(), good];
    let bev = BufferEvent::builder().connect_resolved(async move { Ok(addrs) });
    soon("the attempt", bev.connected()).await.unwrap();
    assert_eq!(bev.peer_addr(), Some(good));
}

/// The second attempt starts after 250 ms, long before the timeout.
#[tokio::test]
async fn a_silent_first_address_does_not_use_up_the_timeout() {
    let silent = SilentPort::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let addrs = vec![silent.addr(), good];
    let bev = BufferEvent::builder()
        .connect_timeout(2 * HANG)
        .connect_resolved(async move { Ok(addrs) });
    soon("the attempt", bev.connected()).await.unwrap();
    assert_eq!(bev.peer_addr(), Some(good));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_end_of_the_peer_is_reported_while_reading_is_paused() {
    let (mut far, near) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    bev.disable(Direction::Read);
    far.write_all(&[1; 5000]).await.unwrap();
    let waiting = timeout(Duration::from_millis(20), bev.peer_closed()).await;
    assert!(waiting.is_err(), "dropping the future has no effect");
    far.shutdown().await.unwrap();
    soon("the end of the peer", bev.peer_closed()).await;
    assert_eq!(bev.next_event().await, Some(Event::PeerClosed));
    assert!(bev.input().is_empty());

    // The bytes are still there, and the other direction works.
    bev.output().add(b"answer").unwrap();
    far.read_exact(&mut [0; 6]).await.unwrap();
    bev.enable(Direction::Read);
    assert_eq!(bev.next_event().await, Some(Event::Eof));
    assert_eq!(bev.input().len(), 5000);
}

/// While reading is paused the task learns of new bytes without reading them, and none is lost or forgotten.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_arrives_during_a_pause_is_read_after_it() {
    let (mut far, near) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    let mut total = 0;
    for round in 0..50 {
        bev.disable(Direction::Read);
        yield_many().await;
        // An amount that an offer of the task divides, or does not.
        let n = [1, 2048, 2049, 8192, 40_000][round % 5];
        for piece in vec![round as u8; n].chunks(n.div_ceil(2)) {
            far.write_all(piece).await.unwrap();
            yield_many().await;
        }
        assert_eq!(bev.input().len(), 0, "round {round}");
        bev.enable(Direction::Read);
        let what = format!("round {round}: bytes are forgotten");
        soon(&what, bev.input().readable(n)).await.unwrap();
        let got = bev.input().take_bytes(n).unwrap();
        assert!(got.iter().all(|&byte| byte == round as u8));
        total += n;
    }
    far.write_all(b"after").await.unwrap();
    let after = soon("the bytes after it", bev.input().readable(5)).await;
    after.unwrap();
    assert_eq!(bev.metrics().bytes_in, total as u64 + 5);
}

/// A connection whose stream is always ready yields behind the driver: the sockets of other tasks are served.
#[tokio::test]
async fn a_busy_connection_lets_the_driver_report_sockets() {
    let busy = BufferEvent::new(tokio::io::join(tokio::io::repeat(1), tokio::io::sink()));
    // Everything is read and discarded.
    busy.input().close();
    let (mut far, mut near) = tcp_pair().await;
    tokio::spawn(async move {
        let mut byte = [0];
        while near.read_exact(&mut byte).await.is_ok() {
            near.write_all(&byte).await.unwrap();
        }
    });
    yield_many().await;
    let before = busy.metrics().bytes_in;
    const PINGS: u64 = 20;
    for _ in 0..PINGS {
        far.write_all(&[1]).await.unwrap();
        far.read_exact(&mut [0]).await.unwrap();
    }
    let each = (busy.metrics().bytes_in - before) / PINGS;
    assert!(each > 0, "the connection is busy");
    // Its own bound is 1 MiB in a turn; a ping needs a few polls of the driver.
    assert!(each <= 16 << 20, "{each} bytes between two pings");
}
