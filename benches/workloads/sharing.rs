//! The cost of sharing a buffer: lock, watermarks, callbacks, waiting tasks and pipes, each compared with what you would
//! build by hand. Everything runs on one current-thread runtime, so that no wake-up of another core hides the figures.

use std::{
    hint::black_box,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    task::yield_now,
};
use tokio_evbuffer::{
    BufferEvent, EvBuffer, SharedEvBuffer, Watermarks,
    shared::{Reader, Writer},
};

use super::{
    callbacks,
    workload::{Run, Workload, cpu_time, time},
};

pub const SHARED: &str = "tokio-evbuffer";
pub const BY_HAND: &str = "by hand";

/// The columns of the table.
pub const COLUMNS: [&str; 2] = [SHARED, BY_HAND];

pub const GUARD: &str = "guard and add 16 B, beside Mutex<EvBuffer>";
pub const MARKS: &str = "the same with marks not crossed, beside without";
pub const ONE_BY_ONE: &str = "deferred callback for a change, beside Notify waking a task";
pub const MERGED: &str = "a change, deferred callback merged by 64";
pub const WAKE: &str = "task that awaits 64 B, beside Mutex<EvBuffer> and Notify";
pub const PIPE_OF_BYTES: &str = "64 KiB as Bytes through a pipe, beside tokio simplex";
pub const PIPE_HEAP: &str = "heap bytes of an idle pipe after 64 KiB, beside tokio simplex";
pub const PIPE_WRITTEN: &str = "64 B written through a pipe, beside tokio simplex";
pub const PAIR_HEAP: &str = "heap bytes of an idle pair after 64 KiB, beside tokio duplex";
pub const PAIR_WRITTEN: &str = "64 B written through a BufferEvent pair, beside tokio duplex";

/// All of them, in the order of the table.
pub fn workloads() -> Vec<Workload> {
    let workload = |name, shared: Run, by_hand: Option<Run>| Workload {
        name,
        runs: [(SHARED, Some(shared)), (BY_HAND, by_hand)]
            .into_iter()
            .filter_map(|(name, run)| Some((name, run?)))
            .collect(),
    };
    vec![
        workload(GUARD, guard, Some(mutex)),
        workload(MARKS, guard_with_marks, Some(guard)),
        workload(ONE_BY_ONE, callback, Some(notify)),
        workload(MERGED, callbacks::deferred::<64>, None),
        workload(WAKE, readable, Some(mutex_and_notify)),
        workload(PIPE_OF_BYTES, pipe_of_bytes, Some(simplex::<PIECE>)),
        workload(PIPE_WRITTEN, pipe_written, Some(simplex::<64>)),
        workload(PAIR_WRITTEN, pair_written, Some(duplex)),
    ]
}

/// Returns the heap bytes of an idle pipe and of an idle pair that have carried 64 KiB, and of Tokio's.
pub fn heap_while_idle(heap_bytes: fn() -> u64) -> [(&'static str, [f64; 2]); 2] {
    let pipe = held_by(heap_bytes, || tokio_evbuffer::pipe(marks(PIPE_HIGH)));
    let pair = held_by(heap_bytes, BufferEvent::pair);
    let duplex = held_by(heap_bytes, || tokio::io::duplex(PIPE_HIGH));
    [
        (PIPE_HEAP, [pipe, held_by(heap_bytes, new_simplex)]),
        (PAIR_HEAP, [pair, duplex]),
    ]
}

fn new_simplex() -> (impl AsyncWrite + Unpin, impl AsyncRead + Unpin) {
    let (reader, writer) = tokio::io::simplex(PIPE_HIGH);
    (writer, reader)
}

fn held_by<W, R>(heap_bytes: fn() -> u64, new: impl Fn() -> (W, R)) -> f64
where
    W: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    const COUNT: usize = 100;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let (piece, mut out) = (vec![7; PIECE], vec![0; PIECE]);
        let mut pipes = Vec::with_capacity(COUNT);
        let before = heap_bytes();
        for _ in 0..COUNT {
            let (mut writer, mut reader) = new();
            writer.write_all(&piece).await.expect("the reader exists");
            reader
                .read_exact(&mut out)
                .await
                .expect("the writer exists");
            pipes.push((writer, reader));
        }
        // Tasks, if there are any, release what they no longer need.
        yield_now().await;
        let after = heap_bytes();
        black_box(&pipes);
        after.saturating_sub(before) as f64 / COUNT as f64
    })
}

/// A short addition, and how many of them before the buffer is emptied.
const SHORT: [u8; 16] = [7; 16];
const ADDITIONS: u64 = 4096;

/// What a task waits for.
const MESSAGE: [u8; 64] = [7; 64];

/// What goes through a pipe at a time, and the most that it holds.
const PIECE: usize = 64 * 1024;
const PIPE_HIGH: usize = 4 * PIECE;

const UNLIMITED: &str = "no limit is set and nothing is frozen";

fn additions(n: u64, mut add: impl FnMut(), mut clear: impl FnMut() -> usize) -> Duration {
    let mut since_clear = 0;
    time(n, || {
        add();
        since_clear += 1;
        if since_clear == ADDITIONS {
            since_clear = 0;
            clear();
        }
    })
}

fn under_guards(n: u64, buffer: &SharedEvBuffer) -> Duration {
    additions(
        n,
        || black_box(buffer).lock().add(&SHORT).expect(UNLIMITED),
        || buffer.lock().clear().expect(UNLIMITED),
    )
}

fn guard(n: u64) -> Duration {
    under_guards(n, &SharedEvBuffer::new())
}

fn guard_with_marks(n: u64) -> Duration {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(marks(1 << 20));
    under_guards(n, &buffer)
}

fn marks(high: usize) -> Watermarks {
    Watermarks::with_high(high).expect("not zero")
}

fn mutex(n: u64) -> Duration {
    const NO_PANIC: &str = "nobody panics";
    let buffer = Mutex::new(EvBuffer::new());
    let lock = || black_box(&buffer).lock().expect(NO_PANIC);
    additions(
        n,
        || lock().add(&SHORT).expect(UNLIMITED),
        || lock().clear().expect(UNLIMITED),
    )
}

fn on_a_runtime(work: impl Future<Output = Duration>) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(work)
}

/// `n` times: `cause`, then its turn for the task that waits.
async fn turns(n: u64, mut cause: impl FnMut()) -> Duration {
    yield_now().await; // the task begins to wait
    let began = cpu_time();
    for _ in 0..n {
        cause();
        yield_now().await;
    }
    cpu_time() - began
}

fn callback(n: u64) -> Duration {
    on_a_runtime(async {
        let buffer = SharedEvBuffer::new();
        let _handle = buffer.on_change(|_, change| {
            black_box(change);
        });
        turns(n, || {
            let mut guard = buffer.lock();
            guard.add(&MESSAGE).expect(UNLIMITED);
            guard.clear().expect(UNLIMITED);
        })
        .await
    })
}

fn notify(n: u64) -> Duration {
    on_a_runtime(async {
        let notify = Arc::new(Notify::new());
        let notified = notify.clone();
        let waiting = tokio::spawn(async move {
            loop {
                notified.notified().await;
            }
        });
        let took = turns(n, || notify.notify_one()).await;
        waiting.abort();
        took
    })
}

fn readable(n: u64) -> Duration {
    on_a_runtime(async {
        let buffer = SharedEvBuffer::new();
        let filled = buffer.clone();
        let waiting = tokio::spawn(async move {
            while filled.readable(MESSAGE.len()).await.is_ok() {
                filled.drain(MESSAGE.len()).expect(UNLIMITED);
            }
        });
        let took = turns(n, || buffer.add(MESSAGE).expect(UNLIMITED)).await;
        assert!(buffer.is_empty(), "the task has kept up");
        waiting.abort();
        took
    })
}

fn mutex_and_notify(n: u64) -> Duration {
    on_a_runtime(async {
        let pair = Arc::new((Mutex::new(EvBuffer::new()), Notify::new()));
        let lock = |pair: &(Mutex<EvBuffer>, Notify), edit: fn(&mut EvBuffer)| {
            edit(&mut pair.0.lock().expect("nobody panics"));
        };
        let filled = pair.clone();
        let waiting = tokio::spawn(async move {
            loop {
                filled.1.notified().await;
                lock(&filled, |b| {
                    b.drain(MESSAGE.len()).expect(UNLIMITED);
                });
            }
        });
        let took = turns(n, || {
            lock(&pair, |b| b.add(&MESSAGE).expect(UNLIMITED));
            pair.1.notify_one();
        })
        .await;
        let left = pair.0.lock().expect("nobody panics").len();
        assert_eq!(left, 0, "the task has kept up");
        waiting.abort();
        took
    })
}

fn pipe_of_bytes(n: u64) -> Duration {
    let (mut writer, mut reader): (Writer, Reader) = tokio_evbuffer::pipe(marks(PIPE_HIGH));
    let piece = Bytes::from(vec![7; PIECE]);
    on_a_runtime(async {
        let send = async {
            for _ in 0..n {
                writer.feed(piece.clone()).await.expect("somebody reads");
            }
            writer.close().await.expect("somebody reads");
        };
        let receive = async {
            let mut total = 0;
            while let Some(bytes) = reader.next().await {
                total += black_box(bytes.expect("a buffer has no errors")).len();
            }
            assert_eq!(total as u64, n * PIECE as u64);
        };
        let began = cpu_time();
        tokio::join!(send, receive);
        cpu_time() - began
    })
}

fn pipe_written(n: u64) -> Duration {
    through::<64, _, _>(n, || tokio_evbuffer::pipe(marks(PIPE_HIGH)))
}

fn simplex<const LEN: usize>(n: u64) -> Duration {
    through::<LEN, _, _>(n, new_simplex)
}

fn pair_written(n: u64) -> Duration {
    through::<64, _, _>(n, BufferEvent::pair)
}

fn duplex(n: u64) -> Duration {
    through::<64, _, _>(n, || tokio::io::duplex(PIPE_HIGH))
}

/// `n` pieces of `LEN` bytes through `AsyncWrite` and `AsyncRead`, copied in and out.
fn through<const LEN: usize, W, R>(n: u64, new: impl FnOnce() -> (W, R)) -> Duration
where
    W: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let piece = vec![7; LEN];
    on_a_runtime(async {
        let (mut writer, mut reader) = new();
        let write = async {
            for _ in 0..n {
                writer.write_all(&piece).await.expect("somebody reads");
            }
            writer.shutdown().await.expect("somebody reads");
        };
        let read = async {
            let mut out = vec![0; PIECE];
            let mut left = n * LEN as u64;
            while left > 0 {
                let came = reader.read(&mut out).await.expect("a pipe has no errors");
                assert!(came > 0, "the end came too early");
                black_box(&out);
                left -= came as u64;
            }
        };
        let began = cpu_time();
        tokio::join!(write, read);
        cpu_time() - began
    })
}
