//! Raw memory, and the count of those who share it.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc},
    cell::Cell,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering, fence},
};

use crate::error::{BufferError, Result};

/// A block of so many bytes is kept for whoever wants the next one, one a thread.
///
/// It is that of a small read, which an idle connection gives back at once, and too long for the fast path of the
/// common allocators: they took 250 of the 3,900 instructions that relaying a message cost.
const KEPT_LEN: u32 = 2048;

thread_local! {
    static KEPT: Kept = const { Kept(Cell::new(None)) };
}

/// At most one block of [`KEPT_LEN`] bytes, which goes with its thread.
struct Kept(Cell<Option<NonNull<u8>>>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(block) = self.0.take() {
            // SAFETY: only blocks of this length are kept, and this one is nobody's.
            unsafe { dealloc(block.as_ptr(), layout(KEPT_LEN)) }
        }
    }
}

/// Allocates `len` bytes, whose contents are to be taken for uninitialised; `len` is not zero.
#[inline]
pub(super) fn allocate(len: u32) -> Result<NonNull<u8>> {
    debug_assert!(len > 0);
    if len == KEPT_LEN {
        // At the end of a thread there is nothing kept any more.
        if let Ok(Some(block)) = KEPT.try_with(|kept| kept.0.take()) {
            return Ok(block);
        }
    }
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
#[inline]
pub(super) unsafe fn free(block: NonNull<u8>, len: u32) {
    let mut unwanted = Some(block);
    if len == KEPT_LEN {
        // What was kept before goes, so that the one to be used next is the one used last.
        unwanted = KEPT
            .try_with(|kept| kept.0.replace(Some(block)))
            .unwrap_or(unwanted);
    }
    if let Some(block) = unwanted {
        // SAFETY: the caller guarantees that the block was allocated with this very layout, as was the one kept.
        unsafe { dealloc(block.as_ptr(), layout(len)) }
    }
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
