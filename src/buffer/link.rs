//! The private steps in which segments are linked, and the tail is filled, sealed and replaced.

use std::mem;

use bytes::Bytes;

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::segment::{BlockSlice, Segment, sizing};

impl EvBuffer {
    /// Links `segment`, which is not empty, behind all data.
    #[inline]
    pub(super) fn link(&mut self, segment: Segment) {
        self.seal_tail();
        self.len += segment.len();
        self.push_back(segment);
    }

    /// Links foreign memory, which is not empty, behind all data.
    #[inline]
    pub(super) fn link_foreign(&mut self, bytes: Bytes) {
        steps::count(1);
        self.seal_tail();
        let n = bytes.len();
        self.held += n;
        self.body.push_back(Segment::Foreign(bytes));
        self.len += n;
    }

    /// Appends `segment` to the body, without counting its length.
    pub(super) fn push_back(&mut self, segment: Segment) {
        steps::count(1);
        let segment = match segment {
            Segment::Block(mut block) => {
                if let Some(Segment::Block(last)) = self.body.back_mut() {
                    if last.join(&mut block) {
                        return;
                    }
                }
                if let Some(copy) = copy_if_wasteful(&block) {
                    self.release_block(mem::replace(&mut block, copy));
                }
                Segment::Block(block)
            }
            Segment::File(mut file) => {
                self.flags.insert(Flags::FILES);
                file.unload_if_sparse();
                Segment::File(file)
            }
            foreign => foreign,
        };
        self.held += segment.allocated();
        self.body.push_back(segment);
        if self.flags.intersects(Flags::BUDGETED) {
            self.count_back();
        }
    }

    /// Puts `segment` before the body, without counting its length.
    pub(super) fn push_front(&mut self, segment: Segment) {
        steps::count(1);
        self.thin_front();
        if matches!(segment, Segment::File(_)) {
            self.flags.insert(Flags::FILES);
        }
        self.held += segment.allocated();
        self.body.push_front(segment);
        self.count_front();
    }

    /// Moves a little data at the front out of a large block, before another segment comes to lie before it. A range of a
    /// file forgets pieces of which little is left.
    ///
    /// At the front most of a block or piece may have been drained; elsewhere a segment fills a good part of it.
    #[inline]
    pub(super) fn thin_front(&mut self) {
        match self.body.front_mut() {
            Some(Segment::Block(first)) => {
                let allocated = first.allocated();
                if allocated > 2 * first.len() && allocated > sizing::sizes().copy_threshold {
                    self.replace_front_by_copy();
                }
            }
            Some(Segment::File(file)) => file.unload_if_sparse(),
            Some(Segment::Foreign(_)) | None => {}
        }
    }

    #[inline(never)]
    fn replace_front_by_copy(&mut self) {
        let Some(Segment::Block(first)) = self.body.front_mut() else {
            return;
        };
        // Without memory for a copy the data stays where it is.
        if let Some(copy) = BlockSlice::copy_of(first.as_slice()) {
            steps::count(copy.len());
            self.held = self.held - first.allocated() + copy.allocated();
            let old = mem::replace(first, copy);
            self.count_front();
            self.release_block(old);
        }
    }

    /// Moves the data of the tail into the body, so that a segment can be linked behind it.
    #[inline]
    pub(super) fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let data = self.take_tail_data();
            self.body.push_back(Segment::Block(data));
        }
    }

    /// Takes the data of the tail, which is not empty. It counts in `held` as before.
    ///
    /// A little data in a large block moves out of it, and the block stays the tail, where the next byte goes. So a
    /// segment of the body fills at least half of its block.
    #[inline(never)]
    pub(super) fn take_tail_data(&mut self) -> BlockSlice {
        let (len, allocated) = (self.tail.len(), self.tail.allocated());
        if len < allocated / 2 {
            if let Some(copy) = BlockSlice::copy_of(self.tail.as_slice()) {
                steps::count(len);
                self.held += copy.allocated();
                self.tail.advance(len);
                if !self.tail.reset() {
                    self.drop_tail();
                }
                return self.counted(copy);
            }
        }
        self.flags.remove(Flags::PROMISED);
        mem::take(&mut self.tail)
    }

    /// Makes `block` the tail, where the next byte goes. The data of the old tail become part of the body.
    #[inline]
    pub(super) fn replace_tail(&mut self, block: BlockSlice) {
        self.seal_tail();
        self.set_tail(block);
        self.flags.remove(Flags::PROMISED);
    }

    /// Replaces the tail by `block`, without an account of the length.
    #[inline]
    pub(super) fn set_tail(&mut self, block: BlockSlice) {
        if !self.tail.is_none() {
            self.release_tail();
        }
        self.tail = block;
        self.count_new_tail();
    }

    /// Accounts for the memory of a tail that was just put in place.
    #[inline]
    pub(super) fn count_new_tail(&mut self) {
        self.held += self.tail.allocated();
        if self.flags.intersects(Flags::BUDGETED) {
            self.count_tail();
        }
    }

    #[inline(never)]
    fn release_tail(&mut self) {
        let old = mem::take(&mut self.tail);
        self.held -= old.allocated();
        self.release_block(old);
    }

    /// Drops the tail, which is empty.
    #[inline]
    pub(super) fn drop_tail(&mut self) {
        debug_assert!(self.tail.is_empty());
        self.flags.remove(Flags::PROMISED);
        if !self.tail.is_none() {
            self.release_tail();
        }
    }
}

/// Returns a copy of the data of `block` if they are little of a large block, all of which a slice keeps in memory.
fn copy_if_wasteful(block: &BlockSlice) -> Option<BlockSlice> {
    let (len, allocated) = (block.len(), block.allocated());
    if allocated <= sizing::sizes().block || allocated <= 2 * len {
        return None;
    }
    steps::count(len);
    // Without memory for a copy the block is kept.
    BlockSlice::copy_of(block.as_slice())
}
