//! Flush, the length of the output, and Tokio's traits on a `BufferEvent`.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_evbuffer::{
    BufferEvent, Event,
    bufferevent::{CloseReason, Direction, PauseReason},
};

use crate::support::{
    faulty_stream::{Ending, Faults, FaultyStream},
    sim::Sim,
    tasks::yield_many,
};

fn over(size: usize) -> (BufferEvent, DuplexStream) {
    let (near, far) = tokio::io::duplex(size);
    (BufferEvent::new(near), far)
}

#[tokio::test]
async fn a_read_error_is_returned_to_readers() {
    let faults = Faults {
        ending: Ending::Error(io::ErrorKind::ConnectionReset),
        ..Faults::default()
    };
    let mut bev = BufferEvent::new(FaultyStream::new(&Sim::new(1), 0, b"some bytes", faults));
    let mut all = Vec::new();
    let error = bev.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(
        (error.kind(), &all[..]),
        (io::ErrorKind::ConnectionReset, &b"some bytes"[..])
    );
    assert!(matches!(bev.next_event().await, Some(Event::ReadError(_))));
    assert_eq!(bev.next_event().await, Some(Event::Closed));
    assert!(!bev.is_enabled(Direction::Write));
    assert_eq!(
        bev.close().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn flush_waits_for_the_flush_of_the_stream() {
    let fake = FaultyStream::new(
        &Sim::new(1),
        0,
        b"",
        Faults {
            answers_after: 100,
            ..Faults::default()
        },
    );
    let seen = fake.seen();
    let bev = BufferEvent::new(fake);
    bev.output().add(b"12345").unwrap();
    bev.flush().await.unwrap();
    assert_eq!((seen().written.len(), seen().flushed), (5, 5));
}

#[tokio::test]
async fn flush_waits_only_for_earlier_bytes() {
    let (bev, mut far) = over(4);
    bev.output().add(b"1234").unwrap();
    let mut flush = tokio_test::task::spawn(bev.flush());
    assert!(flush.poll().is_pending());
    bev.output().add(b"5678").unwrap();
    yield_many().await;
    assert!(flush.is_woken());
    assert!(flush.poll().is_ready());
    far.read_exact(&mut [0; 8]).await.unwrap();
}

#[tokio::test]
async fn a_failed_flush_returns_the_error() {
    let (bev, far) = over(4);
    bev.output().add(b"12345678").unwrap();
    yield_many().await;
    drop(far);
    assert_eq!(
        bev.flush().await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn the_output_length_is_exactly_what_the_stream_has_not_taken() {
    let (bev, mut far) = over(10);
    bev.output().add(&[1; 25]).unwrap();
    yield_many().await;
    assert_eq!(bev.output().len(), 15);
    assert!(bev.paused(Direction::Write).contains(PauseReason::Peer));
    far.read_exact(&mut [0; 3]).await.unwrap();
    yield_many().await;
    assert_eq!(bev.output().len(), 12);
    bev.disable(Direction::Write);
    far.read_exact(&mut [0; 10]).await.unwrap();
    yield_many().await;
    assert_eq!((bev.output().len(), bev.metrics().bytes_out), (12, 13));
    bev.enable(Direction::Write);
    far.read_exact(&mut [0; 12]).await.unwrap();
    bev.flush().await.unwrap();
    assert!(bev.paused(Direction::Write).is_empty());
}

#[tokio::test]
async fn halves_read_and_write() {
    let (bev, far) = over(16);
    let (mut reading, mut writing) = bev.split();
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(far);
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let sender = tokio::spawn(async move {
        for i in 0..100 {
            writing
                .write_all(format!("line {i}\n").as_bytes())
                .await
                .unwrap();
        }
        writing.shutdown().await.unwrap();
        writing
    });
    let mut line = String::new();
    for i in 0..100 {
        line.clear();
        reading.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!("line {i}\n"));
    }
    assert_eq!(reading.read_line(&mut line).await.unwrap(), 0);
    sender.await.unwrap();
    let reason = reading.buffer_event().closed().await.reason;
    assert!(matches!(reason, CloseReason::Finished));
}

/// On a paused clock, since a busy machine takes longer than `close_wait` for the noise.
#[tokio::test(start_paused = true)]
async fn a_peer_that_keeps_sending_does_not_delay_close() {
    let (bev, mut far) = over(64);
    let noise = tokio::spawn(async move {
        let mut left = Vec::new();
        for _ in 0..10_000 {
            far.write_all(&[7; 100]).await.unwrap();
        }
        far.read_to_end(&mut left).await.unwrap();
        left
    });
    bev.output().add(b"bye").unwrap();
    let summary = bev.close().await.unwrap();
    assert_eq!(noise.await.unwrap(), b"bye");
    assert_eq!(summary.bytes_in, 1_000_000);
}

#[tokio::test]
async fn a_flush_after_a_dropped_flush_covers_later_writes() {
    let (mut bev, mut far) = over(10);
    bev.write_all(&[1; 20]).await.unwrap();
    {
        let mut given_up = tokio_test::task::spawn(AsyncWriteExt::flush(&mut bev));
        assert!(given_up.poll().is_pending());
    }
    bev.write_all(&[2; 20]).await.unwrap();
    far.read_exact(&mut [0; 10]).await.unwrap();
    yield_many().await;
    let mut flush = tokio_test::task::spawn(AsyncWriteExt::flush(&mut bev));
    assert!(flush.poll().is_pending(), "half of it is unsent");
    far.read_exact(&mut [0; 30]).await.unwrap();
    yield_many().await;
    assert!(flush.is_woken() && flush.poll().is_ready());
}

#[tokio::test]
async fn bytes_peeked_before_a_split_are_read_by_the_read_half() {
    let (mut bev, mut far) = over(16);
    far.write_all(b"peeked at").await.unwrap();
    assert_eq!(bev.fill_buf().await.unwrap(), b"peeked at");
    let (mut reading, _writing) = bev.split();
    let mut got = [0; 9];
    let mut read = tokio_test::task::spawn(reading.read_exact(&mut got));
    assert!(read.poll().is_ready());
    drop(read);
    assert_eq!(&got, b"peeked at");
}
