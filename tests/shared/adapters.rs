//! `Reader`, `Writer` and `pipe` with the traits and helpers of Tokio and `futures`.

use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
};
use tokio_evbuffer::{
    EvBuffer, SharedEvBuffer, Watermarks,
    buffer::End,
    pipe,
    shared::{Changes, Reader, Writer},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};

use crate::support::data::shared_with;

/// Asserts that `fill_buf` returns `expected`, and drops its future.
fn shows(reader: &mut Reader, expected: &[u8]) {
    let mut filling = task::spawn(reader.fill_buf());
    assert_eq!(assert_ready_ok!(filling.poll()), expected);
}

#[tokio::test]
async fn a_reader_reads_buffered_bytes_and_ends_after_close() {
    let buffer = shared_with(b"some bytes");
    let mut reader = buffer.reader();
    let mut piece = [0; 4];
    assert_eq!(reader.read(&mut piece).await.unwrap(), 4);
    assert_eq!(&piece, b"some");
    assert_eq!(reader.read(&mut []).await.unwrap(), 0);
    buffer.close();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, " bytes");
    assert_eq!(reader.read(&mut piece).await.unwrap(), 0);
}

#[test]
fn a_reader_waits_for_bytes_and_for_the_end() {
    let buffer = SharedEvBuffer::new();
    let mut reader = buffer.reader();
    let mut piece = [0; 8];
    {
        let mut reading = task::spawn(reader.read(&mut piece));
        assert_pending!(reading.poll());
        buffer.add(b"data").unwrap();
        assert!(reading.is_woken());
        assert_eq!(assert_ready_ok!(reading.poll()), 4);
    }
    let mut reading = task::spawn(reader.read(&mut piece));
    assert_pending!(reading.poll());
    buffer.close();
    assert!(reading.is_woken());
    assert_eq!(assert_ready_ok!(reading.poll()), 0);
}

#[test]
fn bytes_of_fill_buf_stay_in_the_buffer_until_consumed() {
    let buffer = shared_with(b"12345");
    let mut reader = buffer.reader();
    shows(&mut reader, b"12345");
    assert_eq!(buffer.len(), 5);
    reader.consume(2);
    assert_eq!(buffer.len(), 3);
    shows(&mut reader, b"345");
    drop(reader);
    assert_eq!(*buffer.lock(), b"345"[..]);
    shows(&mut buffer.reader(), b"345");
}

#[test]
fn other_readers_wait_while_one_borrows_the_front() {
    let buffer = shared_with(b"ab");
    let (mut first, mut second) = (buffer.reader(), buffer.reader());
    shows(&mut first, b"ab");
    let mut piece = [0; 2];
    let mut reading = task::spawn(second.read(&mut piece));
    assert_pending!(reading.poll());
    buffer.add(b"c").unwrap();
    assert_pending!(reading.poll());
    first.consume(2);
    assert!(reading.is_woken());
    assert_eq!(assert_ready_ok!(reading.poll()), 1);
}

#[test]
fn a_dropped_reader_releases_the_front() {
    let buffer = shared_with(b"ab");
    let (mut first, mut second) = (buffer.reader(), buffer.reader());
    shows(&mut first, b"ab");
    let mut next = task::spawn(second.next());
    assert_pending!(next.poll());
    drop(first);
    assert!(next.is_woken());
    assert_eq!(assert_ready!(next.poll()).unwrap().unwrap(), "ab");
}

#[test]
fn consume_removes_what_a_guard_left_of_the_borrowed_range() {
    for (taken, consumed, left) in [
        (2, 1, "345"),
        (2, 2, "345"),
        (2, 4, "5"),
        (2, 5, ""),
        (5, 5, ""),
    ] {
        let buffer = shared_with(b"12345");
        let mut reader = buffer.reader();
        shows(&mut reader, b"12345");
        buffer.drain(taken).unwrap();
        buffer.add(b"later").unwrap();
        reader.consume(consumed);
        let expected = format!("{left}later");
        assert_eq!(*buffer.lock(), *expected.as_bytes(), "{taken}, {consumed}");
    }
}

#[test]
fn bytes_prepended_by_a_guard_stay_before_the_borrowed_range() {
    let buffer = shared_with(b"12345");
    let changes = buffer.changes();
    let mut reader = buffer.reader();
    shows(&mut reader, b"12345");
    buffer.prepend(b"new").unwrap();
    reader.consume(2);
    assert_eq!(*buffer.lock(), b"new345"[..]);
    buffer.drain(1).unwrap();
    buffer.prepend(b">").unwrap();
    reader.consume(2);
    assert_eq!(*buffer.lock(), b">ew5"[..]);
    buffer.close();
    reader.consume(1);
    assert_eq!(*buffer.lock(), b">ew"[..]);
    // The stream of changes ends with the last byte.
    buffer.clear().unwrap();
    let sums: Vec<_> = tokio_test::block_on(changes.collect());
    let [change] = sums[..] else {
        panic!("{sums:?}")
    };
    assert_eq!((change.added, change.removed, change.after), (4, 9, 0));
}

/// Consuming removes bytes, so a cap that was lowered in between does not apply.
#[test]
fn prepended_bytes_stay_above_a_lowered_cap() {
    let buffer = shared_with(b"12345");
    let mut reader = buffer.reader();
    shows(&mut reader, b"12345");
    let mut guard = buffer.lock();
    guard.prepend(b"new").unwrap();
    guard.set_max_len(Some(4));
    drop(guard);
    reader.consume(2);
    let guard = buffer.lock();
    assert_eq!(*guard, b"new345"[..]);
    assert_eq!(guard.max_len(), Some(4));
}

#[test]
fn a_borrowed_range_of_a_replaced_buffer_is_gone() {
    let buffer = shared_with(b"old");
    let mut reader = buffer.reader();
    shows(&mut reader, b"old");
    buffer.lock().replace(EvBuffer::from(&b"new"[..]));
    reader.consume(3);
    assert_eq!(*buffer.lock(), b"new"[..]);
    shows(&mut reader, b"new");
}

#[test]
fn each_consume_notifies_subscribers_that_came_in_between() {
    let buffer = shared_with(b"123456789");
    let mut reader = buffer.reader();
    shows(&mut reader, b"123456789");
    reader.consume(1);
    reader.consume(1);
    let (sender, reported) = std::sync::mpsc::channel();
    let callback = buffer.on_change_inline(move |_, change| sender.send(change).unwrap());
    reader.consume(1);
    reader.consume(2);
    let reported: Vec<_> = reported.try_iter().map(|c| (c.before, c.removed)).collect();
    assert_eq!(reported, [(7, 1), (6, 2)]);
    drop(callback);

    reader.consume(1);
    let mut drained = task::spawn(buffer.wait_for(|buffer| buffer.len() == 1));
    assert_pending!(drained.poll());
    reader.consume(1);
    reader.consume(1);
    assert!(drained.is_woken());
    assert_ready!(drained.poll()).unwrap();
}

/// An observer that reads the buffer must not change its later contents.
#[test]
fn consume_has_the_same_effect_with_and_without_subscribers() {
    for seed in 1..=500_u64 {
        let (watched, unwatched) = (run_a_reader(seed, true), run_a_reader(seed, false));
        assert_eq!(watched, unwatched, "seed {seed}");
    }
}

/// Changes a buffer by a reader and guards in turn. Returns the contents after each guard and at the end.
fn run_a_reader(seed: u64, looks: bool) -> Vec<Vec<u8>> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let buffer = shared_with(b"what is there at first");
    let mut reader = buffer.reader();
    let mut seen = Vec::new();
    for _ in 0..40 {
        let n = below(4) as usize;
        match below(12) {
            0 => buffer.add(&b"more"[..n]).unwrap(),
            1 => buffer.prepend(&b"new"[..n.min(3)]).unwrap(),
            2 => drop(buffer.drain(n).unwrap()),
            3 => drop(buffer.lock().replace(EvBuffer::from(&b"another"[..]))),
            _ => {
                let _ = task::spawn(reader.fill_buf()).poll();
                reader.consume(n);
                if looks {
                    assert!(buffer.len() < 1 << 20);
                }
                continue;
            }
        }
        seen.push(contents(&buffer));
    }
    drop(reader);
    seen.push(contents(&buffer));
    seen
}

fn contents(buffer: &SharedEvBuffer) -> Vec<u8> {
    buffer.lock().chunks().collect::<Vec<_>>().concat()
}

#[test]
fn consuming_too_much_consumes_all() {
    let buffer = shared_with(b"12");
    let mut reader = buffer.reader();
    shows(&mut reader, b"12");
    reader.consume(usize::MAX);
    reader.consume(1);
    assert!(buffer.is_empty());
}

#[tokio::test]
async fn lines_read_from_a_reader_are_unchanged() {
    let buffer = shared_with(b"one\ntwo\r\nthree");
    buffer.close();
    let mut lines = buffer.reader().lines();
    for line in ["one", "two", "three"] {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(line));
    }
    assert_eq!(lines.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_yields_segments_without_a_copy() {
    let big = Bytes::from(vec![7; 10_000]);
    let buffer = SharedEvBuffer::new();
    buffer.add_reference("head").unwrap();
    buffer.add_reference(big.clone()).unwrap();
    buffer.close();
    let pieces: Vec<Bytes> = buffer.reader().try_collect().await.unwrap();
    assert_eq!(pieces, [Bytes::from("head"), big.clone()]);
    assert_eq!(pieces[1].as_ptr(), big.as_ptr());
}

#[tokio::test]
async fn a_stream_continues_with_the_borrowed_bytes() {
    let buffer = shared_with(b"12345");
    buffer.close();
    let mut reader = buffer.reader();
    reader.fill_buf().await.unwrap();
    reader.consume(1);
    assert_eq!(reader.next().await.unwrap().unwrap(), "2345");
    assert!(reader.next().await.is_none());
    assert!(buffer.is_empty());
}

#[test]
fn a_frozen_front_is_a_read_error() {
    let buffer = shared_with(b"12");
    buffer.lock().freeze(End::Front);
    let mut reader = buffer.reader();
    let error = assert_ready_err!(task::spawn(reader.fill_buf()).poll());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let mut piece = [0; 2];
    let error = assert_ready_err!(task::spawn(reader.read(&mut piece)).poll());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(buffer.len(), 2);
}

#[test]
fn a_writer_fills_up_to_high_and_resumes_at_low() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(2, 8).unwrap());
    let mut writer = buffer.writer();
    assert_eq!(
        assert_ready_ok!(task::spawn(writer.write(b"12345")).poll()),
        5
    );
    assert_eq!(
        assert_ready_ok!(task::spawn(writer.write(b"12345")).poll()),
        3
    );
    let mut writing = task::spawn(writer.write(b"rest"));
    assert_pending!(writing.poll());
    buffer.drain(5).unwrap();
    assert!(!writing.is_woken(), "between the marks");
    assert_pending!(writing.poll());
    buffer.drain(1).unwrap();
    assert!(writing.is_woken());
    assert_eq!(assert_ready_ok!(writing.poll()), 4);
}

#[test]
fn a_writer_waits_below_a_hard_cap() {
    let buffer = SharedEvBuffer::new();
    buffer.lock().set_max_len(Some(4));
    let mut writer = buffer.writer();
    assert_eq!(
        assert_ready_ok!(task::spawn(writer.write(b"12345")).poll()),
        4
    );
    let mut writing = task::spawn(writer.write(b"5"));
    assert_pending!(writing.poll());
    buffer.drain(1).unwrap();
    assert!(writing.is_woken());
    assert_eq!(assert_ready_ok!(writing.poll()), 1);
    drop(writing);

    buffer.lock().set_max_len(Some(0));
    let error = assert_ready_err!(task::spawn(writer.write(b"5")).poll());
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

/// Returns a buffer that has reached its high watermark, and a writer of it.
fn full() -> (SharedEvBuffer, Writer) {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(1).unwrap());
    buffer.add(b"x").unwrap();
    let writer = buffer.writer();
    (buffer, writer)
}

#[test]
fn a_writer_resumes_when_the_watermarks_are_removed() {
    let (buffer, mut writer) = full();
    let mut writing = task::spawn(writer.write(b"y"));
    assert_pending!(writing.poll());
    buffer.set_watermarks(Watermarks::NONE);
    assert!(writing.is_woken());
    assert_ready_ok!(writing.poll());
}

#[tokio::test]
async fn a_vectored_write_is_one_change_and_stops_at_high() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(7).unwrap());
    let mut writer = buffer.writer();
    assert!(writer.is_write_vectored());
    let slices = [&b""[..], b"abc", b"", b"def", b"ghi"].map(IoSlice::new);
    assert_eq!(writer.write_vectored(&slices).await.unwrap(), 7);
    assert_eq!(*buffer.lock(), b"abcdefg"[..]);
    assert_eq!(writer.write_vectored(&[]).await.unwrap(), 0);
    assert_eq!(writer.write(&[]).await.unwrap(), 0);
}

#[test]
fn writing_fails_after_close_and_on_a_frozen_back() {
    let buffer = SharedEvBuffer::new();
    let mut writer = buffer.writer();
    buffer.lock().freeze(End::Back);
    let error = assert_ready_err!(task::spawn(writer.write(b"x")).poll());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    buffer.lock().unfreeze(End::Back);

    assert_ready_ok!(task::spawn(AsyncWriteExt::flush(&mut writer)).poll());
    assert_ready_ok!(task::spawn(writer.shutdown()).poll());
    assert!(buffer.is_closed());
    let error = assert_ready_err!(task::spawn(writer.write(b"x")).poll());
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let error = assert_ready_err!(task::spawn(writer.send(Bytes::from("x"))).poll());
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn closing_wakes_a_waiting_writer() {
    let (buffer, mut writer) = full();
    let mut writing = task::spawn(writer.write(b"y"));
    assert_pending!(writing.poll());
    buffer.close();
    assert!(writing.is_woken());
    assert_eq!(
        assert_ready_err!(writing.poll()).kind(),
        ErrorKind::BrokenPipe
    );
}

#[test]
fn a_dropped_writer_or_reader_does_not_close() {
    let buffer = SharedEvBuffer::new();
    drop((buffer.writer(), buffer.reader()));
    assert!(!buffer.is_closed());
}

#[test]
fn a_sink_item_is_accepted_whole_without_a_copy() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(1, 10).unwrap());
    let mut writer = buffer.writer();
    let item = Bytes::from(vec![1; 1000]);
    assert_ready_ok!(task::spawn(writer.send(item.clone())).poll());
    assert_eq!(buffer.len(), 1000);
    assert_eq!(
        buffer.lock().chunks().next().unwrap().as_ptr(),
        item.as_ptr()
    );
    let mut sending = task::spawn(writer.send(Bytes::from("next")));
    assert_pending!(sending.poll());
    buffer.drain(999).unwrap();
    assert!(sending.is_woken());
    assert_ready_ok!(sending.poll());
    drop(sending);
    assert_ready_ok!(task::spawn(SinkExt::<Bytes>::close(&mut writer)).poll());
    assert!(buffer.is_closed());
}

#[tokio::test]
async fn a_pipe_carries_bytes_with_backpressure_and_ends_with_its_writer() {
    for high in [1, 7, 64, 100_000] {
        let (mut writer, mut reader) = pipe(Watermarks::with_high(high).unwrap());
        let sent: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move { writer.write_all(&sent).await });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        sending.await.unwrap().unwrap();
        assert!(received == expected, "high {high}");
    }
}

#[tokio::test]
async fn writing_to_a_pipe_without_reader_is_a_broken_pipe() {
    let (mut writer, reader) = pipe(Watermarks::with_high(4).unwrap());
    writer.write_all(b"1234").await.unwrap();
    let writing = tokio::spawn(async move { writer.write(b"5").await });
    tokio::task::yield_now().await;
    drop(reader);
    let error = writing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_pipe_moves_segments_without_a_copy() {
    let (mut writer, mut reader) = pipe(Watermarks::NONE);
    let item = Bytes::from(vec![3; 65_536]);
    writer.send(item.clone()).await.unwrap();
    let received = reader.next().await.unwrap().unwrap();
    assert_eq!(received.as_ptr(), item.as_ptr());
    assert_eq!(received.len(), item.len());
}

#[test]
fn a_pipe_of_capacity_zero_is_refused() {
    assert!(Watermarks::with_high(0).is_err());
}

/// Readers and writers that are always ready must let other tasks run.
#[tokio::test]
async fn a_pipe_uses_the_coop_budget() {
    let (mut writer, mut reader) = pipe(Watermarks::NONE);
    let other = tokio::spawn(async {});
    let mut piece = [0; 1];
    while !other.is_finished() {
        writer.write_all(b"x").await.unwrap();
        reader.read_exact(&mut piece).await.unwrap();
    }
}

#[tokio::test]
async fn tokio_copies_through_a_buffer() {
    let (source, target) = (shared_with(&[5; 100_000]), SharedEvBuffer::new());
    source.close();
    let copied = tokio::io::copy(&mut source.reader(), &mut target.writer()).await;
    assert_eq!(copied.unwrap(), 100_000);
    assert_eq!(target.len(), 100_000);
    let (source, target) = (shared_with(&[5; 100_000]), SharedEvBuffer::new());
    source.close();
    let copied = tokio::io::copy_buf(&mut source.reader(), &mut target.writer()).await;
    assert_eq!(copied.unwrap(), 100_000);
}

#[tokio::test]
async fn streams_forward_to_sinks() {
    let (source, target) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    for piece in ["a", "bc", "def"] {
        source.add_reference(piece).unwrap();
    }
    source.close();
    source.reader().forward(target.writer()).await.unwrap();
    assert_eq!(*target.lock(), b"abcdef"[..]);
    assert!(target.is_closed());
}

#[test]
fn adapters_are_send_unpin_and_static() {
    fn check<T: Send + Unpin + 'static>() {}
    check::<Reader>();
    check::<Writer>();
    check::<Changes>();
    fn io<T: AsyncRead + AsyncBufRead>() {}
    io::<Reader>();
    fn out<T: AsyncWrite + futures::Sink<Bytes>>() {}
    out::<Writer>();
}

/// A wait on an empty buffer holds no memory.
#[test]
fn an_idle_reader_leaves_an_empty_buffer_without_memory() {
    let buffer = SharedEvBuffer::new();
    let mut reader = buffer.reader();
    buffer.add(&[1; 5000]).unwrap();
    let mut piece = vec![0; 5000];
    assert_ready_ok!(task::spawn(reader.read(&mut piece)).poll());
    assert_pending!(task::spawn(reader.read(&mut piece)).poll());
    assert_eq!(buffer.lock().capacity(), 0);
}
