//! What every user of a [`SharedEvBuffer`] needs: making, locking, callbacks, watermarks, closing.

use std::{
    fmt, io,
    sync::{Arc, Weak},
};

use super::{
    BufferGuard, CallbackHandle, Change, Crossing, Reader, Writer,
    inner::{Callback, ChangeHook, Inner, SharedEvBuffer, State},
    lock::BufferLock,
    notify::Notifications,
    watermarks::Watermarks,
};
use crate::{
    DeferredQueue, EvBuffer,
    buffer::End,
    deferred::Source,
    limits::{MemoryBudget, budget::Account},
    sync::WakeList,
};

impl Default for SharedEvBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl From<EvBuffer> for SharedEvBuffer {
    fn from(buffer: EvBuffer) -> Self {
        let inner = Arc::new(Inner {
            state: BufferLock::new(State::new(buffer)),
            source: Source::new(),
        });
        // Attached at its final place in memory.
        inner.state.lock().attach(0, 0);
        Self { inner }
    }
}

impl SharedEvBuffer {
    /// Makes an empty buffer.
    #[must_use]
    pub fn new() -> Self {
        EvBuffer::new().into()
    }

    /// Locks the buffer. Everything that is done until the guard is dropped is one change.
    ///
    /// The lock is not re-entrant: locking it again in the same thread deadlocks. See [`BufferGuard`].
    ///
    /// It is made for short sections: a thread that waits for it spins, yields, and then sleeps for at most 1 ms at a time.
    #[inline]
    pub fn lock(&self) -> BufferGuard<'_> {
        BufferGuard::new(self, self.inner.state.lock())
    }

    /// Locks the buffer, unless it is locked now.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// let buffer = SharedEvBuffer::new();
    /// let guard = buffer.lock();
    /// assert!(buffer.try_lock().is_none());
    /// drop(guard);
    /// assert!(buffer.try_lock().is_some());
    /// ```
    pub fn try_lock(&self) -> Option<BufferGuard<'_>> {
        Some(BufferGuard::new(self, self.inner.state.try_lock()?))
    }

    /// Returns whether both are handles to the same buffer.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns a handle that does not keep the buffer alive.
    ///
    /// A callback that uses another buffer, whose callbacks use this one, keeps both alive until they have ended. With weak
    /// handles it does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// let buffer = SharedEvBuffer::new();
    /// let weak = buffer.downgrade();
    /// assert!(weak.upgrade().is_some_and(|other| other.ptr_eq(&buffer)));
    /// drop(buffer);
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakEvBuffer {
        WeakEvBuffer {
            inner: Arc::downgrade(&self.inner),
        }
    }

    /// Calls `f` after changes: soon, from the executor of a [`DeferredQueue`], with no lock held.
    ///
    /// Changes that are made before the call are merged into it, so there is at most one call for each run of the queue. The
    /// callback is notified of what happened since it was registered, and of the end: when the buffer is closed, it is
    /// called even if the contents have not changed. Callbacks run in the order of registration, and never two of one buffer
    /// at once. They are dropped with their handle, or when the buffer has ended: closed and empty.
    ///
    /// Without [`defer_to`](Self::defer_to) the buffer uses the current runtime's queue, until that runtime shuts down. `f`
    /// may do anything with the buffer: edit it, close it, drop its own handle. A panic in it is caught, reported and
    /// counted, and the callback stays registered. A callback that blocks delays all callbacks of its queue.
    ///
    /// # Panics
    ///
    /// Outside a runtime, if no queue was chosen before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tokio_evbuffer::{DeferredQueue, SharedEvBuffer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio_evbuffer::BufferError> {
    /// let buffer = SharedEvBuffer::new();
    /// let added = Arc::new(Mutex::new(Vec::new()));
    ///
    /// let log = Arc::clone(&added);
    /// let _handle = buffer.on_change(move |_, change| log.lock().unwrap().push(change.added));
    /// buffer.add(b"three")?;
    /// buffer.add(b" pieces")?;
    /// buffer.add(b" at once")?;
    /// assert!(added.lock().unwrap().is_empty()); // not within the call
    ///
    /// DeferredQueue::current().drained().await;
    /// assert_eq!(*added.lock().unwrap(), [20]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_add_cb")]
    #[doc(alias = "evbuffer_setcb")]
    #[track_caller]
    pub fn on_change(
        &self,
        f: impl FnMut(&SharedEvBuffer, Change) + Send + 'static,
    ) -> CallbackHandle {
        self.bind();
        self.register(Callback::Deferred(Box::new(f)))
    }

    /// Calls `f` after each change, before the call that made the change returns. Also at the end, as
    /// [`on_change`](Self::on_change).
    ///
    /// If another call delivers for this buffer now, on another thread or further up this stack, that call delivers this
    /// change, too, merged with others that are made meanwhile. So calls do not nest: a callback may edit the buffer, and is
    /// notified of that change after it has returned. A call delivers about 128 changes of others at most; the rest is
    /// delivered by the next call that makes a change, or by the deferred queue of the buffer or of the current runtime, or,
    /// where there is none, by a separate thread.
    ///
    /// `f` runs in the thread that made the change, with no lock of this crate held. Locks that you hold around the change
    /// are held while `f` runs.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// let buffer = SharedEvBuffer::new();
    /// let added = Arc::new(AtomicU64::new(0));
    /// let count = Arc::clone(&added);
    /// buffer
    ///     .on_change_inline(move |_, change| {
    ///         count.fetch_add(change.added, Ordering::Relaxed);
    ///     })
    ///     .detach();
    /// buffer.add(b"data")?;
    /// assert_eq!(added.load(Ordering::Relaxed), 4);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "EVBUFFER_CB_NODEFER")]
    pub fn on_change_inline(
        &self,
        f: impl FnMut(&SharedEvBuffer, Change) + Send + 'static,
    ) -> CallbackHandle {
        self.register(Callback::Inline(Box::new(f)))
    }

    /// Calls `f` when the length crosses one of the [watermarks](Self::set_watermarks), before the call that made it cross
    /// returns.
    ///
    /// Delivered as by [`on_change_inline`](Self::on_change_inline), before those callbacks, in the order of the crossings.
    /// A High and a Low that could not be delivered at once cancel out, so at most one crossing of each kind is pending. The
    /// callback is notified of crossings since it was registered.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tokio_evbuffer::{SharedEvBuffer, Watermarks, shared::Crossing};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.set_watermarks(Watermarks::new(2, 8)?);
    /// let crossings = Arc::new(Mutex::new(Vec::new()));
    /// let log = Arc::clone(&crossings);
    /// buffer
    ///     .on_watermark(move |_, crossing| log.lock().unwrap().push(crossing))
    ///     .detach();
    ///
    /// buffer.add(b"12345678")?;
    /// buffer.drain(3)?; // between the watermarks: no crossing
    /// buffer.drain(3)?;
    /// assert_eq!(
    ///     *crossings.lock().unwrap(),
    ///     [Crossing::High { len: 8 }, Crossing::Low { len: 2 }]
    /// );
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn on_watermark(
        &self,
        f: impl FnMut(&SharedEvBuffer, Crossing) + Send + 'static,
    ) -> CallbackHandle {
        self.register(Callback::Watermark(Box::new(f)))
    }

    /// Sets the watermarks on the length, and reports at once if they are crossed.
    ///
    /// [`Crossing::Low`] is also reported when the watermarks are removed, or raised above the length, after a High. Writers
    /// that have stopped then continue.
    ///
    /// Watermarks stop a [`Writer`]; they refuse nothing. A hard cap is [`EvBuffer::set_max_len`]. Callbacks run before this
    /// returns, with the locks held that you hold around it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio::io::AsyncWriteExt;
    /// # use tokio_evbuffer::{SharedEvBuffer, Watermarks};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.set_watermarks(Watermarks::new(2, 4)?);
    /// assert_eq!(buffer.writer().write(b"123456").await?, 4); // up to the high watermark
    /// buffer.add("56")?; // not stopped by it
    /// assert_eq!(buffer.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn set_watermarks(&self, watermarks: Watermarks) {
        let mut guard = self.lock();
        let state = guard.state_mut();
        if state.observers.is_none() && watermarks == Watermarks::NONE {
            return;
        }
        let len = state.buffer.len();
        state.observers_mut().tracker.set(watermarks, len);
        state.buffer.request_check();
    }

    /// Returns the watermarks.
    #[doc(alias = "bufferevent_getwatermark")]
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        self.inner.state.lock().watermarks()
    }

    /// Chooses the queue on which the deferred callbacks of this buffer run.
    ///
    /// What they were not notified of yet is scheduled on the new queue. A run that is queued or in progress on the old one
    /// may still happen there; two runs never happen at once. A queue whose runtime is gone drops notifications silently;
    /// [`on_change`](Self::on_change) and this method replace it.
    #[doc(alias = "evbuffer_defer_callbacks")]
    pub fn defer_to(&self, queue: DeferredQueue) {
        let (earlier, has_pending) = {
            let mut state = self.inner.state.lock();
            let now = state.totals();
            let observers = state.observers_mut();
            let callbacks = observers.callbacks.as_ref();
            let has_pending =
                callbacks.is_some_and(|callbacks| callbacks.has_pending_deferred(now));
            (observers.queue.replace(queue.clone()), has_pending)
        };
        drop(earlier);
        if has_pending {
            queue.schedule_here(&self.inner);
        }
    }

    /// Returns a reader that takes bytes from the front.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone(), false)
    }

    /// Returns a writer that adds bytes at the back and waits at the high watermark.
    pub fn writer(&self) -> Writer {
        Writer::new(self.clone(), false)
    }

    /// Ends the stream: nothing can be added any more, permanently.
    ///
    /// Readers take the bytes that are left and then see the end. A wait that can no longer come true fails with
    /// [`WaitError::Closed`](super::WaitError::Closed). Callbacks are notified; they are dropped once the buffer is empty,
    /// too.
    pub fn close(&self) {
        self.end(None);
    }

    /// Ends the stream with `error`: nothing can be added any more, permanently.
    ///
    /// Readers take the bytes that are left and then get an error of the same kind, with the same
    /// [`raw_os_error`](io::Error::raw_os_error). A wait that can no longer come true fails with
    /// [`WaitError::Stream`](super::WaitError::Stream). Only the first of several calls of this and of
    /// [`close`](Self::close) has an effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use tokio::io::AsyncReadExt;
    /// use tokio_evbuffer::{SharedEvBuffer, shared::WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"half an ans").unwrap();
    /// buffer.close_with(io::ErrorKind::ConnectionReset.into());
    ///
    /// let mut read = Vec::new();
    /// let error = buffer.reader().read_to_end(&mut read).await.unwrap_err();
    /// assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    /// assert_eq!(read, b"half an ans");
    /// assert!(matches!(buffer.readable(1).await, Err(WaitError::Stream(_))));
    /// # }
    /// ```
    pub fn close_with(&self, error: io::Error) {
        self.close_with_arc(Arc::new(error));
    }

    /// Closes as [`close_with`](Self::close_with) does, with an error that others share.
    pub(crate) fn close_with_arc(&self, error: Arc<io::Error>) {
        self.end(Some(error));
    }

    fn end(&self, error: Option<Arc<io::Error>>) {
        let mut notifications = Notifications::default();
        {
            let mut state = self.inner.state.lock();
            let before = state.position();
            if !state.set_closed(error) {
                return;
            }
            state.notify(before, &self.inner, &mut notifications);
        }
        notifications.send(self);
    }

    /// Returns whether the buffer was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.state.lock().is_closed()
    }

    /// Makes the memory of this buffer count for `budget`, as long as the buffer lives. A later call replaces the budget for
    /// memory that comes in from then on.
    ///
    /// A budget stops connections from reading; a buffer alone never refuses bytes for it. [`Holder::abort`] closes the
    /// buffer with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) and discards its contents.
    ///
    /// [`Holder::abort`]: crate::limits::Holder::abort
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{SharedEvBuffer, limits::MemoryBudget};
    ///
    /// let budget = MemoryBudget::new(1 << 20);
    /// let buffer = SharedEvBuffer::new();
    /// buffer.set_budget(&budget);
    /// buffer.add_reference(vec![7; 5000])?;
    /// assert_eq!(budget.used(), 5000);
    /// assert_eq!(budget.largest(1)[0].bytes(), 5000);
    /// buffer.drain(5000)?;
    /// assert_eq!(budget.used(), 0);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn set_budget(&self, budget: &MemoryBudget) {
        let buffer = self.downgrade();
        let abort = move || {
            if let Some(buffer) = buffer.upgrade() {
                buffer.close_with(io::ErrorKind::ConnectionAborted.into());
                buffer.discard_all();
            }
        };
        self.set_account(budget.open_account(None, abort));
    }

    /// Returns the queue that was chosen.
    pub(crate) fn queue(&self) -> Option<DeferredQueue> {
        let state = self.inner.state.lock();
        state.observers.as_ref()?.queue.clone()
    }
}

/// For the connection that owns the buffer.
impl SharedEvBuffer {
    /// Freezes one end for all but the owner.
    pub(crate) fn set_owner_frozen(&self, end: End, on: bool) {
        self.inner.state.lock().set_owner_frozen(end, on);
    }

    /// Notifies `hook` of each change. There is at most one hook.
    pub(crate) fn set_hook(&self, hook: Arc<dyn ChangeHook>) {
        self.inner.state.lock().set_hook(hook);
    }

    /// Returns whether the high watermark was reached, and the low one not since.
    pub(crate) fn is_high(&self) -> bool {
        self.inner.state.lock().is_high()
    }

    /// Wakes all waiting tasks after a change outside the buffer.
    pub(crate) fn wake_all(&self) {
        let mut wakers = WakeList::default();
        self.inner.state.lock().wake_all(&mut wakers);
        wakers.wake_all();
    }

    /// Makes the memory of this buffer count for the account of the connection that it belongs to.
    pub(crate) fn set_account(&self, account: Arc<Account>) {
        self.lock().state_mut().set_account(account);
    }

    /// Drops the contents, which no reader will take. A wait for them to be drained fails.
    pub(crate) fn discard_all(&self) {
        let contents = self.take_all();
        crate::panic::catch_panic("the owner of released memory", || drop(contents));
    }

    /// Takes the contents out, which will not be delivered. A wait for them to be drained fails.
    pub(crate) fn take_all(&self) -> EvBuffer {
        self.lock().state_mut().discard_all()
    }

    /// Closes the buffer of an output whose contents will not be written. They stay, and a wait for them to be drained
    /// fails.
    pub(crate) fn give_up(&self) {
        self.close();
        let mut wakers = WakeList::default();
        self.inner.state.lock().give_up(&mut wakers);
        wakers.wake_all();
    }
}

impl fmt::Debug for SharedEvBuffer {
    /// Takes no lock, so that it may be printed under a guard.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedEvBuffer")
            .field("at", &Arc::as_ptr(&self.inner))
            .finish_non_exhaustive()
    }
}

/// A handle to a [`SharedEvBuffer`] that does not keep it alive, returned by
/// [`downgrade`](SharedEvBuffer::downgrade).
#[derive(Clone)]
pub struct WeakEvBuffer {
    inner: Weak<Inner>,
}

impl WeakEvBuffer {
    /// Returns the buffer, unless it was dropped.
    #[must_use]
    pub fn upgrade(&self) -> Option<SharedEvBuffer> {
        let inner = self.inner.upgrade()?;
        Some(SharedEvBuffer { inner })
    }
}

impl fmt::Debug for WeakEvBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakEvBuffer").finish_non_exhaustive()
    }
}
