//! The pool of freed blocks of a thread: bounded, never readable by the next buffer, freed with the thread.

#[allow(dead_code)]
#[path = "support/heap.rs"]
mod heap;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::{sync::Mutex, thread};

use tokio_evbuffer::EvBuffer;

const KIB: usize = 1024;
const BLOCK: usize = 16 * KIB;
const KEPT_MAX: isize = heap::KEPT_MAX as isize;

/// Serialises the tests, since blocks are counted for the process.
static TURN: Mutex<()> = Mutex::new(());

/// Returns how many more bytes of blocks are in use after `f`.
fn kept_after(f: impl FnOnce()) -> isize {
    let before = heap::blocks_in_use();
    f();
    heap::blocks_in_use() - before
}

/// Runs `f` on a new thread, whose pool is empty, and waits for the end of the thread.
fn on_a_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let _turn = TURN.lock();
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

fn buffers(n: usize, len: usize) -> Vec<EvBuffer> {
    let data = vec![0xaa; len];
    (0..n).map(|_| EvBuffer::from(&data[..])).collect()
}

#[test]
fn a_thread_keeps_at_most_40_kib_for_every_block_size() {
    on_a_new_thread(|| {
        for len in [BLOCK, 4 * KIB, 64, 8 * KIB, BLOCK] {
            let kept = kept_after(|| drop(buffers(2_000, len)));
            assert!(kept <= KEPT_MAX, "{kept} bytes after blocks of {len}");
        }
    });
}

#[cfg(not(evbuffer_no_pool))]
#[test]
fn a_freed_block_is_reused_by_the_next_buffer() {
    on_a_new_thread(|| {
        let place = |buffer: &EvBuffer| buffer.chunks().next().unwrap().as_ptr().addr();
        let first = place(&buffers(1, BLOCK)[0]);
        assert_eq!(place(&buffers(1, BLOCK)[0]), first);
    });
}

#[test]
fn blocks_kept_by_a_thread_are_freed_when_it_ends() {
    let _turn = TURN.lock();
    let kept = kept_after(|| {
        let thread = thread::spawn(|| drop(buffers(100, BLOCK)));
        thread.join().unwrap();
    });
    assert_eq!(kept, 0);
}

#[test]
fn a_block_is_kept_by_the_thread_that_frees_it() {
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

/// The buffers are dropped with the thread, before or after its pool.
#[test]
fn a_buffer_in_a_thread_local_may_outlive_the_pool() {
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
fn no_byte_of_a_freed_buffer_is_readable_through_another() {
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
