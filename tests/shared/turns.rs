//! Turns: several writers, readers and handles share one buffer fairly, and no call delivers without bound.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake},
    thread,
};

use futures::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio_evbuffer::{
    BufferEvent, DeferredQueue, EolStyle, SharedEvBuffer, Watermarks,
    shared::{Crossing, Reader},
};
use tokio_test::task;

use crate::support::tasks::{current_thread, soon, until};

/// Three writers compete for a buffer of one byte.
#[test]
fn several_writers_take_turns() {
    let counts = current_thread().block_on(async {
        let buffer = SharedEvBuffer::new();
        buffer.set_watermarks(Watermarks::with_high(1).unwrap());
        let writers: Vec<_> = (0..3_u8)
            .map(|n| {
                let mut writer = buffer.writer();
                tokio::spawn(async move { while writer.write_all(&[n]).await.is_ok() {} })
            })
            .collect();
        let mut reader = buffer.reader();
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[usize::from(reader.read_u8().await.unwrap())] += 1;
        }
        buffer.close();
        for writer in writers {
            writer.await.unwrap();
        }
        counts
    });
    assert!(
        counts.iter().all(|&n| n > 300),
        "bytes of each writer, of 3000: {counts:?}"
    );
}

/// Watermarks of 32 and 64 KiB, pieces of 1 KiB. Returns the KiB of each writer.
async fn three_writers_of_a_kib() -> [usize; 3] {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(64 * 1024).unwrap());
    let writers: Vec<_> = (0..3_u8)
        .map(|n| {
            let mut writer = buffer.writer();
            tokio::spawn(async move { while writer.write_all(&[n; 1024]).await.is_ok() {} })
        })
        .collect();
    let mut reader = buffer.reader();
    let mut counts = [0; 3];
    let mut out = vec![0; 4096];
    let mut all = 0;
    while all < 30 << 20 {
        let n = reader.read(&mut out).await.unwrap();
        all += n;
        for byte in &out[..n] {
            counts[usize::from(*byte)] += 1;
        }
    }
    buffer.close();
    for writer in writers {
        writer.await.unwrap();
    }
    counts.map(|n| n >> 10)
}

/// The same with usual sizes.
#[test]
fn several_writers_take_turns_with_usual_sizes() {
    let counts = current_thread().block_on(three_writers_of_a_kib());
    assert!(
        counts.iter().all(|&n| n > 3000),
        "KiB of each writer, of 30720: {counts:?}"
    );
}

/// The same on several threads, where the task woken last runs first.
#[test]
fn several_writers_take_turns_on_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let counts = runtime.block_on(async { tokio::spawn(three_writers_of_a_kib()).await.unwrap() });
    assert!(
        counts.iter().all(|&n| n > 3000),
        "KiB of each writer, of 30720: {counts:?}"
    );
}

/// Handles of one connection share its output.
#[test]
fn several_handles_that_write_to_a_connection_take_turns() {
    let counts = current_thread().block_on(async {
        let (near, mut far) = tokio::io::duplex(16 * 1024);
        let bev = BufferEvent::new(near);
        for n in 0..3_u8 {
            let mut bev = bev.clone();
            tokio::spawn(async move { while bev.write_all(&[n; 1024]).await.is_ok() {} });
        }
        let mut counts = [0; 3];
        let mut out = vec![0; 4096];
        let mut all = 0;
        while all < 30 << 20 {
            let n = far.read(&mut out).await.unwrap();
            all += n;
            for byte in &out[..n] {
                counts[usize::from(*byte)] += 1;
            }
        }
        bev.abort();
        counts.map(|n| n >> 10)
    });
    assert!(
        counts.iter().all(|&n| n > 3000),
        "KiB of each writer, of 30720: {counts:?}"
    );
}

/// Three readers compete for single bytes.
#[test]
fn no_reader_starves() {
    let counts = current_thread().block_on(async {
        let buffer = SharedEvBuffer::new();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = buffer.reader();
                tokio::spawn(async move {
                    let mut n = 0;
                    while reader.read_u8().await.is_ok() {
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        for _ in 0..3000 {
            buffer.add(b"x").unwrap();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        buffer.close();
        let mut counts = Vec::new();
        for reader in readers {
            counts.push(reader.await.unwrap());
        }
        counts
    });
    assert!(
        counts.iter().all(|&n| n > 300),
        "bytes of each reader, of 3000: {counts:?}"
    );
}

/// Tries to take a byte.
type Take = fn(&mut Context<'_>, Pin<&mut Reader>) -> bool;

/// Threads run woken tasks in any order. The one that has waited longest gets the next byte nevertheless.
#[test]
fn the_reader_that_has_waited_longest_is_first_in_any_order_of_polls() {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let takes: [Take; 3] = [
        |cx, reader| {
            let mut byte = [0];
            let mut out = ReadBuf::new(&mut byte);
            reader.poll_read(cx, &mut out).is_ready()
        },
        |cx, mut reader| {
            let is_ready = reader.as_mut().poll_fill_buf(cx).is_ready();
            reader.consume(usize::from(is_ready));
            is_ready
        },
        |cx, reader| reader.poll_next(cx).is_ready(),
    ];
    for take in takes {
        let buffer = SharedEvBuffer::new();
        let mut readers = [(); 3].map(|()| task::spawn(buffer.reader()));
        for reader in &mut readers {
            assert!(!reader.enter(take));
        }
        for (round, order) in ORDERS.iter().cycle().take(60).enumerate() {
            buffer.add(b"x").unwrap();
            // One that begins now is behind all others.
            let mut late = task::spawn(buffer.reader());
            assert!(!late.enter(take));
            let mut taken_by = Vec::new();
            for &i in order.iter().chain(order) {
                if readers[i].is_woken() && readers[i].enter(take) {
                    taken_by.push(i);
                    assert!(!readers[i].enter(take));
                }
            }
            assert_eq!(taken_by, [round % 3], "in the order {order:?}");
        }
    }
}

/// Bytes are added until each reader has had 100, so the test does not end if one starves.
#[test]
fn no_reader_starves_on_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let buffer = SharedEvBuffer::new();
        let counts: Arc<[AtomicUsize; 3]> = Arc::default();
        let readers = [0, 1, 2].map(|i| {
            let (mut reader, counts) = (buffer.reader(), Arc::clone(&counts));
            tokio::spawn(async move {
                while reader.read_u8().await.is_ok() {
                    counts[i].fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let adding = tokio::spawn(async move {
            while counts.iter().any(|n| n.load(Ordering::SeqCst) < 100) {
                if buffer.is_empty() {
                    buffer.add(b"x").unwrap();
                }
                tokio::task::yield_now().await;
            }
            buffer.close();
        });
        soon("100 bytes for each reader", adding).await.unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
    });
}

/// Another thread changes the buffer all the time while a call delivers: at least once during each run of the callback.
#[test]
fn a_call_delivers_a_bounded_number_of_changes_of_other_threads() {
    const FAR_TOO_MANY: usize = 10_000;
    let buffer = SharedEvBuffer::new();
    let (runs, changes) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (run, changed) = (Arc::clone(&runs), Arc::clone(&changes));
    let caller = thread::current().id();
    buffer
        .on_change_inline(move |_, _| {
            // Other threads deliver what the call does not.
            if thread::current().id() != caller {
                return;
            }
            let seen = changed.load(Ordering::SeqCst);
            if run.fetch_add(1, Ordering::SeqCst) < FAR_TOO_MANY {
                while changed.load(Ordering::SeqCst) == seen {
                    thread::yield_now();
                }
            }
        })
        .detach();
    let returned = Arc::new(AtomicBool::new(false));
    let other = thread::spawn({
        let (buffer, runs, returned) = (buffer.clone(), Arc::clone(&runs), Arc::clone(&returned));
        move || {
            while runs.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            while !returned.load(Ordering::SeqCst) {
                buffer.add(b"y").unwrap();
                buffer.drain(1).unwrap();
                changes.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    buffer.add(b"x").unwrap();
    let runs = runs.load(Ordering::SeqCst);
    returned.store(true, Ordering::SeqCst);
    other.join().unwrap();
    assert!(runs < 1000, "one add ran the callback {runs} times");
}

/// Callbacks may take long, so tasks of both buffers are woken first.
#[test]
fn a_move_wakes_the_tasks_of_the_target_before_it_calls_callbacks_of_the_source() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    a.add(b"data").unwrap();
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Arc::clone(&flag).into();
    let mut readable = Box::pin(b.readable(1));
    let polled = readable.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let woken_in_time = Arc::new(AtomicBool::new(false));
    let (seen, woken) = (Arc::clone(&woken_in_time), Arc::clone(&flag));
    a.on_change_inline(move |_, _| seen.store(woken.0.load(Ordering::SeqCst), Ordering::SeqCst))
        .detach();
    a.move_to(&b, 4).unwrap();
    assert!(flag.0.load(Ordering::SeqCst));
    assert!(
        woken_in_time.load(Ordering::SeqCst),
        "while a callback of the source runs (for however long), the waiter of the target sleeps"
    );
}

/// Three tasks compete for lines.
#[test]
fn tasks_that_take_lines_take_turns() {
    let counts = current_thread().block_on(async {
        let buffer = SharedEvBuffer::new();
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let buffer = buffer.clone();
                tokio::spawn(async move {
                    let mut n = 0;
                    while buffer.next_line(EolStyle::Lf, 10).await.unwrap().is_some() {
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        for _ in 0..3000 {
            buffer.add(b"x\n").unwrap();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        buffer.close();
        let mut counts = Vec::new();
        for taker in takers {
            counts.push(taker.await.unwrap());
        }
        counts
    });
    assert!(
        counts.iter().all(|&n| n > 300),
        "lines of each task, of 3000: {counts:?}"
    );
}

/// A writer that was woken and is never polled again does not stop the others.
#[tokio::test]
async fn an_abandoned_writer_does_not_stop_the_others() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::with_high(4).unwrap());
    buffer.add(b"1234").unwrap();
    let mut abandoned = buffer.writer();
    {
        let mut writing = tokio_test::task::spawn(abandoned.write(b"x"));
        assert!(writing.poll().is_pending());
    }
    let mut other = buffer.writer();
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            other.write_all(b"yy").await.unwrap();
        }
    });
    let mut reader = buffer.reader();
    let mut out = [0; 204];
    reader.read_exact(&mut out).await.unwrap();
    writing.await.unwrap();
    drop(abandoned);
}

/// Each run of the callback lets another thread make one more change, of which one call delivers a bounded number. A thread
/// delivers the rest, since there is no runtime.
#[test]
fn a_call_delivers_a_bounded_number_of_changes_and_the_rest_is_delivered_too() {
    const CHANGES: usize = 10_000;
    let buffer = SharedEvBuffer::new();
    let (ask, asked) = mpsc::sync_channel::<()>(0);
    let (answer, answered) = mpsc::sync_channel::<()>(0);
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&delivered);
    buffer
        .on_change_inline(move |_, _| {
            if count.fetch_add(1, Ordering::SeqCst) < CHANGES {
                ask.send(()).unwrap();
                answered.recv().unwrap();
            }
        })
        .detach();
    let other = thread::spawn({
        let buffer = buffer.clone();
        move || {
            for _ in 0..CHANGES {
                asked.recv().unwrap();
                buffer.add(b"of the other").unwrap();
                answer.send(()).unwrap();
            }
        }
    });
    buffer.add(b"x").unwrap();
    let delivered = delivered.load(Ordering::SeqCst);
    other.join().unwrap();
    assert!(delivered < 1000, "one add delivered {delivered} changes");
}

/// The limit of a delivery may come between two callbacks that are notified of one crossing.
#[tokio::test]
async fn a_delivery_that_is_handed_on_within_a_crossing_notifies_each_callback_once() {
    const CALLBACKS: usize = 3;
    for crossings in 1..150 {
        let buffer = SharedEvBuffer::new();
        buffer.set_watermarks(Watermarks::new(0, 4).unwrap());
        let seen: Arc<[AtomicUsize; CALLBACKS]> = Arc::default();
        for callback in 0..CALLBACKS {
            let seen = Arc::clone(&seen);
            buffer
                .on_watermark(move |buffer, crossing| {
                    let n = 1 + seen[callback].fetch_add(1, Ordering::SeqCst);
                    if callback > 0 || n == crossings {
                        return;
                    }
                    match crossing {
                        Crossing::High { .. } => drop(buffer.drain(4)),
                        _ => buffer.add(b"1234").unwrap(),
                    }
                })
                .detach();
        }
        buffer.add(b"1234").unwrap();
        let queue = DeferredQueue::current();
        while queue.metrics().depth > 0 {
            queue.drained().await;
        }
        let seen = seen.iter().map(|seen| seen.load(Ordering::SeqCst));
        assert_eq!(seen.collect::<Vec<_>>(), [crossings; CALLBACKS]);
    }
}

/// A callback that edits the buffer each time it is called is handed on to the queue of the runtime.
#[tokio::test]
async fn a_callback_that_always_edits_does_not_keep_the_call() {
    let buffer = SharedEvBuffer::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    buffer
        .on_change_inline(move |buffer, _| {
            if count.fetch_add(1, Ordering::SeqCst) < 5000 {
                buffer.add(b"x").unwrap();
            }
        })
        .detach();
    buffer.add(b"x").unwrap();
    assert!(calls.load(Ordering::SeqCst) < 1000);
    until("all calls are made", || {
        calls.load(Ordering::SeqCst) == 5001
    })
    .await;
    assert_eq!(buffer.len(), 5001);
}
