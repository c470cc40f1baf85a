//! The callbacks of a buffer: registering and removing them, and which one is notified next, and of what.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    change::Totals,
    inner::{Call, Callback, CallbackEvent, Callbacks, Entry, Inner, Kind, SharedEvBuffer, State},
    interest::Interest,
    notify::discard,
    tracker::WatermarkTracker,
    waiter::Look,
};
use crate::{DeferredQueue, sync::WakeList};

/// One call that changes a buffer makes at most this many calls of inline callbacks beyond one for each; the rest is handed
/// on. Far more than ordinary changes need, few enough that no call is kept for long by the changes of other threads.
const DELIVERY_CALLS: usize = 128;

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
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// # use tokio_evbuffer::SharedEvBuffer;
    /// let buffer = SharedEvBuffer::new();
    /// let added = Arc::new(AtomicU64::new(0));
    /// let count = added.clone();
    /// let callback = buffer.on_change_inline(move |_, change| {
    ///     count.fetch_add(change.added, Ordering::Relaxed);
    /// });
    /// callback.set_enabled(false);
    /// buffer.add("not counted")?;
    /// callback.set_enabled(true);
    /// buffer.add("counted")?;
    /// assert_eq!(added.load(Ordering::Relaxed), 7);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
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

    /// Wakes the tasks that wait for the drop of a removed callback that was running.
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

impl Callback {
    fn kind(&self) -> Kind {
        match self {
            Self::Deferred(_) => Kind::Deferred,
            Self::Inline(_) => Kind::Inline,
            Self::Watermark(_) => Kind::Watermark,
        }
    }
}

impl Call {
    /// Calls the user's function. No lock may be held.
    #[inline]
    pub(super) fn run(&mut self, buffer: &SharedEvBuffer) {
        match (&mut self.callback, self.event) {
            (Callback::Deferred(f) | Callback::Inline(f), CallbackEvent::Change(change)) => {
                f(buffer, change)
            }
            (Callback::Watermark(f), CallbackEvent::Crossing(crossing)) => f(buffer, crossing),
            _ => unreachable!("each kind of callback has its kind of event"),
        }
    }
}

impl Callbacks {
    pub(super) fn add(&mut self, callback: Callback, now: Totals, crossing: u32) -> u64 {
        self.last_id += 1;
        let kind = callback.kind();
        *self.enabled_mut(kind) += 1;
        self.entries.push(Entry {
            id: self.last_id,
            kind,
            enabled: true,
            seen: now,
            seen_crossing: crossing,
            callback: Some(callback),
        });
        self.last_id
    }

    /// Removes a callback. It is returned, to be dropped after the lock, unless it is being called.
    #[must_use]
    pub(super) fn remove(&mut self, id: u64) -> Option<Callback> {
        let entry = self.entries.remove(self.position(id)?);
        if entry.enabled {
            *self.enabled_mut(entry.kind) -= 1;
        }
        if entry.callback.is_none() {
            self.removed_running.push(id);
        }
        entry.callback
    }

    /// Returns whether the callback was removed and is still being called.
    pub(super) fn is_running(&self, id: u64) -> bool {
        self.removed_running.contains(&id)
    }

    /// Records that a removed callback was dropped.
    pub(super) fn dropped(&mut self, id: u64) {
        self.removed_running.retain(|&running| running != id);
    }

    /// Disables a callback, which then misses what happens, or enables it again for later changes.
    pub(super) fn set_enabled(&mut self, id: u64, on: bool, now: Totals, crossing: u32) {
        let Some(at) = self.position(id) else { return };
        let entry = &mut self.entries[at];
        if entry.enabled == on {
            return;
        }
        entry.enabled = on;
        let kind = entry.kind;
        if on {
            (entry.seen, entry.seen_crossing) = (now, crossing);
            *self.enabled_mut(kind) += 1;
        } else {
            *self.enabled_mut(kind) -= 1;
        }
    }

    fn enabled_mut(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Deferred => &mut self.deferred,
            Kind::Inline => &mut self.inline,
            Kind::Watermark => &mut self.watermark,
        }
    }

    /// Returns whether a change that crosses no watermark concerns a callback.
    #[inline]
    pub(super) fn want_changes(&self) -> bool {
        self.deferred + self.inline > 0
    }

    #[inline]
    pub(super) fn want_crossings(&self) -> bool {
        self.watermark > 0
    }

    /// Returns whether a deferred callback was not notified of everything up to `now`.
    #[inline]
    pub(super) fn has_pending_deferred(&self, now: Totals) -> bool {
        self.deferred > 0 && self.has_pending(Kind::Deferred, now)
    }

    fn has_pending(&self, kind: Kind, now: Totals) -> bool {
        let mut of_kind = self.entries.iter().filter(|entry| entry.kind == kind);
        of_kind.any(|entry| entry.enabled && entry.seen != now)
    }

    /// Returns the number of calls after which a delivery is handed on: enough for all callbacks, and for some changes
    /// that are made meanwhile.
    pub(super) fn delivery_limit(&self) -> usize {
        self.entries.len().saturating_add(DELIVERY_CALLS)
    }

    /// Starts a delivery to inline callbacks, if there is something to deliver and no other call delivers now.
    #[inline]
    pub(super) fn start_delivery(&mut self, tracker: &WatermarkTracker, now: Totals) -> bool {
        if self.delivering || !self.has_pending_inline(tracker, now) {
            return false;
        }
        self.delivering = true;
        true
    }

    #[inline]
    fn has_pending_inline(&self, tracker: &WatermarkTracker, now: Totals) -> bool {
        (self.inline > 0 && self.has_pending(Kind::Inline, now))
            || (self.watermark > 0 && (self.crossing.is_some() || tracker.has_pending()))
    }

    /// Ends a delivery that is handed on.
    pub(super) fn stop_delivery(&mut self) {
        self.delivering = false;
    }

    /// Takes out the inline callback that is notified next: crossings first, each to all callbacks before the next, then
    /// changes, in rounds. `None` ends the delivery.
    #[inline]
    pub(super) fn next_inline(
        &mut self,
        tracker: &mut WatermarkTracker,
        now: Totals,
    ) -> Option<Call> {
        if let Some(call) = self.next_crossing(tracker) {
            return Some(call);
        }
        let next = match self.next_change(Kind::Inline, self.inline_cursor, now) {
            None if self.inline_cursor > 0 => self.next_change(Kind::Inline, 0, now),
            next => next,
        };
        self.inline_cursor = next.as_ref().map_or(0, |call| call.id);
        self.delivering = next.is_some();
        next
    }

    fn next_crossing(&mut self, tracker: &mut WatermarkTracker) -> Option<Call> {
        if self.watermark == 0 {
            self.crossing = None;
            tracker.skip_pending();
            return None;
        }
        loop {
            let (numbered, last) = match self.crossing {
                Some(current) => current,
                None => (tracker.next()?, 0),
            };
            let is_next = |entry: &Entry| {
                // The numbers may wrap; those that are compared are close together.
                let is_new = numbered.number.wrapping_sub(entry.seen_crossing) as i32 > 0;
                entry.kind == Kind::Watermark && entry.id > last && is_new
            };
            let event = CallbackEvent::Crossing(numbered.crossing);
            if let Some(call) = self.take_out(is_next, |_| Some(event)) {
                self.crossing = Some((numbered, call.id));
                return Some(call);
            }
            self.crossing = None;
        }
    }

    /// Takes out the deferred callback that is notified next: each at most once in a run. `None` ends the run.
    #[inline]
    pub(super) fn next_deferred(&mut self, now: Totals) -> Option<Call> {
        let next = self.next_change(Kind::Deferred, self.deferred_cursor, now);
        self.deferred_cursor = next.as_ref().map_or(0, |call| call.id);
        next
    }

    /// Takes out the first callback after `last` that was not notified of everything up to `now`.
    #[inline]
    fn next_change(&mut self, kind: Kind, last: u64, now: Totals) -> Option<Call> {
        self.take_out(
            |entry| entry.kind == kind && entry.id > last,
            |entry| {
                let change = now.since_or_closed(entry.seen)?;
                entry.seen = now;
                Some(CallbackEvent::Change(change))
            },
        )
    }

    #[inline]
    fn take_out(
        &mut self,
        is_next: impl Fn(&Entry) -> bool,
        event: impl Fn(&mut Entry) -> Option<CallbackEvent>,
    ) -> Option<Call> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.enabled && entry.callback.is_some() && is_next(entry))
            .find_map(|entry| {
                Some(Call {
                    id: entry.id,
                    event: event(entry)?,
                    callback: entry.callback.take()?,
                })
            })
    }

    /// Returns a callback to its place. One that was removed meanwhile is given back with its id, to be dropped after the
    /// lock; [`dropped`](Self::dropped) follows.
    #[must_use]
    #[inline]
    pub(super) fn put_back(&mut self, call: Call) -> Option<(u64, Callback)> {
        match self.position(call.id) {
            Some(at) => {
                self.entries[at].callback = Some(call.callback);
                None
            }
            None => Some((call.id, call.callback)),
        }
    }

    /// Takes all callbacks out, to be dropped after the lock, if no change can follow and all were notified of the end.
    pub(super) fn take_finished(&mut self, now: Totals) -> Vec<Callback> {
        let is_done = |entry: &Entry| {
            let has_seen_end = entry.kind == Kind::Watermark || entry.seen == now;
            entry.callback.is_some() && (!entry.enabled || has_seen_end)
        };
        if !now.is_final() || self.delivering || !self.entries.iter().all(is_done) {
            return Vec::new();
        }
        (self.deferred, self.inline, self.watermark) = (0, 0, 0);
        let entries = std::mem::take(&mut self.entries);
        entries
            .into_iter()
            .filter_map(|entry| entry.callback)
            .collect()
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()
    }
}
