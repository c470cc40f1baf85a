//! [`BufferGuard`]: everything that is done under one guard is one change.

use std::{
    cmp::Ordering,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    change::Mark,
    inner::{Position, SharedEvBuffer, State},
    lock::BufferLock,
    notify::Notifications,
    watermarks::Watermarks,
};
use crate::{
    EvBuffer,
    sync::{LockGuard, NotSend},
};

/// Exclusive access to the [`EvBuffer`] in a [`SharedEvBuffer`], returned by [`lock`](SharedEvBuffer::lock).
///
/// When it is dropped, everything that was done through it is reported as one [`Change`](super::Change): waiting tasks are
/// woken, deferred callbacks are scheduled and inline callbacks are called. A guard through which nothing was changed
/// notifies no subscriber.
///
/// It is not [`Send`], so that a spawned task cannot hold it across an `.await`. The lock is not re-entrant: locking the same
/// buffer twice in one thread deadlocks. All methods of [`SharedEvBuffer`] lock it, and so do dropping a callback's
/// handle, a future that waits, and a reader that has borrowed bytes.
///
/// No user code runs under the lock, with two exceptions, which are the caller's: a closure that you pass to a method of the
/// buffer, and the assignment of another buffer, `*guard = …`, which drops the old one at once; use
/// [`replace`](Self::replace) instead. Owners of memory ([`add_owner`](EvBuffer::add_owner), [`bytes::Bytes`]) that is
/// removed under the guard are dropped after the lock is released.
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
#[doc(alias(
    "evbuffer_lock",
    "evbuffer_unlock",
    "bufferevent_lock",
    "bufferevent_unlock"
))]
pub struct BufferGuard<'a> {
    buffer: &'a SharedEvBuffer,
    /// `None` only while the guard is dropped: subscribers are notified after the lock is released.
    state: Option<LockGuard<'a, State>>,
    before: Position,
    _not_send: NotSend,
}

impl<'a> BufferGuard<'a> {
    #[inline]
    pub(super) fn new(buffer: &'a SharedEvBuffer, state: LockGuard<'a, State>) -> Self {
        Self {
            buffer,
            before: state.position(),
            state: Some(state),
            _not_send: NotSend::default(),
        }
    }

    /// Notifies subscribers: the slow path of drop. Out of line to keep the common case small.
    #[cold]
    #[inline(never)]
    fn notify(&mut self) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        if state.is_same_as(self.before) {
            return;
        }
        let mut notifications = Notifications::default();
        state.notify(self.before, &self.buffer.inner, &mut notifications);
        drop(state);
        notifications.send(self.buffer);
    }

    /// Puts `with` in the place of the buffer and returns the old one.
    ///
    /// Reported as a change: all old bytes are removed, all of `with` are added. What the owner of the buffer has frozen or
    /// closed stays so.
    pub fn replace(&mut self, with: EvBuffer) -> EvBuffer {
        let before = self.before;
        self.state_mut().replace(with, before)
    }

    pub(super) fn buffer_lock(&self) -> &BufferLock<State> {
        &self.buffer.inner.state
    }

    #[inline]
    pub(super) fn state(&self) -> &State {
        match &self.state {
            Some(state) => state,
            None => unreachable!("the state is taken out only by `drop`"),
        }
    }

    #[inline]
    pub(super) fn state_mut(&mut self) -> &mut State {
        match &mut self.state {
            Some(state) => state,
            None => unreachable!("the state is taken out only by `drop`"),
        }
    }
}

/// For the connection that owns the buffer.
impl BufferGuard<'_> {
    pub(crate) fn watermarks(&self) -> Watermarks {
        self.state().watermarks()
    }

    /// Returns the number of bytes that the owner may add before it has to wait.
    pub(crate) fn room(&self) -> usize {
        self.state().room()
    }

    /// Returns the length of a frame that a task waits for, if one does.
    pub(crate) fn awaited_frame(&self) -> Option<usize> {
        self.state().awaited_frame()
    }

    pub(crate) fn is_high(&self) -> bool {
        self.state().is_high()
    }

    /// Records that the hook of the owner begins to wait. See [`ChangeHook`](super::ChangeHook).
    pub(crate) fn hook_waits(&mut self) {
        self.state_mut().hook_waits();
    }

    /// Returns the number of bytes ever appended.
    pub(crate) fn appended(&self) -> u64 {
        self.state().appended()
    }

    /// Returns whether everything before `mark` has left the buffer, and none of it was discarded.
    pub(crate) fn is_drained_to(&self, mark: Mark) -> bool {
        let state = self.state();
        mark.is_reached(state.appended(), state.buffer.len()) && !state.was_discarded(mark)
    }

    /// Returns the number of bytes ever removed.
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
        let state = self.state();
        if state.needs_notify(state.buffer.len()) {
            self.notify();
        }
    }
}

impl fmt::Debug for BufferGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferGuard").field(&**self).finish()
    }
}

/// Calls `edit` with the states of two buffers, locked in the order of their addresses, so that two opposite moves do not
/// wait for each other. Subscribers are notified once both are unlocked. Returns `None` if the two are one.
pub(super) fn edit_both<R>(
    a: &SharedEvBuffer,
    b: &SharedEvBuffer,
    edit: impl FnOnce(&mut State, &mut State) -> R,
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
    let before = (in_a.position(), in_b.position());
    let edited = edit(in_a, in_b);
    let (mut for_a, mut for_b) = (Notifications::default(), Notifications::default());
    in_a.notify(before.0, &a.inner, &mut for_a);
    in_b.notify(before.1, &b.inner, &mut for_b);
    drop((first, second));
    // Callbacks may take long: first wake the tasks of both.
    for_a.wake();
    for_b.wake();
    for_a.deliver(a);
    for_b.deliver(b);
    Some(edited)
}
