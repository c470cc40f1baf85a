//! Blocks that several threads release at the same time; the thread sanitizer runs this, too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use tokio_evbuffer::EvBuffer;

#[test]
fn two_threads_release_one_block() {
    for _ in 0..10 {
        let a = EvBuffer::from(&[7; 1024][..]);
        let mut b = EvBuffer::new();
        b.add_buffer_reference(&a).unwrap();
        let go = Arc::new(AtomicBool::new(false));
        let theirs = go.clone();
        let other = thread::spawn(move || {
            theirs.store(true, SeqCst);
            drop(b);
        });
        while !go.load(SeqCst) {
            thread::yield_now();
        }
        drop(a);
        other.join().unwrap();
    }
}
