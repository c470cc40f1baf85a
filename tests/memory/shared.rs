//! Memory of an idle shared buffer, counted by the allocator.

use tokio_evbuffer::SharedEvBuffer;

use crate::heap;

#[test]
fn an_idle_empty_buffer_holds_at_most_256_bytes() {
    let before = heap::in_use_here();
    let buffer = SharedEvBuffer::new();
    assert!(
        heap::in_use_here() - before <= 256,
        "{} bytes",
        heap::in_use_here() - before
    );

    // The same holds after traffic, while a task waits for more. The thread's pool keeps the block.
    buffer.add(&[1; 10_000]).unwrap();
    buffer.drain(10_000).unwrap();
    buffer.lock().shrink_to_fit();
    let kept = 16 << 10;
    let held = heap::in_use_here() - before - kept;
    assert!(held <= 256, "{held} bytes");
    drop(buffer);
    assert_eq!(heap::in_use_here(), before + kept);
}

/// A thousand waits hold no more memory than one wait.
#[test]
fn repeated_waits_hold_no_more_memory_than_one() {
    let buffer = SharedEvBuffer::new();
    let wait = || {
        let mut readable = tokio_test::task::spawn(buffer.readable(1));
        assert!(readable.poll().is_pending());
    };
    wait();
    let once = heap::in_use_here();
    (0..1000).for_each(|_| wait());
    assert_eq!(heap::in_use_here(), once);
}
