//! What few buffers need, kept out of the way of the others: a limit, and the marks of a buffer that is shared.

use std::{mem, ptr};

use bytes::Bytes;

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::{End, Result},
    segment::sizing,
};

/// Made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Attached {
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
    check_requested: bool,
    /// About how many bytes there are each time before it is empty again: a power of two.
    usual_len: u32,
    max_len: Option<usize>,
    borrowed: Borrowed,
    /// Foreign memory to be released once the lock is open.
    deferred_drops: Vec<Bytes>,
}

/// The range of bytes that a reader has been borrowed and has not yet consumed.
#[derive(Clone, Copy, Debug, Default)]
struct Borrowed {
    /// Bytes that were prepended to it since.
    behind: usize,
    len: usize,
}

impl Borrowed {
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
        let attached = self.attached_mut();
        (attached.token, attached.address) = (token, address);
        (attached.prepended, attached.removed) = (prepended, removed);
        attached.borrowed = Borrowed::default();
        attached.check_requested = true;
        self.flags.remove(Flags::OWNER);
        self.flags.insert(Flags::SHARED);
    }

    /// Takes all marks of a shared buffer off. What was parked has to be released by the caller.
    pub(crate) fn detach(&mut self) -> Vec<Bytes> {
        self.flags.remove(Flags(Flags::OWNER.0 | Flags::SHARED.0));
        self.take_deferred_drops()
    }

    /// Whether this is still the buffer that was marked with `token`.
    #[inline]
    pub(crate) fn is_attached(&self, token: u64) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.token == token)
    }

    /// Whether it is, and there is nothing about it but the contents that the shared buffer has to look at.
    #[inline]
    pub(crate) fn needs_no_check(&self, token: u64) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.token == token && !attached.check_requested)
    }

    /// Bytes ever prepended, and bytes ever removed.
    #[inline]
    pub(crate) fn totals(&self) -> (u64, u64) {
        match &self.attached {
            Some(attached) => (attached.prepended, attached.removed),
            None => (0, 0),
        }
    }

    /// What was released under the lock and must be dropped after it.
    pub(crate) fn take_deferred_drops(&mut self) -> Vec<Bytes> {
        match &mut self.attached {
            Some(attached) => {
                attached.check_requested = false;
                mem::take(&mut attached.deferred_drops)
            }
            None => Vec::new(),
        }
    }

    /// Has the shared buffer look, though the contents may be the same.
    pub(crate) fn request_check(&mut self) {
        self.attached_mut().check_requested = true;
    }

    /// Has `bytes` released with whatever this buffer released under the lock.
    pub(crate) fn defer_drops(&mut self, bytes: Vec<Bytes>) {
        self.attached_mut().deferred_drops.extend(bytes);
        self.request_check();
    }

    /// Has it begin with a block for `n` bytes, of the size that blocks grow to at most, the next time that it fills.
    pub(crate) fn hint_next_len(&mut self, n: usize) {
        let block = sizing::sizes().block;
        self.attached_mut().usual_len = n.min(block).next_power_of_two().min(block) as u32;
    }

    /// The size of the block after which the next one is made, which is twice as large.
    pub(super) fn previous_block(&self) -> usize {
        match &self.attached {
            Some(attached) if self.len == 0 => {
                self.tail.allocated().max(attached.usual_len as usize / 2)
            }
            _ => self.tail.allocated(),
        }
    }

    /// Moves all of `chain`, which was read before, to the back: it is too late to freeze or to limit that. After the end of
    /// the stream nothing comes in.
    pub(crate) fn add_read(&mut self, chain: &mut EvBuffer) -> Result<usize> {
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
    pub(crate) fn borrow_front(&mut self) -> Result<Bytes> {
        self.load_first(1)?;
        let front = self.front_bytes();
        self.attached_mut().borrowed = Borrowed {
            behind: 0,
            len: front.len(),
        };
        Ok(front)
    }

    /// How much of what was borrowed is still there.
    pub(crate) fn borrowed(&self) -> usize {
        self.attached
            .as_ref()
            .map_or(0, |attached| attached.borrowed.len)
    }

    /// Whether it is the first `n` bytes that are borrowed, neither more nor fewer.
    pub(crate) fn borrows_first(&self, n: usize) -> bool {
        let shows =
            |attached: &Attached| attached.borrowed.behind == 0 && attached.borrowed.len == n;
        self.attached.as_deref().is_some_and(shows)
    }

    /// Removes the first `n` bytes of what was borrowed, also from behind what was prepended since.
    pub(crate) fn consume_borrowed(&mut self, n: usize) {
        let borrowed = self.attached_mut().borrowed;
        let n = n.min(borrowed.len);
        if borrowed.behind == 0 {
            return self.discard(n);
        }
        // Moving aside what lies before it is no change, and asks for nobody's permission.
        let refusing = self.flags.only(Flags::REFUSING);
        self.flags.remove(refusing);
        let totals = self.totals();
        let mut aside = EvBuffer::new();
        let moved = self.remove_buffer(&mut aside, borrowed.behind);
        debug_assert_eq!(moved, Ok(borrowed.behind));
        self.discard(n);
        let back = self.prepend_buffer(&mut aside);
        debug_assert_eq!(back, moved);
        self.flags.insert(refusing);
        let attached = self.attached_mut();
        (attached.prepended, attached.removed) = (totals.0, totals.1 + n as u64);
        attached.borrowed = Borrowed {
            behind: borrowed.behind,
            len: borrowed.len - n,
        };
    }

    /// What was borrowed is borrowed no more; it stays in the buffer, where another may look at it.
    pub(crate) fn return_front(&mut self) {
        self.attached_mut().borrowed = Borrowed::default();
        self.request_check();
    }
}

impl EvBuffer {
    pub(super) fn attached_mut(&mut self) -> &mut Attached {
        self.attached.get_or_insert_default()
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Whether the marks of a shared buffer mean anything here.
    pub(super) fn is_in_place(&self) -> bool {
        let address = self.address();
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.address == address)
    }

    /// Whether one of `marks`, set by the owner of a shared buffer, holds.
    #[inline]
    pub(super) fn has_owner_flag(&self, marks: Flags) -> bool {
        self.flags.intersects(marks) && self.is_in_place()
    }

    pub(super) fn set_limit(&mut self, max: Option<usize>) {
        if max.is_some() || self.attached.is_some() {
            let attached = self.attached_mut();
            attached.max_len = max;
            attached.check_requested = true;
        }
        self.flags.set(Flags::LIMITED, max.is_some());
    }

    pub(super) fn limit(&self) -> Option<usize> {
        // The flag is what counts: it is lifted where bytes are only moved about.
        if !self.flags.intersects(Flags::LIMITED) {
            return None;
        }
        self.attached.as_ref().and_then(|attached| attached.max_len)
    }

    /// Lets go of foreign memory: now, or once the lock around this buffer is open.
    pub(super) fn release_foreign(&mut self, bytes: Bytes) {
        if self.has_owner_flag(Flags::SHARED) {
            self.attached_mut().deferred_drops.push(bytes);
            self.request_check();
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
        let attached = self.attached_mut();
        attached.removed += n as u64;
        if attached.borrowed.len > 0 {
            attached.borrowed.remove(n);
        }
    }

    pub(super) fn count_prepended(&mut self, n: usize) {
        if self.flags.intersects(Flags::SHARED) {
            let attached = self.attached_mut();
            attached.prepended += n as u64;
            if attached.borrowed.len > 0 {
                attached.borrowed.behind += n;
            }
        }
    }
}
