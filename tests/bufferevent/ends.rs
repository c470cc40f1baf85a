//! How a `BufferEvent` ends: in order, by an error, by its user, by its runtime.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};
use tokio_evbuffer::{
    BufferError, BufferEvent, Event, Watermarks,
    bufferevent::{CloseReason, Direction, IntoInnerError, Summary},
    shared::Crossing,
};

use crate::support::{data::pattern, tasks::until};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the reason as text, since it cannot be compared.
fn reason(summary: &Summary) -> &'static str {
    match &summary.reason {
        CloseReason::Finished => "finished",
        CloseReason::Aborted => "aborted",
        CloseReason::Dropped => "dropped",
        CloseReason::LingerExpired => "linger expired",
        CloseReason::Detached => "detached",
        CloseReason::Error(_) => "error",
        CloseReason::RuntimeShutdown => "runtime shutdown",
        _ => "another",
    }
}

#[tokio::test]
async fn close_sends_everything_and_waits_for_the_peer() {
    let (near, mut far) = duplex(1024);
    let bev = BufferEvent::new(near);
    let data = pattern(1 << 20);
    bev.output().add(&data).unwrap();
    let mut got = Vec::new();
    let peer = async {
        far.read_to_end(&mut got).await.unwrap();
        far.write_all(b"bye").await.unwrap();
        drop(far);
    };
    let (summary, ()) = tokio::join!(bev.close(), peer);
    let summary = summary.unwrap();
    assert_eq!(reason(&summary), "finished");
    assert_eq!((summary.bytes_in, summary.bytes_out), (3, 1 << 20));
    assert_eq!(summary.unsent, 0);
    assert!(got == data);
}

#[tokio::test(start_paused = true)]
async fn close_waits_up_to_close_wait_for_the_peer() {
    let (near, mut far) = duplex(1024);
    let bev = BufferEvent::builder().close_wait(5 * SECOND).spawn(near);
    let start = tokio::time::Instant::now();
    bev.output().add(b"last words").unwrap();
    let summary = bev.close().await.unwrap();
    assert_eq!(reason(&summary), "finished");
    assert_eq!((summary.bytes_out, summary.unsent), (10, 0));
    assert_eq!(start.elapsed(), 5 * SECOND);
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "last words");
}

#[tokio::test(start_paused = true)]
async fn each_write_with_progress_restarts_linger() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::builder().linger(5 * SECOND).spawn(near);
    bev.output().add(&[1; 40]).unwrap();
    let start = tokio::time::Instant::now();
    let closing = tokio::spawn(bev.close());
    for _ in 0..3 {
        tokio::time::sleep(4 * SECOND).await;
        far.read_exact(&mut [0; 10]).await.unwrap();
    }
    let summary = closing.await.unwrap().unwrap();
    // After the last bytes the peer has the default of `close_wait` to end its side.
    assert_eq!(reason(&summary), "finished");
    assert_eq!((summary.bytes_out, summary.unsent), (40, 0));
    assert_eq!(start.elapsed(), 14 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_full_input_does_not_delay_close() {
    let (near, mut far) = duplex(1024);
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::with_high(100).unwrap())
        .spawn(near);
    let peer = tokio::spawn(async move {
        far.write_all(&[1; 5000]).await.unwrap();
        far.shutdown().await.unwrap();
        far
    });
    bev.input().readable(100).await.unwrap();
    let summary = bev.close().await.unwrap();
    assert_eq!(reason(&summary), "finished");
    assert_eq!(summary.bytes_in, 5000);
    drop(peer.await.unwrap());
}

#[tokio::test]
async fn defect_d22_queued_output_is_sent_after_the_last_handle_is_dropped() {
    let (near, mut far) = duplex(1024);
    let bev = BufferEvent::new(near);
    let data = pattern(1 << 20);
    bev.output().add(&data).unwrap();
    drop(bev.clone());
    drop(bev);
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert!(got == data);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_bufferevent_ends_when_linger_expires() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::builder().linger(5 * SECOND).spawn(near);
    bev.output().add(&[1; 100]).unwrap();
    drop(bev);
    // The peer reads nothing, so linger expires.
    tokio::time::sleep(6 * SECOND).await;
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 10);
    assert!(
        far.write_all(b"x").await.is_err(),
        "the stream is still there"
    );
}

#[tokio::test]
async fn abort_drops_the_output_and_counts_it() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::new(near);
    bev.output().add(&[1; 100]).unwrap();
    until("10 bytes are written", || bev.metrics().bytes_out == 10).await;
    bev.abort();
    let summary = bev.closed().await;
    assert_eq!(reason(&summary), "aborted");
    assert_eq!((summary.bytes_out, summary.unsent), (10, 90));
    assert_eq!(bev.output().add(b"more"), Err(BufferError::Closed));
    assert!(bev.flush().await.is_err());
    assert!(matches!(bev.next_event().await, Some(Event::Closed)));
    assert!(bev.next_event().await.is_none());
    assert!(bev.next_event().await.is_none());
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 10);
}

/// What was read so far is not taken for all that the peer has sent, unless the peer had ended its stream.
#[tokio::test]
async fn after_an_abort_readers_get_an_error_unless_the_peer_had_ended() {
    for peer_ends in [false, true] {
        let (near, mut far) = duplex(64);
        let mut bev = BufferEvent::new(near);
        far.write_all(b"half").await.unwrap();
        bev.input().readable(4).await.unwrap();
        if peer_ends {
            far.shutdown().await.unwrap();
            assert!(bev.input().readable(5).await.is_err());
        }
        bev.abort();
        bev.closed().await;
        let mut got = Vec::new();
        let end = bev.read_to_end(&mut got).await;
        assert_eq!(got, b"half");
        match peer_ends {
            true => assert_eq!(end.unwrap(), 4),
            false => assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionAborted),
        }
    }
}

#[tokio::test]
async fn shutdown_ends_only_writing() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    bev.output().add(b"request").unwrap();
    bev.shutdown().await.unwrap();
    assert_eq!(bev.output().add(b"more"), Err(BufferError::Closed));
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "request");
    far.write_all(b"answer").await.unwrap();
    bev.input().readable(6).await.unwrap();
    assert_eq!(bev.input().take_bytes(9).unwrap(), "answer");
    drop(far);
    assert_eq!(reason(&bev.closed().await), "finished");
    bev.shutdown().await.unwrap();
    bev.flush().await.unwrap();
}

#[tokio::test]
async fn closing_the_output_shuts_down_writing() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    bev.output().add(b"all").unwrap();
    bev.output().close();
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "all");
}

#[tokio::test]
async fn the_end_of_reading_does_not_end_writing() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    far.write_all(b"request").await.unwrap();
    far.shutdown().await.unwrap();
    assert!(matches!(bev.next_event().await, Some(Event::Eof)));
    assert_eq!(bev.input().take_bytes(9).unwrap(), "request");
    assert!(bev.input().readable(1).await.is_err());
    bev.output().add(b"answer").unwrap();
    bev.flush().await.unwrap();
    let mut got = [0; 6];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"answer");
}

#[tokio::test(start_paused = true)]
async fn flush_waits_until_the_stream_took_everything() {
    let (near, mut far) = duplex(10);
    let bev = BufferEvent::new(near);
    bev.flush().await.unwrap();
    bev.output().add(&[1; 25]).unwrap();
    assert!(
        timeout(SECOND, bev.flush()).await.is_err(),
        "the stream is full"
    );
    assert_eq!(bev.output().len(), 15);
    far.read_exact(&mut [0; 10]).await.unwrap();
    assert!(timeout(SECOND, bev.flush()).await.is_err());
    assert_eq!(bev.output().len(), 5);
    far.read_exact(&mut [0; 10]).await.unwrap();
    timeout(SECOND, bev.flush()).await.unwrap().unwrap();
}

#[tokio::test]
async fn into_inner_returns_the_stream_and_all_bytes() {
    let (near, mut far) = duplex(16);
    let bev = BufferEvent::new(near);
    far.write_all(b"peeked at").await.unwrap();
    bev.input().readable(9).await.unwrap();
    bev.disable(Direction::Write);
    bev.output().add(b"not yet").unwrap();
    let other = bev.clone();
    let mut parts = bev.into_inner::<DuplexStream>().await.unwrap();
    assert_eq!(parts.input, b"peeked at"[..]);
    assert_eq!(parts.output, b"not yet"[..]);
    assert_eq!(reason(&other.closed().await), "detached");
    // The buffers are ordinary again, and the stream works.
    parts.input.add(b"!").unwrap();
    parts.output.drain(4).unwrap();
    parts.stream.write_all(b"by hand").await.unwrap();
    let mut got = [0; 7];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"by hand");
}

#[tokio::test]
async fn into_inner_with_the_wrong_type_returns_the_handle() {
    let (near, mut far) = duplex(16);
    let bev = BufferEvent::new(near);
    let error = bev.into_inner::<tokio_test::io::Mock>().await;
    let Err(IntoInnerError::WrongType(bev)) = error else {
        panic!("it is no such stream");
    };
    bev.output().add(b"alive").unwrap();
    let mut got = [0; 5];
    far.read_exact(&mut got).await.unwrap();
    let (a, _b) = BufferEvent::pair();
    assert!(matches!(
        a.into_inner::<DuplexStream>().await,
        Err(IntoInnerError::WrongType(_))
    ));
}

#[tokio::test]
async fn into_inner_after_the_end_returns_the_reason() {
    let (near, _far) = duplex(16);
    let bev = BufferEvent::new(near);
    bev.abort();
    bev.closed().await;
    match bev.into_inner::<DuplexStream>().await {
        Err(IntoInnerError::Closed(summary)) => assert_eq!(reason(&summary), "aborted"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dropping_the_into_inner_future_drops_the_handle() {
    let (near, mut far) = duplex(1024);
    let bev = BufferEvent::new(near);
    bev.output().add(&[1; 5000]).unwrap();
    {
        let mut taking = tokio_test::task::spawn(bev.into_inner::<DuplexStream>());
        assert!(taking.poll().is_pending());
    }
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 5000);
}

#[tokio::test]
async fn dropping_the_close_future_drops_the_handle() {
    let (near, mut far) = duplex(1024);
    let bev = BufferEvent::new(near);
    bev.output().add(&[1; 5000]).unwrap();
    {
        let mut closing = tokio_test::task::spawn(bev.close());
        assert!(closing.poll().is_pending());
    }
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 5000);
}

#[test]
fn a_runtime_shutdown_ends_every_wait() {
    let outer = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let inner = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (near, _far) = duplex(4);
    let bev = {
        let _entered = inner.enter();
        BufferEvent::new(near)
    };
    bev.output().add(b"too much").unwrap();
    let mut closed = tokio_test::task::spawn(bev.closed());
    let mut readable = tokio_test::task::spawn(bev.input().readable(1));
    let mut flushed = tokio_test::task::spawn(bev.flush());
    assert!(closed.poll().is_pending() && readable.poll().is_pending());
    assert!(flushed.poll().is_pending());
    inner.shutdown_timeout(10 * SECOND);
    assert!(closed.is_woken() && readable.is_woken() && flushed.is_woken());
    drop((closed, readable));
    let summary = outer.block_on(bev.closed());
    assert_eq!(reason(&summary), "runtime shutdown");
    assert_eq!(summary.bytes_out + summary.unsent, 8);
    assert!(matches!(flushed.poll(), std::task::Poll::Ready(Err(_))));
    assert_eq!(bev.output().add(b"more"), Err(BufferError::Closed));
    outer.block_on(async {
        assert!(matches!(bev.next_event().await, Some(Event::Closed)));
        assert!(bev.next_event().await.is_none());
    });
}

#[tokio::test]
async fn defect_d26_a_pair_ends_after_the_last_byte_for_all_watermarks() {
    let (a, b) = BufferEvent::pair();
    b.set_watermarks(
        tokio_evbuffer::bufferevent::Side::Input,
        Watermarks::with_high(100).unwrap(),
    );
    a.output().add(&pattern(300)).unwrap();
    a.shutdown().await.unwrap();
    let mut got = Vec::new();
    let mut b = b;
    b.read_to_end(&mut got).await.unwrap();
    assert!(got == pattern(300));
}

#[tokio::test(start_paused = true)]
async fn defect_d27_a_dropped_pair_partner_is_the_end_then_a_broken_pipe() {
    let (a, b) = BufferEvent::pair();
    a.output().add(b"last").unwrap();
    a.flush().await.unwrap();
    // `a` waits up to `close_wait` for the end of `b`.
    drop(a);
    assert!(matches!(b.next_event().await, Some(Event::Eof)));
    tokio::time::sleep(3 * SECOND).await;
    b.output().add(b"anybody?").unwrap();
    match b.next_event().await {
        Some(Event::WriteError(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
        other => panic!("{other:?}"),
    }
    assert_eq!(b.input().take_bytes(9).unwrap(), "last");
    assert!(matches!(b.next_event().await, Some(Event::Closed)));
    let summary = b.closed().await;
    assert_eq!((reason(&summary), summary.unsent), ("error", 8));
}

#[tokio::test]
async fn a_pair_moves_memory_and_copies_nothing() {
    let (a, b) = BufferEvent::pair();
    let data = bytes::Bytes::from(pattern(100_000));
    a.output().add_reference(data.clone()).unwrap();
    b.input().readable(100_000).await.unwrap();
    let input = b.input().lock();
    let mut at = 0;
    for chunk in input.chunks() {
        assert_eq!(chunk.as_ptr(), data[at..].as_ptr(), "copied at {at}");
        at += chunk.len();
    }
    assert_eq!(at, 100_000);
}

#[tokio::test]
async fn each_event_goes_to_one_caller() {
    let (near, far) = duplex(16);
    let bev = BufferEvent::new(near);
    bev.trigger_event(Event::Stalled);
    drop(far);
    assert!(matches!(bev.next_event().await, Some(Event::Stalled)));
    assert!(matches!(bev.next_event().await, Some(Event::Eof)));
    let mut first = tokio_test::task::spawn(bev.next_event());
    let mut second = tokio_test::task::spawn(bev.next_event());
    assert!(first.poll().is_pending() && second.poll().is_pending());
    bev.trigger_event(Event::Connected);
    assert!(first.is_woken() && second.is_woken());
    assert!(first.poll().is_ready());
    assert!(second.poll().is_pending());
}

#[tokio::test]
async fn no_event_follows_closed() {
    let (near, _far) = duplex(16);
    let bev = BufferEvent::new(near);
    bev.abort();
    bev.closed().await;
    bev.trigger_event(Event::Stalled);
    assert!(matches!(bev.next_event().await, Some(Event::Closed)));
    bev.trigger_event(Event::Stalled);
    assert!(bev.next_event().await.is_none());
}

/// Removing the output looks as if it was sent, so a subscriber may add more.
#[tokio::test]
async fn an_add_during_into_inner_is_returned_or_refused() {
    let (near, _far) = duplex(16);
    let (answers, answer) = std::sync::mpsc::channel();
    let bev = BufferEvent::builder()
        .write_watermarks(Watermarks::with_high(100).unwrap())
        .on_watermark(move |bev, _, crossing| {
            if matches!(crossing, Crossing::Low { .. }) {
                answers.send(bev.output().add(b"more")).unwrap();
            }
        })
        .spawn(near);
    bev.disable(Direction::Write);
    bev.output().add(&[1; 200]).unwrap();
    let parts = bev.into_inner::<DuplexStream>().await.unwrap();
    match answer.recv().unwrap() {
        Ok(()) => assert_eq!(parts.output.len(), 204),
        Err(error) => assert_eq!((error, parts.output.len()), (BufferError::Closed, 200)),
    }
}
