//! Raw memory, and the count of those who share it.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc},
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering, fence},
};

use crate::error::{BufferError, Result};

/// Allocates `len` bytes, which are uninitialised; `len` is not zero.
pub(super) fn allocate(len: u32) -> Result<NonNull<u8>> {
    debug_assert!(len > 0);
    let layout = layout(len);
    // SAFETY: the size of the layout is not zero, since `len` is not.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).ok_or(BufferError::TooLarge)
}

/// Gives back what [`allocate`] gave.
///
/// # Safety
///
/// `block` came from `allocate(len)` and is not used any more.
pub(super) unsafe fn free(block: NonNull<u8>, len: u32) {
    // SAFETY: the caller guarantees that the block was allocated with this very layout.
    unsafe { dealloc(block.as_ptr(), layout(len)) }
}

fn layout(len: u32) -> Layout {
    Layout::array::<u8>(len as usize).expect("a block is at most 1 GiB")
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
