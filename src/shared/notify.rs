//! From a change to its subscribers: whether one needs a notification, and the notifications.
//!
//! Most changes only compare the length with the quiet range, the lengths at which no subscriber needs a notification. It is
//! kept in the state of the buffer, and computed again when a subscriber comes, goes or changes. Everything that runs user code
//! is done here, after the lock.

use std::{ops::Range, sync::Arc, thread};

use super::{
    change::Totals,
    inner::{Call, Callback, Inner, Observers, Position, SharedEvBuffer, State},
};
use crate::{
    DeferredQueue,
    buffer::DeferredDrops,
    deferred::{Deferred, Runner, Source},
    panic::catch_panic,
    sync::WakeList,
};

/// The quiet range that has to be computed again. Like another empty range, it contains no length.
pub(super) const OUTDATED: Range<usize> = Range { start: 1, end: 0 };

impl State {
    /// Returns whether a subscriber may need a notification if the length becomes `len`.
    #[inline]
    pub(super) fn needs_notify(&self, len: usize) -> bool {
        let is_quiet = len.wrapping_sub(usize::from(self.quiet_from)) < self.quiet_len as usize;
        !(is_quiet && self.needs_no_check()) && self.needs_notify_slow(len)
    }

    #[inline(never)]
    fn needs_notify_slow(&self, len: usize) -> bool {
        match &self.observers {
            Some(observers) => !(observers.quiet.contains(&len) && self.needs_no_check()),
            None => true,
        }
    }

    /// Returns whether a subscriber has come, gone or changed since the quiet range was computed.
    #[inline]
    pub(super) fn is_quiet_range_outdated(&self) -> bool {
        match &self.observers {
            Some(observers) => observers.quiet == OUTDATED,
            None => self.quiet_len != u32::MAX,
        }
    }

    /// Computes at which lengths no subscriber needs a notification.
    pub(super) fn update_quiet_range(&mut self) {
        let Some(observers) = self.observers.as_deref_mut() else {
            (self.quiet_from, self.quiet_len) = (0, u32::MAX);
            return;
        };
        observers.quiet = observers.quiet_range();
        let Range { start, end } = observers.quiet;
        let len = match start {
            0 | 1 => end.saturating_sub(start),
            _ => 0,
        };
        self.quiet_from = u8::from(start == 1);
        self.quiet_len = u32::try_from(len).unwrap_or(u32::MAX);
    }

    /// Records that the hook of the owner begins to wait, so that it needs a notification of every change.
    pub(super) fn hook_waits(&mut self) {
        self.quiet_len = 0;
        if let Some(observers) = &mut self.observers {
            observers.quiet = 0..0;
        }
    }
}

impl Observers {
    /// Returns the lengths at which no subscriber needs a notification: the intersection of the ranges of all subscribers.
    fn quiet_range(&self) -> Range<usize> {
        if self
            .callbacks
            .as_ref()
            .is_some_and(|callbacks| callbacks.want_changes())
        {
            return 0..0;
        }
        let mut quiet = self.tracker.quiet_range();
        if let Some(hook) = &self.hook {
            if hook.waits() {
                return 0..0;
            }
            // The memory of an empty buffer of a connection is released.
            quiet.start = quiet.start.max(1);
        }
        for (interest, woken) in self.waiters.iter() {
            let range = match woken {
                false => interest.quiet_range(),
                // A writer's turn may have ended, so the other writers check again. Readers always do.
                true if interest.adds() => 0..0,
                true => continue,
            };
            quiet = quiet.start.max(range.start)..quiet.end.min(range.end);
        }
        match quiet.is_empty() {
            true => 0..0,
            false => quiet,
        }
    }
}

/// What is left to do for a change once the lock is released.
#[derive(Default)]
pub(super) struct Notifications {
    wakers: WakeList,
    delivers: bool,
    /// What is dropped after the lock is released; `None` if there is nothing, as in most changes.
    drops: Option<Box<Drops>>,
}

#[derive(Default)]
struct Drops {
    /// Owners of memory that was removed from the buffer.
    memory: DeferredDrops,
    /// Callbacks of a buffer that has ended.
    callbacks: Vec<Callback>,
}

impl Notifications {
    /// Wakes tasks, calls inline callbacks and releases memory. No lock may be held.
    #[inline]
    pub(super) fn send(mut self, buffer: &SharedEvBuffer) {
        self.wake();
        if self.delivers || self.drops.is_some() {
            self.deliver(buffer);
        }
    }

    /// Wakes tasks: the first half of [`send`](Self::send).
    #[inline]
    pub(super) fn wake(&mut self) {
        if self.wakers.has_any() {
            self.wakers.wake_all();
        }
    }

    /// Calls inline callbacks and releases memory: the second half of [`send`](Self::send).
    #[inline(never)]
    pub(super) fn deliver(self, buffer: &SharedEvBuffer) {
        if self.delivers {
            buffer.deliver_inline();
        }
        if let Some(drops) = self.drops {
            release(drops.memory);
            discard(drops.callbacks);
        }
    }
}

/// Drops owners of memory. No lock may be held: this runs user code.
#[cold]
fn release(drops: DeferredDrops) {
    for bytes in drops {
        catch_panic("the owner of released memory", || drop(bytes));
    }
}

/// Drops callbacks and what they own. No lock may be held: this runs user code.
#[inline]
pub(super) fn discard(callbacks: impl IntoIterator<Item = Callback>) {
    for callback in callbacks {
        catch_panic("the drop of a callback", || drop(callback));
    }
}

impl State {
    /// Compares the buffer with what it was `before`, updates the subscribers, and notes what is to be done after the
    /// lock.
    pub(super) fn notify(
        &mut self,
        before: Position,
        inner: &Arc<Inner>,
        notifications: &mut Notifications,
    ) {
        let checked = !self.needs_no_check();
        if checked {
            self.attach_replacement(before);
            self.apply_flags();
            let memory = self.buffer.take_deferred_drops();
            if !memory.is_empty() {
                notifications.drops.get_or_insert_default().memory = memory;
            }
        }
        let now = self.totals();
        if self.observers.is_some() && (checked || now != before.totals) {
            let overwritten = self.buffer.overwrites() != before.overwrites;
            self.notify_observers(before.totals, now, overwritten, inner, notifications);
        }
        if notifications.wakers.has_any() {
            // Fewer wait now. The task that was woken mostly changes the range again, so it is computed when it is needed.
            self.observers_mut();
        } else if self.is_quiet_range_outdated() {
            self.update_quiet_range();
        }
    }

    #[inline]
    fn notify_observers(
        &mut self,
        before: Totals,
        now: Totals,
        overwritten: bool,
        inner: &Arc<Inner>,
        notifications: &mut Notifications,
    ) {
        let Some(observers) = self.observers.as_deref_mut() else {
            return;
        };
        if observers.tracker.update(now.len) {
            observers.quiet = OUTDATED;
        }
        let callbacks = observers.callbacks.as_deref_mut();
        if !callbacks
            .as_deref()
            .is_some_and(|callbacks| callbacks.want_crossings())
        {
            observers.tracker.skip_pending();
        }
        if let Some(callbacks) = callbacks {
            if callbacks.has_pending_deferred(now) {
                let queue = observers.queue.as_ref();
                let executor = queue.and_then(|queue| queue.schedule_under_lock(inner));
                notifications.wakers.extend(executor);
            }
            notifications.delivers = callbacks.start_delivery(&observers.tracker, now);
            if now.is_final() {
                let finished = callbacks.take_finished(now);
                notifications.drops.get_or_insert_default().callbacks = finished;
            }
        }
        let change = now.since(before);
        self.wake_due(change.is_some() || overwritten, &mut notifications.wakers);
        if self.is_hooked() {
            notifications.wakers.extend(self.notify_hook(change));
            self.release_idle();
        }
    }

    /// Takes out the inline callback that is notified next. The end of the delivery returns callbacks that have finished.
    #[inline]
    fn next_inline(&mut self) -> Result<Call, Vec<Callback>> {
        let now = self.totals();
        let observers = self.observers_mut();
        let callbacks = observers.callbacks.get_or_insert_default();
        let next = callbacks.next_inline(&mut observers.tracker, now);
        next.ok_or_else(|| callbacks.take_finished(now))
    }

    /// Does the same for the deferred callbacks of one run.
    #[inline]
    fn next_deferred(&mut self) -> Result<Call, Vec<Callback>> {
        let now = self.totals();
        let callbacks = self.callbacks_mut();
        let next = callbacks.next_deferred(now);
        next.ok_or_else(|| callbacks.take_finished(now))
    }
}

impl SharedEvBuffer {
    /// Calls inline callbacks until all are notified of everything, also of changes that are made meanwhile.
    ///
    /// Each callback is chosen right before it is called, with no user code in between, so that within one thread none is
    /// called after its handle was dropped.
    pub(super) fn deliver_inline(&self) {
        let (limit, mut next) = {
            let mut state = self.inner.state.lock();
            (state.callbacks_mut().delivery_limit(), state.next_inline())
        };
        let mut calls = 0;
        loop {
            let mut call = match next {
                Ok(call) => call,
                Err(finished) => return discard(finished),
            };
            if !catch_panic("an inline callback", || call.run(self)) {
                self.count_panic();
            }
            calls += 1;
            next = match calls < limit {
                true => self.put_back_and(call, State::next_inline),
                false => return self.hand_on(call),
            };
        }
    }

    /// Returns a callback to its place and continues with `then`, under one lock unless the callback was removed.
    #[inline]
    fn put_back_and<R>(&self, call: Call, then: impl Fn(&mut State) -> R) -> R {
        let mut state = self.inner.state.lock();
        let Some((id, removed)) = state.callbacks_mut().put_back(call) else {
            return then(&mut state);
        };
        drop(state);
        discard([removed]);
        let mut wakers = WakeList::default();
        self.inner.state.lock().callback_dropped(id, &mut wakers);
        wakers.wake_all();
        then(&mut self.inner.state.lock())
    }

    /// Ends a delivery that other threads, or the callbacks themselves, keep going by further changes. The next change or
    /// the queue of the buffer continues it; without a queue, a new thread does.
    #[cold]
    fn hand_on(&self, call: Call) {
        self.put_back_and(call, |state| state.callbacks_mut().stop_delivery());
        let queue = self.queue().or_else(|| DeferredQueue::try_current().ok());
        let buffer = self.clone();
        match queue.filter(|queue| !queue.is_closed()) {
            Some(queue) => {
                // A queue that closes meanwhile belongs to a runtime that shuts down.
                let _ = queue.defer(move || buffer.continue_delivery());
            }
            None => {
                let thread = thread::Builder::new().name("evbuffer-callbacks".into());
                let spawned = thread.spawn(move || buffer.continue_delivery());
                if let Err(error) = spawned {
                    tracing::error!(%error, "inline callbacks wait for the next change");
                }
            }
        }
    }

    fn continue_delivery(&self) {
        let starts = {
            let mut state = self.inner.state.lock();
            let now = state.totals();
            match state.observers.as_deref_mut() {
                Some(observers) => observers
                    .callbacks
                    .as_deref_mut()
                    .is_some_and(|callbacks| callbacks.start_delivery(&observers.tracker, now)),
                None => false,
            }
        };
        if starts {
            self.deliver_inline();
        }
    }

    #[cold]
    fn count_panic(&self) {
        if let Some(queue) = self.queue() {
            queue.count_panic();
        }
    }
}

impl Deferred for Inner {
    fn source(&self) -> &Source {
        &self.source
    }

    fn run(self: Arc<Self>, runner: &mut Runner) {
        let buffer = SharedEvBuffer { inner: self };
        let mut next = buffer.inner.state.lock().next_deferred();
        loop {
            let mut call = match next {
                Ok(call) => call,
                Err(finished) => return discard(finished),
            };
            runner.call(|| call.run(&buffer));
            next = buffer.put_back_and(call, State::next_deferred);
        }
    }
}
