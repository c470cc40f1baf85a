//! What the lock of a shared buffer guards, and what a change to it means.

use std::{io, mem, sync::Arc, task::Waker};

use super::{
    Change, Inner, SharedEvBuffer, WaitError, Watermarks,
    callbacks::{Callbacks, Delivery},
    change::{Mark, Totals},
    interest::{Interest, Key, View, Waiters},
    watermark::Gauge,
};
use crate::{
    DeferredQueue, EvBuffer,
    buffer::{DeferredDrops, End},
    panic::catch_panic,
    sync::WakeList,
    sync::next_token,
};

/// Someone of this crate who follows every change of a buffer that it owns.
pub(crate) trait Watch: Send + Sync {
    /// Takes note of a change. Called with the lock held: it locks nothing that may wait for this buffer, and runs no
    /// foreign code. What it returns is woken after the lock.
    fn changed(&self, edit: &Edit) -> Option<Waker>;

    /// Whether it waits for what may be there at a length of `len`. If not, it need not be told of a change to that.
    fn waits_at(&self, len: usize) -> bool;
}

/// What a [`Watch`] is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    /// `None` if it is not the contents that changed, but the marks, or whether it is closed.
    pub(crate) change: Option<Change>,
    pub(crate) len: usize,
    /// Nothing comes in any more.
    pub(crate) closed: bool,
    /// The high mark was reached, and the low one not since.
    pub(crate) is_high: bool,
    /// More may come in.
    pub(crate) has_room: bool,
}

pub(super) struct State {
    pub(super) buffer: EvBuffer,
    /// What `buffer` was marked with, to tell it from one that took its place.
    token: u64,
    pub(super) owner: OwnerMarks,
    /// What few buffers need, made when it is first needed.
    pub(super) rare: Option<Box<Rare>>,
    /// Changes to lengths below this concern nobody, so that most changes ask nothing else, whoever may wait for others.
    /// Lengths from this on may concern somebody. Short, to fit beside `owner`.
    quiet_below: u32,
}

/// What the owner has set, to be put on whatever buffer takes the place of the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnerMarks {
    front_frozen: bool,
    back_frozen: bool,
    pub(super) closed: bool,
}

#[derive(Default)]
pub(super) struct Rare {
    pub(super) gauge: Gauge,
    pub(super) waiters: Waiters,
    /// Apart, since most of those who wait have none.
    pub(super) callbacks: Option<Box<Callbacks>>,
    pub(super) queue: Option<DeferredQueue>,
    /// The reader that shows the front, by the number of the showing.
    pub(super) shown_by: u64,
    pub(super) showings: u64,
    watch: Option<Arc<dyn Watch>>,
    /// Why the buffer was closed, if that was not in order.
    error: Option<Arc<io::Error>>,
}

/// A reading of everything by which a change shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    totals: Totals,
    prepended: u64,
}

impl Reading {
    #[inline]
    pub(super) fn has_changed(&self, now: Totals) -> bool {
        self.totals != now
    }
}

/// What a change leaves to be done once the lock is open.
#[derive(Default)]
pub(super) struct Aftermath {
    wakers: WakeList,
    executor: Option<Waker>,
    delivery: Option<Delivery>,
    deferred_drops: DeferredDrops,
}

impl State {
    pub(super) fn new(buffer: EvBuffer) -> Self {
        Self {
            buffer,
            token: 0,
            owner: OwnerMarks::default(),
            rare: None,
            quiet_below: u32::MAX,
        }
    }

    /// Marks the buffer, in its place, as part of this one.
    pub(super) fn attach(&mut self, prepended: u64, removed: u64) {
        self.token = next_token();
        self.buffer.attach(self.token, prepended, removed);
        self.apply_owner_marks();
    }

    /// Whoever gets at it may bring somebody in who is to be told: the next guard looks anew.
    #[inline]
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.quiet_below = 0;
        self.rare.get_or_insert_default()
    }

    #[inline]
    pub(super) fn read(&self) -> Reading {
        let (prepended, removed) = self.buffer.totals();
        Reading {
            totals: Totals {
                removed,
                len: self.buffer.len(),
            },
            prepended,
        }
    }

    #[inline]
    pub(super) fn totals(&self) -> Totals {
        self.read().totals
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            appended: self.appended(),
        }
    }

    pub(super) fn appended(&self) -> u64 {
        let now = self.read();
        (now.totals.len as u64)
            .wrapping_add(now.totals.removed)
            .wrapping_sub(now.prepended)
    }

    /// The most bytes that the buffer will hold.
    pub(super) fn limit(&self) -> usize {
        let cap = self.buffer.max_len().unwrap_or(usize::MAX);
        self.watermarks().high().unwrap_or(usize::MAX).min(cap)
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        self.rare
            .as_ref()
            .map_or(Watermarks::NONE, |rare| rare.gauge.marks())
    }

    /// How many bytes a writer may add before it has to wait.
    pub(super) fn room(&self) -> usize {
        let most = match (&self.rare, self.limit()) {
            // What somebody waits for comes in all the same, or both sides would wait for each other.
            (Some(rare), limit) if rare.gauge.is_high() => rare.waiters.wanted().min(limit),
            (_, limit) => limit,
        };
        most.saturating_sub(self.buffer.len())
    }

    pub(super) fn is_high(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.gauge.is_high())
    }

    pub(super) fn set_owner_frozen(&mut self, end: End, on: bool) {
        match end {
            End::Front => self.owner.front_frozen = on,
            End::Back => self.owner.back_frozen = on,
        }
        self.apply_owner_marks();
    }

    pub(super) fn apply_owner_marks(&mut self) {
        self.buffer
            .set_owner_frozen(End::Front, self.owner.front_frozen);
        self.buffer
            .set_owner_frozen(End::Back, self.owner.back_frozen);
        self.buffer.set_closed(self.owner.closed);
    }

    pub(super) fn set_watch(&mut self, watch: Arc<dyn Watch>) {
        self.rare_mut().watch = Some(watch);
    }

    /// Puts `with` in the place of the buffer. What that had parked is left to the new one.
    pub(super) fn replace(&mut self, with: EvBuffer, before: Reading) -> EvBuffer {
        self.notice_another(before);
        let (prepended, removed) = self.buffer.totals();
        let mut old = mem::replace(&mut self.buffer, with);
        let parked = old.detach();
        self.attach(prepended, removed.wrapping_add(old.len() as u64));
        self.buffer.defer_drops(parked);
        old
    }

    /// Whether there is nothing to be done after the guard.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet_at(self.buffer.len())
    }

    /// Whether there would be nothing to be done either if `n` bytes were added.
    #[inline]
    pub(super) fn stays_quiet(&self, n: usize) -> bool {
        self.is_quiet_at(self.buffer.len().saturating_add(n))
    }

    #[inline]
    fn is_quiet_at(&self, len: usize) -> bool {
        let is_quiet = len < self.quiet_below as usize && self.has_same_buffer();
        debug_assert!(!is_quiet || self.concerns_nobody(len));
        is_quiet || self.is_quiet_for_watch(len)
    }

    /// The same for the buffer of a stream, which says itself what it waits for at the moment. An empty one is not left
    /// alone: it lets its memory go.
    #[inline(never)]
    fn is_quiet_for_watch(&self, len: usize) -> bool {
        let is_watched = |rare: &Rare| rare.watch.is_some();
        len > 0 && self.rare.as_deref().is_some_and(is_watched) && self.concerns_nobody(len)
    }

    /// The same looked at closely, who waits now and who does not.
    pub(super) fn concerns_nobody(&self, len: usize) -> bool {
        self.has_same_buffer()
            && match &self.rare {
                None => true,
                Some(rare) => rare.concerns_no_other(len) && !rare.hears_changes(),
            }
    }

    /// Whether nobody cares how much goes, as long as something is left: what is quiet at two lengths is so between them.
    pub(super) fn is_quiet_down_to_one(&self) -> bool {
        self.concerns_nobody(1) && self.concerns_nobody(self.buffer.len())
    }

    /// Notes who is to be told from now on.
    pub(super) fn find_quiet(&mut self) {
        let below = self
            .rare
            .as_ref()
            .map_or(usize::MAX, |rare| rare.quiet_below());
        self.quiet_below = u32::try_from(below).unwrap_or(u32::MAX);
    }

    /// Whether the buffer is the one marked, and nothing but its contents may have changed.
    #[inline]
    pub(super) fn has_same_buffer(&self) -> bool {
        self.buffer.needs_no_check(self.token)
    }

    /// Whether nothing is different from what it was `before`.
    #[inline]
    pub(super) fn is_as(&self, before: Reading) -> bool {
        self.has_same_buffer() && self.read() == before
    }

    /// Takes in what was changed since `before`.
    #[inline]
    pub(super) fn settle(
        &mut self,
        before: Reading,
        inner: &Arc<Inner>,
        aftermath: &mut Aftermath,
    ) {
        self.tell_all(before, inner, aftermath);
        self.find_quiet();
    }

    #[inline]
    fn tell_all(&mut self, before: Reading, inner: &Arc<Inner>, aftermath: &mut Aftermath) {
        let is_remarkable = !self.has_same_buffer();
        if is_remarkable {
            aftermath.deferred_drops = self.look_closely(before);
        }
        let now = self.totals();
        let Some(rare) = &mut self.rare else { return };
        rare.gauge.update(now.len);
        let change = now.since(before.totals);
        rare.tell_callbacks(change.is_some(), now, inner, aftermath);
        if rare.waiters.is_waiting() {
            self.wake_due(change.is_some(), &mut aftermath.wakers);
        }
        if change.is_none() && !is_remarkable {
            return;
        }
        if let Some(waker) = self.tell_watch(change) {
            aftermath.wakers.push(waker);
        }
        self.shrink_if_idle();
    }

    /// Lets the memory of an empty buffer go that belongs to a stream: what comes next comes in segments of its own, and
    /// a connection that is idle holds none.
    #[inline]
    pub(super) fn shrink_if_idle(&mut self) {
        let is_watched = |rare: &Rare| rare.watch.is_some();
        if self.buffer.is_empty() && self.rare.as_deref().is_some_and(is_watched) {
            self.buffer.shrink_to_fit();
        }
    }

    /// It is not only the contents that may be others. Returns what was parked.
    #[cold]
    fn look_closely(&mut self, before: Reading) -> DeferredDrops {
        self.notice_another(before);
        self.apply_owner_marks();
        self.buffer.take_deferred_drops()
    }

    /// If another buffer lies here than did `before`, all that was there is gone, all that is there is new.
    fn notice_another(&mut self, before: Reading) {
        if !self.buffer.is_attached(self.token) {
            let gone = before.totals.removed.wrapping_add(before.totals.len as u64);
            self.attach(before.prepended, gone);
        }
    }

    /// Tells the owner of a change, or that something but the contents is different.
    fn tell_watch(&self, change: Option<Change>) -> Option<Waker> {
        let rare = self.rare.as_ref()?;
        rare.watch.as_ref()?.changed(&Edit {
            change,
            len: self.buffer.len(),
            closed: self.owner.closed,
            is_high: rare.gauge.is_high(),
            has_room: self.room() > 0,
        })
    }

    /// Moves the marks. The guard does the rest.
    pub(super) fn set_watermarks(&mut self, marks: Watermarks) -> Option<Waker> {
        if self.rare.is_none() && marks == Watermarks::NONE {
            return None;
        }
        let len = self.buffer.len();
        self.rare_mut().gauge.set(marks, len);
        self.buffer.request_check();
        self.tell_watch(None)
    }

    /// Whether a writer was woken that has not looked yet.
    pub(super) fn expects_more(&self) -> bool {
        (self.rare.as_ref()).is_some_and(|rare| rare.waiters.expect_more())
    }

    /// [`Waiters::register`]
    #[must_use]
    pub(super) fn register_waiter(
        &mut self,
        key: &mut Option<Key>,
        interest: Interest,
        waker: &Waker,
        spare: &mut Option<Waker>,
    ) -> bool {
        let waiters = &mut self.rare_mut().waiters;
        let registered = waiters.register(key, interest, waker, spare);
        self.find_quiet();
        registered
    }

    /// [`Waiters::forget`]
    #[must_use]
    pub(super) fn forget_waiter(&mut self, key: Key) -> Option<Waker> {
        let waker = self.rare_mut().waiters.forget(key);
        self.find_quiet();
        waker
    }

    /// Takes the wakers of all who wait.
    pub(super) fn take_all(&mut self, wakers: &mut WakeList) {
        if let Some(rare) = &mut self.rare {
            rare.waiters.take_all(wakers);
        }
    }

    fn wake_due(&mut self, changed: bool, due: &mut WakeList) {
        let view = View {
            changed,
            closed: self.owner.closed,
            len: self.buffer.len(),
            limit: self.limit(),
            appended: self.appended(),
            has_room: self.room() > 0,
            is_shown: self.buffer.borrowed() > 0,
        };
        if let Some(rare) = &mut self.rare {
            rare.waiters.take_due(&view, due);
        }
    }

    /// Why the buffer was closed, if that was not in order.
    pub(super) fn error(&self) -> Option<&Arc<io::Error>> {
        self.rare.as_ref()?.error.as_ref()
    }

    /// The error of a wait that ends because the buffer was closed; `None` while it is open.
    pub(super) fn end(&self) -> Option<WaitError> {
        match self.error() {
            Some(error) => Some(WaitError::Stream(Arc::clone(error))),
            None => self.owner.closed.then_some(WaitError::Closed),
        }
    }

    /// Ends the stream, with an error unless it ends in order. Only the first call has an effect.
    pub(super) fn close(&mut self, error: Option<Arc<io::Error>>, aftermath: &mut Aftermath) {
        if mem::replace(&mut self.owner.closed, true) {
            return;
        }
        if error.is_some() {
            self.rare_mut().error = error;
        }
        self.apply_owner_marks();
        if let Some(waker) = self.tell_watch(None) {
            aftermath.wakers.push(waker);
        }
        self.wake_due(false, &mut aftermath.wakers);
    }
}

impl Rare {
    /// Has ordinary callbacks run soon, and inline ones after the lock.
    fn tell_callbacks(
        &mut self,
        changed: bool,
        now: Totals,
        inner: &Arc<Inner>,
        aftermath: &mut Aftermath,
    ) {
        let Some(callbacks) = &mut self.callbacks else {
            return self.gauge.forget_news();
        };
        if !callbacks.has_watermark() {
            self.gauge.forget_news();
        }
        aftermath.executor = callbacks.schedule(changed, self.queue.as_ref(), inner);
        aftermath.delivery = callbacks.begin_delivery(changed, &mut self.gauge, now);
    }

    #[inline]
    fn hears_changes(&self) -> bool {
        match &self.callbacks {
            None => false,
            Some(callbacks) => callbacks.hear_changes(),
        }
    }

    /// The least length that may concern somebody. A watch may begin to wait at any time, so it is asked each time.
    fn quiet_below(&self) -> usize {
        if self.watch.is_some() || self.hears_changes() {
            return 0;
        }
        self.gauge.quiet_below().min(self.waiters.quiet_below())
    }

    /// Whether a change to a length of `len` concerns nobody but callbacks that are told of every change.
    #[inline]
    pub(super) fn concerns_no_other(&self, len: usize) -> bool {
        self.gauge.is_quiet(len)
            && self.waiters.are_quiet(len)
            && match &self.watch {
                None => true,
                Some(watch) => !watch.waits_at(len),
            }
    }
}

impl Aftermath {
    /// Does it. Foreign code runs here, so no lock may be held.
    #[inline]
    pub(super) fn carry_out(&mut self, buffer: &SharedEvBuffer) {
        self.wakers.wake_all();
        if let Some(executor) = self.executor.take() {
            executor.wake();
        }
        buffer.deliver(self.delivery.take());
        if !self.deferred_drops.is_empty() {
            release(mem::take(&mut self.deferred_drops));
        }
    }
}

#[cold]
fn release(deferred_drops: DeferredDrops) {
    for bytes in deferred_drops {
        catch_panic("the owner of released memory", || drop(bytes));
    }
}
