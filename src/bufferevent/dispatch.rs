//! Calls the callbacks of a connection: from the queue, and inline for watermarks.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Weak},
};

use super::{
    callbacks::Callbacks,
    event::{EventQueue, Side},
    inner::{BufferEvent, Calls, Inner, OnWatermark, Slots},
};
use crate::{
    SharedEvBuffer,
    deferred::{Deferred, Runner, Source},
    panic::catch_panic,
    shared::{CallbackHandle, Crossing},
    sync::{Lock, Ordering},
};

impl Inner {
    /// Replaces the callbacks, and schedules those that are due.
    pub(super) fn set_callbacks(self: &Arc<Self>, callbacks: Callbacks) {
        if callbacks.is_empty() && self.control.lock().slots.is_none() {
            return;
        }
        let Callbacks {
            mut slots,
            on_watermark,
        } = callbacks;
        slots.watermarks = on_watermark.map(|f| WatermarkCallback::subscribe(self, f));
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let subscribed = bit(slots.read.is_some(), Calls::READ)
            | bit(slots.write.is_some(), Calls::WRITE)
            | bit(slots.event.is_some(), Calls::EVENT);
        let mut control = self.control.lock();
        slots.generation = (control.slots.as_ref()).map_or(0, |old| old.generation + 1);
        let old = control.slots.replace(Box::new(slots));
        self.subscribed.store(subscribed, Ordering::Release);
        let has_events = control.events_for_callback() > 0;
        let over = control.outcome.is_some();
        drop(control);
        catch_panic("the drop of a callback", || drop(old));

        if self.is_read_due() {
            self.due.fetch_or(Calls::READ, Ordering::AcqRel);
        }
        let due = self.due.load(Ordering::Acquire);
        if over || due & subscribed != 0 || (has_events && subscribed & Calls::EVENT != 0) {
            self.queue.schedule(self);
        }
    }

    /// Returns whether the input holds what the read callback waits for.
    fn is_read_due(&self) -> bool {
        let guard = self.input.lock();
        guard.len() >= guard.watermarks().low().unwrap_or(0).max(1)
    }

    /// Clears the due bits of a callback, and returns those that were set. Without a callback they stay set.
    fn take_due(&self, callback: u8, bits: u8) -> u8 {
        match self.subscribed.load(Ordering::Acquire) & callback {
            0 => 0,
            _ => self.due.fetch_and(!bits, Ordering::AcqRel) & bits,
        }
    }

    /// Takes a callback out, calls it, and puts it back unless it was replaced meanwhile.
    fn call_slot<F>(
        &self,
        runner: &mut Runner,
        slot: impl Fn(&mut Slots) -> &mut Option<F>,
        call: impl FnOnce(&mut F),
    ) {
        let mut control = self.control.lock();
        let Some(slots) = &mut control.slots else {
            return;
        };
        let generation = slots.generation;
        let Some(mut f) = slot(slots).take() else {
            return;
        };
        drop(control);
        runner.call(|| call(&mut f));
        let mut control = self.control.lock();
        let replaced = match &mut control.slots {
            Some(slots) if slots.generation == generation => {
                *slot(slots) = Some(f);
                None
            }
            _ => Some(f),
        };
        drop(control);
        catch_panic("the drop of a callback", || drop(replaced));
    }

    /// Calls the event callback, if it is set, with the next event.
    fn call_with_next_event(&self, bev: &BufferEvent, runner: &mut Runner) {
        let mut control = self.control.lock();
        let subscribed = (control.slots.as_ref()).is_some_and(|slots| slots.event.is_some());
        let event = match subscribed {
            true => (control.events.as_deref_mut()).and_then(EventQueue::pop_for_callback),
            false => None,
        };
        drop(control);
        if let Some(event) = event {
            self.call_slot(runner, |slots| &mut slots.event, |f| f(bev, event));
        }
    }

    /// Drops the callbacks. They may own handles, and those keep the connection alive.
    pub(super) fn drop_callbacks(&self) {
        self.subscribed.store(0, Ordering::Release);
        let slots = self.control.lock().slots.take();
        catch_panic("the drop of a callback", || drop(slots));
    }
}

impl Deferred for Inner {
    fn source(&self) -> &Source {
        &self.source
    }

    fn run(self: Arc<Self>, runner: &mut Runner) {
        let Some(bev) = BufferEvent::revive(&self) else {
            return;
        };
        // Events queued during this run wait for the next one: `Eof` must not precede the read callback for earlier
        // bytes, and a callback that causes an event each time must not keep the queue busy.
        let control = self.control.lock();
        let mut events = control.events_for_callback();
        let connected = (control.events.as_deref()).is_some_and(EventQueue::is_connected_next);
        let over = control.outcome.is_some();
        drop(control);
        if connected {
            self.call_with_next_event(&bev, runner);
            events -= 1;
        }
        // Both bits of the read callback go together: one alone would be of no use to the next run.
        let read = self.take_due(Calls::READ, Calls::READ | Calls::READ_BELOW_LOW);
        if read & Calls::READ != 0 && (read & Calls::READ_BELOW_LOW != 0 || self.is_read_due()) {
            self.call_slot(runner, |slots| &mut slots.read, |f| f(&bev));
        }
        if self.take_due(Calls::WRITE, Calls::WRITE) != 0 {
            self.call_slot(runner, |slots| &mut slots.write, |f| f(&bev));
        }
        for _ in 0..events {
            self.call_with_next_event(&bev, runner);
        }
        if over {
            self.drop_callbacks();
        }
    }
}

/// The watermark callback. Both buffers call it, one at a time.
struct WatermarkCallback {
    inner: Weak<Inner>,
    state: Lock<WatermarkState>,
}

struct WatermarkState {
    /// Taken out while it runs.
    callback: Option<OnWatermark>,
    /// Crossings that came while it ran: at most one of each kind and side.
    pending: VecDeque<(Side, Crossing)>,
}

impl WatermarkCallback {
    fn subscribe(inner: &Arc<Inner>, callback: OnWatermark) -> [CallbackHandle; 2] {
        let this = Arc::new(Self {
            inner: Arc::downgrade(inner),
            state: Lock::new(WatermarkState {
                callback: Some(callback),
                pending: VecDeque::new(),
            }),
        });
        [(Side::Input, &inner.input), (Side::Output, &inner.output)].map(|(side, buffer)| {
            let this = Arc::clone(&this);
            buffer.on_watermark(move |_: &SharedEvBuffer, crossing| this.crossed(side, crossing))
        })
    }

    /// Calls the callback, or leaves the crossing to the call that is running.
    fn crossed(&self, side: Side, crossing: Crossing) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let Some(bev) = BufferEvent::revive(&inner) else {
            return;
        };
        let mut state = self.state.lock();
        let is_same_kind = |(pending_side, pending): &(Side, Crossing)| {
            *pending_side == side && mem::discriminant(pending) == mem::discriminant(&crossing)
        };
        state.pending.retain(|pending| !is_same_kind(pending));
        state.pending.push_back((side, crossing));
        let Some(mut callback) = state.callback.take() else {
            return;
        };
        while let Some((side, crossing)) = state.pending.pop_front() {
            drop(state);
            if !catch_panic("an inline callback", || callback(&bev, side, crossing)) {
                inner.queue.count_panic();
            }
            state = self.state.lock();
        }
        state.callback = Some(callback);
    }
}
