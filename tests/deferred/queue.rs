//! The queue of deferred callbacks: order, fairness, panics, and its end with the runtime.

use std::{
    future::Future,
    panic::catch_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake},
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_evbuffer::{
    DeferredQueue,
    deferred::{NoRuntime, QueueClosed},
};
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{
    cancel::{at_each_await_point, poll_times},
    tasks::{current_thread, until},
};

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs `check` on both runtime flavours.
fn on_each_runtime(check: impl Fn(&Runtime)) {
    check(&current_thread());
    check(&multi_thread());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<usize>>>);

impl Log {
    fn note(&self, n: usize) -> impl FnOnce() + Send + 'static {
        let log = self.clone();
        move || log.0.lock().unwrap().push(n)
    }

    fn entries(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn callbacks_run_in_the_order_in_which_they_were_queued() {
    on_each_runtime(|runtime| {
        let log = Log::default();
        runtime.block_on(async {
            let queue = DeferredQueue::current();
            for n in 0..100 {
                queue.defer(log.note(n)).unwrap();
            }
            queue.drained().await;
        });
        assert_eq!(log.entries(), (0..100).collect::<Vec<_>>());
    });
}

#[tokio::test]
async fn no_callback_runs_within_the_call_that_queues_it() {
    let queue = DeferredQueue::current();
    let log = Log::default();
    queue.defer(log.note(1)).unwrap();
    assert_eq!(log.entries(), []);
    assert_eq!(queue.metrics().depth, 1);
    queue.drained().await;
    assert_eq!(log.entries(), [1]);
    assert_eq!(queue.metrics().depth, 0);
}

#[tokio::test]
async fn a_drain_that_is_dropped_at_any_await_point_loses_no_callback_and_no_other_drain() {
    at_each_await_point(async |polls| {
        let queue = DeferredQueue::current();
        let log = Log::default();
        for n in 0..3 {
            queue.defer(log.note(n)).unwrap();
        }
        let mut other = task::spawn(queue.drained());
        assert_pending!(other.poll());
        let drained = poll_times(queue.drained(), polls).await.is_some();
        if drained {
            assert_eq!(log.entries(), [0, 1, 2]);
        }
        other.await;
        assert_eq!(log.entries(), [0, 1, 2]);
        assert_eq!(queue.metrics().depth, 0);
        drained
    })
    .await;
}

#[tokio::test]
async fn a_drain_that_is_dropped_releases_its_waker() {
    struct Ignore;
    impl Wake for Ignore {
        fn wake(self: Arc<Self>) {}
    }
    let queue = DeferredQueue::current();
    queue.defer(|| {}).unwrap();
    let waker = Arc::new(Ignore);
    let mut drained = Box::pin(queue.drained());
    let polled = drained
        .as_mut()
        .poll(&mut Context::from_waker(&waker.clone().into()));
    assert_pending!(polled);
    assert_eq!(Arc::strong_count(&waker), 2);
    drop(drained);
    assert_eq!(Arc::strong_count(&waker), 1);
}

#[tokio::test]
async fn a_callback_queued_by_a_callback_runs_later() {
    let queue = DeferredQueue::current();
    let log = Log::default();
    let (inner, second) = (queue.clone(), log.note(3));
    let first = log.note(1);
    queue
        .defer(move || {
            first();
            inner.defer(second).unwrap();
        })
        .unwrap();
    queue.defer(log.note(2)).unwrap();
    queue.drained().await;
    assert_eq!(log.entries()[..2], [1, 2]);
    queue.drained().await;
    assert_eq!(log.entries(), [1, 2, 3]);
}

/// A callback that queues itself again must not keep other tasks from running.
#[tokio::test]
async fn other_tasks_run_after_each_batch() {
    fn again(queue: DeferredQueue, runs: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
        runs.fetch_add(1, Ordering::Relaxed);
        if !stop.load(Ordering::Relaxed) {
            let next = queue.clone();
            queue.defer(move || again(next, runs, stop)).unwrap();
        }
    }
    let queue = DeferredQueue::current();
    let (runs, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    again(queue.clone(), Arc::clone(&runs), Arc::clone(&stop));
    for turn in 1..=10 {
        tokio::task::yield_now().await;
        let runs = runs.load(Ordering::Relaxed);
        assert!(runs <= 1 + 32 * turn, "{runs} runs in {turn} turns");
    }
    // It does not wait for callbacks that are queued by the runs, which never end here.
    queue.drained().await;
    stop.store(true, Ordering::Relaxed);
    queue.drained().await;
    assert!(runs.load(Ordering::Relaxed) > 32);
}

#[tokio::test(start_paused = true)]
async fn the_queue_runs_on_a_paused_clock() {
    let queue = DeferredQueue::current();
    let log = Log::default();
    queue.defer(log.note(1)).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(log.entries(), [1]);
}

#[test]
fn a_panic_is_caught_and_counted_and_the_queue_continues() {
    on_each_runtime(|runtime| {
        runtime.block_on(async {
            let queue = DeferredQueue::current();
            let log = Log::default();
            queue.defer(|| panic!("as planned")).unwrap();
            queue.defer(log.note(1)).unwrap();
            queue.drained().await;
            assert_eq!(log.entries(), [1]);
            assert_eq!((queue.metrics().run, queue.metrics().panicked), (2, 1));
        });
    });
}

#[tokio::test]
async fn a_panic_payload_may_panic_when_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    let queue = DeferredQueue::current();
    queue.defer(|| std::panic::panic_any(Bomb)).unwrap();
    queue.drained().await;
    assert_eq!(queue.metrics().panicked, 1);
    assert!(queue.defer(|| {}).is_ok());
}

#[tokio::test]
async fn drained_covers_callbacks_queued_before_the_call() {
    let queue = DeferredQueue::current();
    let log = Log::default();
    let drained = queue.drained();
    queue.defer(log.note(1)).unwrap();
    drained.await;
    assert_eq!(log.entries(), [], "queued after the call");
}

#[tokio::test]
async fn drained_is_woken_once_its_callbacks_have_run() {
    let queue = DeferredQueue::current();
    queue.defer(|| {}).unwrap();
    let mut drained = task::spawn(queue.drained());
    let mut dropped = task::spawn(queue.drained());
    assert_pending!(drained.poll());
    assert_pending!(dropped.poll());
    drop(dropped);
    queue.drained().await;
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
}

#[tokio::test]
async fn metrics_count_depth_and_peak() {
    let queue = DeferredQueue::current();
    for _ in 0..5 {
        queue.defer(|| {}).unwrap();
    }
    assert_eq!((queue.metrics().depth, queue.metrics().peak), (5, 5));
    queue.drained().await;
    queue.defer(|| {}).unwrap();
    let metrics = queue.metrics();
    assert_eq!((metrics.depth, metrics.peak, metrics.run), (1, 5, 5));
}

#[test]
fn outside_a_runtime_there_is_no_queue() {
    assert_eq!(DeferredQueue::try_current().err(), Some(NoRuntime));
    assert!(catch_unwind(DeferredQueue::current).is_err());
}

#[test]
fn each_runtime_has_its_own_queue() {
    let (first, second) = (current_thread(), multi_thread());
    let same = DeferredQueue::of(first.handle());
    first.block_on(async {
        DeferredQueue::current().defer(|| {}).unwrap();
        same.drained().await;
    });
    assert_eq!(same.metrics().run, 1);
    assert_eq!(DeferredQueue::of(second.handle()).metrics().run, 0);
}

#[test]
fn callbacks_queued_by_other_threads_run_on_the_queues_runtime() {
    let runtime = multi_thread();
    let queue = DeferredQueue::of(runtime.handle());
    let (reported, heard) = mpsc::channel();
    std::thread::spawn(move || {
        queue
            .defer(move || reported.send(Handle::try_current().unwrap().id()).unwrap())
            .unwrap();
    });
    assert_eq!(heard.recv().unwrap(), runtime.handle().id());
}

/// Sets its flag when the callback that holds it is dropped, run or not.
struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_shutdown_closes_the_queue_and_drops_queued_callbacks() {
    on_each_shutdown(|runtime, shut_down| {
        let queue = DeferredQueue::of(runtime.handle());
        let dropped = Arc::new(AtomicBool::new(false));
        // Keep the executor busy until the shutdown, so that the second callback is still queued then.
        let (started, has_started) = mpsc::channel::<()>();
        let held = Held(Arc::clone(&dropped));
        let (queued, is_queued) = mpsc::channel::<()>();
        let second = queue.clone();
        queue
            .defer(move || {
                started.send(()).unwrap();
                is_queued.recv().unwrap();
                // Queued from within the batch, so the shutdown comes before this one.
                for _ in 0..64 {
                    let _ = second.defer(|| {});
                }
                let _ = second.defer(move || drop(held));
            })
            .unwrap();
        queued.send(()).unwrap();
        shut_down(runtime);
        drop(has_started);
        assert!(
            dropped.load(Ordering::Relaxed) || queue.metrics().depth == 0,
            "nothing stays on a closed queue"
        );
        assert_eq!(queue.defer(|| {}), Err(QueueClosed));
        assert_eq!(queue.metrics().depth, 0);
    });
}

fn on_each_shutdown(check: impl Fn(Runtime, &dyn Fn(Runtime))) {
    let ends: [&dyn Fn(Runtime); 2] = [&drop, &|runtime: Runtime| {
        runtime.shutdown_timeout(Duration::from_secs(60))
    }];
    for end in ends {
        check(current_thread(), end);
        check(multi_thread(), end);
    }
}

#[test]
fn a_refused_callback_is_dropped_without_a_call() {
    let runtime = current_thread();
    let queue = DeferredQueue::of(runtime.handle());
    drop(runtime);
    let dropped = Arc::new(AtomicBool::new(false));
    let held = Held(Arc::clone(&dropped));
    assert_eq!(
        queue.defer(move || {
            let _held = &held;
            unreachable!("the queue is closed");
        }),
        Err(QueueClosed)
    );
    assert!(dropped.load(Ordering::Relaxed));
}

#[test]
fn the_queue_of_a_dropped_runtime_is_closed() {
    let runtime = current_thread();
    let handle = runtime.handle().clone();
    drop(runtime);
    for queue in [DeferredQueue::of(&handle), DeferredQueue::spawn_on(&handle)] {
        assert_eq!(queue.defer(|| {}), Err(QueueClosed));
        assert_ready!(task::spawn(queue.drained()).poll());
    }
}

#[test]
fn a_shutdown_wakes_waiters_of_drained() {
    let runtime = current_thread();
    let queue = DeferredQueue::of(runtime.handle());
    queue.defer(|| {}).unwrap();
    let mut drained = task::spawn(queue.drained());
    assert_pending!(drained.poll());
    drop(runtime);
    assert!(drained.is_woken());
    assert_ready!(drained.poll());
}

#[test]
fn a_callback_dropped_at_shutdown_may_use_the_queue() {
    struct Defers(DeferredQueue, Arc<AtomicBool>);
    impl Drop for Defers {
        fn drop(&mut self) {
            assert_eq!(self.0.defer(|| {}), Err(QueueClosed));
            self.1.store(true, Ordering::Relaxed);
        }
    }
    let runtime = current_thread();
    let queue = DeferredQueue::of(runtime.handle());
    let done = Arc::new(AtomicBool::new(false));
    let defers = Defers(queue.clone(), Arc::clone(&done));
    queue.defer(move || drop(defers)).unwrap();
    drop(runtime);
    assert!(done.load(Ordering::Relaxed));
}

#[test]
fn thousands_of_runtimes_do_not_leak_queues() {
    let runs = Arc::new(AtomicUsize::new(0));
    for _ in 0..2000 {
        let runtime = current_thread();
        let queue = DeferredQueue::of(runtime.handle());
        let runs = Arc::clone(&runs);
        queue
            .defer(move || {
                runs.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
        runtime.block_on(queue.drained());
    }
    assert_eq!(runs.load(Ordering::Relaxed), 2000);
}

/// Threads that ask concurrently get the same queue, and no queued callback is lost.
#[test]
fn threads_that_ask_concurrently_get_the_same_queue() {
    for _ in 0..50 {
        let runtime = current_thread();
        let runs = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runs = Arc::clone(&runs);
                    DeferredQueue::of(runtime.handle())
                        .defer(move || {
                            runs.fetch_add(1, Ordering::Relaxed);
                        })
                        .unwrap();
                });
            }
        });
        let queue = DeferredQueue::of(runtime.handle());
        runtime.block_on(queue.drained());
        assert_eq!(queue.metrics().run, 4);
        assert_eq!(runs.load(Ordering::Relaxed), 4);
    }
}

/// Threads push while the runtime shuts down: each callback is run or dropped, and none is left.
#[test]
fn a_shutdown_during_pushes_leaves_no_callback() {
    for _ in 0..50 {
        let runtime = multi_thread();
        let gone = Arc::new(AtomicUsize::new(0));
        struct Counts(Arc<AtomicUsize>);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let queue = DeferredQueue::of(runtime.handle());
        let queued: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        (0..200)
                            .map(|_| {
                                let counts = Counts(Arc::clone(&gone));
                                let _ = queue.defer(move || drop(counts));
                            })
                            .count()
                    })
                })
                .collect();
            drop(runtime);
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(queue.metrics().depth, 0);
        assert_eq!(gone.load(Ordering::Relaxed), queued);
        assert_eq!(queue.defer(|| {}), Err(QueueClosed));
    }
}

#[test]
fn a_second_queue_runs_concurrently_with_the_first() {
    let runtime = multi_thread();
    let first = DeferredQueue::of(runtime.handle());
    let second = DeferredQueue::spawn_on(runtime.handle());
    let (go_on, wait) = mpsc::channel::<()>();
    // Block the first queue until the second has run.
    first
        .defer(move || wait.recv().expect("the second queue runs meanwhile"))
        .unwrap();
    second.defer(move || go_on.send(()).unwrap()).unwrap();
    runtime.block_on(async {
        first.drained().await;
        second.drained().await;
    });
    assert_eq!((first.metrics().run, second.metrics().run), (1, 1));
}

#[tokio::test]
async fn a_second_queue_without_handles_runs_queued_callbacks_and_ends() {
    let metrics = Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let log = Log::default();
    let queue = DeferredQueue::spawn_on(&Handle::current());
    queue.defer(log.note(1)).unwrap();
    let drained = queue.drained();
    drop(queue);
    drained.await;
    assert_eq!(log.entries(), [1]);
    until("the task of the queue ends", || {
        metrics.num_alive_tasks() == before
    })
    .await;
}

#[test]
fn a_queue_does_not_keep_its_runtime_alive() {
    let runtime = current_thread();
    let marker = Arc::new(());
    let held = Arc::clone(&marker);
    let queue = DeferredQueue::of(runtime.handle());
    runtime.spawn(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    drop(runtime);
    assert_eq!(Arc::strong_count(&marker), 1);
    drop(queue);
}

#[test]
fn handles_are_send_and_sync() {
    fn check<T: Send + Sync + Clone + std::fmt::Debug>() {}
    check::<DeferredQueue>();
}

#[test]
fn errors_have_a_message_and_convert_to_io_errors() {
    let error = std::io::Error::from(QueueClosed);
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    assert!(error.to_string().contains("closed"));
    assert!(
        std::io::Error::from(NoRuntime)
            .to_string()
            .contains("runtime")
    );
}
