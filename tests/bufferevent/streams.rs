//! A `BufferEvent` over any stream: bytes move in both directions, and ends are reported.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_evbuffer::{
    BufferEvent, EolStyle, Event, Watermarks,
    bufferevent::{CloseReason, Direction, IntoInnerError, PauseReason, Side},
};

use crate::support::net::tcp_pair;

#[tokio::test]
async fn lines_are_answered_without_a_flush() {
    let (near, mut far) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    tokio::spawn(async move {
        loop {
            while let Some(line) = bev.input().readln(EolStyle::Lf).unwrap() {
                bev.output().add(&line).unwrap();
                bev.output().add(b"\n").unwrap();
            }
            let wanted = bev.input().len() + 1;
            if bev.input().readable(wanted).await.is_err() {
                break bev.close().await;
            }
        }
    });
    far.write_all(b"one\ntwo\nthree").await.unwrap();
    let mut answer = [0; 8];
    far.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"one\ntwo\n");
    far.write_all(b"\n").await.unwrap();
    far.shutdown().await.unwrap();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"three\n");
}

#[tokio::test]
async fn close_flushes_and_waits_for_the_peer() {
    let (near, mut far) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    bev.output().add(&vec![7; 1 << 20]).unwrap();
    let peer = tokio::spawn(async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        far.write_all(b"bye").await.unwrap();
        all.len()
    });
    let summary = bev.close().await.unwrap();
    assert_eq!(peer.await.unwrap(), 1 << 20);
    assert!(matches!(summary.reason, CloseReason::Finished));
    assert_eq!(
        (summary.bytes_in, summary.bytes_out, summary.unsent),
        (3, 1 << 20, 0)
    );
}

#[tokio::test]
async fn a_bufferevent_implements_async_read_and_write() {
    let (near, far) = tokio::io::duplex(16);
    let (mut a, mut b) = (BufferEvent::new(near), BufferEvent::new(far));
    a.write_all(b"hello\nworld").await.unwrap();
    a.flush().await.unwrap();
    AsyncWriteExt::shutdown(&mut a).await.unwrap();
    let mut line = String::new();
    b.read_line(&mut line).await.unwrap();
    assert_eq!(line, "hello\n");
    let mut rest = String::new();
    b.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "world");
    assert!(matches!(b.next_event().await, Some(Event::Eof)));
}

#[tokio::test]
async fn into_inner_returns_the_stream_and_its_bytes() {
    let (near, mut far) = tokio::io::duplex(64);
    let bev = BufferEvent::new(near);
    far.write_all(b"first").await.unwrap();
    bev.input().readable(5).await.unwrap();
    bev.disable(Direction::Write);
    bev.output().add(b"unsent").unwrap();
    let Err(IntoInnerError::WrongType(bev)) = bev.into_inner::<TcpStream>().await else {
        panic!("a duplex stream is no socket");
    };
    let other = bev.clone();
    let mut parts = bev.into_inner::<DuplexStream>().await.unwrap();
    assert!(parts.input == b"first"[..] && parts.output == b"unsent"[..]);
    far.write_all(b"later").await.unwrap();
    let mut later = [0; 5];
    parts.stream.read_exact(&mut later).await.unwrap();
    assert_eq!(&later, b"later");
    assert!(matches!(other.closed().await.reason, CloseReason::Detached));
}

#[tokio::test]
async fn reading_stops_exactly_at_the_high_watermark_and_resumes_at_the_low() {
    let (near, mut far) = tcp_pair().await;
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::new(100, 1000).unwrap())
        .spawn(near);
    far.write_all(&vec![1; 4000]).await.unwrap();
    bev.input().readable(1000).await.unwrap();
    assert_eq!(bev.input().len(), 1000);
    assert!(
        bev.paused(Direction::Read)
            .contains(PauseReason::HighWatermark)
    );
    let reads = bev.metrics().reads;
    bev.input().drain(899).unwrap();
    for _ in 0..20 {
        // Enough time for the task to read more, if it were wrong.
        tokio::task::yield_now().await;
    }
    assert_eq!(bev.metrics().reads, reads);
    bev.input().drain(1).unwrap();
    bev.input().readable(1000).await.unwrap();
    assert_eq!(bev.input().len(), 1000);
    bev.set_watermarks(Side::Input, Watermarks::NONE);
    bev.input().readable(3100).await.unwrap();
}

#[tokio::test]
async fn a_dropped_handle_flushes_in_the_background() {
    let (near, mut far) = tokio::io::duplex(10);
    let bev = BufferEvent::new(near);
    bev.output().add(&[5; 1000]).unwrap();
    drop(bev);
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [5; 1000]);
}

#[tokio::test]
async fn abort_counts_unsent_bytes() {
    let (near, _far) = tokio::io::duplex(10);
    let bev = BufferEvent::new(near);
    bev.output().add(&[5; 1000]).unwrap();
    tokio::task::yield_now().await;
    bev.abort();
    let summary = bev.closed().await;
    assert_eq!((summary.bytes_out, summary.unsent), (10, 990));
    assert!(matches!(summary.reason, CloseReason::Aborted));
    assert!(matches!(bev.next_event().await, Some(Event::Closed)));
    assert!(bev.next_event().await.is_none());
    let error = bev.flush().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
