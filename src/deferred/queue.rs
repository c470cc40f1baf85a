//! [`DeferredQueue`]: the handle to a queue of deferred callbacks.

use std::{error::Error, fmt, io, sync::Arc, task::Waker, time::Duration};

use tokio::runtime::Handle;

use super::{
    Deferred, Drained,
    jobs::{Job, JobQueue},
    registry::{self, DetachOnDrop},
};

/// The queue of the deferred callbacks of one runtime: a handle, cheap to clone.
///
/// Each runtime has one queue, returned by [`current`](Self::current) or [`of`](Self::of). Its executor is a task that is
/// spawned on that runtime when the queue is first used. Callbacks run in the order in which they were queued, one after
/// another, and at most 32 in a row before the executor yields to other tasks.
///
/// A source of changes, such as a [`SharedEvBuffer`](crate::SharedEvBuffer), is on the queue at most once: changes that
/// are made while it waits are merged into one run. The number of one-shot callbacks ([`defer`](Self::defer)) is not
/// limited; the memory of a burst is released when the queue is empty again.
///
/// A callback never runs within the call that caused it and never with a lock of this crate held. The same source never
/// runs twice at once. A panic is caught, counted in [`metrics`](Self::metrics) and reported as an error through
/// [`tracing`]; the queue continues.
///
/// # Slow callbacks
///
/// A callback that takes long delays all that are queued behind it, and one that blocks occupies a worker thread of the
/// runtime. Use a further queue for those, made by [`spawn_on`](Self::spawn_on): it runs beside the first.
/// [`QueueMetrics::wait_max`] and [`QueueMetrics::run_max`] show how late callbacks start and how long they take.
///
/// # Shutdown
///
/// When the runtime shuts down, the queue is closed: queued callbacks are dropped, and [`defer`](Self::defer) fails with
/// [`QueueClosed`] from then on. A queue does not keep its runtime alive.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
/// use tokio_evbuffer::DeferredQueue;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tokio_evbuffer::deferred::QueueClosed> {
/// let queue = DeferredQueue::current();
/// let ran = Arc::new(AtomicBool::new(false));
///
/// let flag = Arc::clone(&ran);
/// queue.defer(move || flag.store(true, Ordering::Relaxed))?;
/// assert!(!ran.load(Ordering::Relaxed)); // not within this call
///
/// queue.drained().await;
/// assert!(ran.load(Ordering::Relaxed));
/// assert_eq!(queue.metrics().run, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "event_base")]
#[doc(alias = "evbuffer_defer_callbacks")]
pub struct DeferredQueue {
    shared: Arc<DetachOnDrop>,
}

impl DeferredQueue {
    /// Returns the queue of the current runtime.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`Handle::current`] does. [`try_current`](Self::try_current) does not.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        Self::of(&Handle::current())
    }

    /// Returns the queue of the current runtime.
    ///
    /// # Errors
    ///
    /// [`NoRuntime`] outside a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{DeferredQueue, deferred::NoRuntime};
    ///
    /// assert_eq!(DeferredQueue::try_current().err(), Some(NoRuntime));
    /// ```
    pub fn try_current() -> Result<Self, NoRuntime> {
        match Handle::try_current() {
            Ok(handle) => Ok(Self::of(&handle)),
            Err(_) => Err(NoRuntime),
        }
    }

    /// Returns the queue of the runtime that `handle` belongs to.
    ///
    /// The queue of a runtime that is gone is closed.
    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        Self {
            shared: registry::queue_of(handle),
        }
    }

    /// Makes a further queue, with its own executor, on the runtime of `handle`.
    ///
    /// Callbacks then use more than one core, and slow ones do not delay those of the first queue. When the last handle is
    /// dropped, the queued callbacks still run, and then the executor ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::runtime::Handle;
    /// use tokio_evbuffer::DeferredQueue;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio_evbuffer::deferred::QueueClosed> {
    /// let slow = DeferredQueue::spawn_on(&Handle::current());
    /// slow.defer(|| { /* takes its time */ })?;
    /// slow.drained().await;
    /// assert_eq!(slow.metrics().run, 1);
    /// assert_eq!(DeferredQueue::current().metrics().run, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn spawn_on(handle: &Handle) -> Self {
        Self {
            shared: registry::spawn_on(handle),
        }
    }

    #[cfg(all(test, loom))]
    pub(super) fn without_executor() -> Self {
        Self {
            shared: Arc::new(DetachOnDrop::new()),
        }
    }

    /// Queues `f`, to be called once.
    ///
    /// The queue is not bounded. A caller that may be faster than the runtime limits itself, for instance by
    /// [`drained`](Self::drained).
    ///
    /// # Errors
    ///
    /// [`QueueClosed`] if the runtime has shut down. `f` is then dropped without being called.
    #[doc(alias = "event_deferred_cb_schedule_")]
    pub fn defer(&self, f: impl FnOnce() + Send + 'static) -> Result<(), QueueClosed> {
        match self.jobs().push(Job::Once(Box::new(f))) {
            Ok(executor) => {
                executor.into_iter().for_each(Waker::wake);
                Ok(())
            }
            Err(_refused) => Err(QueueClosed),
        }
    }

    /// Waits until all callbacks that were queued before this call have run.
    ///
    /// It does not wait for what those callbacks queue in turn. It returns at once if nothing is queued, and as soon as
    /// the queue is closed.
    ///
    /// # Cancel safety
    ///
    /// The call itself, not the first poll, determines which callbacks count. Dropping the future changes nothing for the
    /// queue.
    pub fn drained(&self) -> Drained {
        Drained::new(self.jobs())
    }

    /// Returns what the queue has done so far.
    #[must_use]
    pub fn metrics(&self) -> QueueMetrics {
        let counts = self.jobs().counts();
        QueueMetrics {
            depth: counts.depth,
            peak: counts.peak,
            run: counts.totals.run,
            merged: counts.merged,
            panicked: counts.totals.panicked,
            wait_max: counts.totals.wait_max,
            wait_total: counts.totals.wait_total,
            run_max: counts.totals.run_max,
            run_total: counts.totals.run_total,
        }
    }

    /// Schedules a run of `source`. If one is queued already, the change is merged into it.
    pub(crate) fn schedule<T: Deferred>(&self, source: &Arc<T>) {
        if source.source().is_queued() {
            return self.jobs().count_merged();
        }
        let executor = self
            .jobs()
            .push_source(Arc::clone(source) as Arc<dyn Deferred>);
        executor.into_iter().for_each(Waker::wake);
    }

    /// Schedules a run of `source` on this queue, also if one is queued on another.
    pub(crate) fn schedule_here<T: Deferred>(&self, source: &Arc<T>) {
        let executor = self
            .jobs()
            .push_here(Arc::clone(source) as Arc<dyn Deferred>);
        executor.into_iter().for_each(Waker::wake);
    }

    /// Schedules as [`schedule`](Self::schedule) does, for a caller that holds the lock that each run takes before it
    /// looks for changes. Returns the waker of the executor, to be woken after the lock.
    #[inline]
    #[must_use]
    pub(crate) fn schedule_under_lock<T: Deferred>(&self, source: &Arc<T>) -> Option<Waker> {
        if source.source().is_queued_under_lock() {
            self.jobs().count_merged();
            return None;
        }
        self.jobs()
            .push_source(Arc::clone(source) as Arc<dyn Deferred>)
    }

    /// Counts a panic of a callback that ran inline.
    pub(crate) fn count_panic(&self) {
        self.jobs().count_panic();
    }

    /// Returns whether the runtime of the queue has shut down.
    pub(crate) fn is_closed(&self) -> bool {
        self.jobs().is_closed()
    }

    pub(super) fn jobs(&self) -> &Arc<JobQueue> {
        &self.shared.jobs
    }
}

impl fmt::Debug for DeferredQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredQueue")
            .field("closed", &self.is_closed())
            .field("metrics", &self.metrics())
            .finish()
    }
}

/// What a [`DeferredQueue`] has done, and has to do.
///
/// Times are measured by the system's monotonic clock, also where the clock of Tokio is paused.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::DeferredQueue;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = DeferredQueue::current();
/// queue.defer(|| println!("first"))?;
/// queue.defer(|| println!("second"))?;
/// assert_eq!(queue.metrics().depth, 2);
///
/// queue.drained().await;
/// let metrics = queue.metrics();
/// assert_eq!((metrics.run, metrics.depth, metrics.peak), (2, 0, 2));
/// assert!(metrics.wait_max <= metrics.wait_total);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMetrics {
    /// Sources and one-shot callbacks that are queued now.
    pub depth: usize,
    /// The most that were ever queued at once.
    pub peak: usize,
    /// Runs that have ended.
    pub run: u64,
    /// Changes that were merged into a run that was queued already.
    pub merged: u64,
    /// Panics that were caught.
    pub panicked: u64,
    /// The longest time that a run was queued before it started.
    pub wait_max: Duration,
    /// The time that all runs were queued before they started.
    pub wait_total: Duration,
    /// The longest time that a run took.
    pub run_max: Duration,
    /// The time that all runs took.
    pub run_total: Duration,
}

/// There is no current Tokio runtime. [`io::ErrorKind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // The name says everything.
pub struct NoRuntime;

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no current Tokio runtime")
    }
}

impl Error for NoRuntime {}

impl From<NoRuntime> for io::Error {
    fn from(error: NoRuntime) -> Self {
        io::Error::other(error)
    }
}

/// The runtime of the queue has shut down. [`io::ErrorKind::BrokenPipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // The name says everything.
pub struct QueueClosed;

impl fmt::Display for QueueClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue of deferred callbacks is closed")
    }
}

impl Error for QueueClosed {}

impl From<QueueClosed> for io::Error {
    fn from(error: QueueClosed) -> Self {
        io::Error::new(io::ErrorKind::BrokenPipe, error)
    }
}
