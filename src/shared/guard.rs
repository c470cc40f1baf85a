//! The guard of a shared buffer: all that is done under one is one change.

use std::{
    cmp::Ordering,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    SharedEvBuffer,
    state::{Aftermath, Reading, State},
};
use crate::{EvBuffer, sync::LockGuard};

/// Exclusive access to the [`EvBuffer`] in a [`SharedEvBuffer`], had from [`lock`](SharedEvBuffer::lock).
///
/// When it is dropped, all that was done through it is told as one [`Change`](super::Change): waiters are woken,
/// callbacks are scheduled or, if they are inline ones, called. A guard through which nothing was changed tells nobody.
///
/// It is not [`Send`], so that it cannot be held over an `.await` of a spawned task, and the lock is not re-entrant: to
/// lock the same buffer twice in one thread is a deadlock.
///
/// Memory of foreign owners ([`add_owner`](EvBuffer::add_owner), [`bytes::Bytes`]) that is released under the guard is
/// dropped after the lock is open. The exception is the assignment of another buffer, `*guard = …`, which drops the old one
/// on the spot; [`replace`](Self::replace) is the way to swap.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{Change, SharedEvBuffer};
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
    /// `None` once it was released.
    state: Option<LockGuard<'a, State>>,
    before: Reading,
    /// The owner itself works here, whom its own marks do not hold up.
    as_owner: bool,
}

impl<'a> BufferGuard<'a> {
    #[inline]
    pub(super) fn new(buffer: &'a SharedEvBuffer) -> Self {
        let state = buffer.inner.state.lock();
        let before = state.read();
        Self {
            buffer,
            state: Some(state),
            before,
            as_owner: false,
        }
    }

    /// Lifts what the owner has frozen, until the guard is dropped.
    pub(super) fn lifted(mut self) -> Self {
        self.state_mut().lift_owner_marks();
        self.as_owner = true;
        self
    }

    /// Locks two buffers, in the order of their addresses, so that two opposite moves do not wait for each other.
    pub(super) fn both(a: &'a SharedEvBuffer, b: &'a SharedEvBuffer) -> Option<(Self, Self)> {
        match Arc::as_ptr(&a.inner).cmp(&Arc::as_ptr(&b.inner)) {
            Ordering::Less => {
                let first = Self::new(a);
                Some((first, Self::new(b)))
            }
            Ordering::Greater => {
                let first = Self::new(b);
                Some((Self::new(a), first))
            }
            Ordering::Equal => None,
        }
    }

    /// Unlocks, and leaves to the caller what is to be done after it.
    pub(super) fn release(mut self) -> Aftermath {
        self.unlock().unwrap_or_default()
    }

    fn unlock(&mut self) -> Option<Aftermath> {
        let mut state = self.state.take()?;
        if self.as_owner {
            state.apply_owner_marks();
        }
        (!state.is_quiet()).then(|| state.settle(self.before, &self.buffer.inner))
    }

    /// Puts `with` in the place of the buffer and returns what was there.
    ///
    /// Told as a change: all that was there removed, all of `with` added. What the owner of the buffer froze or closed
    /// holds for the new one, too.
    pub fn replace(&mut self, with: EvBuffer) -> EvBuffer {
        self.state_mut().replace(with)
    }

    #[inline]
    pub(super) fn state(&self) -> &State {
        match &self.state {
            Some(state) => state,
            None => unreachable!("only a guard that is gone was released"),
        }
    }

    #[inline]
    pub(super) fn state_mut(&mut self) -> &mut State {
        match &mut self.state {
            Some(state) => state,
            None => unreachable!("only a guard that is gone was released"),
        }
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
        if let Some(aftermath) = self.unlock() {
            aftermath.carry_out(self.buffer);
        }
    }
}

impl fmt::Debug for BufferGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferGuard").field(&**self).finish()
    }
}
