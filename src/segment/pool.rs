//! Blocks that a thread keeps for its next buffer: an allocator takes longer, most of all where blocks are large.
#![allow(unsafe_code)]

use std::{cell::Cell, ptr::NonNull};

use super::{
    block,
    sizing::{BLOCK, MIN_BLOCK},
};
use crate::error::Result;

/// Lists of blocks, one for each power of two that a block may grow through.
const CLASSES: usize = (BLOCK / MIN_BLOCK).ilog2() as usize + 1;

/// The most that a thread keeps, in bytes: what a few connections that take turns on it have in use at a time.
const KEPT_MAX: usize = 4 * BLOCK;

thread_local! {
    static POOL: Pool = const { Pool::new() };
}

/// Returns a block of `len` bytes, which are uninitialised: one that this thread kept, or a new one. `len` is not zero.
#[inline]
pub(super) fn allocate(len: usize) -> Result<NonNull<u8>> {
    match take(len) {
        Some(block) => Ok(block),
        None => block::allocate_new(len),
    }
}

/// Returns a block to the pool of this thread, or to the allocator.
///
/// # Safety
///
/// `block` came from `allocate(len)` and is not used any more.
#[inline]
pub(super) unsafe fn free(block: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise; a block that the pool has not kept is released.
    unsafe {
        if !keep(block, len) {
            block::release(block, len);
        }
    }
}

/// Takes a block of `len` bytes that this thread kept. What is in it counts as uninitialised.
#[inline]
fn take(len: usize) -> Option<NonNull<u8>> {
    let class = class_of(len)?;
    // There is no pool any more where another destructor of an ending thread makes a buffer.
    POOL.try_with(|pool| pool.take(class)).ok().flatten()
}

/// Keeps a block for this thread, or returns false.
///
/// # Safety
///
/// As [`free`], if true is returned.
#[inline]
unsafe fn keep(block: NonNull<u8>, len: usize) -> bool {
    let Some(class) = class_of(len) else {
        return false;
    };
    // SAFETY: passed on to the caller; `class` is that of `len`.
    let kept = POOL.try_with(|pool| unsafe { pool.keep(block, class) });
    kept.unwrap_or(false)
}

#[inline]
fn class_of(len: usize) -> Option<usize> {
    let class = (len / MIN_BLOCK).trailing_zeros() as usize;
    // Under the address sanitizer no block may be used again: it is to see each use of a freed one.
    let is_kept = !cfg!(any(evbuffer_no_pool, fuzzing));
    (is_kept && class < CLASSES && len_of(class) == len).then_some(class)
}

const fn len_of(class: usize) -> usize {
    MIN_BLOCK << class
}

/// The blocks of one thread, which goes with it.
///
/// Each block that is listed came from the allocator with the length of its list, and nobody else knows of it.
struct Pool {
    lists: [Cell<Option<NonNull<Link>>>; CLASSES],
    /// Bytes in all lists.
    kept: Cell<usize>,
}

/// How a listed block begins.
struct Link {
    next: Option<NonNull<Link>>,
}

const _: () = assert!(size_of::<Link>() <= MIN_BLOCK && align_of::<Link>() <= block::ALIGN);

impl Pool {
    const fn new() -> Self {
        Self {
            lists: [const { Cell::new(None) }; CLASSES],
            kept: Cell::new(0),
        }
    }

    #[inline]
    fn take(&self, class: usize) -> Option<NonNull<u8>> {
        let first = self.lists[class].get()?;
        // SAFETY: what is listed begins with a link, and nobody else knows of it.
        let next = unsafe { first.read() }.next;
        self.lists[class].set(next);
        self.kept.set(self.kept.get() - len_of(class));
        Some(first.cast())
    }

    /// # Safety
    ///
    /// As [`keep`], for a block of `len_of(class)` bytes.
    #[inline]
    unsafe fn keep(&self, block: NonNull<u8>, class: usize) -> bool {
        let kept = self.kept.get() + len_of(class);
        if kept > KEPT_MAX {
            return false;
        }
        let first = block.cast::<Link>();
        let next = self.lists[class].replace(Some(first));
        // SAFETY: the block is no longer used, large enough and aligned for a link.
        unsafe { first.write(Link { next }) };
        self.kept.set(kept);
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for class in 0..CLASSES {
            while let Some(block) = self.take(class) {
                // SAFETY: it was in the list of this length, and is in no list any more.
                unsafe { block::release(block, len_of(class)) };
            }
        }
    }
}
