//! The jobs of one queue, what has become of them, and the tasks that wait for them, behind one lock.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::schedule::{Deferred, Runner, Scheduled};
use crate::{
    panic::catch_panic,
    sync::{AtomicU64, Lock, Ordering, Place, WaitList, WakeList},
};

/// Jobs that the executor runs before it yields to other tasks: enough that the yield costs little for each of them, few
/// enough that short callbacks delay I/O by a few microseconds only.
pub(super) const RUN_BATCH: usize = 32;

/// Memory for this many jobs is kept while the queue is empty.
const JOBS_KEPT: usize = 256;

pub(super) enum Job {
    Once(Box<dyn FnOnce() + Send>),
    Source(Arc<dyn Deferred>),
}

/// The state that the handles of a queue share with its executor.
//
// Invariants:
//
// 1. `finished + jobs.len()`, plus one while a job runs, is `pushed`.
// 2. Jobs finish in the order in which they were pushed. So all jobs that were pushed before a reading of `pushed` have
//    run once `finished` has reached it.
// 3. While the executor sleeps, its waker is in `executor`. A push takes it out and wakes it.
pub(super) struct JobQueue {
    state: Lock<State>,
    merged: AtomicU64,
}

struct State {
    stage: Stage,
    jobs: VecDeque<(Job, Instant)>,
    executor: Option<Waker>,
    pushed: u64,
    finished: u64,
    /// Tasks that wait for `finished` to reach a count.
    waiting: WaitList<u64>,
    peak: usize,
    totals: RunTotals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// No handle is left, so nothing is pushed any more: the executor ends after the last job.
    Detached,
    Closed,
}

/// What the jobs that have run add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunTotals {
    pub(super) run: u64,
    pub(super) panicked: u64,
    pub(super) wait_max: Duration,
    pub(super) wait_total: Duration,
    pub(super) run_max: Duration,
    pub(super) run_total: Duration,
}

/// The counts that [`QueueMetrics`](super::QueueMetrics) shows.
pub(super) struct Counts {
    pub(super) depth: usize,
    pub(super) peak: usize,
    pub(super) merged: u64,
    pub(super) totals: RunTotals,
}

/// A job that has run.
struct Done {
    panicked: u64,
    waited: Duration,
    ran: Duration,
    ended: Instant,
}

enum Next {
    Run(Job, Instant),
    /// There is no job, and no waker was given to sleep with.
    Empty,
    Sleep,
    End,
}

/// Why the executor stops for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// There may be more jobs: yield to other tasks first.
    Full,
    /// There will be no more jobs.
    End,
}

impl JobQueue {
    pub(super) fn new() -> Self {
        Self {
            state: Lock::new(State {
                stage: Stage::Open,
                jobs: VecDeque::new(),
                executor: None,
                pushed: 0,
                finished: 0,
                waiting: WaitList::default(),
                peak: 0,
                totals: RunTotals::default(),
            }),
            merged: AtomicU64::new(0),
        }
    }

    /// Adds `job` at the end. Returns the waker of the executor if that sleeps, or gives the job back if the queue is
    /// closed.
    pub(super) fn push(&self, job: Job) -> Result<Option<Waker>, Job> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.stage == Stage::Closed {
            return Err(job);
        }
        state.jobs.push_back((job, now));
        state.pushed += 1;
        state.peak = state.peak.max(state.jobs.len());
        Ok(state.executor.take())
    }

    /// Adds `source` at the end, unless it is on a queue already. Returns the waker of the executor if that sleeps.
    ///
    /// A closed queue drops the notification.
    pub(super) fn push_source(&self, source: Arc<dyn Deferred>) -> Option<Waker> {
        match source.source().schedule() {
            Scheduled::Merged => {
                self.count_merged();
                None
            }
            Scheduled::Push => self.push_scheduled(source),
        }
    }

    /// Adds `source` at the end, also if it is on another queue.
    pub(super) fn push_here(&self, source: Arc<dyn Deferred>) -> Option<Waker> {
        // Whichever queue is first runs it; the other one then finds nothing to do.
        let _ = source.source().schedule();
        self.push_scheduled(source)
    }

    fn push_scheduled(&self, source: Arc<dyn Deferred>) -> Option<Waker> {
        match self.push(Job::Source(source)) {
            Ok(executor) => executor,
            Err(Job::Source(refused)) => {
                refused.source().cancel();
                None
            }
            Err(Job::Once(_)) => unreachable!("`push` returns the job that it was given"),
        }
    }

    #[inline]
    pub(super) fn count_merged(&self) {
        self.merged.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a panic of a callback that ran inline.
    pub(super) fn count_panic(&self) {
        self.state.lock().totals.panicked += 1;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().stage == Stage::Closed
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts {
            depth: state.jobs.len(),
            peak: state.peak,
            merged: self.merged.load(Ordering::Relaxed),
            totals: state.totals,
        }
    }

    /// Runs up to [`RUN_BATCH`] jobs. Pending while there are none.
    pub(super) fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Batch> {
        let mut done: Option<Done> = None;
        for _ in 0..RUN_BATCH {
            // A job starts when the one before it ends, so that the clock is read once for both.
            let start = done.as_ref().map(|done| done.ended);
            let mut next = self.next(done.take(), None);
            if matches!(next, Next::Empty) {
                next = self.next(None, Some(cx.waker().clone()));
            }
            let (job, pushed) = match next {
                Next::Run(job, pushed) => (job, pushed),
                Next::Empty | Next::Sleep => return Poll::Pending,
                Next::End => return Poll::Ready(Batch::End),
            };
            match run(job, pushed, start.unwrap_or_else(Instant::now)) {
                Ok(finished) => done = Some(finished),
                Err(blocked) => return self.wait_for_other_queue(blocked, pushed, cx),
            }
        }
        if let Some(done) = done {
            let mut wakers = WakeList::default();
            self.state.lock().count(done, &mut wakers);
            wakers.wake_all();
        }
        Poll::Ready(Batch::Full)
    }

    /// Counts the job that has run and takes the next one out.
    fn next(&self, done: Option<Done>, waker: Option<Waker>) -> Next {
        let mut wakers = WakeList::default();
        let (next, replaced);
        {
            let mut state = self.state.lock();
            if let Some(done) = done {
                state.count(done, &mut wakers);
            }
            (next, replaced) = match (state.jobs.pop_front(), waker) {
                (Some((job, pushed)), waker) => (Next::Run(job, pushed), waker),
                (None, waker) if state.stage != Stage::Open => (Next::End, waker),
                (None, None) => (Next::Empty, None),
                // Checks and registers under one lock, so that no job is missed in between.
                (None, Some(waker)) => (Next::Sleep, state.executor.replace(waker)),
            };
        }
        drop(replaced);
        wakers.wake_all();
        next
    }

    /// Puts a source back that another queue runs now, and waits for the end of that run: jobs run in order.
    fn wait_for_other_queue(
        &self,
        source: Arc<dyn Deferred>,
        pushed: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Batch> {
        let waker = cx.waker().clone();
        let is_blocked = source.source().block(waker);
        let job = Job::Source(source);
        self.state.lock().jobs.push_front((job, pushed));
        match is_blocked {
            true => Poll::Pending,
            // That run has ended meanwhile.
            false => Poll::Ready(Batch::Full),
        }
    }

    /// Returns the number of jobs pushed so far.
    pub(super) fn pushed(&self) -> u64 {
        self.state.lock().pushed
    }

    /// Waits until `target` jobs have finished, or the queue is closed.
    pub(super) fn poll_finished(
        &self,
        target: u64,
        place: &mut Option<Place>,
        waker: Waker,
    ) -> Poll<()> {
        let mut state = self.state.lock();
        if state.finished >= target || state.stage == Stage::Closed {
            let kept = place.take().and_then(|place| state.waiting.remove(place));
            drop(state);
            drop((kept, waker));
            return Poll::Ready(());
        }
        let replaced = state.waiting.register(place, target, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn stop_waiting(&self, place: Place) {
        let waker = self.state.lock().waiting.remove(place);
        drop(waker);
    }

    /// Makes the executor end after the jobs that are left: the last handle was dropped.
    pub(super) fn detach(&self) {
        let executor = {
            let mut state = self.state.lock();
            if state.stage == Stage::Open {
                state.stage = Stage::Detached;
            }
            state.executor.take()
        };
        wake(executor);
    }

    /// Drops the jobs that are left and wakes all waiting tasks: the executor was dropped.
    pub(super) fn close(&self) {
        let mut wakers = WakeList::default();
        let (jobs, executor) = {
            let mut state = self.state.lock();
            state.stage = Stage::Closed;
            state.waiting.take_due(|_| true, &mut wakers);
            (mem::take(&mut state.jobs), state.executor.take())
        };
        drop(executor);
        for (job, _) in jobs {
            catch_panic("the drop of a deferred callback", || match job {
                Job::Once(f) => drop(f),
                Job::Source(source) => source.source().cancel(),
            });
        }
        wakers.wake_all();
    }
}

impl State {
    /// Counts a job that has run, and takes the wakers of the tasks that waited for it.
    fn count(&mut self, done: Done, wakers: &mut WakeList) {
        self.finished += 1;
        if self.jobs.is_empty() && self.jobs.capacity() > JOBS_KEPT {
            self.jobs.shrink_to(JOBS_KEPT);
        }
        let totals = &mut self.totals;
        totals.run += 1;
        totals.panicked += done.panicked;
        totals.wait_max = totals.wait_max.max(done.waited);
        totals.wait_total += done.waited;
        totals.run_max = totals.run_max.max(done.ran);
        totals.run_total += done.ran;
        let finished = self.finished;
        self.waiting.take_due(|target| target <= finished, wakers);
    }
}

/// Runs `job`, or returns its source if another queue runs that now.
fn run(job: Job, pushed: Instant, start: Instant) -> Result<Done, Arc<dyn Deferred>> {
    let mut runner = Runner::default();
    match job {
        Job::Once(f) => runner.call(f),
        Job::Source(source) => {
            if !source.source().start() {
                return Err(source);
            }
            let mut inner = Runner::default();
            runner.call(|| Arc::clone(&source).run(&mut inner));
            runner.add(inner);
            source.source().finish();
            // This may be the last reference to user code.
            runner.call(|| drop(source));
        }
    }
    let ended = Instant::now();
    Ok(Done {
        panicked: runner.panicked(),
        waited: start.saturating_duration_since(pushed),
        ran: ended.saturating_duration_since(start),
        ended,
    })
}

fn wake(executor: Option<Waker>) {
    if let Some(executor) = executor {
        catch_panic("a waker", || executor.wake());
    }
}
