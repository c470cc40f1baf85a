//! Memory of an idle shared buffer, counted by the allocator.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio_evbuffer::{BufferEvent, DeferredQueue, SharedEvBuffer};
use tokio_test::{assert_pending, task};

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

/// They are copied, so their own memory is released at once, and not when the guard ends.
#[test]
fn short_pieces_added_under_one_guard_hold_no_more_than_four_times_their_length() {
    const PIECES: usize = 100_000;
    let buffer = SharedEvBuffer::new();
    let before = heap::in_use_here();
    let mut guard = buffer.lock();
    for _ in 0..PIECES {
        guard.add_reference(vec![7]).unwrap();
    }
    let held = (heap::in_use_here() - before) as usize;
    assert!(held <= 4 * PIECES + (64 << 10), "{held} bytes");
    drop(guard);
    assert_eq!(buffer.len(), PIECES);
}

/// Returns what each idle connection holds after it has received 16,000 bytes.
fn held_by_idle_connections(by_lines: bool) -> isize {
    const CONNECTIONS: usize = 200;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let (mut peers, mut servers) = (Vec::new(), Vec::new());
            for _ in 0..CONNECTIONS {
                let (near, far) = tokio::io::duplex(64 * 1024);
                peers.push(near);
                servers.push(BufferEvent::new(far));
            }
            let mut out = vec![0; 16_000];
            for (peer, server) in peers.iter_mut().zip(&mut servers) {
                peer.write_all(&[b'x'; 16_000]).await.unwrap();
                let mut left = if by_lines { 16_000 } else { 0 };
                while left > 0 {
                    let n = server.fill_buf().await.unwrap().len();
                    std::pin::Pin::new(&mut *server).consume(n);
                    left -= n;
                }
                if !by_lines {
                    server.read_exact(&mut out).await.unwrap();
                }
            }
            for server in &mut servers {
                assert_pending!(task::spawn(server.fill_buf()).poll());
                assert_eq!(server.input().lock().capacity(), 0);
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let before = heap::in_use_here();
            drop(servers);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            (before - heap::in_use_here()) / CONNECTIONS as isize
        })
}

/// `fill_buf` and `consume` leave no block behind.
#[test]
fn idle_connections_read_by_lines_hold_no_more_than_others() {
    let (by_read, by_lines) = (
        held_by_idle_connections(false),
        held_by_idle_connections(true),
    );
    assert!(
        by_lines < by_read + 256,
        "bytes held by each idle connection: {by_lines} if read by fill_buf and consume, {by_read} if by read"
    );
}

/// 200,000 callbacks are queued at once.
#[tokio::test]
async fn a_burst_leaves_no_memory_behind() {
    let queue = DeferredQueue::current();
    queue.defer(|| {}).unwrap();
    queue.drained().await;
    let before = heap::in_use_here();
    for _ in 0..200_000 {
        queue.defer(|| {}).unwrap();
    }
    queue.drained().await;
    let kept = heap::in_use_here() - before;
    assert!(kept < 64 * 1024, "{kept} bytes kept");
}
