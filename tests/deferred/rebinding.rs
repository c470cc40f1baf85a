//! Buffers that change their queue, and runtimes that end before the callbacks have run.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use tokio::runtime::Builder;
use tokio_evbuffer::{DeferredQueue, SharedEvBuffer};
use tokio_test::{assert_pending, task};

use crate::support::tasks::current_thread;

/// The buffer is bound to a second queue while a callback runs on the first.
#[test]
fn drained_waits_for_a_run_on_another_queue() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (first, second) = (
        DeferredQueue::spawn_on(runtime.handle()),
        DeferredQueue::spawn_on(runtime.handle()),
    );
    let buffer = SharedEvBuffer::new();
    buffer.defer_to(first);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let (began, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    buffer
        .on_change(move |_, change| {
            log.lock().unwrap().push(change.after);
            if change.after == 1 {
                began.send(()).unwrap();
                may_go_on.recv().unwrap();
            }
        })
        .detach();
    buffer.add(b"1").unwrap();
    has_begun.recv().unwrap();
    buffer.defer_to(second.clone());
    buffer.add(b"2").unwrap();
    let mut drained = task::spawn(second.drained());
    for _ in 0..100 {
        thread::yield_now(); // to the second executor, which must not run the callback either
        assert_pending!(drained.poll());
    }
    assert_eq!(*reported.lock().unwrap(), [1]);
    go_on.send(()).unwrap();
    runtime.block_on(drained);
    let at_drained = reported.lock().unwrap().clone();
    assert_eq!(at_drained, [1, 2], "the run had not happened yet");
}

/// The runtime of the first queue has shut down before it was delivered.
#[test]
fn a_pending_notification_runs_on_the_next_queue() {
    let buffer = SharedEvBuffer::new();
    let reported = Arc::new(AtomicUsize::new(0));
    let first = current_thread();
    buffer.defer_to(DeferredQueue::of(first.handle()));
    let count = Arc::clone(&reported);
    buffer
        .on_change(move |_, change| {
            count.fetch_add(change.added as usize, Ordering::SeqCst);
        })
        .detach();
    buffer.add(b"abc").unwrap();
    drop(first);
    let second = current_thread();
    let queue = DeferredQueue::of(second.handle());
    buffer.defer_to(queue.clone());
    second.block_on(queue.drained());
    assert_eq!(
        reported.load(Ordering::SeqCst),
        3,
        "three bytes were not reported"
    );
}

/// As with a buffer in a `static` that one test after another uses.
#[test]
fn a_callback_registered_in_a_second_runtime_is_called() {
    let buffer = SharedEvBuffer::new();
    current_thread().block_on(async {
        drop(buffer.on_change(|_, _| {}));
    });
    let reported = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reported);
    current_thread().block_on(async {
        let _handle = buffer.on_change(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        buffer.add(b"x").unwrap();
        // A second run would be queued behind the first.
        DeferredQueue::current().drained().await;
        DeferredQueue::current().drained().await;
    });
    assert_eq!(reported.load(Ordering::SeqCst), 1);
}
