//! Models of all interleavings of the queue: no scheduled source is lost, and none runs twice at once.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::{
    Deferred, Runner, Source,
    jobs::{Batch, Job, JobQueue},
};
use crate::DeferredQueue;

/// A queue without an executor.
pub(crate) fn queue() -> DeferredQueue {
    DeferredQueue::without_executor()
}

/// Runs the queue as its executor does, until the last handle is gone.
async fn run_to_end(jobs: Arc<JobQueue>) {
    while poll_fn(|cx: &mut Context<'_>| jobs.poll_batch(cx)).await == Batch::Full {}
}

/// Notes the value of a counter in each run.
struct Counter {
    source: Source,
    value: AtomicUsize,
    seen: AtomicUsize,
    running: AtomicBool,
}

impl Counter {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            source: Source::new(),
            value: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            running: AtomicBool::new(false),
        })
    }

    fn increase(self: &Arc<Self>, queue: &DeferredQueue) {
        self.value.fetch_add(1, Ordering::Relaxed);
        queue.schedule(self);
    }
}

impl Deferred for Counter {
    fn source(&self) -> &Source {
        &self.source
    }

    fn run(self: Arc<Self>, _: &mut Runner) {
        assert!(
            !self.running.swap(true, Ordering::Relaxed),
            "two runs at once"
        );
        self.seen
            .store(self.value.load(Ordering::Relaxed), Ordering::Relaxed);
        self.running.store(false, Ordering::Relaxed);
    }
}

#[test]
fn the_last_change_is_always_seen() {
    loom::model(|| {
        let queue = queue();
        let counter = Counter::new();
        let jobs = Arc::clone(queue.jobs());

        let changer = thread::spawn({
            let counter = Arc::clone(&counter);
            let queue = queue.clone();
            move || {
                counter.increase(&queue);
                counter.increase(&queue);
            }
        });
        block_on(poll_fn(|cx| {
            let pending = jobs.poll_batch(cx).is_pending();
            if counter.seen.load(Ordering::Relaxed) == 2 {
                return Poll::Ready(());
            }
            assert!(pending);
            Poll::Pending
        }));
        changer.join().unwrap();
    });
}

#[test]
fn a_deferred_callback_runs_after_the_last_handle_was_dropped() {
    loom::model(|| {
        let queue = queue();
        let jobs = Arc::clone(queue.jobs());
        let ran = Arc::new(AtomicUsize::new(0));
        let flag = Arc::clone(&ran);
        let caller = thread::spawn(move || {
            queue
                .defer(move || {
                    flag.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
        });
        block_on(run_to_end(jobs));
        caller.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn drained_waits_for_what_was_queued_and_wakes() {
    loom::model(|| {
        let queue = queue();
        let jobs = Arc::clone(queue.jobs());
        let executor = thread::spawn(move || block_on(run_to_end(jobs)));
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        queue
            .defer(move || flag.store(true, Ordering::Relaxed))
            .unwrap();
        block_on(queue.drained());
        assert!(ran.load(Ordering::Relaxed));
        drop(queue);
        executor.join().unwrap();
    });
}

#[test]
fn a_queue_that_closes_wakes_all_waiting_tasks() {
    loom::model(|| {
        let queue = queue();
        let jobs = Arc::clone(queue.jobs());
        let closing = thread::spawn(move || jobs.close());
        let accepted = queue.jobs().push(Job::Once(Box::new(|| {}))).is_ok();
        block_on(queue.drained());
        closing.join().unwrap();
        assert_eq!(queue.metrics().depth, 0, "accepted: {accepted}");
    });
}

#[test]
fn two_queues_never_run_one_source_at_once() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (first, second) = (queue(), queue());
        let counter = Counter::new();
        counter.increase(&first);
        let jobs = Arc::clone(first.jobs());
        drop(first);
        let executor = thread::spawn(move || block_on(run_to_end(jobs)));
        // As if the source had just been bound to the second queue.
        counter.increase(&second);
        executor.join().unwrap();
        let jobs = Arc::clone(second.jobs());
        jobs.detach();
        block_on(run_to_end(jobs));
        assert_eq!(counter.seen.load(Ordering::Relaxed), 2);
    });
}

/// Runs one batch of `queue`.
pub(crate) fn run_once(queue: &DeferredQueue) {
    let jobs = Arc::clone(queue.jobs());
    block_on(poll_fn(|cx| {
        let _ = jobs.poll_batch(cx);
        Poll::Ready(())
    }));
}
