//! The queue itself: jobs, counts and those who wait, behind one lock.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    QueueMetrics,
    drained::{Ticket, Waiting},
    schedule::{Deferred, Finished, Runner, Scheduled},
};
use crate::{
    panic::catch_panic,
    sync::{AtomicU64, Lock, Ordering, WakeList},
};

/// Jobs that the executor runs before it lets other tasks run: enough that the yield costs little of each, few enough
/// that I/O waits for some microseconds of short callbacks only.
pub(super) const RUN_BATCH: usize = 32;

pub(super) enum Job {
    Once(Box<dyn FnOnce() + Send>),
    Source(Arc<dyn Deferred>),
}

/// What handles and executor share.
//
// Rules:
//
// 1. `finished + jobs.len()`, and one more while a job runs, is `pushed`.
// 2. Jobs leave in the order in which they came; so all that was pushed before a reading of `pushed` has run once
//    `finished` has reached it.
// 3. While the executor sleeps, its waker stands in `sleeper`; whoever takes it wakes it.
pub(super) struct Core {
    state: Lock<State>,
    merged: AtomicU64,
}

struct State {
    stage: Stage,
    jobs: VecDeque<Job>,
    sleeper: Option<Waker>,
    pushed: u64,
    finished: u64,
    /// Who waits for `finished` to reach a count.
    waiting: Waiting,
    peak: usize,
    run: u64,
    panicked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Nobody can push any more; the executor ends when the jobs do.
    Orphaned,
    Closed,
}

/// What came of a job.
struct Done {
    /// Not if another queue was at it.
    ran: bool,
    panicked: u64,
}

enum Next {
    Run(Job),
    Sleep,
    End,
}

/// What there is to do after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// More may wait: let other tasks run first.
    Full,
    /// No job will come any more.
    End,
}

impl Core {
    pub(super) fn new() -> Self {
        Self {
            state: Lock::new(State {
                stage: Stage::Open,
                jobs: VecDeque::new(),
                sleeper: None,
                pushed: 0,
                finished: 0,
                waiting: Waiting::default(),
                peak: 0,
                run: 0,
                panicked: 0,
            }),
            merged: AtomicU64::new(0),
        }
    }

    /// Puts `job` at the end. Returns the waker of the executor if that sleeps; a closed queue gives the job back.
    pub(super) fn push(&self, job: Job) -> Result<Option<Waker>, Job> {
        let mut state = self.state.lock();
        if state.stage == Stage::Closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        state.pushed += 1;
        state.peak = state.peak.max(state.jobs.len());
        Ok(state.sleeper.take())
    }

    /// Puts `this` at the end, unless it waits already. Returns the waker of the executor if that sleeps.
    pub(super) fn enqueue(&self, this: Arc<dyn Deferred>) -> Option<Waker> {
        match this.source().schedule() {
            Scheduled::Merged => {
                self.count_merged();
                None
            }
            Scheduled::Push => self.push_source(this),
        }
    }

    /// A closed queue drops notifications.
    fn push_source(&self, this: Arc<dyn Deferred>) -> Option<Waker> {
        match self.push(Job::Source(this)) {
            Ok(sleeper) => sleeper,
            Err(Job::Source(refused)) => {
                refused.source().forsake();
                None
            }
            Err(Job::Once(_)) => unreachable!("what was pushed comes back"),
        }
    }

    #[inline]
    pub(super) fn count_merged(&self) {
        self.merged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.state.lock().panicked += 1;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().stage == Stage::Closed
    }

    pub(super) fn metrics(&self) -> QueueMetrics {
        let state = self.state.lock();
        QueueMetrics {
            depth: state.jobs.len(),
            peak: state.peak,
            run: state.run,
            merged: self.merged.load(Ordering::Relaxed),
            panicked: state.panicked,
        }
    }

    /// Runs what waits, up to a batch. `Pending` when nothing does.
    pub(super) fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Batch> {
        let mut done = None;
        for _ in 0..RUN_BATCH {
            match self.next(done.take(), cx.waker()) {
                Next::Run(job) => done = Some(run(job)),
                Next::Sleep => return Poll::Pending,
                Next::End => return Poll::Ready(Batch::End),
            }
        }
        if let Some(done) = done {
            let mut due = WakeList::default();
            self.state.lock().account(done, &mut due);
            due.wake_all();
        }
        Poll::Ready(Batch::Full)
    }

    /// Takes in what was done last, and what to do next.
    fn next(&self, done: Option<Done>, waker: &Waker) -> Next {
        let mut due = WakeList::default();
        let (next, replaced);
        {
            let mut state = self.state.lock();
            if let Some(done) = done {
                state.account(done, &mut due);
            }
            (next, replaced) = match state.jobs.pop_front() {
                Some(job) => (Next::Run(job), None),
                None if state.stage != Stage::Open => (Next::End, None),
                // Looking and going to sleep under one lock: no job can come between the two.
                None => (Next::Sleep, state.sleeper.replace(waker.clone())),
            };
        }
        drop(replaced);
        due.wake_all();
        next
    }

    /// What has to be finished so that all that was pushed until now is.
    pub(super) fn pushed(&self) -> u64 {
        self.state.lock().pushed
    }

    pub(super) fn poll_finished(
        &self,
        target: u64,
        ticket: &mut Option<Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        // Cloning a waker runs foreign code: not under the lock. Who comes back mostly does not need one.
        let mut fresh = ticket.is_none().then(|| cx.waker().clone());
        loop {
            let mut state = self.state.lock();
            if state.finished >= target || state.stage == Stage::Closed {
                drop(state);
                // Whoever saw to that has taken the place away.
                *ticket = None;
                return Poll::Ready(());
            }
            let ticket = *ticket.get_or_insert_with(|| state.waiting.ticket(target));
            if let Some(waker) = fresh {
                let replaced = state.waiting.put(ticket, waker);
                drop(state);
                drop(replaced);
                return Poll::Pending;
            }
            if state.waiting.has(ticket, cx.waker()) {
                return Poll::Pending;
            }
            drop(state);
            fresh = Some(cx.waker().clone());
        }
    }

    pub(super) fn forget(&self, ticket: Ticket) {
        let forgotten = self.state.lock().waiting.remove(ticket);
        drop(forgotten);
    }

    /// The last handle is gone: what is queued is run, then the executor ends.
    pub(super) fn orphan(&self) {
        let sleeper = {
            let mut state = self.state.lock();
            if state.stage == Stage::Open {
                state.stage = Stage::Orphaned;
            }
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// The executor is gone: drops what is queued, and lets nobody wait.
    pub(super) fn close(&self) {
        let (jobs, mut waiting, sleeper) = {
            let mut state = self.state.lock();
            state.stage = Stage::Closed;
            (
                mem::take(&mut state.jobs),
                state.waiting.take_all(),
                state.sleeper.take(),
            )
        };
        drop(sleeper);
        for job in jobs {
            catch_panic("the drop of a deferred callback", || match job {
                Job::Source(this) => self.forsake(this),
                Job::Once(f) => drop(f),
            });
        }
        waiting.wake_all();
    }

    /// Does not run what is queued here. If it was bound to another queue meanwhile, it runs there.
    fn forsake(&self, this: Arc<dyn Deferred>) {
        this.source().forsake();
        let elsewhere = this
            .queue()
            .filter(|queue| !std::ptr::eq(&**queue.core(), self));
        if let Some(queue) = elsewhere {
            wake(queue.core().enqueue(this));
        }
    }
}

impl State {
    /// Counts a job that was run, and takes the wakers of those who waited for it.
    fn account(&mut self, done: Done, due: &mut WakeList) {
        self.finished += 1;
        self.run += u64::from(done.ran);
        self.panicked += done.panicked;
        self.waiting.take_due(self.finished, due);
    }
}

fn run(job: Job) -> Done {
    let mut runner = Runner::default();
    let ran = match job {
        Job::Once(f) => {
            runner.call(f);
            true
        }
        Job::Source(this) => run_source(this, &mut runner),
    };
    Done {
        ran,
        panicked: runner.panicked(),
    }
}

/// Runs `this` unless another queue is at it. Returns whether it ran.
fn run_source(this: Arc<dyn Deferred>, runner: &mut Runner) -> bool {
    if !this.source().take() {
        return false;
    }
    let mut inner = Runner::default();
    runner.call(|| Arc::clone(&this).run(&mut inner));
    runner.add(inner);
    if this.source().finish() == Finished::Push {
        match this.queue() {
            Some(queue) => wake(queue.core().push_source(this)),
            None => this.source().forsake(),
        }
        return true;
    }
    // It may be the last to hold foreign code.
    runner.call(|| drop(this));
    true
}

fn wake(sleeper: Option<Waker>) {
    if let Some(sleeper) = sleeper {
        catch_panic("a waker", || sleeper.wake());
    }
}
