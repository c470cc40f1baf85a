//! What a shared buffer costs while nothing happens, counted at the allocator.
#![allow(unsafe_code)] // an allocator is an unsafe trait

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use tokio_evbuffer::SharedEvBuffer;

/// Counts what is live of this thread's allocations.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_idle_empty_buffer_holds_at_most_256_bytes() {
    let before = LIVE.get();
    let buffer = SharedEvBuffer::new();
    assert!(LIVE.get() - before <= 256, "{} bytes", LIVE.get() - before);

    // Also after traffic, once whoever waits for more has gone to sleep; and the thread keeps its block.
    buffer.add(&[1; 10_000]).unwrap();
    buffer.drain(10_000).unwrap();
    buffer.lock().shrink_to_fit();
    let kept = 16 << 10;
    let held = LIVE.get() - before - kept;
    assert!(held <= 256, "{held} bytes");
    drop(buffer);
    assert_eq!(LIVE.get(), before + kept);
}

/// Waiting a thousand times leaves no more behind than waiting once.
#[test]
fn waiting_again_and_again_holds_no_more() {
    let buffer = SharedEvBuffer::new();
    let wait = || {
        let mut readable = tokio_test::task::spawn(buffer.readable(1));
        assert!(readable.poll().is_pending());
    };
    wait();
    let once = LIVE.get();
    (0..1000).for_each(|_| wait());
    assert_eq!(LIVE.get(), once);
}
