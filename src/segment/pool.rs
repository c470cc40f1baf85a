//! Blocks that a thread keeps for its next buffers, which is cheaper than to free and allocate them.
#![allow(unsafe_code)]

use std::{cell::Cell, ptr::NonNull};

use super::{
    block,
    sizing::{BLOCK, MIN_BLOCK},
};
use crate::stats::{PoolCounter, UNCLAIMED};

/// The number of lists of blocks: one for each power of two from the smallest block to the largest that is kept.
const CLASSES: usize = (BLOCK / MIN_BLOCK).ilog2() as usize + 1;

/// The most bytes that a thread keeps: the blocks of a connection or two that take turns on it.
const KEPT_MAX: usize = 2 * BLOCK + BLOCK / 2;

thread_local! {
    static POOL: Pool = Pool::new();
}

/// Returns a block of `len` bytes, which are uninitialised: one that this thread kept, or a new one. `None` if there is no
/// memory. `len` is not zero.
#[inline]
pub(super) fn allocate(len: usize) -> Option<NonNull<u8>> {
    take(len).or_else(|| block::allocate_new(len))
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

/// Takes a block of `len` bytes that this thread kept. Its bytes count as uninitialised.
#[inline]
fn take(len: usize) -> Option<NonNull<u8>> {
    let class = class_of(len)?;
    // An ending thread may have dropped its pool before the destructor that makes this buffer.
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
    // SAFETY: the promise of the caller; `class` is that of `len`.
    let kept = POOL.try_with(|pool| unsafe { pool.keep(block, class) });
    kept.unwrap_or(false)
}

#[inline]
fn class_of(len: usize) -> Option<usize> {
    let class = (len / MIN_BLOCK).trailing_zeros() as usize;
    // The address sanitizer finds uses of a freed block only if blocks are not used again.
    let is_kept = !cfg!(any(evbuffer_no_pool, fuzzing));
    (is_kept && class < CLASSES && len_of(class) == len).then_some(class)
}

const fn len_of(class: usize) -> usize {
    MIN_BLOCK << class
}

/// The blocks of one thread, released when it ends.
///
/// Rule: a listed block came from the allocator with the length of its list, and nothing else refers to it.
struct Pool {
    lists: [Cell<Option<NonNull<Link>>>; CLASSES],
    /// Counts what is in all lists.
    counter: Cell<&'static PoolCounter>,
}

/// The first bytes of a listed block.
struct Link {
    next: Option<NonNull<Link>>,
}

const _: () = assert!(size_of::<Link>() <= MIN_BLOCK && align_of::<Link>() <= block::ALIGN);

impl Pool {
    /// Makes an empty pool. Not `const`: Rust 1.85 refuses a constant that refers to an atomic.
    fn new() -> Self {
        Self {
            lists: [const { Cell::new(None) }; CLASSES],
            counter: Cell::new(&UNCLAIMED),
        }
    }

    #[inline]
    fn take(&self, class: usize) -> Option<NonNull<u8>> {
        let first = self.lists[class].get()?;
        // SAFETY: a listed block begins with a link, and nothing else refers to it.
        let next = unsafe { first.read() }.next;
        self.lists[class].set(next);
        self.counter.get().subtract(len_of(class));
        Some(first.cast())
    }

    /// # Safety
    ///
    /// As [`keep`], for a block of `len_of(class)` bytes.
    #[inline]
    unsafe fn keep(&self, block: NonNull<u8>, class: usize) -> bool {
        let len = len_of(class);
        if self.counter.get().bytes() + len > KEPT_MAX && !self.claim_counter() {
            return false;
        }
        let first = block.cast::<Link>();
        let next = self.lists[class].replace(Some(first));
        // SAFETY: the block is no longer used, large enough and aligned for a link.
        unsafe { first.write(Link { next }) };
        self.counter.get().add(len);
        true
    }

    /// Claims the counter, which counts as full until then. Returns false if that was done before: the pool is full.
    #[cold]
    #[inline(never)]
    fn claim_counter(&self) -> bool {
        let is_first = !self.counter.get().is_claimed();
        if is_first {
            self.counter.set(PoolCounter::claim());
        }
        is_first
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for class in 0..CLASSES {
            while let Some(block) = self.take(class) {
                // SAFETY: it was in the list of this length, and nothing refers to it now.
                unsafe { block::release(block, len_of(class)) };
            }
        }
        if self.counter.get().is_claimed() {
            self.counter.get().release();
        }
    }
}
