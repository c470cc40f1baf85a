//! What is queued again and again: its states, on one atomic.

use std::sync::Arc;

use super::DeferredQueue;
use crate::panic::catch_panic;
use crate::sync::{AtomicU8, Ordering};

/// Something whose changes are told by the queue: a buffer, a stream.
///
/// It is on a queue at most once, and never runs twice at once.
pub(crate) trait Deferred: Send + Sync + 'static {
    /// Where it stands.
    fn source(&self) -> &Source;

    /// The queue that it is bound to, if any.
    fn queue(&self) -> Option<DeferredQueue>;

    /// Tells what has changed since the last run. Foreign code is called through `runner`.
    fn run(self: Arc<Self>, runner: &mut Runner);
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const AGAIN: u8 = 3;
const BOUNCED: u8 = 4;

/// The state of a [`Deferred`].
///
/// ```text
///       schedule: push        take            schedule: push          take, by another queue
///  Idle ─────────────▶ Queued ─────▶ Running ───────────────▶ Again ────────────────────────▶ Bounced
///   ▲                   ▲  ▲            │                       │                                │
///   └────── finish ─────┼──┼────────────┘                       │                                │
///                       │  └─────────────── finish ─────────────┘                                │
///                       └────────────────── finish: push ────────────────────────────────────────┘
/// ```
///
/// Queued and Again are on a queue, once. What is scheduled while it stands there, or is Bounced, is merged. Only a
/// source that was bound to another queue while it ran can bounce: that queue comes to it too early, and leaves it to
/// the run.
#[derive(Debug)]
pub(crate) struct Source(AtomicU8);

/// What scheduling asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Scheduled {
    /// It waits already: nothing more to do.
    Merged,
    /// Put it on its queue.
    Push,
}

/// What the end of a run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Finished {
    /// Idle, or on its queue already.
    Settled,
    /// Put it on its queue.
    Push,
}

impl Source {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(IDLE))
    }

    /// Whether a run that has not begun will see what was changed before this call.
    ///
    /// The exchange reads the latest state even where it changes nothing, and hands what was written before it to
    /// [`take`](Self::take).
    #[inline]
    pub(crate) fn is_queued(&self) -> bool {
        self.0
            .compare_exchange(QUEUED, QUEUED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The same for one who holds the lock that each run takes before it looks at what has changed, and made the change
    /// under it. A plain look will do: had a run that has begun looked already, the lock would have shown us that it has.
    #[inline]
    pub(crate) fn is_queued_under_lock(&self) -> bool {
        self.0.load(Ordering::Relaxed) == QUEUED
    }

    pub(super) fn schedule(&self) -> Scheduled {
        let before = self.step(|state| match state {
            IDLE => QUEUED,
            RUNNING => AGAIN,
            waiting => waiting,
        });
        match before {
            IDLE | RUNNING => Scheduled::Push,
            _ => Scheduled::Merged,
        }
    }

    /// Begins a run. `false` if another queue is at it, which then queues it again.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        let before = self.step(|state| match state {
            QUEUED => RUNNING,
            AGAIN => BOUNCED,
            other => other,
        });
        before == QUEUED
    }

    pub(super) fn finish(&self) -> Finished {
        let before = self.step(|state| match state {
            RUNNING => IDLE,
            AGAIN | BOUNCED => QUEUED,
            other => other,
        });
        match before {
            BOUNCED => Finished::Push,
            _ => Finished::Settled,
        }
    }

    /// The queue on which it stood is gone: the next change schedules it anew.
    pub(super) fn forsake(&self) {
        self.step(|state| match state {
            QUEUED => IDLE,
            AGAIN => RUNNING,
            other => other,
        });
    }

    /// Goes one step and returns the state before it.
    fn step(&self, next: impl Fn(u8) -> u8) -> u8 {
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

/// Calls user code on behalf of the executor, and counts its panics.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    panicked: u64,
}

impl Runner {
    /// Calls `f`; a panic in it is reported and counted.
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
    use super::*;

    #[test]
    fn changes_of_a_queued_source_are_merged() {
        let source = Source::new();
        assert!(!source.is_queued());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.is_queued());
        assert_eq!(source.schedule(), Scheduled::Merged);
        assert!(source.take());
        assert_eq!(source.finish(), Finished::Settled);
        assert_eq!(source.schedule(), Scheduled::Push);
    }

    #[test]
    fn a_change_during_the_run_is_queued_once() {
        let source = Source::new();
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.take());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert_eq!(source.schedule(), Scheduled::Merged);
        assert_eq!(source.finish(), Finished::Settled);
        assert!(source.take());
    }

    #[test]
    fn another_queue_does_not_run_what_is_running() {
        let source = Source::new();
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.take());
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(!source.take());
        assert_eq!(source.schedule(), Scheduled::Merged);
        assert_eq!(source.finish(), Finished::Push);
        assert!(source.take());
    }

    #[test]
    fn a_forsaken_source_can_be_scheduled_again() {
        let source = Source::new();
        assert_eq!(source.schedule(), Scheduled::Push);
        source.forsake();
        assert_eq!(source.schedule(), Scheduled::Push);
        assert!(source.take());
        assert_eq!(source.schedule(), Scheduled::Push);
        source.forsake();
        assert_eq!(source.finish(), Finished::Settled);
        assert_eq!(source.schedule(), Scheduled::Push);
    }
}
