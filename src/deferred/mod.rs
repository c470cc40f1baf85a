//! Callbacks that run later: [`DeferredQueue`], one for each runtime.
//!
//! A change to a buffer must not run user code in the middle of whatever made the change. So it only notes that there
//! is something to tell, and an executor, a task of the runtime, tells it soon after, with no lock held.

mod drained;
mod executor;
#[cfg(all(test, loom))]
pub(crate) mod loom;
mod queue;
mod registry;
mod schedule;

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;

pub(crate) use schedule::{Deferred, Runner, Source};

use drained::Ticket;
use executor::Closing;
use queue::{Core, Job};

/// The queue of the deferred callbacks of one runtime: a handle, cheap to clone.
///
/// Each runtime has one queue, found by [`current`](Self::current) or [`of`](Self::of). Its executor is a task that
/// is spawned on that runtime when the queue is first asked for. What is on the queue runs in the order in which it came, one
/// after another, at most 32 in a row before other tasks have their turn.
///
/// A source of changes, such as a `SharedEvBuffer`, is on the queue at most once: changes
/// made while it waits are merged into one run.
///
/// What runs here never runs within the call that caused it, never with a lock of this crate held, and the same
/// source never runs twice at once. A panic is caught, counted in [`metrics`](Self::metrics) and reported as an error
/// through [`tracing`]; the queue goes on.
///
/// # One after another
///
/// A callback that takes long delays all that are queued behind it, and one that blocks occupies a worker of the
/// runtime. The remedy is a further queue, made by [`spawn_on`](Self::spawn_on), which runs beside the first.
///
/// # The end
///
/// When the runtime shuts down, the queue is closed: what is queued is dropped, and [`defer`](Self::defer) is
/// [`QueueClosed`] from then on. Nothing keeps a runtime alive here.
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
    anchor: Arc<Anchor>,
}

/// What handles share among themselves: the last one to go tells the executor.
struct Anchor {
    core: Arc<Core>,
}

impl Anchor {
    fn new() -> Self {
        Self {
            core: Arc::new(Core::new()),
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.core.orphan();
    }
}

impl DeferredQueue {
    /// Returns the queue of the runtime around.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`Handle::current`] does. [`try_current`](Self::try_current) does not.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        Self::of(&Handle::current())
    }

    /// Returns the queue of the runtime around.
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
        registry::queue_of(handle)
    }

    /// Makes a further queue, with an executor of its own, on the runtime of `handle`.
    ///
    /// Callbacks then use more than one core, and slow ones do not delay those of the first queue. When the last handle to it
    /// is dropped, what is queued still runs, and then the executor ends.
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
        let anchor = Anchor::new();
        handle.spawn(executor::run(Closing::unregistered(&anchor)));
        Self {
            anchor: Arc::new(anchor),
        }
    }

    /// Queues `f`, to be called once.
    ///
    /// # Errors
    ///
    /// [`QueueClosed`] if the runtime has shut down. `f` is dropped then, without having been called.
    #[doc(alias = "event_deferred_cb_schedule_")]
    pub fn defer(&self, f: impl FnOnce() + Send + 'static) -> Result<(), QueueClosed> {
        match self.core().push(Job::Once(Box::new(f))) {
            Ok(sleeper) => {
                sleeper.into_iter().for_each(Waker::wake);
                Ok(())
            }
            Err(_refused) => Err(QueueClosed),
        }
    }

    /// Waits until all that was queued before this call has run.
    ///
    /// It does not wait for what those runs queue in turn. At once if nothing is queued or the queue is closed, and as
    /// soon as it is closed.
    ///
    /// # Cancel safety
    ///
    /// What counts as queued is settled by the call, not by the first poll. Dropping the future changes nothing for
    /// the queue.
    pub fn drained(&self) -> Drained {
        Drained {
            target: self.core().pushed(),
            core: Arc::clone(self.core()),
            ticket: None,
        }
    }

    /// Returns what the queue has done so far.
    #[must_use]
    pub fn metrics(&self) -> QueueMetrics {
        self.core().metrics()
    }

    /// Has `this` run after this call. If it waits already, the change is left to that run.
    pub(crate) fn schedule<T: Deferred>(&self, this: &Arc<T>) {
        if this.source().is_queued() {
            return self.core().count_merged();
        }
        let sleeper = self.core().enqueue(Arc::clone(this) as Arc<dyn Deferred>);
        sleeper.into_iter().for_each(Waker::wake);
    }

    /// The same for one who holds the lock that a run takes before it looks: what it returns is to be woken after that.
    #[inline]
    #[must_use]
    pub(crate) fn enqueue<T: Deferred>(&self, this: &Arc<T>) -> Option<Waker> {
        if this.source().is_queued_under_lock() {
            self.core().count_merged();
            return None;
        }
        self.core().enqueue(Arc::clone(this) as Arc<dyn Deferred>)
    }

    /// Counts a panic of a callback that ran inline.
    pub(crate) fn count_panic(&self) {
        self.core().count_panic();
    }

    fn core(&self) -> &Arc<Core> {
        &self.anchor.core
    }

    #[cfg(all(test, not(loom)))]
    fn is_closed(&self) -> bool {
        self.core().is_closed()
    }
}

impl fmt::Debug for DeferredQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredQueue")
            .field("closed", &self.core().is_closed())
            .field("metrics", &self.metrics())
            .finish()
    }
}

/// What a [`DeferredQueue`] has done, and has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMetrics {
    /// Sources and one-shot callbacks that wait now.
    pub depth: usize,
    /// The most that ever waited.
    pub peak: usize,
    /// Runs that have ended.
    pub run: u64,
    /// Changes that were merged into a run that was waiting already.
    pub merged: u64,
    /// Panics that were caught.
    pub panicked: u64,
}

/// The future of [`DeferredQueue::drained`].
#[must_use = "futures do nothing unless polled"]
pub struct Drained {
    core: Arc<Core>,
    target: u64,
    ticket: Option<Ticket>,
}

impl Future for Drained {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.core.poll_finished(this.target, &mut this.ticket, cx)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.forget(ticket);
        }
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}

/// There is no runtime around. [`io::ErrorKind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRuntime;

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not within a Tokio runtime")
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
