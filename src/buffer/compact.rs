//! Small data in large blocks is copied into small blocks, so that a buffer holds little more memory than data.

use std::{iter, mem};

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::Result,
    segment::{BlockSlice, Ring, Segment, sizing},
};

impl EvBuffer {
    /// Notes after a removal that much more memory is held than data; the next addition compacts.
    #[inline]
    pub(super) fn note_waste(&mut self) {
        if self.held > sizing::sizes().waste_allowed && self.is_wasteful() {
            self.flags.insert(Flags::WASTEFUL);
        }
    }

    fn is_wasteful(&self) -> bool {
        let allowed = self.len.saturating_add(self.len / 2);
        self.held > sizing::sizes().waste_allowed && self.held > allowed && self.can_be_packed()
    }

    /// Whether there is something to gain. The spare of the tail is none: it is where the next bytes go.
    fn can_be_packed(&self) -> bool {
        let (body_held, body_len) = (
            self.held - self.tail.allocated(),
            self.len - self.tail.len(),
        );
        body_held > body_len.saturating_add(body_len / 4) || self.is_tail_sparse()
    }

    fn is_tail_sparse(&self) -> bool {
        let allocated = self.tail.allocated();
        allocated > sizing::sizes().block && self.tail.len() <= allocated / 2
    }

    /// Copies what lies sparsely in large blocks into small ones.
    ///
    /// A fifth of the data must go before this comes about again, so its cost a byte is constant.
    pub(super) fn compact_if_wasteful(&mut self) {
        self.flags.remove(Flags::WASTEFUL);
        if self.is_wasteful() {
            self.compact();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let mut packed = Ring::new();
        let mut sparse = mem::take(&mut self.body);
        let mut segments = iter::from_fn(|| sparse.pop_front()).peekable();
        while let Some(segment) = segments.next() {
            if !is_sparse(&segment) {
                packed.push_back(segment);
                continue;
            }
            let mut run = vec![segment];
            while let Some(next) = segments.next_if(is_sparse) {
                run.push(next);
            }
            match copy_of(&run) {
                Ok(blocks) => packed.extend(blocks.into_iter().map(Segment::Block)),
                // Without memory for a copy things stay as they are.
                Err(_) => packed.extend(run),
            }
        }
        self.body = packed;
        self.compact_tail();
        self.held = self.body.iter().map(Segment::allocated).sum::<usize>() + self.tail.allocated();
    }

    fn compact_tail(&mut self) {
        if !self.is_tail_sparse() {
            return;
        }
        let block = sizing::next_block(self.tail.len(), 0).and_then(BlockSlice::with_capacity);
        if let Ok(mut block) = block {
            block.push(self.tail.as_slice());
            let old = mem::replace(&mut self.tail, block);
            self.hand_over(&old);
        }
    }
}

/// Whether a segment answers for much more memory than it has data; or keeps very much more, for which nobody here may answer
/// once the others on its block have been copied.
fn is_sparse(segment: &Segment) -> bool {
    let Segment::Block(owned) = segment else {
        return false;
    };
    let (allocated, len) = (owned.allocated(), owned.len());
    allocated > len + len / 4 || (allocated == 0 && owned.block_len() / 4 > len)
}

/// The data of `run` in blocks that they fill.
fn copy_of(run: &[Segment]) -> Result<Vec<BlockSlice>> {
    let mut left: usize = run.iter().map(Segment::len).sum();
    let mut blocks: Vec<BlockSlice> = Vec::new();
    for segment in run {
        let mut data = segment.load()?;
        while !data.is_empty() {
            match blocks.last_mut() {
                Some(block) if block.spare() > 0 => {
                    let rest = block.push_some(data);
                    left -= data.len() - rest.len();
                    data = rest;
                }
                _ => blocks.push(BlockSlice::with_capacity(left.min(sizing::sizes().block))?),
            }
        }
    }
    Ok(blocks)
}
