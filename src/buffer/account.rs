//! The memory of a buffer counts for the account of a budget.

use std::sync::Arc;

use bytes::Bytes;

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    limits::budget::Account,
    segment::{self, BlockSlice, Segment},
};

impl EvBuffer {
    /// Makes the memory of this buffer count for `account`, as long as the buffer lives: the memory that is here, unless it
    /// counts for another account, and the memory that comes in.
    pub(crate) fn set_account(&mut self, account: Arc<Account>) {
        for segment in self.body.iter_mut() {
            segment.count_for(&account);
        }
        self.tail.count_for(&account);
        self.attached_mut().extras_mut().account = Some(account);
        self.flags.insert(Flags::BUDGETED);
    }

    /// Lets memory that comes in count for no account. Memory that is here counts until it is freed.
    pub(super) fn remove_account(&mut self) {
        self.flags.remove(Flags::BUDGETED);
        if let Some(extras) = (self.attached.as_mut()).and_then(|attached| attached.extras.as_mut())
        {
            extras.account = None;
        }
    }

    /// Returns the account for which the memory of this buffer counts.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.extras()?.account.as_ref()
    }

    /// Makes a block that comes in count for the account.
    #[inline]
    pub(super) fn counted(&self, mut block: BlockSlice) -> BlockSlice {
        if self.flags.intersects(Flags::BUDGETED) {
            if let Some(account) = self.account() {
                block.count_for(account);
            }
        }
        block
    }

    /// Makes foreign memory that comes in count for the account. Memory that comes from a buffer with an account counts
    /// there.
    #[inline]
    pub(super) fn counted_foreign(&self, segment: Segment) -> Segment {
        match segment {
            Segment::Foreign(bytes) => Segment::Foreign(self.counted_bytes(bytes)),
            other => other,
        }
    }

    #[inline]
    pub(super) fn counted_bytes(&self, bytes: Bytes) -> Bytes {
        if self.flags.intersects(Flags::BUDGETED) {
            if let Some(account) = self.account() {
                return segment::counted(bytes, account.clone());
            }
        }
        bytes
    }

    /// Makes the block of the tail count for the account.
    #[cold]
    pub(super) fn count_tail(&mut self) {
        if let Some(account) = self.account().cloned() {
            self.tail.count_for(&account);
        }
    }

    /// Makes the last segment of the body count for the account, if it is a block.
    pub(super) fn count_back(&mut self) {
        let account = self.account().cloned();
        if let (Some(account), Some(Segment::Block(block))) = (account, self.body.back_mut()) {
            block.count_for(&account);
        }
    }

    /// Makes the first segment of the body count for the account, if it is a block.
    #[inline]
    pub(super) fn count_front(&mut self) {
        if self.flags.intersects(Flags::BUDGETED) {
            let account = self.account().cloned();
            if let (Some(account), Some(Segment::Block(block))) = (account, self.body.front_mut()) {
                block.count_for(&account);
            }
        }
    }

    /// Makes the body of `src`, which is about to be moved here, count for the account.
    #[inline]
    pub(super) fn count_body_of(&self, src: &mut EvBuffer) {
        if self.flags.intersects(Flags::BUDGETED) {
            self.count_budgeted_body_of(src);
        }
    }

    #[inline(never)]
    fn count_budgeted_body_of(&self, src: &mut EvBuffer) {
        let is_new = !src.flags.intersects(Flags::BUDGETED);
        if let Some(account) = self.account().filter(|_| is_new) {
            for segment in src.body.iter_mut() {
                segment.count_for(account);
            }
        }
    }

    /// Drops a block. If that may wake tasks, it happens after the lock around this buffer was released.
    #[inline]
    pub(super) fn release_block(&mut self, block: BlockSlice) {
        if block.has_account() {
            self.release_foreign(Segment::Block(block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MemoryBudget;

    fn with_account(budget: &MemoryBudget) -> EvBuffer {
        let mut buffer = EvBuffer::new();
        buffer.set_account(budget.open_account(None, || {}));
        buffer
    }

    #[test]
    fn blocks_count_once_until_they_are_freed() {
        let budget = MemoryBudget::new(1 << 20);
        let mut buffer = with_account(&budget);
        buffer.add([7; 16 * 1024]).unwrap();
        assert_eq!(budget.used(), 16 * 1024);

        // Sharing and moving change nothing, wherever the bytes go.
        let mut copies: [EvBuffer; 10] = std::array::from_fn(|_| with_account(&budget));
        for copy in &mut copies {
            copy.add_shared(&buffer.share()).unwrap();
        }
        let mut moved = EvBuffer::new();
        buffer.remove_buffer(&mut moved, 10_000).unwrap();
        let taken = buffer.take_bytes(5_000).unwrap();
        assert_eq!(budget.used(), 16 * 1024);
        assert_eq!(budget.largest(9).len(), 1);

        drop((buffer, copies, moved));
        assert_eq!(budget.used(), 16 * 1024);
        drop(taken);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_block_that_is_filled_again_still_counts() {
        let budget = MemoryBudget::new(1 << 20);
        let mut buffer = with_account(&budget);
        for _ in 0..3 {
            buffer.add([7; 1000]).unwrap();
            let taken = buffer.take_bytes(700).unwrap();
            drop(taken);
            buffer.clear().unwrap();
            assert!((1024..=4096).contains(&budget.used()), "{}", budget.used());
        }
        buffer.shrink_to_fit();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn foreign_memory_counts_with_its_length() {
        let budget = MemoryBudget::new(1 << 20);
        let mut buffer = with_account(&budget);
        buffer.add_reference(vec![7; 5000]).unwrap();
        assert_eq!(budget.used(), 5000);
        let mut other = with_account(&budget);
        buffer.remove_buffer(&mut other, 2000).unwrap();
        assert_eq!(budget.used(), 5000);
        drop(buffer);
        assert_eq!(budget.used(), 5000);
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn memory_that_is_here_already_counts_from_then_on() {
        let budget = MemoryBudget::new(1 << 20);
        let mut buffer = EvBuffer::from(&[7; 1024][..]);
        buffer.add_reference(vec![7; 5000]).unwrap();
        buffer.set_account(budget.open_account(None, || {}));
        assert_eq!(budget.used(), 1024 + 5000);
        let mut source = EvBuffer::from(&[7; 2048][..]);
        source.add_reference(vec![7; 3000]).unwrap();
        source.add([7; 2048]).unwrap();
        buffer.add_buffer(&mut source).unwrap();
        assert_eq!(budget.used(), 1024 + 5000 + 2048 + 3000 + 2048);
        buffer.clear().unwrap();
        buffer.shrink_to_fit();
        assert_eq!(budget.used(), 0);
    }
}
