//! Raw memory, and the count of those who share it.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc},
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering, fence},
};

use crate::error::{BufferError, Result};

/// How blocks are aligned: as the pool's links in them.
pub(super) const ALIGN: usize = align_of::<usize>();

/// Allocates a block of `len` bytes, which are uninitialised. `len` is not zero.
pub(super) fn allocate_new(len: usize) -> Result<NonNull<u8>> {
    debug_assert!(len > 0);
    let layout = Layout::from_size_align(len, ALIGN).map_err(|_| BufferError::TooLarge)?;
    // SAFETY: the size of the layout is not zero, since `len` is not.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).ok_or(BufferError::TooLarge)
}

/// Returns a block to the allocator.
///
/// # Safety
///
/// `block` came from `allocate_new(len)` and is not used any more.
pub(super) unsafe fn release(block: NonNull<u8>, len: usize) {
    // SAFETY: the caller guarantees that the block was allocated with this very layout.
    unsafe { dealloc(block.as_ptr(), layout(len)) }
}

/// The layout of a block of `len` bytes, which is no more than there can be.
pub(super) fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, ALIGN).expect("a block is at most half of what can be addressed")
}

/// The count of the ranges on one block. Made when a block is shared for the first time.
///
/// The count orders accesses as that of `Arc` does: a holder that reads one with [`Acquire`](Ordering::Acquire)
/// sees all that the others did before they let go.
#[derive(Debug)]
pub(super) struct Count {
    holders: AtomicUsize,
    /// Length of the whole block, which its holders see only in parts.
    pub(super) block_len: u32,
}

impl Count {
    /// A count of one holder.
    pub(super) fn new(block_len: u32) -> NonNull<Self> {
        let holders = AtomicUsize::new(1);
        NonNull::from(Box::leak(Box::new(Self { holders, block_len })))
    }

    pub(super) fn is_one(&self) -> bool {
        self.holders.load(Ordering::Acquire) == 1
    }

    pub(super) fn increment(&self) {
        let holders = self.holders.fetch_add(1, Ordering::Relaxed);
        // As `Arc` does: a count that wraps would free memory in use.
        if holders > isize::MAX as usize {
            std::process::abort();
        }
    }

    /// Lets go of one holder; true if it was the last.
    #[must_use]
    pub(super) fn decrement(&self) -> bool {
        if self.holders.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        true
    }
}
