//! Many tasks on one buffer, bounded by counts: for every schedule, each subscriber's sums equal the totals.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
};
use tokio_evbuffer::{
    DeferredQueue, EolStyle, EvBuffer, SharedEvBuffer, Watermarks, pipe,
    shared::{Change, Crossing},
};
use tokio_test::task;

/// The sums of all changes that a subscriber got, checked at each change.
#[derive(Debug, Default)]
struct Sums {
    added: u64,
    removed: u64,
    len: usize,
    has_ended: bool,
}

impl Sums {
    /// `closed` is whether the buffer may have been closed.
    fn take_in(&mut self, change: Change, closed: bool) {
        assert_eq!(change.before, self.len, "where the last one ended");
        assert_eq!(
            change.before as u64 + change.added - change.removed,
            change.after as u64
        );
        if change.added + change.removed == 0 {
            assert!(
                closed && !self.has_ended,
                "only the end, once, is no change of the contents"
            );
            self.has_ended = true;
        }
        self.added += change.added;
        self.removed += change.removed;
        self.len = change.after;
    }
}

/// A small random generator with a fixed seed, so that tasks differ and runs repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) % n) as usize
    }
}

/// Edits `buffer` once and returns the number of bytes added and removed.
fn edit(buffer: &SharedEvBuffer, random: &mut Random) -> (u64, u64) {
    let n = random.below(700);
    let data = vec![b'x'; n];
    match random.below(8) {
        0 => buffer.add(&data).map(|()| (n as u64, 0)).unwrap(),
        1 => buffer.prepend(&data).map(|()| (n as u64, 0)).unwrap(),
        2 => (0, buffer.drain(n).unwrap() as u64),
        3 => (0, buffer.take_bytes(n).unwrap().len() as u64),
        4 => {
            buffer.add_reference(data).unwrap();
            (n as u64, 0)
        }
        5 => {
            let mut out = EvBuffer::new();
            (0, buffer.remove_buffer(&mut out, n).unwrap() as u64)
        }
        6 => {
            let mut guard = buffer.lock();
            guard.add(&data).unwrap();
            let removed = guard.drain(n / 2).unwrap();
            (n as u64, removed as u64)
        }
        _ => {
            let mut guard = buffer.lock();
            let before = guard.len();
            drop(guard.replace(EvBuffer::from(data)));
            (n as u64, before as u64)
        }
    }
}

#[test]
fn every_subscriber_gets_all_changes_of_many_tasks() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let buffer = SharedEvBuffer::new();
    let (inline, deferred) = <(Arc<Mutex<Sums>>, Arc<Mutex<Sums>>)>::default();
    let crossings = Arc::new(Mutex::new(Vec::new()));
    buffer.set_watermarks(Watermarks::new(500, 2000).unwrap());
    buffer.defer_to(DeferredQueue::of(runtime.handle()));
    let sums = Arc::clone(&inline);
    buffer
        .on_change_inline(move |buffer, change| {
            sums.lock().unwrap().take_in(change, buffer.is_closed());
        })
        .detach();
    let sums = Arc::clone(&deferred);
    buffer
        .on_change(move |buffer, change| {
            sums.lock().unwrap().take_in(change, buffer.is_closed());
        })
        .detach();
    let log = Arc::clone(&crossings);
    buffer
        .on_watermark(move |_, crossing| log.lock().unwrap().push(crossing))
        .detach();

    let (added, removed) = runtime.block_on(async {
        let mut changes = buffer.changes();
        let follower = tokio::spawn(async move {
            let mut sums = Sums::default();
            while let Some(change) = changes.next().await {
                sums.take_in(change, false);
            }
            sums
        });
        let editors: Vec<_> = (0..8)
            .map(|seed| {
                let buffer = buffer.clone();
                tokio::spawn(async move {
                    let mut random = Random(seed);
                    let (mut added, mut removed) = (0, 0);
                    for round in 0..2000 {
                        let done = edit(&buffer, &mut random);
                        added += done.0;
                        removed += done.1;
                        if round % 16 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                    (added, removed)
                })
            })
            .collect();
        let (mut added, mut removed) = (0, 0);
        for editor in editors {
            let done = editor.await.unwrap();
            added += done.0;
            removed += done.1;
        }
        buffer.close();
        // The stream of changes ends with the last byte.
        removed += buffer.clear().unwrap() as u64;
        let sums = follower.await.unwrap();
        assert_eq!((sums.added, sums.removed), (added, removed), "the stream");
        DeferredQueue::current().drained().await;
        (added, removed)
    });
    for (who, sums) in [("inline", inline), ("deferred", deferred)] {
        let sums = sums.lock().unwrap();
        assert_eq!((sums.added, sums.removed), (added, removed), "{who}");
        assert_eq!(sums.len, buffer.len());
    }
    let crossings = crossings.lock().unwrap();
    let mut high = false;
    for crossing in &*crossings {
        match crossing {
            Crossing::High { len } => assert!(!high && *len >= 2000),
            Crossing::Low { len } => assert!(high && *len <= 500),
            _ => unreachable!("there is no overflow mark"),
        }
        high = !high;
    }
    assert!(!crossings.is_empty());
}

/// A lost wake-up makes this test hang.
#[test]
fn producers_and_consumers_that_wait_for_each_other_never_hang() {
    const ROUNDS: u64 = 2000;
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let buffer = SharedEvBuffer::new();
        buffer.set_watermarks(Watermarks::new(8, 64).unwrap());
        let writers: Vec<_> = (0..3)
            .map(|n| {
                let mut writer = buffer.writer();
                tokio::spawn(async move {
                    for round in 0..ROUNDS {
                        let piece = vec![n; 1 + (round % 13) as usize];
                        writer.write_all(&piece).await.unwrap();
                    }
                })
            })
            .collect();
        let count = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..3)
            .map(|kind| {
                let (buffer, count) = (buffer.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut reader = buffer.reader();
                    let mut piece = [0; 7];
                    loop {
                        let n = match kind {
                            0 => reader.read(&mut piece).await.unwrap(),
                            1 => {
                                let n = reader.fill_buf().await.unwrap().len().min(5);
                                reader.consume(n);
                                n
                            }
                            _ => reader.next().await.map_or(0, |item| item.unwrap().len()),
                        };
                        if n == 0 {
                            return;
                        }
                        count.fetch_add(n as u64, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        buffer.close();
        for reader in readers {
            reader.await.unwrap();
        }
        let written: u64 = 3 * (0..ROUNDS).map(|round| 1 + round % 13).sum::<u64>();
        assert_eq!(count.load(Ordering::Relaxed), written);
    });
}

#[test]
fn every_waiter_for_a_mark_is_woken() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(3)
        .build()
        .unwrap();
    runtime.block_on(async {
        let buffer = SharedEvBuffer::new();
        let drainer = tokio::spawn({
            let buffer = buffer.clone();
            async move {
                loop {
                    match buffer.readable(1).await {
                        Ok(()) => buffer.drain(3).unwrap(),
                        Err(_) => return,
                    };
                }
            }
        });
        let adders: Vec<_> = (0..4)
            .map(|_| {
                let buffer = buffer.clone();
                tokio::spawn(async move {
                    for _ in 0..500 {
                        let mark = {
                            buffer.add(b"12345").unwrap();
                            buffer.mark()
                        };
                        buffer.drained_to(mark).await.unwrap();
                    }
                })
            })
            .collect();
        for adder in adders {
            adder.await.unwrap();
        }
        buffer.close();
        drainer.await.unwrap();
    });
}

/// Callbacks are added and removed while the buffer changes. The task that changes the buffer drops the handle, so no
/// call may follow.
#[test]
fn no_callback_is_called_after_its_handle_was_dropped() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let buffer = SharedEvBuffer::new();
        for round in 0..500 {
            let gone = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&gone);
            let inline = buffer.on_change_inline(move |_, _| {
                assert!(!seen.load(Ordering::Relaxed));
            });
            let ordinary = buffer.on_change(|_, _| {});
            buffer.add(b"x").unwrap();
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            drop((inline, ordinary));
            gone.store(true, Ordering::Relaxed);
            buffer.drain(1).unwrap();
        }
        let queue = DeferredQueue::current();
        queue.drained().await;
        assert_eq!(queue.metrics().panicked, 0);
    });
}

/// Futures are dropped at every poll: no byte is lost or doubled.
#[test]
fn no_byte_is_lost_if_futures_are_dropped_at_any_poll() {
    let sent: Vec<u8> = (0..60).collect();
    for drop_every in 2..7 {
        let (mut writer, mut reader) = pipe(Watermarks::new(2, 5).unwrap());
        let (mut received, mut written, mut polls) = (Vec::new(), 0, 0);
        while received.len() < sent.len() {
            polls += 1;
            let mut piece = [0; 3];
            {
                let mut reading = task::spawn(reader.read(&mut piece));
                let read = if polls % drop_every == 0 {
                    Poll::Pending
                } else {
                    reading.poll()
                };
                drop(reading);
                if let Poll::Ready(n) = read {
                    received.extend_from_slice(&piece[..n.unwrap()]);
                }
            }
            let rest = &sent[written..];
            let mut writing = task::spawn(writer.write(rest));
            if let Poll::Ready(n) = writing.poll() {
                written += n.unwrap();
            }
            drop(writing);
            {
                let mut filling = task::spawn(reader.fill_buf());
                let _ = filling.poll();
            }
            assert!(polls < 10_000);
        }
        assert_eq!(received, sent);
    }
}

#[tokio::test]
async fn items_of_all_sizes_arrive_whole_and_in_order() {
    let (mut writer, mut reader) = pipe(Watermarks::with_high(1000).unwrap());
    let sender = tokio::spawn(async move {
        for n in 1..300_usize {
            writer.send(Bytes::from(vec![n as u8; n])).await.unwrap();
        }
    });
    let mut expected = (1..300_usize).flat_map(|n| std::iter::repeat_n(n as u8, n));
    while let Some(piece) = reader.next().await {
        for byte in piece.unwrap() {
            assert_eq!(Some(byte), expected.next());
        }
    }
    assert_eq!(expected.next(), None);
    sender.await.unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    Prepend(usize),
    Drain(usize),
    Line,
    Replace(usize),
    Assign(usize),
    Several(Vec<(bool, usize)>),
    Look,
    RunQueue,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..600_usize;
    prop_oneof![
        n.clone().prop_map(Step::Add),
        n.clone().prop_map(Step::Prepend),
        n.clone().prop_map(Step::Drain),
        Just(Step::Line),
        n.clone().prop_map(Step::Replace),
        n.clone().prop_map(Step::Assign),
        vec((any::<bool>(), n), 0..5).prop_map(Step::Several),
        Just(Step::Look),
        Just(Step::RunQueue),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Positions read at any time add up, for every edit in between.
    #[test]
    fn sums_of_all_changes_are_the_totals(steps in vec(step(), 0..60)) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let queue = DeferredQueue::current();
        let buffer = SharedEvBuffer::new();
        let (inline, deferred) = <(Arc<Mutex<Sums>>, Arc<Mutex<Sums>>)>::default();
        let sums = Arc::clone(&inline);
        let _inline = buffer.on_change_inline(move |b, c| sums.lock().unwrap().take_in(c, b.is_closed()));
        let sums = Arc::clone(&deferred);
        let _deferred = buffer.on_change(move |b, c| sums.lock().unwrap().take_in(c, b.is_closed()));
        let mut stream = task::spawn(buffer.changes());
        let mut streamed = Sums::default();
        let (mut added, mut removed) = (0, 0);
        let mut look = |streamed: &mut Sums| {
            if let Poll::Ready(Some(change)) = stream.poll_next() {
                streamed.take_in(change, false);
            }
        };
        for step in steps {
            let len = buffer.len();
            match step {
                Step::Add(n) => {
                    buffer.add(&vec![b'\n'; n]).unwrap();
                    added += n;
                }
                Step::Prepend(n) => {
                    buffer.prepend(&vec![b'p'; n]).unwrap();
                    added += n;
                }
                Step::Drain(n) => removed += buffer.drain(n).unwrap(),
                Step::Line => {
                    buffer.readln(EolStyle::Lf).unwrap();
                    removed += len - buffer.len();
                }
                Step::Replace(n) => {
                    buffer.lock().replace(EvBuffer::from(vec![0; n]));
                    added += n;
                    removed += len;
                }
                Step::Assign(n) => {
                    *buffer.lock() = EvBuffer::from(vec![0; n]);
                    added += n;
                    removed += len;
                }
                Step::Several(edits) => {
                    let mut guard = buffer.lock();
                    for (add, n) in edits {
                        if add {
                            guard.add(&vec![b'a'; n]).unwrap();
                            added += n;
                        } else {
                            removed += guard.drain(n).unwrap();
                        }
                    }
                }
                Step::Look => look(&mut streamed),
                Step::RunQueue => runtime.block_on(queue.drained()),
            }
        }
        look(&mut streamed);
        runtime.block_on(queue.drained());
        for sums in [&streamed, &inline.lock().unwrap(), &deferred.lock().unwrap()] {
            prop_assert_eq!(sums.len, buffer.len());
            prop_assert_eq!((sums.added, sums.removed), (added as u64, removed as u64));
        }
    }
}
