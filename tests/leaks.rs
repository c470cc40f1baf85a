//! Connections that are dropped at any stage leak no task, no descriptor and no memory.

#![cfg(all(feature = "net", target_os = "linux"))]

#[allow(dead_code)]
#[path = "support/heap.rs"]
mod heap;
mod support;

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, duplex},
    runtime::Handle,
};
use tokio_evbuffer::{BufferEvent, DeferredQueue, Event, Watermarks};

use support::{net::tcp_pair, tasks::HANG};

/// Connections in memory, and fewer over sockets, which cost more.
const IN_MEMORY: usize = 9_000;
const SOCKETS: usize = 1_000;
/// Connections at a time.
const BATCH: usize = 100;

/// Brings a connection to a stage that depends on `i`, and drops it there.
async fn leave_in_the_middle<S>(i: usize, near: S, mut far: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::with_high(512).unwrap())
        .read_timeout(Duration::from_secs(60))
        .linger(Duration::from_secs(1))
        .on_read(|bev| {
            // An echo task, which owns a handle while it runs.
            let _ = bev.clone().input().move_to(bev.output(), usize::MAX);
        })
        .on_event(|bev, event| {
            if matches!(event, Event::Eof) {
                bev.output().close();
            }
        })
        .spawn(near);
    match i % 10 {
        0 => drop(bev),
        1 => bev.abort(),
        2 => {
            bev.output().add(&[1; 3000]).unwrap();
            drop(bev);
        }
        3 => {
            bev.output().add(&[1; 3000]).unwrap();
            let mut flush = tokio_test::task::spawn(bev.flush());
            let _ = flush.poll();
        }
        4 => {
            let mut closing = tokio_test::task::spawn(bev.close());
            let _ = closing.poll();
        }
        5 => {
            let mut taking = tokio_test::task::spawn(bev.into_inner::<S>());
            let _ = taking.poll();
            tokio::task::yield_now().await;
        }
        6 => {
            let _ = far.write(&[2; 700]).await;
            tokio::task::yield_now().await;
            let mut readable = tokio_test::task::spawn(bev.input().readable(600));
            let _ = readable.poll();
        }
        7 => {
            bev.detach();
            let _ = far.write(b"one more for the callback").await;
        }
        8 => {
            let (read, write) = bev.split();
            drop(far);
            tokio::task::yield_now().await;
            return drop((write, read));
        }
        _ => {
            let mut event = tokio_test::task::spawn(bev.next_event());
            let _ = event.poll();
            bev.trigger_event(Event::Connected);
        }
    }
    drop(far);
}

async fn round() {
    let numbers: Vec<usize> = (0..IN_MEMORY).collect();
    for batch in numbers.chunks(BATCH) {
        for &i in batch {
            let (near, far) = duplex(1024);
            leave_in_the_middle(i, near, far).await;
        }
        tokio::task::yield_now().await;
    }
    for i in 0..SOCKETS {
        let (near, far) = tcp_pair().await;
        leave_in_the_middle(i, near, far).await;
    }
    DeferredQueue::current().drained().await;
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

// A single test, since the counts are those of the process.
#[tokio::test]
async fn ten_thousand_connections_dropped_at_any_stage_leak_nothing() {
    // The executor of the queue stays.
    let _queue = DeferredQueue::current();
    let (tasks_before, descriptors_before) = (tasks(), descriptors());
    let mut before = None;
    for _ in 0..2 {
        round().await;
        // Each connection waits for its peer's end or its linger time.
        let all_gone = async {
            while tasks() > tasks_before || descriptors() > descriptors_before {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(HANG, all_gone).await;
        assert!(
            gone.is_ok(),
            "{} tasks and {} descriptors are left",
            tasks() - tasks_before,
            descriptors() - descriptors_before
        );
        // One-time allocations of the first round are no leak.
        let now = heap::in_use();
        let before = *before.get_or_insert(now);
        assert!(now - before < 64 << 10, "{} bytes are left", now - before);
    }
}
