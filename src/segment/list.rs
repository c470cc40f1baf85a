//! The list of the segments of a chain.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
};

use super::Segment;

/// A `VecDeque` whose drop costs one comparison if it has no memory.
///
/// Most buffers that come and go, one for each message, never have a list: for them the drop of a `VecDeque`, which looks
/// at its two halves first, costs as much as everything else together.
pub(crate) struct SegmentList(ManuallyDrop<VecDeque<Segment>>);

impl SegmentList {
    pub(crate) const fn new() -> Self {
        Self(ManuallyDrop::new(VecDeque::new()))
    }
}

impl Drop for SegmentList {
    #[inline]
    fn drop(&mut self) {
        if self.0.capacity() > 0 {
            // SAFETY: the list is dropped once, here, and not used after it.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

impl Default for SegmentList {
    fn default() -> Self {
        Self::new()
    }
}

impl From<VecDeque<Segment>> for SegmentList {
    fn from(list: VecDeque<Segment>) -> Self {
        Self(ManuallyDrop::new(list))
    }
}

impl Deref for SegmentList {
    type Target = VecDeque<Segment>;

    #[inline]
    fn deref(&self) -> &VecDeque<Segment> {
        &self.0
    }
}

impl DerefMut for SegmentList {
    #[inline]
    fn deref_mut(&mut self) -> &mut VecDeque<Segment> {
        &mut self.0
    }
}

impl fmt::Debug for SegmentList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
