//! What few buffers need, kept out of the way of the others: a limit, and the marks of a buffer that is shared.

use bytes::Bytes;

use super::{End, EvBuffer};

/// States of a buffer that the hot paths ask for with one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    const FROZEN_FRONT: Self = Self(1);
    const FROZEN_BACK: Self = Self(1 << 1);
    const OWNER_FROZEN_FRONT: Self = Self(1 << 2);
    const OWNER_FROZEN_BACK: Self = Self(1 << 3);
    /// There is a limit on the length.
    pub(super) const LIMITED: Self = Self(1 << 4);
    /// Nothing comes in any more.
    pub(super) const CLOSED: Self = Self(1 << 5);
    /// A shared buffer holds this one: foreign memory is parked, totals are kept.
    pub(super) const SHARED: Self = Self(1 << 6);
    /// Much more memory is held than data: the next addition compacts.
    pub(super) const WASTEFUL: Self = Self(1 << 7);
    /// A file range may be among the segments.
    pub(super) const FILES: Self = Self(1 << 8);
    /// What no longer holds once the last byte has gone.
    pub(super) const EMPTIED: Self = Self(Self::WASTEFUL.0 | Self::FILES.0);
    /// Whatever sends an addition at the back the slow way.
    pub(super) const SLOW_ADD: Self = Self(
        Self::FROZEN_BACK.0
            | Self::OWNER_FROZEN_BACK.0
            | Self::LIMITED.0
            | Self::CLOSED.0
            | Self::WASTEFUL.0,
    );

    pub(super) const fn frozen(end: End) -> Self {
        match end {
            End::Front => Self::FROZEN_FRONT,
            End::Back => Self::FROZEN_BACK,
        }
    }

    const fn owner_frozen(end: End) -> Self {
        match end {
            End::Front => Self::OWNER_FROZEN_FRONT,
            End::Back => Self::OWNER_FROZEN_BACK,
        }
    }

    pub(super) const fn any_frozen(end: End) -> Self {
        Self(Self::frozen(end).0 | Self::owner_frozen(end).0)
    }

    #[inline]
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    fn set(&mut self, other: Self, on: bool) {
        if on {
            self.insert(other)
        } else {
            self.remove(other)
        }
    }
}

/// Made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Ext {
    pub(super) max_len: Option<usize>,
    /// The limit that the owner of a shared buffer set, which `set_max_len` does not touch.
    owner_max_len: Option<usize>,
    /// Which shared buffer holds this one.
    holder: usize,
    /// Bytes ever prepended and removed, since the buffer became part of a shared one.
    prepended: u64,
    removed: u64,
    /// Foreign memory to be released once the lock is open.
    pub(super) parked: Vec<Bytes>,
}

impl Ext {
    pub(super) fn effective_max_len(&self) -> Option<usize> {
        match (self.max_len, self.owner_max_len) {
            (Some(user), Some(owner)) => Some(user.min(owner)),
            (user, owner) => user.or(owner),
        }
    }
}

/// What a shared buffer asks of the one it holds.
#[allow(dead_code)]
impl EvBuffer {
    /// Marks this buffer as part of the shared one that `holder` names, whose totals start at nothing removed.
    pub(crate) fn attach(&mut self, holder: usize) {
        let ext = self.ext_mut();
        (ext.holder, ext.prepended, ext.removed) = (holder, 0, 0);
        self.flags.insert(Flags::SHARED);
    }

    /// Takes all marks of a shared buffer off, also what its owner froze, limited or closed.
    pub(crate) fn detach(&mut self) -> Vec<Bytes> {
        let mut parked = Vec::new();
        if let Some(ext) = &mut self.ext {
            ext.owner_max_len = None;
            parked = std::mem::take(&mut ext.parked);
        }
        self.flags.remove(Flags(
            Flags::SHARED.0
                | Flags::CLOSED.0
                | Flags::OWNER_FROZEN_FRONT.0
                | Flags::OWNER_FROZEN_BACK.0,
        ));
        self.settle_limit();
        parked
    }

    /// Whether this is still the buffer that [`attach`](Self::attach) marked for `holder`.
    #[inline]
    pub(crate) fn is_attached_to(&self, holder: usize) -> bool {
        self.flags.intersects(Flags::SHARED)
            && self.ext.as_ref().is_some_and(|ext| ext.holder == holder)
    }

    /// Bytes ever appended, counting those that were there when it became part of a shared buffer.
    pub(crate) fn total_appended(&self) -> u64 {
        let (prepended, removed) = self
            .ext
            .as_ref()
            .map_or((0, 0), |ext| (ext.prepended, ext.removed));
        (self.len as u64)
            .wrapping_add(removed)
            .wrapping_sub(prepended)
    }

    pub(crate) fn total_prepended(&self) -> u64 {
        self.ext.as_ref().map_or(0, |ext| ext.prepended)
    }

    pub(crate) fn total_removed(&self) -> u64 {
        self.ext.as_ref().map_or(0, |ext| ext.removed)
    }

    /// What was released under the lock and must be dropped after it.
    pub(crate) fn take_parked(&mut self) -> Vec<Bytes> {
        self.ext
            .as_mut()
            .map_or_else(Vec::new, |ext| std::mem::take(&mut ext.parked))
    }

    pub(crate) fn set_owner_frozen(&mut self, end: End, on: bool) {
        self.flags.set(Flags::owner_frozen(end), on);
    }

    pub(crate) fn set_closed(&mut self, on: bool) {
        self.flags.set(Flags::CLOSED, on);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.flags.intersects(Flags::CLOSED)
    }

    pub(crate) fn set_owner_max_len(&mut self, max: Option<usize>) {
        self.ext_mut().owner_max_len = max;
        self.settle_limit();
    }
}

impl EvBuffer {
    pub(super) fn ext_mut(&mut self) -> &mut Ext {
        self.ext.get_or_insert_default()
    }

    pub(super) fn settle_limit(&mut self) {
        let limited = self.max_len().is_some();
        self.flags.set(Flags::LIMITED, limited);
    }

    #[inline]
    pub(super) fn count_removed(&mut self, n: usize) {
        if self.flags.intersects(Flags::SHARED) {
            self.ext_mut().removed += n as u64;
        }
    }

    pub(super) fn count_prepended(&mut self, n: usize) {
        if self.flags.intersects(Flags::SHARED) {
            self.ext_mut().prepended += n as u64;
        }
    }
}
