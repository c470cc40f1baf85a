//! What a thread keeps of the blocks of its buffers: bounded, never shown to the next buffer, gone with the thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex,
        atomic::{AtomicIsize, Ordering::Relaxed},
    },
    thread,
};

use tokio_evbuffer::EvBuffer;

const KIB: usize = 1024;
const BLOCK: usize = 16 * KIB;
/// The most that a thread keeps.
const KEPT_MAX: isize = 64 * KIB as isize;

/// Counts the bytes of blocks in use: nothing else in these tests has such sizes.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

fn of_block(layout: Layout) -> isize {
    let is_block = layout.size().is_power_of_two() && (4 * KIB..=BLOCK).contains(&layout.size());
    if is_block { layout.size() as isize } else { 0 }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code)]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(of_block(layout), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(of_block(layout), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The count is that of the process, so that the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// How many more bytes of blocks are in use after `f`.
fn kept_after(f: impl FnOnce()) -> isize {
    let before = LIVE.load(Relaxed);
    f();
    LIVE.load(Relaxed) - before
}

/// Runs `f` on a thread of its own, which has kept nothing yet, and waits for the end of the thread.
fn on_a_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let _turn = TURN.lock();
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

fn buffers(n: usize, len: usize) -> Vec<EvBuffer> {
    let data = vec![0xaa; len];
    (0..n).map(|_| EvBuffer::from(&data[..])).collect()
}

#[test]
fn a_thread_keeps_64_kib_at_most_whatever_the_sizes() {
    on_a_new_thread(|| {
        for len in [BLOCK, 4 * KIB, 64, 8 * KIB, BLOCK] {
            let kept = kept_after(|| drop(buffers(2_000, len)));
            assert!(kept <= KEPT_MAX, "{kept} bytes after blocks of {len}");
        }
    });
}

#[cfg(not(evbuffer_no_pool))]
#[test]
fn a_block_is_used_again_by_the_next_buffer() {
    on_a_new_thread(|| {
        let place = |buffer: &EvBuffer| buffer.chunks().next().unwrap().as_ptr().addr();
        let first = place(&buffers(1, BLOCK)[0]);
        assert_eq!(place(&buffers(1, BLOCK)[0]), first);
    });
}

#[test]
fn what_a_thread_kept_goes_with_it() {
    let _turn = TURN.lock();
    let kept = kept_after(|| {
        let thread = thread::spawn(|| drop(buffers(100, BLOCK)));
        thread.join().unwrap();
    });
    assert_eq!(kept, 0);
}

#[test]
fn a_block_is_kept_where_it_is_freed_and_not_where_it_was_made() {
    let _turn = TURN.lock();
    let kept = kept_after(|| {
        let made = thread::spawn(|| buffers(100, BLOCK)).join().unwrap();
        let freed = thread::spawn(move || {
            let kept = kept_after(|| drop(made));
            assert!(kept <= KEPT_MAX - 100 * BLOCK as isize, "{kept}");
        });
        freed.join().unwrap();
    });
    assert_eq!(kept, 0);
}

/// Lives as long as the thread: longer than what the thread keeps, or not.
#[test]
fn a_buffer_in_a_thread_local_may_outlive_what_the_thread_keeps() {
    thread_local! {
        static FIRST: std::cell::RefCell<Vec<EvBuffer>> = const { std::cell::RefCell::new(Vec::new()) };
        static LAST: std::cell::RefCell<Vec<EvBuffer>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let _turn = TURN.lock();
    let kept = kept_after(|| {
        let thread = thread::spawn(|| {
            FIRST.with_borrow_mut(Vec::clear);
            drop(buffers(1, BLOCK));
            LAST.with_borrow_mut(|last| last.extend(buffers(3, BLOCK)));
            FIRST.with_borrow_mut(|first| first.extend(buffers(3, BLOCK)));
        });
        thread.join().unwrap();
    });
    assert_eq!(kept, 0);
}

#[test]
fn no_byte_of_one_buffer_is_readable_through_another() {
    on_a_new_thread(|| {
        for len in [64, 128, KIB, 4 * KIB, BLOCK] {
            drop(buffers(4, len));
            let mut next = EvBuffer::new();
            let mut room = next.reserve(len).unwrap();
            for slice in room.slices_mut() {
                assert!(slice.iter().all(|&byte| byte == 0), "in a block of {len}");
            }
            let n = room.capacity();
            room.commit(n).unwrap();
            assert!(next.chunks().flatten().all(|&byte| byte == 0));
        }
    });
}
