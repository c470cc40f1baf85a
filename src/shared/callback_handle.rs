//! [`CallbackHandle`]: registering and removing callbacks.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    inner::{Callback, Inner, SharedEvBuffer, State},
    interest::Interest,
    notify::discard,
    wait::Look,
};
use crate::{DeferredQueue, sync::WakeList};

/// Removes its callback when it is dropped. Returned by [`SharedEvBuffer::on_change`] and similar methods.
///
/// Once it is dropped, the thread that dropped it does not start another run of the callback. A run that another thread
/// has started, or is about to start, is not waited for: use [`cancel`](Self::cancel) for that. The handle may be dropped
/// anywhere, also within the callback itself, but not while the same thread holds a guard of the buffer, whose lock it
/// takes.
#[must_use = "dropping it removes the callback"]
pub struct CallbackHandle {
    /// Weak, since a callback may own its handle.
    buffer: Weak<Inner>,
    id: u64,
}

impl CallbackHandle {
    /// Leaves the callback in place until the buffer has ended: it is closed and empty, or dropped.
    pub fn detach(mut self) {
        self.buffer = Weak::new();
    }

    /// Removes the callback and waits until no run of it is in progress on any thread, and it was dropped.
    ///
    /// Within the callback itself it never completes.
    ///
    /// # Cancel safety
    ///
    /// The callback is removed at the latest when the future is dropped; only the wait is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio_evbuffer::BufferError> {
    /// let buffer = SharedEvBuffer::new();
    /// let resource = Arc::new(Mutex::new(0));
    /// let used = Arc::clone(&resource);
    /// let handle = buffer.on_change(move |_, change| *used.lock().unwrap() += change.added);
    /// buffer.add(b"data")?;
    ///
    /// handle.cancel().await;
    /// assert_eq!(Arc::strong_count(&resource), 1); // the callback is gone
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_remove_cb_entry")]
    pub async fn cancel(self) {
        let Some(inner) = self.buffer.upgrade() else {
            return;
        };
        let id = self.id;
        drop(self);
        let buffer = SharedEvBuffer { inner };
        Look::new(&buffer, |guard| {
            match guard.state().is_callback_running(id) {
                false => Ok(()),
                true => Err(Interest::CallbackReturned(id)),
            }
        })
        .await
    }

    /// Disables the callback, or enables it again.
    ///
    /// It is not notified of what happens while it is disabled, also not later.
    #[doc(alias("evbuffer_cb_set_flags", "evbuffer_cb_clear_flags"))]
    #[doc(alias("evbuffer_cb_suspend", "evbuffer_cb_unsuspend"))]
    pub fn set_enabled(&self, on: bool) {
        if let Some(inner) = self.buffer.upgrade() {
            let mut state = inner.state.lock();
            let now = state.totals();
            let observers = state.observers_mut();
            let crossing = observers.tracker.latest();
            let callbacks = observers.callbacks.get_or_insert_default();
            callbacks.set_enabled(self.id, on, now, crossing);
        }
    }
}

impl Drop for CallbackHandle {
    #[doc(alias = "evbuffer_remove_cb")]
    fn drop(&mut self) {
        if let Some(inner) = self.buffer.upgrade() {
            let removed = inner.state.lock().callbacks_mut().remove(self.id);
            discard(removed);
        }
    }
}

impl fmt::Debug for CallbackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl State {
    fn is_callback_running(&self, id: u64) -> bool {
        let callbacks = self
            .observers
            .as_ref()
            .and_then(|observers| observers.callbacks.as_ref());
        callbacks.is_some_and(|callbacks| callbacks.is_running(id))
    }

    /// The removed callback has returned and was dropped: wakes the tasks that wait for that.
    pub(super) fn callback_dropped(&mut self, id: u64, wakers: &mut WakeList) {
        self.callbacks_mut().dropped(id);
        let waiters = &mut self.observers_mut().waiters;
        waiters.take_due(
            |interest| interest == Interest::CallbackReturned(id),
            wakers,
        );
    }
}

impl SharedEvBuffer {
    pub(super) fn register(&self, callback: Callback) -> CallbackHandle {
        let mut state = self.inner.state.lock();
        let now = state.totals();
        if now.is_final() {
            drop(state);
            discard([callback]);
            return CallbackHandle {
                buffer: Weak::new(),
                id: 0,
            };
        }
        let observers = state.observers_mut();
        let callbacks = observers.callbacks.get_or_insert_default();
        if !callbacks.want_crossings() {
            observers.tracker.skip_pending();
        }
        CallbackHandle {
            buffer: Arc::downgrade(&self.inner),
            id: callbacks.add(callback, now, observers.tracker.latest()),
        }
    }

    /// Makes sure that there is an open queue for deferred callbacks.
    #[track_caller]
    pub(super) fn bind(&self) {
        if self.queue().is_some_and(|queue| !queue.is_closed()) {
            return;
        }
        // Without the lock: to make a queue spawns its executor.
        match DeferredQueue::try_current() {
            Ok(queue) => self.defer_to(queue),
            // A queue was chosen. It may be replaced later.
            Err(_) if self.queue().is_some() => {}
            Err(_) => panic!(
                "there is no current Tokio runtime whose queue could run this callback: choose a queue with `defer_to`"
            ),
        }
    }
}
