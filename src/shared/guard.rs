//! The guard of a shared buffer: all that is done under one is one change.

use std::{
    cmp::Ordering,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    SharedEvBuffer, Watermarks,
    lock::Lending,
    state::{Aftermath, Reading, State},
};
use crate::{
    EvBuffer,
    buffer::{End, Result},
    sync::LockGuard,
};

/// Exclusive access to the [`EvBuffer`] in a [`SharedEvBuffer`], had from [`lock`](SharedEvBuffer::lock).
///
/// When it is dropped, all that was done through it is told as one [`Change`](super::Change): waiters are woken,
/// callbacks are scheduled or, if they are inline ones, called. A guard through which nothing was changed tells nobody.
///
/// It is not [`Send`], so that it cannot be held over an `.await` of a spawned task, and the lock is not re-entrant: to
/// lock the same buffer twice in one thread is a deadlock. All methods of [`SharedEvBuffer`] lock it, and so does the drop of
/// a callback's handle, of a future that waits, and of a reader that shows bytes.
///
/// Memory of foreign owners ([`add_owner`](EvBuffer::add_owner), [`bytes::Bytes`]) that is released under the guard is
/// dropped after the lock is open. The exception is the assignment of another buffer, `*guard = …`, which drops the old one
/// on the spot; [`replace`](Self::replace) is the way to swap.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{SharedEvBuffer, shared::Change};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SharedEvBuffer::new();
/// let changed = buffer.changed();
/// {
///     let mut guard = buffer.lock();
///     guard.add(b"length: ")?;
///     guard.add(b"42")?;
///     guard.drain(3)?;
/// }
/// let Change { before, added, removed, after } = changed.await?;
/// assert_eq!((before, added, removed, after), (0, 10, 3, 7));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it at once unlocks"]
#[doc(alias = "evbuffer_lock")]
#[doc(alias = "evbuffer_unlock")]
pub struct BufferGuard<'a> {
    buffer: &'a SharedEvBuffer,
    /// `None` only while it is dropped: who is told of the change is told after the lock.
    state: Option<LockGuard<'a, State>>,
    before: Reading,
}

impl<'a> BufferGuard<'a> {
    #[inline]
    pub(super) fn new(buffer: &'a SharedEvBuffer) -> Self {
        Self::holding(buffer, buffer.inner.state.lock())
    }

    #[inline]
    fn holding(buffer: &'a SharedEvBuffer, state: LockGuard<'a, State>) -> Self {
        Self {
            buffer,
            before: state.read(),
            state: Some(state),
        }
    }

    /// There is, or may be, somebody to be told. Kept out of the way of the many changes that concern nobody.
    #[cold]
    #[inline(never)]
    fn tell(&mut self) {
        let (buffer, before) = (self.buffer, self.before);
        let Some(mut state) = self.state.take() else {
            return;
        };
        if state.concerns_nobody(state.buffer.len()) {
            state.shrink_if_idle();
            return state.find_quiet();
        }
        if state.is_as(before) {
            return state.find_quiet();
        }
        if let Some(calls) = state.tell_callbacks_only(before, &buffer.inner) {
            state.shrink_if_idle();
            drop(state);
            return calls.carry_out(buffer);
        }
        let mut aftermath = Aftermath::default();
        state.settle(before, &buffer.inner, &mut aftermath);
        drop(state);
        aftermath.carry_out(buffer);
    }

    /// Puts `with` in the place of the buffer and returns what was there.
    ///
    /// Told as a change: all that was there removed, all of `with` added. What the owner of the buffer froze or closed
    /// holds for the new one, too.
    pub fn replace(&mut self, with: EvBuffer) -> EvBuffer {
        let before = self.before;
        self.state_mut().replace(with, before)
    }

    /// The lock that it holds.
    pub(super) fn lending(&self) -> &Lending {
        &self.buffer.inner.state
    }

    #[inline]
    pub(super) fn state(&self) -> &State {
        match &self.state {
            Some(state) => state,
            None => unreachable!("a guard that is used has the lock"),
        }
    }

    #[inline]
    pub(super) fn state_mut(&mut self) -> &mut State {
        match &mut self.state {
            Some(state) => state,
            None => unreachable!("a guard that is used has the lock"),
        }
    }
}

/// For the stream that a buffer belongs to.
impl BufferGuard<'_> {
    pub(crate) fn marks(&self) -> Watermarks {
        self.state().watermarks()
    }

    /// How many bytes the owner may add before it has to wait.
    pub(crate) fn room(&self) -> usize {
        match self.is_frozen_by_user(End::Back) {
            true => 0,
            false => self.state().room(),
        }
    }

    pub(crate) fn is_high(&self) -> bool {
        self.state().is_high()
    }

    /// Bytes ever appended.
    pub(crate) fn appended(&self) -> u64 {
        self.state().appended()
    }

    /// Bytes ever removed.
    pub(crate) fn removed(&self) -> u64 {
        self.state().totals().removed
    }
}

impl Deref for BufferGuard<'_> {
    type Target = EvBuffer;

    #[inline]
    fn deref(&self) -> &EvBuffer {
        &self.state().buffer
    }
}

impl DerefMut for BufferGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut EvBuffer {
        &mut self.state_mut().buffer
    }
}

impl Drop for BufferGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Where nobody is to be told the lock opens with the field, which is dropped after this.
        if !self.state().is_quiet() {
            self.tell();
        }
    }
}

/// Copies `data` to the back as one change, without the ado of a guard where it concerns nobody.
#[inline]
pub(super) fn add(buffer: &SharedEvBuffer, data: &[u8]) -> Result<()> {
    let mut state = buffer.inner.state.lock();
    if state.stays_quiet(data.len()) {
        return state.buffer.add(data);
    }
    BufferGuard::holding(buffer, state).add(data)
}

/// Calls `edit` with two buffers, locked in the order of their addresses, so that two opposite moves do not wait for each
/// other. Both are unlocked before anybody is told. `None` if they are one.
pub(super) fn edit_both<R>(
    a: &SharedEvBuffer,
    b: &SharedEvBuffer,
    edit: impl FnOnce(&mut EvBuffer, &mut EvBuffer) -> R,
) -> Option<R> {
    let order = Arc::as_ptr(&a.inner).cmp(&Arc::as_ptr(&b.inner));
    let (mut first, mut second) = match order {
        Ordering::Less => (a.inner.state.lock(), b.inner.state.lock()),
        Ordering::Greater => (b.inner.state.lock(), a.inner.state.lock()),
        Ordering::Equal => return None,
    };
    let (in_a, in_b) = match order {
        Ordering::Less => (&mut *first, &mut *second),
        _ => (&mut *second, &mut *first),
    };
    let before = (in_a.read(), in_b.read());
    let edited = edit(&mut in_a.buffer, &mut in_b.buffer);
    let (mut for_a, mut for_b) = (Aftermath::default(), Aftermath::default());
    in_a.settle(before.0, &a.inner, &mut for_a);
    in_b.settle(before.1, &b.inner, &mut for_b);
    drop((first, second));
    for_a.carry_out(a);
    for_b.carry_out(b);
    Some(edited)
}

impl fmt::Debug for BufferGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferGuard").field(&**self).finish()
    }
}
