//! What a shared buffer stores in the buffer that it holds: totals, borrows, deferred drops, frozen ends.

use std::{mem, ptr};

use bytes::Bytes;

use super::{
    attached::{Attached, Borrowed, Extras},
    chain::EvBuffer,
    flags::Flags,
};
use crate::{
    error::{End, Result},
    segment::{Segment, sizing},
};

/// The methods that a shared buffer calls on the buffer that it holds.
impl EvBuffer {
    /// Attaches this buffer, at its present address, to a shared one. `prepended` and `removed` are the totals so far;
    /// `token` is a number that was never used before.
    pub(crate) fn attach(&mut self, token: u64, prepended: u64, removed: u64) {
        let address = self.address();
        let attached = self.attached_mut();
        (attached.token, attached.address) = (token, address);
        (attached.prepended, attached.removed) = (prepended, removed);
        if let Some(extras) = &mut attached.extras {
            extras.borrowed = Borrowed::default();
        }
        attached.check_requested = true;
        self.flags.remove(Flags::OWNER);
        self.flags.insert(Flags::SHARED);
    }

    /// Removes all flags of a shared buffer. The caller drops the returned memory after it has released the lock.
    pub(crate) fn detach(&mut self) -> Vec<Segment> {
        self.flags.remove(Flags::OWNER.and(Flags::SHARED));
        self.remove_account();
        self.take_deferred_drops()
    }

    /// Returns whether this is still the buffer that was attached with `token`.
    #[inline]
    pub(crate) fn is_attached(&self, token: u64) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.token == token)
    }

    /// Returns whether this is still the buffer that was attached with `token`, and nothing but its contents has changed.
    #[inline]
    pub(crate) fn needs_no_check(&self, token: u64) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.token == token && !attached.check_requested)
    }

    /// Returns the bytes ever prepended, and the bytes ever removed.
    #[inline]
    pub(crate) fn totals(&self) -> (u64, u64) {
        match &*self.attached {
            Some(attached) => (attached.prepended, attached.removed),
            None => (0, 0),
        }
    }

    /// Returns how often bytes were overwritten in place.
    pub(crate) fn overwrites(&self) -> u64 {
        (self.attached.as_ref()).map_or(0, |attached| attached.overwrites)
    }

    /// Takes the memory that was released under the lock and must be dropped after it.
    pub(crate) fn take_deferred_drops(&mut self) -> Vec<Segment> {
        match &mut *self.attached {
            Some(attached) => {
                attached.check_requested = false;
                match &mut attached.extras {
                    Some(extras) => mem::take(&mut extras.deferred_drops),
                    None => Vec::new(),
                }
            }
            None => Vec::new(),
        }
    }

    /// Makes the shared buffer check the limits and the deferred drops too, and not only the contents.
    pub(crate) fn request_check(&mut self) {
        self.attached_mut().check_requested = true;
    }

    /// Drops `memory` together with the memory that this buffer released under the lock.
    pub(crate) fn defer_drops(&mut self, memory: Vec<Segment>) {
        if !memory.is_empty() {
            let extras = self.attached_mut().extras_mut();
            extras.deferred_drops.extend(memory);
        }
        self.request_check();
    }

    /// Makes the next block of an empty buffer large enough for `n` bytes, up to the size that blocks grow to.
    pub(crate) fn hint_next_len(&mut self, n: usize) {
        let block = sizing::sizes().block;
        self.attached_mut().usual_len = n.min(block).next_power_of_two().min(block) as u32;
    }

    /// Returns the size that the next block is computed from: it will be twice as large.
    pub(super) fn previous_block(&self) -> usize {
        match &*self.attached {
            Some(attached) if self.len == 0 => {
                let usual = attached.usual_len as usize / 2;
                self.tail.allocated().max(usual)
            }
            _ => self.tail.allocated(),
        }
    }

    /// Moves all of `chain` to the back. Its bytes were already read from a stream, so neither freezing nor a maximum
    /// length refuses them; only a closed buffer does.
    pub(crate) fn add_read(&mut self, chain: &mut EvBuffer) -> Result<usize> {
        let refusing = self.flags.only(Flags::REFUSING_READ);
        self.flags.remove(refusing);
        let added = self.add_buffer(chain);
        self.flags.insert(refusing);
        added
    }

    /// Copies `message`, which was read from a stream, to the back, as [`add_read`](Self::add_read) does.
    #[inline]
    pub(crate) fn add_read_copy(&mut self, message: &[u8]) -> Result<()> {
        let refusing = self.flags.only(Flags::REFUSING_READ);
        self.flags.remove(refusing);
        let added = self.add(message);
        self.flags.insert(refusing);
        added
    }

    /// Returns all bytes if there are any, and they lie in memory in one segment.
    #[inline]
    pub(crate) fn as_message(&self) -> Option<&[u8]> {
        let first = self.first_in_memory();
        (!first.is_empty() && first.len() == self.len()).then_some(first)
    }

    pub(crate) fn set_owner_frozen(&mut self, end: End, on: bool) {
        self.flags.set(Flags::owner_frozen(end), on);
    }

    pub(crate) fn set_closed(&mut self, on: bool) {
        self.flags.set(Flags::CLOSED, on);
    }

    /// Lends the first chunk to a reader that consumes it later. The buffer is not empty.
    ///
    /// # Errors
    ///
    /// [`BufferError::File`](crate::BufferError::File) if it is a range of a file that cannot be loaded.
    pub(crate) fn borrow_front(&mut self) -> Result<Bytes> {
        self.load_first(1)?;
        let front = self.front_bytes();
        self.attached_mut().extras_mut().borrowed = Borrowed {
            behind: 0,
            len: front.len(),
        };
        Ok(front)
    }

    /// Returns how much of what was borrowed is still in the buffer.
    pub(crate) fn borrowed(&self) -> usize {
        self.extras().map_or(0, |extras| extras.borrowed.len)
    }

    /// Returns whether exactly the first `n` bytes are borrowed.
    pub(crate) fn borrows_first(&self, n: usize) -> bool {
        self.extras()
            .is_some_and(|extras| extras.borrowed.behind == 0 && extras.borrowed.len == n)
    }

    /// Removes the first `n` bytes of what is borrowed, also from behind bytes that were prepended since.
    pub(crate) fn consume_borrowed(&mut self, n: usize) {
        let borrowed = self
            .extras()
            .map_or(Borrowed::default(), |extras| extras.borrowed);
        let n = n.min(borrowed.len);
        if borrowed.behind == 0 {
            return self.discard(n);
        }
        // Moving the prepended bytes aside and back is not a change, so it ignores freezing and counts in no total.
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
        attached.extras_mut().borrowed = Borrowed {
            behind: borrowed.behind,
            len: borrowed.len - n,
        };
    }

    /// Ends the borrow. The bytes stay in the buffer, where another reader may take them.
    pub(crate) fn return_front(&mut self) {
        let attached = self.attached_mut();
        if let Some(borrowed) = attached.borrowed_mut() {
            *borrowed = Borrowed::default();
        }
        attached.check_requested = true;
    }
}

impl EvBuffer {
    #[inline]
    pub(super) fn extras(&self) -> Option<&Extras> {
        self.attached.as_ref()?.extras.as_deref()
    }

    pub(super) fn attached_mut(&mut self) -> &mut Attached {
        self.attached.get_or_insert_default()
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Returns whether one of the owner's `flags` is set and still valid.
    #[inline]
    pub(super) fn has_owner_flag(&self, flags: Flags) -> bool {
        self.flags.intersects(flags) && self.is_in_place()
    }

    /// Returns whether this buffer is where the shared buffer attached it.
    fn is_in_place(&self) -> bool {
        let address = self.address();
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.address == address)
    }

    pub(super) fn set_limit(&mut self, max: Option<usize>) {
        if let Some(max) = max {
            self.attached_mut().extras_mut().max_len = max;
        }
        if let Some(attached) = &mut *self.attached {
            attached.check_requested = true;
        }
        self.flags.set(Flags::LIMITED, max.is_some());
    }

    pub(super) fn limit(&self) -> Option<usize> {
        // The flag decides: it is removed while bytes are only moved aside.
        if !self.flags.intersects(Flags::LIMITED) {
            return None;
        }
        self.extras().map(|extras| extras.max_len)
    }

    /// Drops foreign memory: now, or after the lock of this buffer is released.
    #[inline]
    pub(super) fn release_foreign(&mut self, memory: Segment) {
        if self.flags.intersects(Flags::SHARED) {
            self.release_after_lock(memory);
        }
    }

    #[inline(never)]
    fn release_after_lock(&mut self, memory: Segment) {
        // The memory of the only `Bytes` has no owner, whose drop is user code.
        let runs_user_code = !matches!(&memory, Segment::Foreign(bytes) if bytes.is_unique());
        if runs_user_code && self.is_in_place() {
            let extras = self.attached_mut().extras_mut();
            extras.deferred_drops.push(memory);
            self.request_check();
        }
    }

    /// Returns whether drops of foreign memory are deferred because this buffer is behind a lock.
    pub(super) fn defers_drops(&self) -> bool {
        self.has_owner_flag(Flags::SHARED)
    }

    #[inline]
    pub(super) fn count_removed(&mut self, n: usize) {
        if let Some(attached) = &mut *self.attached {
            // Without a shared buffer these totals mean nothing.
            attached.removed = attached.removed.wrapping_add(n as u64);
            if let Some(borrowed) = attached.borrowed_mut() {
                borrowed.remove(n);
            }
        }
    }

    pub(super) fn count_prepended(&mut self, n: usize) {
        if self.flags.intersects(Flags::SHARED) {
            let attached = self.attached_mut();
            attached.prepended += n as u64;
            if let Some(borrowed) = attached.borrowed_mut() {
                borrowed.behind += n;
            }
        }
    }

    /// Makes the shared buffer notify its subscribers, although the length is the same.
    pub(super) fn count_overwrite(&mut self) {
        if self.flags.intersects(Flags::SHARED) {
            self.attached_mut().overwrites += 1;
            self.request_check();
        }
    }

    /// Counts `n` bytes that were removed from the back as removed, and ends a borrow of some of them.
    pub(super) fn count_truncated(&mut self, n: usize) {
        let len = self.len;
        if self.flags.intersects(Flags::SHARED) {
            let attached = self.attached_mut();
            attached.removed += n as u64;
            if let Some(borrowed) = attached.borrowed_mut() {
                let left = len.saturating_sub(borrowed.behind);
                borrowed.len = borrowed.len.min(left);
            }
        }
    }
}
