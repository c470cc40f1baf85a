//! Models of all interleavings of guard, waiters and inline delivery: no wake-up is lost, no change is reported twice.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::WaitError;
use crate::{
    SharedEvBuffer, Watermarks,
    deferred::loom::{queue, run_once},
};

/// Checks all interleavings with at most two preemptions; more take too long.
fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

#[test]
fn readable_never_misses_the_byte_that_makes_it_true() {
    model(|| {
        let buffer = SharedEvBuffer::new();
        let producer = thread::spawn({
            let buffer = buffer.clone();
            move || {
                buffer.add(b"1").unwrap();
                buffer.add(b"2").unwrap();
            }
        });
        block_on(buffer.readable(2)).unwrap();
        producer.join().unwrap();
    });
}

#[test]
fn changed_never_misses_a_change_made_after_the_call() {
    model(|| {
        let buffer = SharedEvBuffer::new();
        let changed = buffer.changed();
        let producer = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.add(b"x").unwrap()
        });
        assert_eq!(block_on(changed).unwrap().added, 1);
        producer.join().unwrap();
    });
}

#[test]
fn two_waiters_are_both_woken() {
    model(|| {
        let buffer = SharedEvBuffer::new();
        let other = thread::spawn({
            let buffer = buffer.clone();
            move || block_on(buffer.readable(1))
        });
        buffer.add(b"x").unwrap();
        block_on(buffer.readable(1)).unwrap();
        other.join().unwrap().unwrap();
    });
}

#[test]
fn closing_wakes_all_waiters() {
    model(|| {
        let buffer = SharedEvBuffer::new();
        let closer = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.close()
        });
        assert_eq!(block_on(buffer.readable(1)), Err(WaitError::Closed));
        assert_eq!(block_on(buffer.changed()), Err(WaitError::Closed));
        closer.join().unwrap();
    });
}

#[test]
fn a_waiter_dropped_while_woken_takes_no_other_wake_up() {
    model(|| {
        let buffer = SharedEvBuffer::new();
        let producer = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.add(b"x").unwrap()
        });
        {
            let mut dropped_early = pin!(buffer.readable(1));
            block_on(std::future::poll_fn(|cx: &mut Context<'_>| {
                let _ = dropped_early.as_mut().poll(cx);
                Poll::Ready(())
            }));
        }
        block_on(buffer.readable(1)).unwrap();
        producer.join().unwrap();
    });
}

#[test]
fn a_writer_at_the_high_watermark_resumes_when_a_reader_has_made_room() {
    use tokio::io::AsyncWriteExt;
    model(|| {
        let buffer = SharedEvBuffer::new();
        buffer.set_watermarks(Watermarks::with_high(1).unwrap());
        let mut writer = buffer.writer();
        let reader = thread::spawn({
            let buffer = buffer.clone();
            move || {
                block_on(buffer.readable(1)).unwrap();
                buffer.drain(1).unwrap();
            }
        });
        block_on(writer.write_all(b"12")).unwrap();
        reader.join().unwrap();
        assert_eq!(buffer.len(), 1);
    });
}

/// Bytes consumed without the lock wake their waiters too.
#[test]
fn a_waiter_is_notified_of_bytes_consumed_without_the_lock() {
    use tokio::io::AsyncBufReadExt;
    model(|| {
        let buffer = SharedEvBuffer::new();
        buffer.add(b"123").unwrap();
        let mark = buffer.mark();
        buffer.add(b"4").unwrap();
        let mut reader = buffer.reader();
        block_on(reader.fill_buf()).unwrap();
        let waiter = thread::spawn({
            let buffer = buffer.clone();
            move || {
                block_on(buffer.drained_to(mark)).unwrap();
                buffer.len()
            }
        });
        for _ in 0..3 {
            reader.consume(1);
        }
        assert_eq!(waiter.join().unwrap(), 1);
        assert_eq!(buffer.len(), 1);
    });
}

/// Either call may deliver: each byte is reported once, before both calls have returned.
#[test]
fn inline_callbacks_get_every_byte_once_and_never_nest() {
    model(|| {
        let buffer = SharedEvBuffer::new();
        let reported = Arc::new(AtomicU64::new(0));
        let running = Arc::new(AtomicBool::new(false));
        let (sum, alone) = (Arc::clone(&reported), Arc::clone(&running));
        buffer
            .on_change_inline(move |_, change| {
                assert!(!alone.swap(true, Ordering::Relaxed), "nested");
                sum.fetch_add(change.added, Ordering::Relaxed);
                alone.store(false, Ordering::Relaxed);
            })
            .detach();
        let other = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.add(b"12").unwrap()
        });
        buffer.add(b"3").unwrap();
        other.join().unwrap();
        assert_eq!(reported.load(Ordering::Relaxed), 3);
    });
}

/// A change that finds a run queued leaves the delivery to that run, so the run must read the totals after the change.
#[test]
fn a_merged_change_is_seen_by_the_run_it_was_merged_into() {
    model(|| {
        let queue = queue();
        let buffer = SharedEvBuffer::new();
        buffer.defer_to(queue.clone());
        let reported = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&reported);
        buffer
            .on_change(move |_, change| {
                sum.fetch_add(change.added, Ordering::Relaxed);
            })
            .detach();
        buffer.add(b"1").unwrap();
        let other = thread::spawn({
            let buffer = buffer.clone();
            move || buffer.add(b"2").unwrap()
        });
        run_once(&queue);
        other.join().unwrap();
        run_once(&queue);
        assert_eq!(reported.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn opposite_moves_do_not_wait_for_each_other() {
    model(|| {
        let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
        a.add(b"a").unwrap();
        b.add(b"b").unwrap();
        let other = thread::spawn({
            let (a, b) = (a.clone(), b.clone());
            move || b.move_to(&a, 1).unwrap()
        });
        let moved = a.move_to(&b, 1).unwrap();
        assert_eq!(other.join().unwrap() + moved, 2);
        assert_eq!(a.len() + b.len(), 2);
    });
}
