//! What readers borrow and writers keep: each byte is read once, and nothing is lost or kept without need.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures::SinkExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio_evbuffer::{EolStyle, SharedEvBuffer, Watermarks, buffer::End, shared::Crossing};
use tokio_test::{assert_pending, assert_ready_ok, task};

use crate::support::data::{Owner, shared_with};

/// As in a `select!` whose other branch wins: the bytes are borrowed, then taken by another handle.
#[tokio::test]
async fn a_reader_returns_no_byte_that_another_handle_has_taken() {
    let buffer = shared_with(b"12345");
    let mut reader = buffer.reader();
    reader.fill_buf().await.unwrap();
    assert_eq!(buffer.take_bytes(5).unwrap(), "12345");
    buffer.add(b"67").unwrap();
    buffer.close();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(
        String::from_utf8(read).unwrap(),
        "67",
        "12345 was taken before"
    );
}

/// A task uses `fill_buf` only to wait, and takes lines by another handle.
#[tokio::test]
async fn fill_buf_waits_if_another_handle_has_taken_the_borrowed_bytes() {
    let buffer = shared_with(b"one\n");
    let mut reader = buffer.reader();
    assert_eq!(reader.fill_buf().await.unwrap(), b"one\n");
    assert_eq!(buffer.readln(EolStyle::Lf).unwrap().unwrap(), "one");
    let mut filling = task::spawn(reader.fill_buf());
    assert_pending!(filling.poll(), "the buffer is empty");
}

/// The owner of consumed memory is dropped while the reader waits.
#[test]
fn an_idle_reader_keeps_no_memory() {
    let released = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&released);
    let buffer = SharedEvBuffer::new();
    let owner = Owner::new([7; 4096], move || note.store(true, Ordering::SeqCst));
    buffer.add_owner(owner).unwrap();
    let mut reader = buffer.reader();
    let shown = assert_ready_ok!(task::spawn(reader.fill_buf()).poll()).len();
    reader.consume(shown);
    assert!(buffer.is_empty());
    assert_pending!(task::spawn(reader.fill_buf()).poll());
    assert!(
        released.load(Ordering::SeqCst),
        "no byte of it is in the buffer"
    );
}

/// The item is larger than the room that there is, and smaller than the cap.
#[tokio::test]
async fn an_item_that_does_not_fit_below_the_cap_now_is_kept_until_it_does() {
    let buffer = SharedEvBuffer::new();
    buffer.lock().set_max_len(Some(4));
    buffer.add(b"123").unwrap();
    let mut writer = buffer.writer();
    let drainer = tokio::spawn({
        let buffer = buffer.clone();
        async move {
            tokio::task::yield_now().await;
            buffer.drain(3).unwrap();
        }
    });
    let sent = writer.send(Bytes::from_static(b"ab")).await;
    drainer.await.unwrap();
    assert!(sent.is_ok(), "{sent:?}: two bytes fit under a cap of four");
    assert_eq!(*buffer.lock(), b"ab"[..]);
}

/// Without a high watermark, the overflow watermark stops writers.
#[test]
fn a_writer_continues_when_its_overflow_watermark_is_raised_above_the_length() {
    let buffer = SharedEvBuffer::new();
    let overflow = |n| Watermarks::NONE.and_overflow(n).unwrap();
    buffer.set_watermarks(overflow(40));
    buffer.add(&[0; 60]).unwrap();
    let mut writer = buffer.writer();
    let mut writing = task::spawn(writer.write(b"more"));
    assert_pending!(writing.poll());
    buffer.set_watermarks(overflow(100));
    assert!(writing.is_woken(), "60 bytes are below a watermark of 100");
    assert_ready_ok!(writing.poll());
}

/// A frozen back or a cap of zero ends the wait with an error.
#[test]
fn a_waiting_writer_is_woken_when_writing_becomes_hopeless() {
    for freeze in [false, true] {
        let buffer = SharedEvBuffer::new();
        buffer.lock().set_max_len(Some(4));
        buffer.add(b"1234").unwrap();
        let mut writer = buffer.writer();
        let mut writing = task::spawn(writer.write(b"5"));
        assert_pending!(writing.poll());
        match freeze {
            true => buffer.lock().freeze(End::Back),
            false => buffer.lock().set_max_len(Some(0)),
        }
        let woken = writing.is_woken();
        assert!(writing.poll().is_ready(), "it would be an error");
        assert!(woken, "frozen: {freeze}");
    }
}

/// The sink's item waits for room below the cap, in front of everything that is written later.
#[tokio::test]
async fn a_kept_item_is_added_before_later_bytes() {
    let buffer = SharedEvBuffer::new();
    buffer.set_max_len(Some(4));
    buffer.add(b"123").unwrap();
    let mut writer = buffer.writer();
    writer.feed(Bytes::from_static(b"ab")).await.unwrap();
    assert_eq!(buffer.len(), 3);
    let mut writing = task::spawn(writer.write(b"cd"));
    assert_pending!(writing.poll());
    buffer.drain(3).unwrap();
    assert!(writing.is_woken());
    assert_eq!(assert_ready_ok!(writing.poll()), 2);
    assert_eq!(*buffer.lock(), b"abcd"[..]);
}

/// An item that can never fit is an error at once, also if the cap is lowered while it waits.
#[tokio::test]
async fn an_item_that_never_fits_is_an_error() {
    let buffer = SharedEvBuffer::new();
    buffer.set_max_len(Some(4));
    let mut writer = buffer.writer();
    let error = writer.send(Bytes::from_static(b"12345")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);

    buffer.add(b"123").unwrap();
    writer.feed(Bytes::from_static(b"abc")).await.unwrap();
    let mut flushing = task::spawn(futures::SinkExt::flush(&mut writer));
    assert_pending!(flushing.poll());
    buffer.set_max_len(Some(2));
    assert!(flushing.is_woken());
    assert!(flushing.poll().is_ready());
}

/// With one byte left, a subscriber that came later is notified of the last one, too.
#[test]
fn the_last_byte_is_consumed_under_the_lock() {
    let buffer = shared_with(b"12");
    let mark = buffer.mark();
    let mut reader = buffer.reader();
    assert_ready_ok!(task::spawn(reader.fill_buf()).poll());
    reader.consume(1);
    let mut drained = task::spawn(buffer.drained_to(mark));
    assert_pending!(drained.poll());
    reader.consume(1);
    assert!(drained.is_woken() && drained.poll().is_ready());
}

/// The low watermark is one byte: consuming down to that is a crossing.
#[test]
fn consuming_all_but_one_byte_is_reported_where_that_crosses_a_watermark() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(1, 50).unwrap());
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&lengths);
    let _handle = buffer.on_watermark(move |_, crossing| reported.lock().unwrap().push(crossing));
    buffer.add(&[7; 60]).unwrap();
    let mut reader = buffer.reader();
    assert_ready_ok!(task::spawn(reader.fill_buf()).poll());
    reader.consume(59);
    assert_eq!(
        *lengths.lock().unwrap(),
        [Crossing::High { len: 60 }, Crossing::Low { len: 1 }]
    );
}
