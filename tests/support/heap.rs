//! The allocator of a test that counts: bytes in use, by the process and by each thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicIsize, Ordering::Relaxed},
};

/// Counts, and leaves all else to the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static OF_PROCESS: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static OF_THREAD: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Bytes in use, by whatever thread they were asked for.
pub(crate) fn in_use() -> isize {
    OF_PROCESS.load(Relaxed)
}

/// Bytes that this thread has asked for, less those that it has given back: for tests that run side by side.
pub(crate) fn in_use_here() -> isize {
    OF_THREAD.get()
}

/// How often this thread has asked for memory.
pub(crate) fn allocations_here() -> usize {
    ALLOCATIONS.get()
}

fn count(bytes: isize) {
    OF_PROCESS.fetch_add(bytes, Relaxed);
    OF_THREAD.set(OF_THREAD.get() + bytes);
}

#[allow(unsafe_code)]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
