//! The state of a source of deferred callbacks, in one atomic.

use std::{ptr, sync::Arc, task::Waker};

use crate::{
    panic::catch_panic,
    sync::{AtomicU8, Global, Ordering},
};

/// A source of notifications that a queue delivers: a buffer, a connection.
///
/// It never runs twice at once, and is on a queue at most once. Only after it was bound to another queue, it may be on both.
pub(crate) trait Deferred: Send + Sync + 'static {
    /// Returns its scheduling state.
    fn source(&self) -> &Source;

    /// Notifies of what has changed since the last run. User code is called through `runner`.
    fn run(self: Arc<Self>, runner: &mut Runner);
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const AGAIN: u8 = 3;
const BLOCKED: u8 = 4;

/// The scheduling state of a [`Deferred`].
///
/// ```text
///         schedule: push         start           schedule: push         start, by another queue
///   Idle ───────────────▶ Queued ─────▶ Running ───────────────▶ Again ────────────────────────▶ Blocked
///    ▲                     ▲  ▲            │                       │                                │
///    └─────── finish ──────┼──┼────────────┘                       │                                │
///                          │  └─────────────── finish ─────────────┘                                │
///                          └───────────── finish: wake that queue ──────────────────────────────────┘
/// ```
///
/// A source that is Queued, Again or Blocked is on a queue, and further changes are merged into that run. Only a source that
/// was bound to another queue can get Blocked: that queue waits until the run in progress has ended. Such a source may also
/// start while it is Idle, because its first queue has run it meanwhile; that run finds nothing to do.
#[derive(Debug)]
pub(crate) struct Source(AtomicU8);

/// Executors that wait for a run on another queue, each with the address of the [`Source`]. Almost always empty.
static BLOCKED_EXECUTORS: Global<Vec<(usize, Waker)>> = Global::new();

/// What the caller of [`Source::schedule`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Scheduled {
    /// Nothing: the source is on a queue already.
    Merged,
    /// Push the source to its queue.
    Push,
}

impl Source {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(IDLE))
    }

    /// Returns whether a run that has not started will see the changes that were made before this call.
    ///
    /// The exchange reads the latest state even where it changes nothing, and publishes earlier writes to
    /// [`start`](Self::start).
    #[inline]
    pub(crate) fn is_queued(&self) -> bool {
        self.0
            .compare_exchange(QUEUED, QUEUED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Answers [`is_queued`](Self::is_queued) for a caller that holds the lock that each run takes before it looks for
    /// changes. A plain load is enough: the lock orders it before or after that look.
    #[inline]
    pub(crate) fn is_queued_under_lock(&self) -> bool {
        self.0.load(Ordering::Relaxed) == QUEUED
    }

    pub(super) fn schedule(&self) -> Scheduled {
        let before = self.transition(|state| match state {
            IDLE => QUEUED,
            RUNNING => AGAIN,
            on_a_queue => on_a_queue,
        });
        match before {
            IDLE | RUNNING => Scheduled::Push,
            _ => Scheduled::Merged,
        }
    }

    /// Starts a run. Returns `false` if another queue runs the source now.
    #[must_use]
    pub(super) fn start(&self) -> bool {
        let before = self.transition(|state| match state {
            IDLE | QUEUED => RUNNING,
            _ => BLOCKED,
        });
        matches!(before, IDLE | QUEUED)
    }

    /// Registers the executor that [`start`](Self::start) refused, to be woken at the end of the run. Returns `false` if
    /// the run has ended meanwhile.
    #[must_use]
    pub(super) fn block(&self, executor: Waker) -> bool {
        BLOCKED_EXECUTORS.lock().push((self.address(), executor));
        let is_blocked = self.0.load(Ordering::Acquire) == BLOCKED;
        if !is_blocked {
            drop(self.take_blocked());
        }
        is_blocked
    }

    /// Ends a run.
    pub(super) fn finish(&self) {
        let before = self.transition(|state| match state {
            RUNNING => IDLE,
            AGAIN | BLOCKED => QUEUED,
            other => other,
        });
        if before == BLOCKED {
            for executor in self.take_blocked() {
                catch_panic("a waker", || executor.wake());
            }
        }
    }

    /// Takes the source from its queue, which is closed: the next change schedules it again.
    pub(super) fn cancel(&self) {
        let before = self.transition(|state| match state {
            QUEUED => IDLE,
            AGAIN | BLOCKED => RUNNING,
            other => other,
        });
        if before == BLOCKED {
            drop(self.take_blocked());
        }
    }

    fn take_blocked(&self) -> Vec<Waker> {
        let address = self.address();
        let mut blocked = BLOCKED_EXECUTORS.lock();
        let mut own = Vec::new();
        while let Some(at) = blocked.iter().position(|(of, _)| *of == address) {
            own.push(blocked.swap_remove(at).1);
        }
        own
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Changes the state by `next` and returns the state before.
    fn transition(&self, next: impl Fn(u8) -> u8) -> u8 {
        let mut state = self.0.load(Ordering::Relaxed);
        loop {
            match self.0.compare_exchange_weak(
                state,
                next(state),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(before) => return before,
                Err(actual) => state = actual,
            }
        }
    }
}

/// Calls user code for the executor and counts its panics.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    panicked: u64,
}

impl Runner {
    /// Calls `f`. A panic is caught, reported and counted.
    pub(crate) fn call(&mut self, f: impl FnOnce()) {
        if !catch_panic("a deferred callback", f) {
            self.panicked += 1;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.panicked += other.panicked;
    }

    pub(super) fn panicked(&self) -> u64 {
        self.panicked
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[test]
    fn changes_of_a_queued_source_are_merged() {
        let source = Source::new();
        assert!(!source.is_queued());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.is_queued());
        assert_eq!(source.schedule(), Scheduled::Merged);
        assert!(source.start());
        source.finish();
        assert_eq!(source.schedule(), Scheduled::Push);
    }

    #[test]
    fn a_change_during_the_run_is_queued_once() {
        let source = Source::new();
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.start());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert_eq!(source.schedule(), Scheduled::Merged);
        source.finish();
        assert!(source.start());
    }

    /// An executor that counts how often it is woken.
    #[derive(Default)]
    struct Executor(AtomicUsize);

    impl Wake for Executor {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Executor {
        fn wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Returns a source that runs on one queue, and the executor of another one that waits for the end of that run.
    fn blocked() -> (Box<Source>, Arc<Executor>) {
        let (source, executor) = (Box::new(Source::new()), Arc::new(Executor::default()));
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.start());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(!source.start());
        assert!(source.block(Arc::clone(&executor).into()));
        (source, executor)
    }

    #[test]
    fn another_queue_waits_for_the_run_in_progress() {
        let (source, executor) = blocked();
        assert_eq!(source.schedule(), Scheduled::Merged);
        assert_eq!(executor.wakes(), 0);
        source.finish();
        assert_eq!(executor.wakes(), 1);
        assert!(source.start());
    }

    #[test]
    fn the_end_of_a_run_wakes_only_those_that_wait_for_it() {
        let ((first, waits_for_first), (second, waits_for_second)) = (blocked(), blocked());
        let wakes = || (waits_for_first.wakes(), waits_for_second.wakes());
        second.finish();
        assert_eq!(wakes(), (0, 1));
        first.finish();
        assert_eq!(wakes(), (1, 1));
    }

    /// The waker may be the last that holds the executor's runtime.
    #[test]
    fn an_executor_that_waits_no_longer_is_released() {
        let (source, executor) = blocked();
        source.cancel();
        assert_eq!(Arc::strong_count(&executor), 1, "cancelled");
        source.finish();
        assert_eq!(executor.wakes(), 0);
    }

    #[test]
    fn an_executor_that_blocks_too_late_does_not_wait() {
        let source = Source::new();
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.start());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(!source.start());
        source.finish();
        let executor = Arc::new(Executor::default());
        assert!(!source.block(Arc::clone(&executor).into()));
        assert_eq!(Arc::strong_count(&executor), 1, "registered");
    }

    #[test]
    fn a_cancelled_source_can_be_scheduled_again() {
        let source = Source::new();
        assert_eq!(source.schedule(), Scheduled::Push);
        source.cancel();
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.start());
        assert_eq!(source.schedule(), Scheduled::Push);
        source.cancel();
        source.finish();
        assert_eq!(source.schedule(), Scheduled::Push);
    }
}
