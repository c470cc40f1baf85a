//! Bounds the memory of a buffer: small pieces of large blocks, and short segments, are copied into blocks that they fill.

use std::{collections::VecDeque, iter, mem};

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::{
    error::{BufferError, Result},
    segment::{BlockSlice, Segment, SegmentList, sizing},
};

/// A short rest of a line keeps this much memory, in bytes, and four times its length.
const REST_KEPT: usize = 1024;

impl EvBuffer {
    /// Records after a change that the buffer holds much more memory than data; the next addition compacts.
    #[inline]
    pub(super) fn note_waste(&mut self) {
        if self.may_be_wasteful() && self.is_wasteful() {
            self.flags.insert(Flags::WASTEFUL);
        }
    }

    /// Returns whether much more memory is held than data, also if it is not worth packing. Cheap enough for each change.
    #[inline]
    pub(super) fn may_be_wasteful(&self) -> bool {
        let held = self.held + self.body.len() * size_of::<Segment>();
        held > sizing::sizes().waste_allowed && held > self.len.saturating_add(self.len / 2)
    }

    #[inline(never)]
    fn is_wasteful(&self) -> bool {
        let allowed = self.len.saturating_add(self.len / 2);
        let held = self.held_with_list();
        held > sizing::sizes().waste_allowed && held > allowed && self.can_be_packed()
    }

    /// Returns the memory of the data and their list, without room that the user asked for.
    fn held_with_list(&self) -> usize {
        let promised = match self.flags.intersects(Flags::PROMISED) {
            true => self.tail.allocated(),
            false => 0,
        };
        self.held - promised + self.list_in_use()
    }

    /// Returns the memory that the entries of the list take. Ranges of files cannot be packed, so no list that has some
    /// counts.
    fn list_in_use(&self) -> usize {
        match self.flags.intersects(Flags::FILES) {
            true => 0,
            false => self.body.len() * size_of::<Segment>(),
        }
    }

    /// Returns whether packing would release much. The spare of the tail does not count: the next bytes go there.
    fn can_be_packed(&self) -> bool {
        let body_len = self.len - self.tail.len();
        let body_held = self.held - self.tail.allocated() + self.list_in_use();
        body_held > body_len.saturating_add(body_len / 4) || self.is_tail_sparse()
    }

    #[inline]
    fn is_tail_sparse(&self) -> bool {
        let allocated = self.tail.allocated();
        allocated > sizing::sizes().block
            && self.tail.len() <= allocated / 2
            && !self.flags.intersects(Flags::PROMISED)
    }

    /// Packs the data if much more memory is held than data: before bytes are added, and after segments were linked.
    ///
    /// Afterwards the body keeps at most 1.25 times its data. A constant share of the data must leave, or a constant share
    /// of new bytes must come in sparsely, before this happens again, so each byte is copied a constant number of times.
    #[inline]
    pub(super) fn compact_if_wasteful(&mut self) {
        self.flags.remove(Flags::WASTEFUL);
        if self.may_be_wasteful() && self.is_wasteful() {
            self.compact();
        }
    }

    /// Packs the data if the buffer holds more memory than it promises. Called after each removal.
    pub(super) fn compact_if_too_large(&mut self) {
        let allowed = self.len.saturating_mul(4);
        let held = self.held_with_list();
        if held > allowed.saturating_add(sizing::sizes().waste_allowed) && self.can_be_packed() {
            self.flags.remove(Flags::WASTEFUL);
            self.compact();
        }
    }

    /// Moves a short rest into a small block: the caller has found no whole line, so it may wait for long.
    #[inline]
    pub(super) fn release_block_of_short_rest(&mut self) {
        let is_short = self.len < sizing::sizes().copy_threshold;
        if is_short && self.held > 4 * self.len + REST_KEPT {
            self.move_to_small_block();
        }
    }

    #[inline(never)]
    fn move_to_small_block(&mut self) {
        if self.flags.intersects(Flags::PROMISED.and(Flags::FILES)) || self.is_empty() {
            return;
        }
        let block = sizing::next_block(self.len, 0).and_then(BlockSlice::with_capacity);
        // Without memory for that the rest stays where it is.
        if let Some(mut block) = block {
            steps::count(self.len);
            self.chunks().for_each(|chunk| block.push(chunk));
            let owners = self.unlink_first(self.len);
            self.drop_tail();
            self.body = SegmentList::empty();
            self.set_tail(block);
            self.debug_check();
            // User code, so everything is in order before it runs.
            self.release_owners(owners);
        }
    }

    /// Copies out a little data that was committed to a large block.
    #[inline]
    pub(super) fn compact_sparse_tail(&mut self) {
        if self.held > sizing::sizes().block && self.is_tail_sparse() {
            self.compact_tail();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let mut packed = VecDeque::new();
        let mut owners = Vec::new();
        let mut sparse = mem::take(&mut self.body);
        let mut segments = iter::from_fn(|| sparse.pop_front()).peekable();
        while let Some(segment) = segments.next() {
            steps::count(1);
            if !is_sparse(&segment) {
                packed.push_back(segment);
                continue;
            }
            let mut run = vec![segment];
            while let Some(next) = segments.next_if(is_sparse) {
                steps::count(1);
                run.push(next);
            }
            match copy_of(&run) {
                Ok(blocks) => {
                    let blocks = blocks.into_iter().map(|block| self.counted(block));
                    packed.extend(blocks.map(Segment::Block));
                    owners.extend(run.into_iter().filter(Segment::has_owner));
                }
                // Without memory for a copy the segments stay as they are.
                Err(_) => packed.extend(run),
            }
        }
        self.body = packed.into();
        self.held = self.body.iter().map(Segment::allocated).sum::<usize>() + self.tail.allocated();
        self.compact_sparse_tail();
        // User code, so everything is in order before it runs.
        owners
            .into_iter()
            .for_each(|owner| self.release_foreign(owner));
    }

    #[inline(never)]
    fn compact_tail(&mut self) {
        let block = sizing::next_block(self.tail.len(), 0).and_then(BlockSlice::with_capacity);
        if let Some(mut block) = block {
            steps::count(self.tail.len());
            block.push(self.tail.as_slice());
            self.set_tail(block);
        }
    }
}

/// Returns whether a segment keeps much more memory than it has data, or is too short for a separate segment.
fn is_sparse(segment: &Segment) -> bool {
    let len = segment.len();
    let is_short = len < sizing::sizes().copy_threshold;
    match segment {
        Segment::Block(block) => is_short || block.allocated() > len + len / 4,
        Segment::Foreign(_) => is_short,
        Segment::File(_) => false,
    }
}

/// Copies the data of `run` into blocks that they fill.
fn copy_of(run: &[Segment]) -> Result<Vec<BlockSlice>> {
    let mut left: usize = run.iter().map(Segment::len).sum();
    let mut blocks: Vec<BlockSlice> = Vec::new();
    steps::count(left);
    for segment in run {
        let mut data = segment.load(0)?;
        while !data.is_empty() {
            match blocks.last_mut() {
                Some(block) if block.spare() > 0 => {
                    let rest = block.push_some(data);
                    left -= data.len() - rest.len();
                    data = rest;
                }
                _ => {
                    let block = BlockSlice::with_capacity(left.min(sizing::sizes().block));
                    blocks.push(block.ok_or(BufferError::TooLarge)?);
                }
            }
        }
    }
    Ok(blocks)
}
