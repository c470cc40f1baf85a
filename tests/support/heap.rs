//! A global allocator that counts allocated bytes, for the process and for each thread.
//!
//! A test binary that includes this file uses it as its allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::RangeInclusive,
    sync::atomic::{AtomicIsize, Ordering::Relaxed},
};

/// Counts, then calls the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The sizes of the buffers' large blocks. The test harness allocates nothing of these sizes.
const BLOCK_SIZES: RangeInclusive<usize> = 4096..=16384;

/// The most bytes of freed blocks that a thread keeps for its next buffers.
pub(crate) const KEPT_MAX: usize = 40 * 1024;

static IN_PROCESS: AtomicIsize = AtomicIsize::new(0);
static IN_BLOCKS: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static IN_THREAD: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Returns the bytes allocated by the whole process. Use it only where one test runs at a time.
pub(crate) fn in_use() -> isize {
    IN_PROCESS.load(Relaxed)
}

/// Returns the bytes of the process that are in blocks of a buffer: powers of two from 4 KiB to 16 KiB.
pub(crate) fn blocks_in_use() -> isize {
    IN_BLOCKS.load(Relaxed)
}

/// Returns the bytes that this thread has allocated, less those that it has freed. Tests may run in parallel.
pub(crate) fn in_use_here() -> isize {
    IN_THREAD.get()
}

/// Returns how many allocations this thread has made.
pub(crate) fn allocations_here() -> usize {
    ALLOCATIONS.get()
}

/// Returns the value of `f` and how many bytes of heap it holds.
pub(crate) fn held_by<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = in_use_here();
    let made = f();
    (made, (in_use_here() - before) as usize)
}

fn count(layout: Layout, sign: isize) {
    let bytes = sign * layout.size() as isize;
    IN_PROCESS.fetch_add(bytes, Relaxed);
    if layout.size().is_power_of_two() && BLOCK_SIZES.contains(&layout.size()) {
        IN_BLOCKS.fetch_add(bytes, Relaxed);
    }
    IN_THREAD.set(IN_THREAD.get() + bytes);
}

#[allow(unsafe_code)]
// SAFETY: all calls go to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: `memory` came from `System` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}
