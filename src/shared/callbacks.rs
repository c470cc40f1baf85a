//! The callbacks of a buffer: who is to be told what next. Nothing is called here.

use super::{Change, Crossing, SharedEvBuffer, totals::Totals, watermark::Gauge};

pub(super) type OnChange = Box<dyn FnMut(&SharedEvBuffer, Change) + Send>;
pub(super) type OnCrossing = Box<dyn FnMut(&SharedEvBuffer, Crossing) + Send>;

/// A user's function.
pub(super) enum Callback {
    Deferred(OnChange),
    Inline(OnChange),
    Watermark(OnCrossing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Deferred,
    Inline,
    Watermark,
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

struct Entry {
    id: u64,
    kind: Kind,
    enabled: bool,
    /// How far it has been told.
    seen: Totals,
    /// Away while it runs.
    callback: Option<Callback>,
}

/// A callback that is taken out to be called, with what it is told. It has to be [put back](Callbacks::put_back).
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) callback: Callback,
    pub(super) news: News,
}

#[derive(Clone, Copy)]
pub(super) enum News {
    Change(Change),
    Crossing(Crossing),
}

impl Call {
    pub(super) fn make(&mut self, buffer: &SharedEvBuffer) {
        match (&mut self.callback, self.news) {
            (Callback::Deferred(f) | Callback::Inline(f), News::Change(change)) => {
                f(buffer, change)
            }
            (Callback::Watermark(f), News::Crossing(crossing)) => f(buffer, crossing),
            _ => unreachable!("a callback is told what it is for"),
        }
    }
}

/// A delivery of inline callbacks: the next call, and where it stands. Whoever has it goes on until there is none.
pub(super) struct Delivery {
    pub(super) call: Call,
    pub(super) cursor: Cursor,
}

/// Where the delivery of inline callbacks stands.
#[derive(Default)]
pub(super) struct Cursor {
    /// Being told to the watermark callbacks.
    crossing: Option<Crossing>,
    /// The callback that was called last.
    last: u64,
}

/// In the order in which they were registered, which is that of their ids.
#[derive(Default)]
pub(super) struct Callbacks {
    entries: Vec<Entry>,
    last_id: u64,
    /// How many of each kind are enabled, so that most changes ask nothing else.
    deferred: usize,
    inline: usize,
    watermark: usize,
    /// Some call delivers the inline ones now, and will deliver what comes meanwhile.
    delivering: bool,
}

impl Callbacks {
    pub(super) fn add(&mut self, callback: Callback, now: Totals) -> u64 {
        self.last_id += 1;
        self.entries.push(Entry {
            id: self.last_id,
            kind: callback.kind(),
            enabled: true,
            seen: now,
            callback: Some(callback),
        });
        self.count();
        self.last_id
    }

    /// Takes a callback away; no run of it begins after this. What is returned is to be dropped after the lock.
    pub(super) fn remove(&mut self, id: u64) -> Option<Callback> {
        let at = self.position(id)?;
        let entry = self.entries.remove(at);
        self.count();
        entry.callback
    }

    pub(super) fn set_enabled(&mut self, id: u64, on: bool, now: Totals) {
        if let Some(at) = self.position(id) {
            let entry = &mut self.entries[at];
            if on && !entry.enabled {
                entry.seen = now;
            }
            entry.enabled = on;
            self.count();
        }
    }

    pub(super) fn has_any(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(super) fn has_deferred(&self) -> bool {
        self.deferred > 0
    }

    pub(super) fn has_watermark(&self) -> bool {
        self.watermark > 0
    }

    /// Whether a call has inline callbacks to deliver, after a change or a crossing.
    pub(super) fn wants_delivery(&self, changed: bool, crossed: bool) -> bool {
        !self.delivering && ((self.inline > 0 && changed) || (self.watermark > 0 && crossed))
    }

    /// The next ordinary callback after `last` that has something to be told.
    pub(super) fn next_deferred(&mut self, last: u64, now: Totals) -> Option<Call> {
        self.next_change(Kind::Deferred, last, now)
    }

    /// Begins a delivery, which no other call is at.
    pub(super) fn begin_delivery(
        &mut self,
        gauge: &mut Gauge,
        now: Totals,
    ) -> Option<Box<Delivery>> {
        self.delivering = true;
        let mut cursor = Cursor::default();
        let call = self.next_inline(&mut cursor, gauge, now)?;
        Some(Box::new(Delivery { call, cursor }))
    }

    /// The next inline callback that has something to be told: crossings in order, then changes, both in the order of
    /// registration. `None` ends the delivery.
    pub(super) fn next_inline(
        &mut self,
        cursor: &mut Cursor,
        gauge: &mut Gauge,
        now: Totals,
    ) -> Option<Call> {
        loop {
            if let Some(crossing) = cursor.crossing {
                if let Some(call) = self.next_crossing(cursor.last, crossing) {
                    cursor.last = call.id;
                    return Some(call);
                }
                *cursor = Cursor::default();
            }
            match gauge.next() {
                Some(crossing) => {
                    *cursor = Cursor {
                        crossing: Some(crossing),
                        last: 0,
                    }
                }
                None => break,
            }
        }
        let call = match self.next_change(Kind::Inline, cursor.last, now) {
            None if cursor.last > 0 => self.next_change(Kind::Inline, 0, now),
            call => call,
        };
        match &call {
            Some(call) => cursor.last = call.id,
            None => self.delivering = false,
        }
        call
    }

    /// Returns a callback to its place. One that was removed meanwhile is given back, to be dropped after the lock.
    #[must_use]
    pub(super) fn put_back(&mut self, id: u64, callback: Callback) -> Option<Callback> {
        match self.position(id) {
            Some(at) => {
                self.entries[at].callback = Some(callback);
                None
            }
            None => Some(callback),
        }
    }

    fn next_change(&mut self, kind: Kind, last: u64, now: Totals) -> Option<Call> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.id > last && entry.kind == kind && entry.enabled)
            .find_map(|entry| {
                let change = now.since(entry.seen)?;
                let callback = entry.callback.take()?;
                entry.seen = now;
                Some(Call {
                    id: entry.id,
                    callback,
                    news: News::Change(change),
                })
            })
    }

    fn next_crossing(&mut self, last: u64, crossing: Crossing) -> Option<Call> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.id > last && entry.kind == Kind::Watermark && entry.enabled)
            .find_map(|entry| {
                Some(Call {
                    id: entry.id,
                    callback: entry.callback.take()?,
                    news: News::Crossing(crossing),
                })
            })
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()
    }

    fn count(&mut self) {
        let enabled = |kind| {
            self.entries
                .iter()
                .filter(|entry| entry.enabled && entry.kind == kind)
                .count()
        };
        (self.deferred, self.inline, self.watermark) = (
            enabled(Kind::Deferred),
            enabled(Kind::Inline),
            enabled(Kind::Watermark),
        );
    }
}
