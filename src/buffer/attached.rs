//! Data that few buffers need: a maximum length, and what a shared buffer attaches to the buffer that it holds.

use std::sync::Arc;

use crate::{limits::budget::Account, segment::Segment};

/// Allocated when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// Bytes ever prepended and removed, since a shared buffer holds this one.
    pub(super) prepended: u64,
    pub(super) removed: u64,
    /// How often bytes were overwritten in place, which changes neither of these.
    pub(super) overwrites: u64,
    /// Identifies the shared buffer and the moment of attaching: no two have the same number.
    pub(super) token: u64,
    /// The address of this buffer at that moment.
    ///
    /// A buffer that was moved out of a shared one (`mem::take` through a guard) takes its flags along. Its new address
    /// shows that they are not valid any more.
    pub(super) address: usize,
    /// The shared buffer has to check more than the contents: a drop was deferred, or a limit has changed.
    pub(super) check_requested: bool,
    /// The usual length of the buffer before it becomes empty again, as a power of two.
    pub(super) usual_len: u32,
    /// `None` in most buffers, so that an idle connection is small.
    pub(super) extras: Option<Box<Extras>>,
}

/// What few of the attached buffers need.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Meaningful only with the flag `LIMITED`.
    pub(super) max_len: usize,
    pub(super) borrowed: Borrowed,
    /// The account for which the memory of this buffer counts.
    pub(super) account: Option<Arc<Account>>,
    /// Foreign memory to drop after the lock is released.
    pub(super) deferred_drops: Vec<Segment>,
}

impl Attached {
    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Returns the borrowed range, if there is one.
    #[inline]
    pub(super) fn borrowed_mut(&mut self) -> Option<&mut Borrowed> {
        let extras = self.extras.as_deref_mut()?;
        (extras.borrowed.len > 0).then_some(&mut extras.borrowed)
    }
}

/// The range of bytes that a reader has borrowed and not yet consumed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Borrowed {
    /// Bytes that were prepended to it since.
    pub(super) behind: usize,
    pub(super) len: usize,
}

impl Borrowed {
    pub(super) fn remove(&mut self, n: usize) {
        let before = n.min(self.behind);
        self.behind -= before;
        self.len = self.len.saturating_sub(n - before);
    }
}
