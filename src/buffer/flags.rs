//! States of a buffer that the hot paths test with one comparison.

use crate::error::End;

/// A set of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    const FROZEN_FRONT: Self = Self(1);
    const FROZEN_BACK: Self = Self(1 << 1);
    const OWNER_FROZEN_FRONT: Self = Self(1 << 2);
    const OWNER_FROZEN_BACK: Self = Self(1 << 3);
    /// There is a maximum length.
    pub(super) const LIMITED: Self = Self(1 << 4);
    /// The shared buffer was closed: no more bytes come in.
    pub(super) const CLOSED: Self = Self(1 << 5);
    /// A shared buffer holds this one: drops of foreign memory are deferred, and totals are kept.
    pub(super) const SHARED: Self = Self(1 << 6);
    /// Much more memory is held than data: the next addition compacts.
    pub(super) const WASTEFUL: Self = Self(1 << 7);
    /// A range of a file may be among the segments.
    pub(super) const FILES: Self = Self(1 << 8);
    /// The spare of the tail was asked for by `expand`, and is kept until it is used.
    pub(super) const PROMISED: Self = Self(1 << 9);
    /// The memory of this buffer counts for the account of a budget.
    pub(super) const BUDGETED: Self = Self(1 << 10);

    /// The states that end with the last byte.
    pub(super) const EMPTIED: Self = Self(Self::WASTEFUL.0 | Self::FILES.0 | Self::PROMISED.0);
    /// The states that send an addition at the back to the slow path.
    pub(super) const SLOW_ADD: Self = Self(
        Self::FROZEN_BACK.0
            | Self::OWNER_FROZEN_BACK.0
            | Self::LIMITED.0
            | Self::CLOSED.0
            | Self::WASTEFUL.0,
    );
    /// The states that the owner of a shared buffer sets.
    pub(super) const OWNER: Self =
        Self(Self::OWNER_FROZEN_FRONT.0 | Self::OWNER_FROZEN_BACK.0 | Self::CLOSED.0);
    /// The states that may refuse a change.
    pub(super) const REFUSING: Self =
        Self(Self::OWNER.0 | Self::FROZEN_FRONT.0 | Self::FROZEN_BACK.0 | Self::LIMITED.0);
    /// The states that may refuse bytes that were already read from a stream.
    pub(super) const REFUSING_READ: Self =
        Self(Self::FROZEN_BACK.0 | Self::OWNER_FROZEN_BACK.0 | Self::LIMITED.0);

    pub(super) const fn frozen(end: End) -> Self {
        match end {
            End::Front => Self::FROZEN_FRONT,
            End::Back => Self::FROZEN_BACK,
        }
    }

    pub(super) const fn owner_frozen(end: End) -> Self {
        match end {
            End::Front => Self::OWNER_FROZEN_FRONT,
            End::Back => Self::OWNER_FROZEN_BACK,
        }
    }

    #[inline]
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    pub(super) fn set(&mut self, other: Self, on: bool) {
        if on {
            self.insert(other)
        } else {
            self.remove(other)
        }
    }
}
