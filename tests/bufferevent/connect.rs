//! `Builder::connect`: the events of a connection that succeeds, and of one that fails.

#![cfg(feature = "net")]

use std::{io, time::Duration};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{
    BufferEvent, Event,
    bufferevent::{CloseReason, IntoInnerError},
};

use crate::support::net::{ClosedPort, SilentPort};

#[tokio::test]
async fn connected_is_the_first_event_and_earlier_output_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Connect by name, which may have several addresses; one of them answers.
    let bev = BufferEvent::builder().connect(("localhost", port));
    bev.output().add(b"early").unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    assert!(matches!(bev.next_event().await, Some(Event::Connected)));
    let mut got = [0; 5];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"early");
    drop(far);
    assert!(matches!(bev.next_event().await, Some(Event::Eof)));
    let parts = bev.into_inner::<TcpStream>().await.unwrap();
    assert_eq!(parts.stream.peer_addr().unwrap().port(), port);
}

#[tokio::test]
async fn defect_d36_a_refused_connection_is_a_connect_error() {
    let closed = ClosedPort::new();
    let bev = BufferEvent::builder().connect(closed.addr());
    bev.output().add(b"never sent").unwrap();
    match bev.next_event().await {
        Some(Event::ConnectError(error)) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(bev.next_event().await, Some(Event::Closed)));
    assert!(bev.next_event().await.is_none());
    let summary = bev.closed().await;
    assert_eq!((summary.bytes_out, summary.unsent), (0, 10));
    assert!(matches!(summary.reason, CloseReason::Error(_)));
    assert!(bev.output().add(b"more").is_err());
    assert!(bev.flush().await.is_err());
    assert!(matches!(
        bev.into_inner::<TcpStream>().await,
        Err(IntoInnerError::Closed(_))
    ));
}

#[tokio::test]
async fn an_invalid_address_is_a_connect_error() {
    let bev = BufferEvent::builder().connect("an address without a port");
    assert!(matches!(
        bev.next_event().await,
        Some(Event::ConnectError(_))
    ));
    assert!(bev.close().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn connecting_to_a_silent_address_ends_by_timeout_or_abort() {
    let silent = SilentPort::new().await;
    let addr = silent.addr();
    let connect = || BufferEvent::builder().linger(Duration::ZERO);

    let bev = connect()
        .connect_timeout(Duration::from_secs(3))
        .connect(addr);
    match bev.next_event().await {
        Some(Event::ConnectError(error)) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        other => panic!("{other:?}"),
    }

    let bev = connect().connect(addr);
    bev.output().add(b"unsent").unwrap();
    bev.abort();
    let summary = bev.closed().await;
    assert!(matches!(summary.reason, CloseReason::Aborted));
    assert_eq!(summary.unsent, 6);

    let bev = connect().connect(addr);
    bev.output().add(b"unsent").unwrap();
    let summary = bev.close().await.unwrap();
    assert!(matches!(summary.reason, CloseReason::LingerExpired));
    assert_eq!(summary.unsent, 6);
}

#[tokio::test]
async fn a_refused_connection_is_an_error_for_readers() {
    let closed = ClosedPort::new();
    let mut bev = BufferEvent::builder().connect(closed.addr());
    let error = bev.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
