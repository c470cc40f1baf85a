//! The callbacks of a buffer: who is to be told what next. Nothing is called here.

use std::{sync::Arc, task::Waker};

use super::{Change, Crossing, Inner, SharedEvBuffer, change::Totals, watermark::Gauge};
use crate::DeferredQueue;

pub(super) type OnChange = Box<dyn FnMut(&SharedEvBuffer, Change) + Send>;
pub(super) type OnCrossing = Box<dyn FnMut(&SharedEvBuffer, Crossing) + Send>;

/// A user's function.
pub(super) enum Callback {
    Deferred(OnChange),
    Inline(OnChange),
    Watermark(OnCrossing),
}

/// A callback that is taken out to be called, with what it is told. It has to be put back.
pub(super) struct Call<F, N> {
    id: u64,
    callback: F,
    news: N,
}

impl<N: Copy, F: FnMut(&SharedEvBuffer, N)> Call<F, N> {
    #[inline]
    pub(super) fn make(&mut self, buffer: &SharedEvBuffer) {
        (self.callback)(buffer, self.news);
    }
}

pub(super) type ChangeCall = Call<OnChange, Change>;
type CrossingCall = Call<OnCrossing, Crossing>;

/// A delivery of inline callbacks, by the call that is next. Whoever has it goes on until there is none.
pub(super) enum Delivery {
    Change(ChangeCall),
    Crossing(CrossingCall),
}

impl Delivery {
    pub(super) fn make(&mut self, buffer: &SharedEvBuffer) {
        match self {
            Self::Change(call) => call.make(buffer),
            Self::Crossing(call) => call.make(buffer),
        }
    }
}

struct Entry<F> {
    id: u64,
    enabled: bool,
    /// How far it has been told.
    seen: Totals,
    /// Away while it runs.
    callback: Option<F>,
}

/// The callbacks of one kind, in the order in which they were registered, which is that of their ids.
struct List<F> {
    entries: Vec<Entry<F>>,
    /// How many are enabled, so that most changes ask nothing else.
    enabled: usize,
}

impl<F> Default for List<F> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            enabled: 0,
        }
    }
}

impl<F> List<F> {
    fn add(&mut self, id: u64, callback: F, now: Totals) {
        self.entries.push(Entry {
            id,
            enabled: true,
            seen: now,
            callback: Some(callback),
        });
        self.enabled += 1;
    }

    fn remove(&mut self, id: u64) -> Option<F> {
        let entry = self.entries.remove(self.position(id)?);
        self.enabled -= usize::from(entry.enabled);
        entry.callback
    }

    fn set_enabled(&mut self, id: u64, on: bool, now: Totals) {
        let Some(at) = self.position(id) else { return };
        let entry = &mut self.entries[at];
        match (entry.enabled, on) {
            (false, true) => {
                entry.seen = now;
                self.enabled += 1;
            }
            (true, false) => self.enabled -= 1,
            _ => {}
        }
        entry.enabled = on;
    }

    /// Takes out the first callback after `last` for which there are `news`.
    #[inline]
    fn next<N>(
        &mut self,
        last: u64,
        news: impl Fn(&mut Entry<F>) -> Option<N>,
    ) -> Option<Call<F, N>> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.id > last && entry.enabled && entry.callback.is_some())
            .find_map(|entry| {
                Some(Call {
                    id: entry.id,
                    news: news(entry)?,
                    callback: entry.callback.take()?,
                })
            })
    }

    /// Returns a callback to its place. One that was removed meanwhile is given back, to be dropped after the lock.
    #[must_use]
    fn put_back<N>(&mut self, call: Call<F, N>) -> Option<F> {
        match self.position(call.id) {
            Some(at) => {
                self.entries[at].callback = Some(call.callback);
                None
            }
            None => Some(call.callback),
        }
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()
    }
}

impl List<OnChange> {
    fn next_change(&mut self, last: u64, now: Totals) -> Option<ChangeCall> {
        self.next(last, |entry| {
            let change = now.since(entry.seen)?;
            entry.seen = now;
            Some(change)
        })
    }

    /// Takes out the only callback if there is something to tell it.
    #[inline(always)]
    fn take_only(&mut self, now: Totals) -> Option<ChangeCall> {
        let [only] = &mut self.entries[..] else {
            return None;
        };
        let news = now.since(only.seen)?;
        let callback = only.callback.take()?;
        only.seen = now;
        Some(Call {
            id: only.id,
            callback,
            news,
        })
    }

    /// Whether the only callback was told of all until now.
    #[inline(always)]
    fn is_only_told(&self, now: Totals) -> bool {
        matches!(&self.entries[..], [only] if only.seen == now)
    }

    /// Puts back the only callback. Gives it back if it was removed, or is not the only one any more.
    #[inline(always)]
    fn put_back_only(&mut self, made: ChangeCall) -> Result<(), ChangeCall> {
        match &mut self.entries[..] {
            [only] if only.id == made.id => {
                only.callback = Some(made.callback);
                Ok(())
            }
            _ => Err(made),
        }
    }
}

/// Ids are of all kinds together.
#[derive(Default)]
pub(super) struct Callbacks {
    deferred: List<OnChange>,
    inline: List<OnChange>,
    watermark: List<OnCrossing>,
    last_id: u64,
    /// Some call delivers the inline ones now, and will deliver what comes meanwhile.
    delivering: bool,
}

impl Callbacks {
    pub(super) fn add(&mut self, callback: Callback, now: Totals) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        match callback {
            Callback::Deferred(f) => self.deferred.add(id, f, now),
            Callback::Inline(f) => self.inline.add(id, f, now),
            Callback::Watermark(f) => self.watermark.add(id, f, now),
        }
        id
    }

    /// Takes a callback away; no run of it begins after this. What is returned is to be dropped after the lock.
    #[must_use]
    pub(super) fn remove(&mut self, id: u64) -> Option<Callback> {
        let Self {
            deferred,
            inline,
            watermark,
            ..
        } = self;
        (deferred.remove(id).map(Callback::Deferred))
            .or_else(|| inline.remove(id).map(Callback::Inline))
            .or_else(|| watermark.remove(id).map(Callback::Watermark))
    }

    pub(super) fn set_enabled(&mut self, id: u64, on: bool, now: Totals) {
        self.deferred.set_enabled(id, on, now);
        self.inline.set_enabled(id, on, now);
        self.watermark.set_enabled(id, on, now);
    }

    /// Whether any would be told of a change that crosses nothing.
    #[inline]
    pub(super) fn hear_changes(&self) -> bool {
        self.deferred.enabled + self.inline.enabled > 0
    }

    #[inline]
    pub(super) fn has_watermark(&self) -> bool {
        self.watermark.enabled > 0
    }

    /// Has the ordinary callbacks run soon. What it returns is to be woken after the lock.
    #[inline]
    pub(super) fn schedule(
        &self,
        changed: bool,
        queue: Option<&DeferredQueue>,
        inner: &Arc<Inner>,
    ) -> Option<Waker> {
        match queue {
            Some(queue) if changed && self.deferred.enabled > 0 => queue.schedule_under_lock(inner),
            _ => None,
        }
    }

    /// The only ordinary callback, if it is the only one.
    #[inline(always)]
    pub(super) fn take_only_deferred(&mut self, now: Totals) -> Option<ChangeCall> {
        if self.deferred.enabled == 0 {
            return None;
        }
        self.deferred.take_only(now)
    }

    /// Ends its call, or gives that back for [`next_deferred`](Self::next_deferred).
    #[inline(always)]
    pub(super) fn put_back_only_deferred(&mut self, made: ChangeCall) -> Result<(), ChangeCall> {
        self.deferred.put_back_only(made)
    }

    /// The ordinary callback that is told first.
    pub(super) fn first_deferred(&mut self, now: Totals) -> Option<ChangeCall> {
        self.deferred.next_change(0, now)
    }

    /// Ends a call of an ordinary callback and finds the next that has something to be told. One that was removed
    /// meanwhile is given back, to be dropped after the lock.
    pub(super) fn next_deferred(
        &mut self,
        made: ChangeCall,
        now: Totals,
    ) -> (Option<Callback>, Option<ChangeCall>) {
        let last = made.id;
        let removed = self.deferred.put_back(made).map(Callback::Deferred);
        (removed, self.deferred.next_change(last, now))
    }

    /// Begins a delivery, unless some call is at it or there is nothing to be told.
    #[inline]
    pub(super) fn begin_delivery(
        &mut self,
        changed: bool,
        gauge: &mut Gauge,
        now: Totals,
    ) -> Option<Delivery> {
        let wanted = (changed && self.inline.enabled > 0)
            || (self.watermark.enabled > 0 && gauge.has_news());
        if self.delivering || !wanted {
            return None;
        }
        let first = self.next_inline(0, gauge, now);
        self.delivering = first.is_some();
        first
    }

    /// Ends a call of a delivery and finds the next; without one the delivery is over. A callback that was removed meanwhile
    /// is given back, to be dropped after the lock.
    pub(super) fn next_delivery(
        &mut self,
        made: Delivery,
        gauge: &mut Gauge,
        now: Totals,
    ) -> (Option<Callback>, Option<Delivery>) {
        let (removed, next) = match made {
            Delivery::Change(call) => {
                let last = call.id;
                let removed = self.inline.put_back(call).map(Callback::Inline);
                (removed, self.next_inline(last, gauge, now))
            }
            Delivery::Crossing(call) => {
                let (last, crossing) = (call.id, call.news);
                let removed = self.watermark.put_back(call).map(Callback::Watermark);
                let next = self.next_crossing(last, crossing);
                (removed, next.or_else(|| self.next_inline(0, gauge, now)))
            }
        };
        self.delivering = next.is_some();
        (removed, next)
    }

    #[inline(always)]
    pub(super) fn has_one_inline_at_most(&self) -> bool {
        self.inline.entries.len() <= 1
    }

    /// [`begin_delivery`](Self::begin_delivery) where nothing was crossed and there is one inline callback at most.
    #[inline(always)]
    pub(super) fn begin_alone(&mut self, now: Totals) -> Option<ChangeCall> {
        if self.delivering || self.inline.enabled == 0 {
            return None;
        }
        let call = self.inline.take_only(now)?;
        self.delivering = true;
        Some(call)
    }

    /// Ends a delivery if the call of the only inline callback was the last, else gives that back for
    /// [`next_delivery`](Self::next_delivery).
    #[inline(always)]
    pub(super) fn end_alone(
        &mut self,
        made: ChangeCall,
        gauge: &Gauge,
        now: Totals,
    ) -> Result<(), ChangeCall> {
        if gauge.has_news() || !self.inline.is_only_told(now) {
            return Err(made);
        }
        self.inline.put_back_only(made)?;
        self.delivering = false;
        Ok(())
    }

    /// Crossings that nobody has been told of come first and in order, then changes, after `last` and around.
    fn next_inline(&mut self, last: u64, gauge: &mut Gauge, now: Totals) -> Option<Delivery> {
        let mut last = last;
        while let Some(crossing) = gauge.next() {
            let call = self.next_crossing(0, crossing);
            if call.is_some() {
                return call;
            }
            last = 0;
        }
        let call = match self.inline.next_change(last, now) {
            None if last > 0 => self.inline.next_change(0, now),
            call => call,
        };
        call.map(Delivery::Change)
    }

    fn next_crossing(&mut self, last: u64, crossing: Crossing) -> Option<Delivery> {
        self.watermark
            .next(last, |_| Some(crossing))
            .map(Delivery::Crossing)
    }
}
