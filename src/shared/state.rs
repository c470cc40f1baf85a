//! What is done with the state of a shared buffer under its lock.

use std::{io, mem, sync::Arc, task::Waker};

use super::{
    WaitError,
    change::{Change, Mark, Totals},
    inner::{Callbacks, ChangeHook, ChangeInfo, Extras, Observers, OwnerFlags, Position, State},
    interest::{Interest, View},
    lock::ConsumeBorrowed,
    notify::OUTDATED,
    watermarks::Watermarks,
};
use crate::{
    BufferError, EvBuffer,
    buffer::End,
    limits::budget::Account,
    sync::{Place, WakeList, next_token},
};

impl State {
    pub(super) fn new(buffer: EvBuffer) -> Self {
        Self {
            buffer,
            token: 0,
            flags: OwnerFlags::default(),
            observers: None,
            quiet_from: 0,
            quiet_len: u32::MAX,
        }
    }

    /// Makes the buffer, in its place in memory, part of this shared buffer.
    pub(super) fn attach(&mut self, prepended: u64, removed: u64) {
        self.token = next_token();
        self.buffer.attach(self.token, prepended, removed);
        self.apply_flags();
        let account = self.extras().and_then(|extras| extras.account.clone());
        if let Some(account) = account {
            self.buffer.set_account(account);
        }
    }

    /// Makes the memory of the buffer count for `account`.
    pub(super) fn set_account(&mut self, account: Arc<Account>) {
        self.buffer.set_account(account.clone());
        self.extras_mut().account = Some(account);
    }

    /// Returns the observers for a caller that may add a subscriber, and invalidates the quiet range.
    #[inline]
    pub(super) fn observers_mut(&mut self) -> &mut Observers {
        self.quiet_len = 0;
        let observers = self.observers.get_or_insert_default();
        observers.quiet = OUTDATED;
        observers
    }

    pub(super) fn callbacks_mut(&mut self) -> &mut Callbacks {
        self.observers_mut().callbacks.get_or_insert_default()
    }

    #[inline]
    pub(super) fn position(&self) -> Position {
        let (prepended, removed) = self.buffer.totals();
        Position {
            totals: Totals {
                removed,
                len: self.buffer.len(),
                closed: self.flags.closed,
            },
            prepended,
            overwrites: self.buffer.overwrites(),
        }
    }

    #[inline]
    pub(super) fn totals(&self) -> Totals {
        self.position().totals
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            appended: self.appended(),
        }
    }

    /// Returns the number of bytes ever appended.
    pub(super) fn appended(&self) -> u64 {
        let now = self.position();
        (now.totals.len as u64)
            .wrapping_add(now.totals.removed)
            .wrapping_sub(now.prepended)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.flags.closed
    }

    /// Returns the error with which the buffer was closed.
    pub(super) fn error(&self) -> Option<&Arc<io::Error>> {
        self.extras()?.error.as_ref()
    }

    fn extras(&self) -> Option<&Extras> {
        self.observers.as_ref()?.extras.as_deref()
    }

    fn extras_mut(&mut self) -> &mut Extras {
        self.observers_mut().extras.get_or_insert_default()
    }

    /// Returns the error of a wait that ends because the buffer was closed; `None` while it is open.
    pub(super) fn end(&self) -> Option<WaitError> {
        match self.error() {
            Some(error) => Some(WaitError::Stream(Arc::clone(error))),
            None => self.flags.closed.then_some(WaitError::Closed),
        }
    }

    /// Returns why the buffer will not hold `n` bytes, which it does not hold now; `None` if it still may.
    pub(super) fn why_never(&self, n: usize) -> Option<WaitError> {
        if let Some(limit) = self.buffer.max_len().filter(|&limit| n > limit) {
            return Some(WaitError::NeverFits { limit });
        }
        if let Some(high) = self.watermarks().high().filter(|&high| n > high) {
            return Some(WaitError::AboveHigh { high });
        }
        let frozen = self.buffer.is_frozen_by_user(End::Back);
        self.end()
            .or(frozen.then_some(WaitError::Frozen(End::Back)))
    }

    /// Returns the length up to which the buffer is filled.
    pub(super) fn limit(&self) -> usize {
        let cap = self.buffer.max_len().unwrap_or(usize::MAX);
        self.watermarks().high().unwrap_or(usize::MAX).min(cap)
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        self.observers
            .as_ref()
            .map_or(Watermarks::NONE, |observers| observers.tracker.watermarks())
    }

    pub(super) fn is_high(&self) -> bool {
        self.observers
            .as_ref()
            .is_some_and(|observers| observers.tracker.is_high())
    }

    /// Returns the number of bytes that a writer may add before it has to wait.
    pub(super) fn room(&self) -> usize {
        if self.buffer.is_frozen_by_user(End::Back) {
            return 0;
        }
        let most = match (&self.observers, self.limit()) {
            // What a task waits for is let in, or both sides would wait for each other.
            (Some(observers), limit) if observers.tracker.is_high() => {
                let wanted = observers.waiters.waiting().map(Interest::wanted).max();
                wanted.unwrap_or(0).min(limit)
            }
            (_, limit) => limit,
        };
        most.saturating_sub(self.buffer.len())
    }

    /// Returns the length of a frame that a task waits for, if one does.
    pub(super) fn awaited_frame(&self) -> Option<usize> {
        let waiters = &self.observers.as_ref()?.waiters;
        waiters.waiting().find_map(|interest| match interest {
            Interest::TakeFrame(n) => Some(n),
            _ => None,
        })
    }

    /// Returns the number of bytes that fit below the hard cap.
    pub(super) fn room_below_cap(&self) -> usize {
        let cap = self.buffer.max_len().unwrap_or(usize::MAX);
        cap.saturating_sub(self.buffer.len())
    }

    pub(super) fn set_owner_frozen(&mut self, end: End, on: bool) {
        match end {
            End::Front => self.flags.front_frozen = on,
            End::Back => self.flags.back_frozen = on,
        }
        self.apply_flags();
    }

    pub(super) fn apply_flags(&mut self) {
        self.buffer
            .set_owner_frozen(End::Front, self.flags.front_frozen);
        self.buffer
            .set_owner_frozen(End::Back, self.flags.back_frozen);
        self.buffer.set_closed(self.flags.closed);
    }

    /// Ends the stream, with an error unless it ends in order. Returns `false` if it had ended before.
    pub(super) fn set_closed(&mut self, error: Option<Arc<io::Error>>) -> bool {
        if mem::replace(&mut self.flags.closed, true) {
            return false;
        }
        if error.is_some() {
            self.extras_mut().error = error;
        }
        self.apply_flags();
        true
    }

    pub(super) fn set_hook(&mut self, hook: Arc<dyn ChangeHook>) {
        self.observers_mut().hook = Some(hook);
    }

    pub(super) fn is_hooked(&self) -> bool {
        self.observers
            .as_deref()
            .is_some_and(|observers| observers.hook.is_some())
    }

    /// Notifies the owner of a change, or that something else than the contents is different.
    pub(super) fn notify_hook(&self, change: Option<Change>) -> Option<Waker> {
        let observers = self.observers.as_ref()?;
        let info = ChangeInfo {
            change,
            state: self,
        };
        observers.hook.as_ref()?.changed(info)
    }

    /// Puts `with` in the place of the buffer and returns that. Its deferred drops are left to the new one.
    pub(super) fn replace(&mut self, with: EvBuffer, before: Position) -> EvBuffer {
        self.attach_replacement(before);
        let (prepended, removed) = self.buffer.totals();
        let mut old = mem::replace(&mut self.buffer, with);
        let drops = old.detach();
        self.attach(prepended, removed.wrapping_add(old.len() as u64));
        self.buffer.defer_drops(drops);
        old
    }

    /// Attaches a buffer that user code has put in this place: all that was there is removed, all that is there is
    /// added.
    pub(super) fn attach_replacement(&mut self, before: Position) {
        if !self.buffer.is_attached(self.token) {
            let totals = before.totals;
            let removed = totals.removed.wrapping_add(totals.len as u64);
            self.attach(before.prepended, removed);
        }
    }

    /// Takes the contents out, to be dropped after the lock. A wait for these bytes to be drained fails.
    pub(super) fn discard_all(&mut self) -> EvBuffer {
        let before = self.position();
        self.note_discarded();
        self.replace(EvBuffer::new(), before)
    }

    /// Wakes the tasks that wait for the contents to be delivered, which will not happen.
    pub(super) fn give_up(&mut self, wakers: &mut WakeList) {
        self.note_discarded();
        self.wake_all(wakers);
    }

    fn note_discarded(&mut self) {
        if !self.buffer.is_empty() {
            let from = self.appended().wrapping_sub(self.buffer.len() as u64);
            self.extras_mut().discarded_from.get_or_insert(from);
        }
    }

    /// Returns whether bytes before `mark` were discarded.
    pub(super) fn was_discarded(&self, mark: Mark) -> bool {
        let from = self.extras().and_then(|extras| extras.discarded_from);
        from.is_some_and(|from| mark.appended > from)
    }

    /// Returns whether the buffer is the attached one, and nothing but its contents may have changed.
    #[inline]
    pub(super) fn needs_no_check(&self) -> bool {
        self.buffer.needs_no_check(self.token)
    }

    /// Returns whether nothing that concerns a subscriber has changed since it was `before`.
    #[inline]
    pub(super) fn is_same_as(&self, before: Position) -> bool {
        self.needs_no_check() && self.position() == before && !self.is_quiet_range_outdated()
    }

    /// Registers a waiting task. Returns the replaced waker, to be dropped after the lock.
    #[must_use]
    pub(super) fn register_waiter(
        &mut self,
        place: &mut Option<Place>,
        interest: Interest,
        waker: Waker,
    ) -> Option<Waker> {
        let may_want_more = interest.wanted() > 0 && self.is_high();
        let room_before = if may_want_more { self.room() } else { 0 };
        let waiters = &mut self.observers_mut().waiters;
        let replaced = waiters.register(place, interest, waker);
        if may_want_more && self.room() > room_before {
            // Between the watermarks, what fills the buffer continues for this task.
            self.buffer.request_check();
        }
        match (interest.quiet_range().is_empty(), &mut self.observers) {
            (true, Some(observers)) => observers.quiet = 0..0,
            _ => self.update_quiet_range(),
        }
        replaced
    }

    /// Removes a waiting task. Returns its waker, to be dropped after the lock.
    #[must_use]
    pub(super) fn remove_waiter(&mut self, place: Place) -> Option<Waker> {
        let waker = self.observers_mut().waiters.remove(place);
        self.update_quiet_range();
        waker
    }

    /// Returns whether a task with this interest lets older ones go first. If so, it gets a place and has to wake
    /// itself; the waker left in `replaced` must be dropped after the lock.
    #[must_use]
    #[inline]
    pub(super) fn yields(
        &mut self,
        place: &mut Option<Place>,
        interest: Interest,
        replaced: &mut Option<Waker>,
    ) -> bool {
        // Mostly there is none, or none but this task.
        self.has_woken() && self.yields_to_woken(place, interest, replaced)
    }

    /// Returns whether a waiting task was woken and not polled since.
    #[inline]
    pub(super) fn has_woken(&self) -> bool {
        match &self.observers {
            Some(observers) => observers.waiters.has_woken(),
            None => false,
        }
    }

    #[inline(never)]
    fn yields_to_woken(
        &mut self,
        place: &mut Option<Place>,
        interest: Interest,
        replaced: &mut Option<Waker>,
    ) -> bool {
        let Some(observers) = self.observers.as_deref_mut() else {
            return false;
        };
        let waiters = &mut observers.waiters;
        if !waiters.yields(place.as_ref(), |other| other.competes_with(interest)) {
            return false;
        }
        *replaced = waiters.register_woken(place, interest);
        self.update_quiet_range();
        true
    }

    /// Returns whether a writer was woken and is about to add something.
    pub(super) fn expects_bytes(&self) -> bool {
        self.observers
            .as_ref()
            .is_some_and(|observers| observers.waiters.woken().any(Interest::adds))
    }

    /// Returns why adding at the back fails, however long a writer waits.
    pub(super) fn refusal(&self) -> Option<BufferError> {
        if self.flags.closed {
            return Some(BufferError::Closed);
        }
        if self.buffer.is_frozen(End::Back) {
            return Some(BufferError::Frozen(End::Back));
        }
        (self.buffer.max_len() == Some(0)).then_some(BufferError::Full { max_len: 0 })
    }

    /// Moves the wakers of all tasks that may have to check again into `wakers`.
    #[inline]
    pub(super) fn wake_due(&mut self, changed: bool, wakers: &mut WakeList) {
        let len = self.buffer.len();
        let Some(observers) = self.observers.as_deref_mut() else {
            return;
        };
        if !observers.waiters.has_waiting() {
            return;
        }
        // Usually no other waiters remain.
        let is_reached = |interest: Interest| interest.is_reached(len, changed);
        observers.waiters.take_due(is_reached, wakers);
        if observers.waiters.has_waiting() {
            self.wake_due_slow(changed, wakers);
        }
    }

    #[inline(never)]
    fn wake_due_slow(&mut self, changed: bool, wakers: &mut WakeList) {
        let view = View {
            changed,
            closed: self.flags.closed,
            len: self.buffer.len(),
            limit: self.limit(),
            frozen_front: self.buffer.is_frozen_by_user(End::Front),
            frozen_back: self.buffer.is_frozen_by_user(End::Back),
            appended: self.appended(),
            room: self.room(),
            cap: self.buffer.max_len().unwrap_or(usize::MAX),
            refuses: self.refusal().is_some(),
            borrowed: self.buffer.borrowed() > 0,
        };
        if let Some(observers) = &mut self.observers {
            observers
                .waiters
                .take_due(|interest| interest.is_due(&view), wakers);
        }
    }

    /// Moves the wakers of all tasks into `wakers`.
    pub(super) fn wake_all(&mut self, wakers: &mut WakeList) {
        if let Some(observers) = &mut self.observers {
            observers.waiters.take_due(|_| true, wakers);
        }
    }

    /// Releases the memory of a connection's buffer if that is empty: an idle connection holds none.
    pub(super) fn release_idle(&mut self) {
        if self.buffer.is_empty() {
            self.buffer.shrink_to_fit();
        }
    }
}

impl ChangeInfo<'_> {
    pub(crate) fn len(&self) -> usize {
        self.state.buffer.len()
    }

    /// Returns whether nothing is added any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.flags.closed
    }

    /// Returns whether the high watermark was reached, and the low one not since.
    pub(crate) fn is_high(&self) -> bool {
        self.state.is_high()
    }

    /// Returns whether a writer may add something.
    pub(crate) fn has_room(&self) -> bool {
        self.state.room() > 0
    }
}

impl ConsumeBorrowed for State {
    fn consume_borrowed(&mut self, n: usize) {
        self.buffer.consume_borrowed(n);
    }
}
