//! Calling the callbacks: inline ones within the call that changed the buffer, ordinary ones from the queue.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Inner, SharedEvBuffer,
    callbacks::{Callback, Callbacks, ChangeCall, Delivery},
    state::State,
};
use crate::{
    DeferredQueue,
    deferred::{Deferred, Runner, Source},
    panic::catch_panic,
};

/// Removes its callback when it is dropped, had from [`SharedEvBuffer::on_change`] and the like.
///
/// To drop it does not wait for a run that has begun; no run begins after it. It may be dropped anywhere, also within the
/// callback itself, but not under a guard of the buffer, whose lock it takes.
#[must_use = "dropping it removes the callback"]
pub struct CallbackHandle {
    /// Weak: a callback may own its own handle.
    buffer: Weak<Inner>,
    id: u64,
}

impl CallbackHandle {
    /// Leaves the callback in place for as long as the buffer lives.
    pub fn detach(mut self) {
        self.buffer = Weak::new();
    }

    /// Silences the callback, or lets it speak again.
    ///
    /// What happens while it is silent is not told later: it goes on from the moment at which it is enabled.
    #[doc(alias = "evbuffer_cb_set_flags")]
    #[doc(alias = "evbuffer_cb_clear_flags")]
    pub fn set_enabled(&self, on: bool) {
        if let Some(inner) = self.buffer.upgrade() {
            let mut state = inner.state.lock();
            let now = state.totals();
            state.callbacks_mut().set_enabled(self.id, on, now);
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

/// Drops a callback that was removed, with whatever it owns. No lock may be held.
#[inline]
fn discard(removed: Option<Callback>) {
    if let Some(callback) = removed {
        catch_panic("the drop of a callback", || drop(callback));
    }
}

impl SharedEvBuffer {
    pub(super) fn register(&self, callback: Callback) -> CallbackHandle {
        let mut state = self.inner.state.lock();
        let now = state.totals();
        let rare = state.rare_mut();
        let callbacks = rare.callbacks.get_or_insert_default();
        if !callbacks.has_watermark() {
            // What was crossed before anybody listened is not told.
            rare.gauge.forget_news();
        }
        CallbackHandle {
            buffer: Arc::downgrade(&self.inner),
            id: callbacks.add(callback, now),
        }
    }

    /// Sees to it that there is a queue for ordinary callbacks.
    #[track_caller]
    pub(super) fn bind(&self) {
        if self.queue().is_some() {
            return;
        }
        // Without the lock: making a queue spawns its executor.
        let Ok(queue) = DeferredQueue::try_current() else {
            panic!(
                "there is no Tokio runtime around, whose queue could run this callback: \
                 choose one with `defer_to` before"
            );
        };
        let mut state = self.inner.state.lock();
        // A queue of a runtime is kept by its executor, too: dropping the handle, if another was quicker, is nothing.
        state.rare_mut().queue.get_or_insert(queue);
    }

    /// Calls the inline callbacks that have something to be told, from `next` on, also what comes meanwhile.
    pub(super) fn deliver(&self, mut next: Option<Delivery>) {
        while let Some(mut call) = next {
            if !catch_panic("an inline callback", || call.make(self)) {
                self.count_panic();
            }
            next = self.next_delivery(call);
        }
    }

    pub(super) fn next_delivery(&self, made: Delivery) -> Option<Delivery> {
        let (removed, next) = self.inner.state.lock().next_delivery(made);
        discard(removed);
        next
    }

    /// Calls the ordinary callbacks that have something to be told, from `next` on.
    pub(super) fn run_deferred(&self, mut next: Option<ChangeCall>, runner: &mut Runner) {
        while let Some(mut call) = next {
            runner.call(|| call.make(self));
            next = self.next_deferred(call);
        }
    }

    pub(super) fn next_deferred(&self, made: ChangeCall) -> Option<ChangeCall> {
        let (removed, next) = self.inner.state.lock().next_deferred(made);
        discard(removed);
        next
    }

    #[cold]
    pub(super) fn count_panic(&self) {
        if let Some(queue) = self.queue() {
            queue.count_panic();
        }
    }
}

impl State {
    #[inline]
    pub(super) fn callbacks_mut(&mut self) -> &mut Callbacks {
        self.rare_mut().callbacks.get_or_insert_default()
    }

    fn next_delivery(&mut self, made: Delivery) -> (Option<Callback>, Option<Delivery>) {
        let now = self.totals();
        let rare = self.rare_mut();
        let callbacks = rare.callbacks.get_or_insert_default();
        callbacks.next_delivery(made, &mut rare.gauge, now)
    }

    fn first_deferred(&mut self) -> Option<ChangeCall> {
        let now = self.totals();
        self.callbacks_mut().first_deferred(now)
    }

    fn next_deferred(&mut self, made: ChangeCall) -> (Option<Callback>, Option<ChangeCall>) {
        let now = self.totals();
        self.callbacks_mut().next_deferred(made, now)
    }
}

impl Deferred for Inner {
    fn source(&self) -> &Source {
        &self.source
    }

    fn queue_closed(self: Arc<Self>) {
        let buffer = SharedEvBuffer { inner: self };
        if let Some(queue) = buffer.queue().filter(|queue| !queue.is_closed()) {
            queue.schedule(&buffer.inner);
        }
    }

    fn run(self: Arc<Self>, runner: &mut Runner) {
        let buffer = SharedEvBuffer { inner: self };
        if !buffer.run_alone(runner) {
            let first = buffer.inner.state.lock().first_deferred();
            buffer.run_deferred(first, runner);
        }
    }
}
