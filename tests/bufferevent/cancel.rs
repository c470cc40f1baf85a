//! Futures of a connection that are dropped at each of their await points, over a stream that makes partial progress.

use std::{future::Future, pin::pin};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{io::AsyncReadExt, task::yield_now};
use tokio_evbuffer::{
    BufferEvent, EolStyle, Event, Prefixed, SharedEvBuffer,
    bufferevent::CloseReason,
    shared::{LengthDecoder, LineDecoder},
};

use crate::support::{
    cancel::{at_each_await_point, poll_times},
    data::pattern,
    faulty_stream::{Faults, FaultyStream},
    sim::Sim,
};

/// Reads and writes move a few bytes, and wait half of the time.
const FAULTS: Faults = Faults {
    piece: 5,
    pending: 2,
    interrupted: 7,
    ..Faults::NONE
};

/// A stream that behaves the same each time.
fn stream(input: &[u8]) -> (impl Drop + use<>, FaultyStream) {
    let sim = Sim::new(23);
    (sim.drive(), FaultyStream::new(&sim, 0, input, FAULTS))
}

/// Takes all items of `input`. Each future is polled `polls` times at most, dropped, and made again by `next`.
async fn take_all<F>(input: &[u8], polls: usize, next: impl Fn(SharedEvBuffer) -> F) -> Vec<Bytes>
where
    F: Future<Output = Option<Bytes>>,
{
    let (_driver, stream) = stream(input);
    let bev = BufferEvent::new(stream);
    let mut items = Vec::new();
    loop {
        match poll_times(next(bev.input().clone()), polls).await {
            Some(Some(item)) => items.push(item),
            Some(None) => return items,
            None => yield_now().await,
        }
    }
}

/// For futures that are dropped after each number of polls.
async fn check_take<F>(input: &[u8], expected: &[&[u8]], next: impl Fn(SharedEvBuffer) -> F)
where
    F: Future<Output = Option<Bytes>>,
{
    for polls in 1..10 {
        let items = take_all(input, polls, &next).await;
        assert_eq!(items, expected, "{polls} polls");
    }
}

const LINES: &[u8] = b"one\r\ntwo and more\r\n\r\nlast";

#[tokio::test]
async fn no_line_piece_or_frame_is_lost() {
    let lines: [&[u8]; 4] = [b"one", b"two and more", b"", b"last"];
    check_take(LINES, &lines, |input| async move {
        input.next_line(EolStyle::Crlf, 100).await.unwrap()
    })
    .await;
    check_take(LINES, &lines, |input| async move {
        let decoder = LineDecoder {
            style: EolStyle::Crlf,
            max: 100,
        };
        let line = input.frames(decoder).next().await;
        line.map(Result::unwrap)
    })
    .await;
    let until: [&[u8]; 4] = [b"one\r\n", b"two and more\r\n", b"\r\n", b"last"];
    check_take(LINES, &until, |input| async move {
        input.take_until(b"\r\n", 100).await.unwrap()
    })
    .await;
    let exact: [&[u8]; 3] = [b"one\r\ntw", b"o and m", b"ore\r\n\r\n"];
    check_take(LINES, &exact, |input| async move {
        input.take_exact(7).await.ok()
    })
    .await;
    check_take(
        b"\0\x03one\0\0\0\x04four",
        &[b"one", b"", b"four"],
        |input| async move {
            let frame = input.frames(LengthDecoder::new(100).length_width(2));
            pin!(frame).next().await.map(Result::unwrap)
        },
    )
    .await;
}

#[tokio::test]
async fn a_dropped_wait_for_bytes_or_room_changes_nothing() {
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(LINES);
        let bev = BufferEvent::new(stream);
        let readable = poll_times(bev.input().readable(LINES.len()), polls).await;
        let whole = bev.input().take_exact(LINES.len()).await.unwrap();
        assert_eq!(whole, LINES);
        readable.is_some()
    })
    .await;
    let data = pattern(60);
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(b"");
        let seen = stream.seen();
        let bev = BufferEvent::new(stream);
        bev.output().add(&data).unwrap();
        let drained = poll_times(bev.output().drained_to(bev.output().mark()), polls).await;
        assert!(drained.is_none() || seen().written == data);
        bev.flush().await.unwrap();
        assert_eq!(seen().written, data);
        drained.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_dropped_flush_or_shutdown_has_no_effect_on_the_bytes() {
    let data = pattern(60);
    for ends in [false, true] {
        at_each_await_point(async |polls| {
            let (_driver, stream) = stream(b"");
            let seen = stream.seen();
            let bev = BufferEvent::new(stream);
            bev.output().add(&data).unwrap();
            let done = match ends {
                true => poll_times(bev.shutdown(), polls).await,
                false => poll_times(bev.flush(), polls).await,
            };
            assert!(done.is_none() || seen().flushed == data.len());
            bev.shutdown().await.unwrap();
            assert_eq!(seen().written, data);
            assert!(seen().shut_down);
            done.is_some()
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_whose_close_is_dropped_closes_all_the_same() {
    let data = pattern(60);
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(LINES);
        let seen = stream.seen();
        let bev = BufferEvent::new(stream);
        let other = bev.clone();
        bev.output().add(&data).unwrap();
        let closed = poll_times(bev.close(), polls).await;
        // Without a poll the handle is dropped, and the other one keeps the connection.
        let summary = match polls {
            0 => other.close().await.unwrap(),
            _ => other.closed().await,
        };
        assert_eq!((summary.bytes_out, summary.unsent), (60, 0));
        assert_eq!(seen().written, data);
        assert!(seen().shut_down);
        closed.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_dropped_peer_closed_leaves_the_input() {
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(LINES);
        let mut bev = BufferEvent::new(stream);
        let closed = poll_times(bev.peer_closed(), polls).await;
        let mut rest = Vec::new();
        bev.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, LINES);
        bev.peer_closed().await;
        closed.is_some()
    })
    .await;
}

/// The closure waits between two steps; the output is sent before it is called, and the input is there afterwards.
#[tokio::test]
async fn a_dropped_upgrade_has_no_effect_or_ends_the_connection() {
    let data = pattern(60);
    let (mut unchanged, mut ended) = (0, 0);
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(LINES);
        let seen = stream.seen();
        let bev = BufferEvent::new(stream);
        bev.output().add(&data).unwrap();
        let mut called = false;
        let upgrade = bev.upgrade(|plain: Prefixed<FaultyStream>| {
            called = true;
            assert_eq!(seen().written, data);
            async {
                yield_now().await;
                yield_now().await;
                Ok(plain)
            }
        });
        let upgraded = poll_times(upgrade, polls).await;
        if let (None, true) = (&upgraded, called) {
            bev.closed().await;
            ended += 1;
            return false;
        }
        unchanged += 1;
        let whole = bev.input().take_exact(LINES.len()).await.unwrap();
        assert_eq!(whole, LINES);
        bev.flush().await.unwrap();
        assert_eq!(seen().written, data);
        upgraded.is_some_and(|upgraded| upgraded.is_ok())
    })
    .await;
    assert!(unchanged > 1 && ended > 1, "{unchanged} {ended}");
}

#[cfg(feature = "net")]
#[tokio::test]
async fn a_dropped_connected_has_no_effect() {
    use tokio::net::TcpListener;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    at_each_await_point(async |polls| {
        let bev = BufferEvent::builder().connect(addr);
        bev.output().add(LINES).unwrap();
        let connected = poll_times(bev.connected(), polls).await;
        bev.connected().await.unwrap();
        let mut peer = listener.accept().await.unwrap().0;
        let mut received = vec![0; LINES.len()];
        peer.read_exact(&mut received).await.unwrap();
        assert_eq!(received, LINES);
        connected.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_dropped_next_event_loses_no_event() {
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(LINES);
        let bev = BufferEvent::new(stream);
        let event = poll_times(bev.next_event(), polls).await;
        let is_returned = event.is_some();
        let first = match event {
            Some(event) => event,
            None => bev.next_event().await,
        };
        assert_eq!(first, Some(Event::Eof));
        bev.abort();
        assert_eq!(bev.next_event().await, Some(Event::Closed));
        assert_eq!(bev.next_event().await, None);
        is_returned
    })
    .await;
}

/// The stream is returned, or dropped if it was handed over before, or stays with the other handle.
#[tokio::test]
async fn a_dropped_into_inner_leaves_the_connection_or_ends_it() {
    at_each_await_point(async |polls| {
        let (_driver, stream) = stream(LINES);
        let bev = BufferEvent::new(stream);
        let other = bev.clone();
        let taken = poll_times(bev.into_inner::<FaultyStream>(), polls).await;
        let summary = poll_times(other.closed(), 1).await;
        match (&taken, summary) {
            (Some(taken), Some(summary)) => {
                assert!(taken.is_ok());
                assert_eq!(summary.reason, CloseReason::Detached);
            }
            (None, Some(summary)) => assert_eq!(summary.reason, CloseReason::Detached),
            (None, None) => {
                let all = other.input().take_exact(LINES.len()).await.unwrap();
                assert_eq!(all, LINES);
            }
            (Some(_), None) => panic!("the stream has two owners"),
        }
        taken.is_some()
    })
    .await;
}
