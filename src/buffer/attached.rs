//! What few buffers need, kept out of the way of the others: a limit, and the marks of a buffer that is shared.

use std::{mem, ptr};

use bytes::Bytes;

use super::{End, EvBuffer};
use crate::{error::Result, segment::sizing};

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

    /// What the owner of a shared buffer has set.
    const OWNER: Self =
        Self(Self::OWNER_FROZEN_FRONT.0 | Self::OWNER_FROZEN_BACK.0 | Self::CLOSED.0);
    /// Whatever may refuse a change.
    pub(super) const REFUSING: Self =
        Self(Self::OWNER.0 | Self::FROZEN_FRONT.0 | Self::FROZEN_BACK.0 | Self::LIMITED.0);

    /// Whatever may refuse bytes that were read already.
    const REFUSING_READ: Self =
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
    /// Bytes ever prepended and removed, since the buffer became part of a shared one.
    prepended: u64,
    removed: u64,
    /// Which shared buffer marked this one, and when: no two marks have the same number.
    token: u64,
    /// Where in memory it lay then.
    ///
    /// A buffer that was moved out (`mem::take` through a guard) takes its marks along; that it no longer lies where it
    /// was marked tells that they mean nothing any more.
    address: usize,
    /// The shared buffer has to look: something is parked, or the limit is another.
    attention: bool,
    /// About how many bytes there are each time before it is empty again: a power of two.
    usual_len: u32,
    max_len: Option<usize>,
    shown: Shown,
    /// Foreign memory to be released once the lock is open.
    parked: Vec<Bytes>,
}

/// The range of bytes that a reader has been shown and has not yet consumed.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    /// Bytes that were prepended to it since.
    behind: usize,
    len: usize,
}

impl Shown {
    fn remove(&mut self, n: usize) {
        let before = n.min(self.behind);
        self.behind -= before;
        self.len = self.len.saturating_sub(n - before);
    }
}

/// What a shared buffer asks of the one it holds.
impl EvBuffer {
    /// Marks this buffer, in its place, as part of a shared one. Of what was ever prepended and removed there, it is given
    /// the totals. `token` is a number that no other buffer was marked with.
    pub(crate) fn attach(&mut self, token: u64, prepended: u64, removed: u64) {
        let address = self.address();
        let ext = self.ext_mut();
        (ext.token, ext.address) = (token, address);
        (ext.prepended, ext.removed) = (prepended, removed);
        ext.shown = Shown::default();
        ext.attention = true;
        self.flags.remove(Flags::OWNER);
        self.flags.insert(Flags::SHARED);
    }

    /// Takes all marks of a shared buffer off. What was parked has to be released by the caller.
    pub(crate) fn detach(&mut self) -> Vec<Bytes> {
        self.flags.remove(Flags(Flags::OWNER.0 | Flags::SHARED.0));
        self.take_parked()
    }

    /// Whether this is still the buffer that was marked with `token`.
    #[inline]
    pub(crate) fn is_attached(&self, token: u64) -> bool {
        self.ext.as_ref().is_some_and(|ext| ext.token == token)
    }

    /// Whether it is, and there is nothing about it but the contents that the shared buffer has to look at.
    #[inline]
    pub(crate) fn is_unremarkable(&self, token: u64) -> bool {
        self.ext
            .as_ref()
            .is_some_and(|ext| ext.token == token && !ext.attention)
    }

    /// Bytes ever prepended, and bytes ever removed.
    #[inline]
    pub(crate) fn totals(&self) -> (u64, u64) {
        match &self.ext {
            Some(ext) => (ext.prepended, ext.removed),
            None => (0, 0),
        }
    }

    /// What was released under the lock and must be dropped after it.
    pub(crate) fn take_parked(&mut self) -> Vec<Bytes> {
        match &mut self.ext {
            Some(ext) => {
                ext.attention = false;
                mem::take(&mut ext.parked)
            }
            None => Vec::new(),
        }
    }

    /// Has the shared buffer look, though the contents may be the same.
    pub(crate) fn call_attention(&mut self) {
        self.ext_mut().attention = true;
    }

    /// Has `bytes` released with whatever this buffer released under the lock.
    pub(crate) fn park(&mut self, bytes: Vec<Bytes>) {
        self.ext_mut().parked.extend(bytes);
        self.call_attention();
    }

    /// Has it begin with a block for `n` bytes, of the size that blocks grow to at most, the next time that it fills.
    pub(crate) fn expect(&mut self, n: usize) {
        let block = sizing::sizes().block;
        self.ext_mut().usual_len = n.min(block).next_power_of_two().min(block) as u32;
    }

    /// The size of the block after which the next one is made, which is twice as large.
    pub(super) fn previous_block(&self) -> usize {
        match &self.ext {
            Some(ext) if self.len == 0 => self.tail.charge().max(ext.usual_len as usize / 2),
            _ => self.tail.charge(),
        }
    }

    /// Moves all of `chain`, which was read before, to the back: it is too late to freeze or to limit that. After the end of
    /// the stream nothing comes in.
    pub(crate) fn take_in(&mut self, chain: &mut EvBuffer) -> Result<usize> {
        let refusing = self.flags.only(Flags::REFUSING_READ);
        self.flags.remove(refusing);
        let taken = self.add_buffer(chain);
        self.flags.insert(refusing);
        taken
    }

    pub(crate) fn set_owner_frozen(&mut self, end: End, on: bool) {
        self.flags.set(Flags::owner_frozen(end), on);
    }

    pub(crate) fn set_closed(&mut self, on: bool) {
        self.flags.set(Flags::CLOSED, on);
    }

    /// Shares the first segment, of which there is one, with a reader who will consume it later.
    ///
    /// # Errors
    ///
    /// [`BufferError::File`](crate::BufferError::File) if it is a file range that cannot be loaded.
    pub(crate) fn show_front(&mut self) -> Result<Bytes> {
        self.load_first(1)?;
        let front = self.front_bytes();
        self.ext_mut().shown = Shown {
            behind: 0,
            len: front.len(),
        };
        Ok(front)
    }

    /// How much of what was shown is still there.
    pub(crate) fn shown(&self) -> usize {
        self.ext.as_ref().map_or(0, |ext| ext.shown.len)
    }

    /// Whether it is the first `n` bytes that are shown, neither more nor fewer.
    pub(crate) fn shows_first(&self, n: usize) -> bool {
        let shows = |ext: &Ext| ext.shown.behind == 0 && ext.shown.len == n;
        self.ext.as_deref().is_some_and(shows)
    }

    /// Removes the first `n` bytes of what was shown, also from behind what was prepended since.
    pub(crate) fn consume_shown(&mut self, n: usize) {
        let shown = self.ext_mut().shown;
        let n = n.min(shown.len);
        if shown.behind == 0 {
            return self.discard(n);
        }
        // Moving aside what lies before it is no change, and asks for nobody's permission.
        let refusing = self.flags.only(Flags::REFUSING);
        self.flags.remove(refusing);
        let totals = self.totals();
        let mut aside = EvBuffer::new();
        let moved = self.remove_buffer(&mut aside, shown.behind);
        debug_assert_eq!(moved, Ok(shown.behind));
        self.discard(n);
        let back = self.prepend_buffer(&mut aside);
        debug_assert_eq!(back, moved);
        self.flags.insert(refusing);
        let ext = self.ext_mut();
        (ext.prepended, ext.removed) = (totals.0, totals.1 + n as u64);
        ext.shown = Shown {
            behind: shown.behind,
            len: shown.len - n,
        };
    }

    /// What was shown is shown no more; it stays in the buffer, where another may look at it.
    pub(crate) fn hide_front(&mut self) {
        self.ext_mut().shown = Shown::default();
        self.call_attention();
    }
}

impl EvBuffer {
    pub(super) fn ext_mut(&mut self) -> &mut Ext {
        self.ext.get_or_insert_default()
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Whether the marks of a shared buffer mean anything here.
    pub(super) fn is_in_place(&self) -> bool {
        let address = self.address();
        self.ext.as_ref().is_some_and(|ext| ext.address == address)
    }

    /// Whether one of `marks`, set by the owner of a shared buffer, holds.
    #[inline]
    pub(super) fn owner_says(&self, marks: Flags) -> bool {
        self.flags.intersects(marks) && self.is_in_place()
    }

    pub(super) fn set_limit(&mut self, max: Option<usize>) {
        if max.is_some() || self.ext.is_some() {
            let ext = self.ext_mut();
            ext.max_len = max;
            ext.attention = true;
        }
        self.flags.set(Flags::LIMITED, max.is_some());
    }

    pub(super) fn limit(&self) -> Option<usize> {
        // The flag is what counts: it is lifted where bytes are only moved about.
        if !self.flags.intersects(Flags::LIMITED) {
            return None;
        }
        self.ext.as_ref().and_then(|ext| ext.max_len)
    }

    /// Lets go of foreign memory: now, or once the lock around this buffer is open.
    pub(super) fn release_foreign(&mut self, bytes: Bytes) {
        if self.owner_says(Flags::SHARED) {
            self.ext_mut().parked.push(bytes);
            self.call_attention();
        }
    }

    #[inline]
    pub(super) fn count_removed(&mut self, n: usize) {
        if self.flags.intersects(Flags::SHARED) {
            self.count_removed_if_shared(n);
        }
    }

    #[inline(never)]
    fn count_removed_if_shared(&mut self, n: usize) {
        let ext = self.ext_mut();
        ext.removed += n as u64;
        if ext.shown.len > 0 {
            ext.shown.remove(n);
        }
    }

    pub(super) fn count_prepended(&mut self, n: usize) {
        if self.flags.intersects(Flags::SHARED) {
            let ext = self.ext_mut();
            ext.prepended += n as u64;
            if ext.shown.len > 0 {
                ext.shown.behind += n;
            }
        }
    }
}
