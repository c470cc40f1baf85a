//! Bounds the memory of a buffer that has become shorter.

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::segment::{
    BlockSlice, FileRange, Segment, SegmentList,
    sizing::{self, BLOCK},
};

/// A list of segments with room for no more entries than this keeps its memory, and counts as no memory.
const LIST_KEPT: usize = 64;

impl EvBuffer {
    /// Accounts for `n` bytes that were unlinked from the front.
    #[inline]
    pub(super) fn after_removal(&mut self, n: usize) {
        self.count_unlinked(n);
        self.tidy_up();
    }

    /// Accounts for `n` bytes that were unlinked, while more are to follow.
    #[inline]
    pub(super) fn count_unlinked(&mut self, n: usize) {
        self.len -= n;
        self.scanned = (self.scanned as usize).saturating_sub(n) as u32;
        self.count_removed(n);
    }

    /// Bounds the memory of a buffer that has become shorter.
    #[inline]
    pub(super) fn tidy_up(&mut self) {
        if self.is_empty() {
            self.release_if_large();
        } else if self.may_have_waste() {
            self.release_waste_if_much();
        }
        self.debug_check();
    }

    /// Returns false for most buffers, which hold little memory in few segments.
    #[inline]
    fn may_have_waste(&self) -> bool {
        let list = self.body.capacity();
        let held = self.held + list * size_of::<Segment>();
        held > sizing::sizes().waste_allowed
            || list > LIST_KEPT
            || self.flags.intersects(Flags::FILES)
    }

    #[inline(never)]
    fn release_waste_if_much(&mut self) {
        if self.has_much_waste() || self.flags.intersects(Flags::FILES) || self.has_long_list() {
            self.release_waste();
        }
    }

    #[inline]
    fn has_long_list(&self) -> bool {
        self.body.capacity() > LIST_KEPT && self.body.len() < self.body.capacity() / 4
    }

    /// Returns whether to look for memory to release: once when the memory exceeds twice the data, and again when it
    /// exceeds what [`capacity`](EvBuffer::capacity) promises.
    #[inline]
    fn has_much_waste(&self) -> bool {
        let held = self.held + self.body.len() * size_of::<Segment>();
        let allowed = sizing::sizes().waste_allowed;
        if held <= allowed {
            return false;
        }
        match self.flags.intersects(Flags::WASTEFUL) {
            true => (held - allowed).div_ceil(4) > self.len,
            false => held / 2 > self.len,
        }
    }

    #[inline(never)]
    fn release_waste(&mut self) {
        if self.has_long_list() {
            // Half of the list stays free, so that the next change of size is far.
            let kept = 2 * self.body.len();
            self.body.shrink_to(kept);
        }
        self.note_waste();
        self.compact_if_too_large();
        self.release_loaded_file();
    }

    /// Replaces a range of a file at the front, of which little is left of much that was loaded, by a copy of the rest. If
    /// some of that is not in memory, the range forgets what was loaded.
    fn release_loaded_file(&mut self) {
        let Some(Segment::File(file)) = self.body.front_mut() else {
            return;
        };
        let (len, loaded) = (file.len(), file.loaded_len());
        if loaded <= BLOCK || loaded / 4 <= len {
            return;
        }
        let Some(copy) = loaded_copy_of(file) else {
            return file.unload();
        };
        steps::count(len);
        self.held += copy.allocated();
        if let Some(file) = self.body.pop_front() {
            self.body.push_front(Segment::Block(copy));
            self.count_front();
            self.release_foreign(file);
        }
    }

    /// Bounds the memory of a buffer that has become empty: one block of at most 16 KiB, the list included.
    #[inline(never)]
    fn release_if_large(&mut self) {
        debug_assert!(self.is_empty() && self.body.is_empty());
        let is_of_use = self.tail.reset();
        // The tail is all that is left, so what it keeps is all that is held.
        if !is_of_use || self.held > BLOCK || self.body.capacity() > LIST_KEPT {
            self.release_memory(is_of_use);
        }
        self.flags.remove(Flags::EMPTIED);
    }

    #[inline(never)]
    fn release_memory(&mut self, tail_is_of_use: bool) {
        if !tail_is_of_use || self.held > BLOCK {
            self.drop_tail();
        }
        if self.list_held() > BLOCK - self.held {
            self.body = SegmentList::empty();
        }
    }

    /// Returns the bytes of memory that a long list of segments takes.
    #[inline]
    pub(super) fn list_held(&self) -> usize {
        match self.body.capacity() {
            0..=LIST_KEPT => 0,
            capacity => capacity * size_of::<Segment>(),
        }
    }
}

/// Copies the bytes of `file`, if all of them are in memory.
fn loaded_copy_of(file: &FileRange) -> Option<BlockSlice> {
    let mut copy = BlockSlice::with_capacity(file.len())?;
    while copy.len() < file.len() {
        copy.push(file.chunk(copy.len())?);
    }
    Some(copy)
}
