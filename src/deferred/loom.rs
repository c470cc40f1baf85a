//! Models of all interleavings of the queue: nothing scheduled is lost, nothing runs twice at once.

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
    Anchor, Deferred, DeferredQueue, Drained, Runner, Source,
    queue::{Batch, Core, Job},
};

/// A queue whose executor is yet to run.
pub(crate) fn queue() -> DeferredQueue {
    DeferredQueue {
        anchor: Arc::new(Anchor::new()),
    }
}

/// Runs the queue as its executor does, until the last handle is gone.
async fn run_to_end(core: Arc<Core>) {
    while poll_fn(|cx: &mut Context<'_>| core.poll_batch(cx)).await == Batch::Full {}
}

/// Sees, in each run, how far a counter has come.
struct Counter {
    source: Source,
    queue: DeferredQueue,
    value: AtomicUsize,
    seen: AtomicUsize,
    running: AtomicBool,
}

impl Counter {
    fn new(queue: &DeferredQueue) -> Arc<Self> {
        Arc::new(Self {
            source: Source::new(),
            queue: queue.clone(),
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

    fn queue(&self) -> Option<DeferredQueue> {
        Some(self.queue.clone())
    }

    fn run(self: Arc<Self>, _: &mut Runner) {
        assert!(!self.running.swap(true, Ordering::Relaxed), "twice at once");
        self.seen
            .store(self.value.load(Ordering::Relaxed), Ordering::Relaxed);
        self.running.store(false, Ordering::Relaxed);
    }
}

#[test]
fn the_last_change_is_always_seen() {
    loom::model(|| {
        let queue = queue();
        let counter = Counter::new(&queue);
        let core = Arc::clone(queue.core());

        let changer = thread::spawn({
            let counter = Arc::clone(&counter);
            let queue = queue.clone();
            move || {
                counter.increase(&queue);
                counter.increase(&queue);
            }
        });
        block_on(poll_fn(|cx| {
            let pending = core.poll_batch(cx).is_pending();
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
fn what_was_deferred_runs_though_the_last_handle_goes() {
    loom::model(|| {
        let queue = queue();
        let core = Arc::clone(queue.core());
        let ran = Arc::new(AtomicUsize::new(0));
        let flag = Arc::clone(&ran);
        let caller = thread::spawn(move || {
            queue
                .defer(move || {
                    flag.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
        });
        block_on(run_to_end(core));
        caller.join().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn drained_waits_for_what_was_queued_and_wakes() {
    loom::model(|| {
        let queue = queue();
        let core = Arc::clone(queue.core());
        let executor = thread::spawn(move || block_on(run_to_end(core)));
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        queue
            .defer(move || flag.store(true, Ordering::Relaxed))
            .unwrap();
        let drained: Drained = queue.drained();
        block_on(drained);
        assert!(ran.load(Ordering::Relaxed));
        drop(queue);
        executor.join().unwrap();
    });
}

#[test]
fn a_queue_that_closes_leaves_nobody_waiting() {
    loom::model(|| {
        let queue = queue();
        let core = Arc::clone(queue.core());
        let closing = thread::spawn(move || core.close());
        let accepted = queue.core().push(Job::Once(Box::new(|| {}))).is_ok();
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
        let counter = Counter::new(&second);
        counter.increase(&first);
        let core = Arc::clone(first.core());
        drop(first);
        let executor = thread::spawn(move || block_on(run_to_end(core)));
        // As if the source had just been bound to the second queue.
        counter.increase(&second);
        executor.join().unwrap();
        let core = Arc::clone(second.core());
        core.orphan();
        block_on(run_to_end(core));
        assert_eq!(counter.seen.load(Ordering::Relaxed), 2);
    });
}

/// Runs what `queue` has to do, once.
pub(crate) fn run_once(queue: &DeferredQueue) {
    let core = Arc::clone(queue.core());
    block_on(poll_fn(|cx| {
        let _ = core.poll_batch(cx);
        Poll::Ready(())
    }));
}
