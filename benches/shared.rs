//! What sharing a buffer costs: the lock, the marks, the callbacks, the waiters, and a pipe made of one.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench shared
//! ```
//!
//! Each group holds what it is to be compared with; only ratios within a group mean anything. All runs on one
//! current-thread runtime, so that no wake-up of another core drowns what is measured.

use std::{
    hint::black_box,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    runtime::{Builder, Runtime},
    sync::Notify,
    task::yield_now,
};
use tokio_evbuffer::{DeferredQueue, EvBuffer, SharedEvBuffer, Watermarks, pipe};

const PIECE: [u8; 64] = [7; 64];

/// Additions before the buffer is emptied, by each candidate in the same way.
const BATCH: usize = 64;

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime can be made")
}

fn fill_and_empty(buffer: &SharedEvBuffer) {
    for _ in 0..BATCH {
        black_box(buffer).lock().add(&PIECE).unwrap();
    }
    buffer.lock().clear().unwrap();
}

/// 64 uncontended guards around one addition each.
fn guard(c: &mut Criterion) {
    let mut group = c.benchmark_group("guard and add 64 B, 64 times");
    let mut plain = EvBuffer::new();
    group.bench_function("plain EvBuffer", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                black_box(&mut plain).add(&PIECE).unwrap();
            }
            plain.clear().unwrap();
        });
    });
    let mutex = Mutex::new(EvBuffer::new());
    group.bench_function("std Mutex", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                black_box(&mutex).lock().unwrap().add(&PIECE).unwrap();
            }
            mutex.lock().unwrap().clear().unwrap();
        });
    });
    let shared = SharedEvBuffer::new();
    group.bench_function("shared", |b| b.iter(|| fill_and_empty(&shared)));
    let marked = SharedEvBuffer::new();
    marked.set_watermarks(Watermarks::with_high(1 << 20).unwrap());
    group.bench_function("shared, marks not crossed", |b| {
        b.iter(|| fill_and_empty(&marked))
    });
    let told = SharedEvBuffer::new();
    let _callback = told.on_change_inline(|_, change| {
        black_box(change);
    });
    group.bench_function("shared, inline callback", |b| {
        b.iter(|| fill_and_empty(&told))
    });
    group.finish();
}

/// An ordinary callback: a run for each change, and a run for 65 of them.
fn deferred(c: &mut Criterion) {
    let runtime = runtime();
    let _context = runtime.enter();
    let buffer = SharedEvBuffer::new();
    let _callback = buffer.on_change(|_, change| {
        black_box(change);
    });
    let queue = DeferredQueue::current();
    let notify = Arc::new(Notify::new());
    let notified = notify.clone();
    let woken = runtime.spawn(async move {
        loop {
            notified.notified().await;
        }
    });

    let mut group = c.benchmark_group("deferred");
    group.bench_function("one callback, one change", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let mut guard = buffer.lock();
                guard.add(&PIECE).unwrap();
                guard.clear().unwrap();
                drop(guard);
                yield_now().await;
            });
        });
    });
    group.bench_function("one callback, 65 changes", |b| {
        b.iter(|| {
            runtime.block_on(async {
                fill_and_empty(&buffer);
                yield_now().await;
            });
        });
    });
    group.bench_function("one closure", |b| {
        b.iter(|| {
            runtime.block_on(async {
                queue.defer(|| ()).unwrap();
                yield_now().await;
            });
        });
    });
    group.bench_function("Notify wakes a task", |b| {
        b.iter(|| {
            runtime.block_on(async {
                notify.notify_one();
                yield_now().await;
            });
        });
    });
    group.finish();
    woken.abort();
}

/// A task waits for 64 bytes, is woken, and takes them.
fn wake(c: &mut Criterion) {
    let runtime = runtime();

    let buffer = SharedEvBuffer::new();
    let waiting = buffer.clone();
    let readable = runtime.spawn(async move {
        while waiting.readable(PIECE.len()).await.is_ok() {
            waiting.drain(PIECE.len()).unwrap();
        }
    });
    let pair = Arc::new((Mutex::new(EvBuffer::new()), Notify::new()));
    let waiting = pair.clone();
    let notified = runtime.spawn(async move {
        loop {
            waiting.1.notified().await;
            waiting.0.lock().unwrap().drain(PIECE.len()).unwrap();
        }
    });
    let (mut reader, mut writer) = tokio::io::simplex(1 << 16);
    let simplex = runtime.spawn(async move {
        let mut piece = PIECE;
        while reader.read_exact(&mut piece).await.is_ok() {
            black_box(&piece);
        }
    });

    let mut group = c.benchmark_group("wake a waiter");
    group.bench_function("readable(64)", |b| {
        b.iter(|| {
            runtime.block_on(async {
                buffer.add(&PIECE).unwrap();
                yield_now().await;
            });
        });
    });
    group.bench_function("Mutex and Notify", |b| {
        b.iter(|| {
            runtime.block_on(async {
                pair.0.lock().unwrap().add(&PIECE).unwrap();
                pair.1.notify_one();
                yield_now().await;
            });
        });
    });
    group.bench_function("tokio simplex", |b| {
        b.iter(|| {
            runtime.block_on(async {
                writer.write_all(&PIECE).await.unwrap();
                yield_now().await;
            });
        });
    });
    group.finish();
    assert!(buffer.is_empty(), "the waiter has kept up");
    for task in [readable, notified, simplex] {
        task.abort();
    }
}

/// Bytes that go through a pipe in one iteration.
const PIPED: usize = 1 << 20;

/// The most that a pipe holds.
const PIPE_HIGH: usize = 256 * 1024;

fn pipes(c: &mut Criterion) {
    let runtime = runtime();
    let marks = Watermarks::with_high(PIPE_HIGH).unwrap();
    let mut group = c.benchmark_group("1 MiB through a pipe");
    group.throughput(Throughput::Bytes(PIPED as u64));
    for len in [64, 1024, 64 * 1024] {
        let piece = Bytes::from(vec![7; len]);
        group.bench_with_input(BenchmarkId::new("pipe, Bytes", len), &piece, |b, piece| {
            b.iter(|| runtime.block_on(send_bytes(marks, piece)));
        });
        group.bench_with_input(
            BenchmarkId::new("pipe, written", len),
            &piece,
            |b, piece| {
                b.iter(|| {
                    let (writer, reader) = pipe(marks);
                    runtime.block_on(write_bytes(writer, reader, piece));
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("tokio simplex", len),
            &piece,
            |b, piece| {
                b.iter(|| {
                    let (reader, writer) = tokio::io::simplex(PIPE_HIGH);
                    runtime.block_on(write_bytes(writer, reader, piece));
                });
            },
        );
        group.bench_with_input(BenchmarkId::new("tokio duplex", len), &piece, |b, piece| {
            b.iter(|| {
                let (writer, reader) = tokio::io::duplex(PIPE_HIGH);
                runtime.block_on(write_bytes(writer, reader, piece));
            });
        });
    }
    group.finish();
}

/// Through `Sink` and `Stream`: segments move.
async fn send_bytes(marks: Watermarks, piece: &Bytes) {
    let (mut writer, mut reader) = pipe(marks);
    let send = async {
        for _ in 0..PIPED / piece.len() {
            writer.feed(piece.clone()).await.unwrap();
        }
        writer.close().await.unwrap();
    };
    let receive = async {
        let mut total = 0;
        while let Some(bytes) = reader.next().await {
            total += black_box(bytes.unwrap()).len();
        }
        assert_eq!(total, PIPED);
    };
    tokio::join!(send, receive);
}

/// Through `AsyncWrite` and `AsyncRead`: bytes are copied in and out.
async fn write_bytes(
    mut writer: impl AsyncWrite + Unpin,
    mut reader: impl AsyncRead + Unpin,
    piece: &Bytes,
) {
    let write = async {
        for _ in 0..PIPED / piece.len() {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let mut out = vec![0; 64 * 1024];
        let mut total = 0;
        while total < PIPED {
            let n = reader.read(&mut out).await.unwrap();
            assert!(n > 0, "the end came too early");
            black_box(&out);
            total += n;
        }
    };
    tokio::join!(write, read);
}

criterion_group!(benches, guard, deferred, wake, pipes);
criterion_main!(benches);
