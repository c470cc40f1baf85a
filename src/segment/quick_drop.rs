//! Values whose drop costs one comparison if there is nothing to drop.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
};

use super::Segment;

/// A value whose drop costs one comparison if there is nothing to drop.
///
/// Most buffers that come and go, one for each message, have neither a list of segments nor anything attached. For them the
/// drops of these two, which the compiler does not inline, would cost as much as everything else together.
pub(crate) struct QuickDrop<T: MayBeNothing>(ManuallyDrop<T>);

/// The list of the segments of a chain.
pub(crate) type SegmentList = QuickDrop<VecDeque<Segment>>;

/// A value that may have nothing to drop.
pub(crate) trait MayBeNothing {
    /// Returns whether the drop of this value would do nothing.
    fn is_nothing(&self) -> bool;
}

impl<T> MayBeNothing for VecDeque<T> {
    #[inline]
    fn is_nothing(&self) -> bool {
        self.capacity() == 0
    }
}

impl<T> MayBeNothing for Option<Box<T>> {
    #[inline]
    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

impl<T: MayBeNothing> QuickDrop<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl SegmentList {
    pub(crate) const fn empty() -> Self {
        Self::new(VecDeque::new())
    }
}

impl<T: MayBeNothing> Drop for QuickDrop<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_nothing() {
            // SAFETY: the value is dropped once, here, and not used after it.
            unsafe { drop_present(&mut self.0) }
        }
    }
}

/// Drops a value that is not nothing. Not inline, so that the check before it is.
///
/// # Safety
///
/// As [`ManuallyDrop::drop`].
#[inline(never)]
unsafe fn drop_present<T>(value: &mut ManuallyDrop<T>) {
    // SAFETY: passed on to the caller.
    unsafe { ManuallyDrop::drop(value) }
}

impl Default for SegmentList {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<VecDeque<Segment>> for SegmentList {
    fn from(list: VecDeque<Segment>) -> Self {
        Self::new(list)
    }
}

impl<T: MayBeNothing> Deref for QuickDrop<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: MayBeNothing> DerefMut for QuickDrop<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: MayBeNothing + fmt::Debug> fmt::Debug for QuickDrop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
