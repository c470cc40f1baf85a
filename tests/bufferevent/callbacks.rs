//! The callbacks of a `BufferEvent`: which events they get, and in which order.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_evbuffer::{
    BufferEvent, DeferredQueue, Event, Watermarks,
    bufferevent::{Callbacks, Direction, Side},
    shared::Crossing,
};

use crate::support::tasks::{until, yield_many};

/// A record of callback calls, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until `n` calls are recorded.
    async fn reaches(&self, n: usize) {
        until("the calls are recorded", || self.len() >= n).await;
    }

    /// Returns callbacks that record each call.
    fn callbacks(&self) -> Callbacks {
        let (on_read, on_write, on_event) = (self.clone(), self.clone(), self.clone());
        Callbacks::new()
            .on_read(move |bev| on_read.note(format!("read {}", bev.input().len())))
            .on_write(move |bev| on_write.note(format!("write {}", bev.output().len())))
            .on_event(move |_, event| on_event.note(format!("{event:?}")))
    }
}

/// Waits until the task and the deferred callbacks have nothing left to do.
async fn all_done() {
    yield_many().await;
    DeferredQueue::current().drained().await;
}

#[tokio::test]
async fn one_run_reports_reads_and_writes_before_the_end() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    let log = Log::default();
    far.write_all(b"abc").await.unwrap();
    bev.output().add(b"answer").unwrap();
    far.shutdown().await.unwrap();
    // Block only the queue, so that all events are merged into one run.
    bev.set_callbacks(log.callbacks());
    all_done().await;
    assert_eq!(log.take(), ["read 3", "write 0", "Eof"]);
}

#[tokio::test]
async fn new_callbacks_are_notified_of_the_current_state() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    far.write_all(b"early").await.unwrap();
    bev.input().readable(5).await.unwrap();
    drop(far);
    until("the input is closed", || bev.input().is_closed()).await;
    let log = Log::default();
    bev.set_callbacks(log.callbacks());
    all_done().await;
    assert_eq!(log.take(), ["read 5", "Eof"]);
}

#[tokio::test]
async fn read_callbacks_run_from_the_low_watermark_and_for_the_rest_before_the_end() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let bev = BufferEvent::new(near);
    bev.set_watermarks(Side::Input, Watermarks::new(5, 10).unwrap());
    bev.set_callbacks(log.callbacks());
    far.write_all(b"1234").await.unwrap();
    all_done().await;
    assert_eq!(log.len(), 0, "below the mark");
    far.write_all(b"5").await.unwrap();
    log.reaches(1).await;
    bev.input().drain(3).unwrap();
    all_done().await;
    assert_eq!(log.take(), ["read 5"]);
    far.shutdown().await.unwrap();
    log.reaches(2).await;
    assert_eq!(log.take(), ["read 2", "Eof"]);
}

#[tokio::test]
async fn defect_d20_an_input_left_at_its_high_watermark_is_reported_once() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::with_high(4).unwrap())
        .spawn(near);
    bev.set_callbacks(log.callbacks());
    far.write_all(b"123456789").await.unwrap();
    log.reaches(1).await;
    all_done().await;
    let reported = log.take();
    assert_eq!(
        reported.last().map(String::as_str),
        Some("read 4"),
        "{reported:?}"
    );
    all_done().await;
    assert_eq!(log.len(), 0);
    bev.input().drain(4).unwrap();
    log.reaches(1).await;
    assert_eq!(bev.input().len(), 4);
}

#[tokio::test]
async fn write_callbacks_run_when_the_output_falls_to_its_low_watermark() {
    let (near, mut far) = duplex(10);
    let log = Log::default();
    let bev = BufferEvent::new(near);
    bev.set_watermarks(Side::Output, Watermarks::new(5, 100).unwrap());
    bev.set_callbacks(log.callbacks());
    bev.output().add(&[1; 24]).unwrap();
    all_done().await;
    assert_eq!(log.len(), 0, "14 are left");
    far.read_exact(&mut [0; 10]).await.unwrap();
    log.reaches(1).await;
    assert_eq!(log.take(), ["write 4"]);
}

#[tokio::test]
async fn trigger_ignores_watermarks_and_is_deferred() {
    let (near, _far) = duplex(10);
    let log = Log::default();
    let bev = BufferEvent::new(near);
    bev.set_callbacks(log.callbacks());
    bev.trigger(Direction::Read);
    bev.trigger(Direction::Write);
    bev.trigger_event(Event::Stalled);
    assert_eq!(log.len(), 0, "not within the call");
    all_done().await;
    assert_eq!(log.take(), ["read 0", "write 0", "Stalled"]);
}

#[tokio::test]
async fn a_callback_that_panics_is_called_again() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let note = log.clone();
    let _bev = BufferEvent::builder()
        .on_read(move |bev| {
            let n = bev.input().drain(usize::MAX).unwrap();
            note.note(format!("read {n}"));
            assert!(n > 1, "panic of the test");
        })
        .spawn(near);
    far.write_all(b"1").await.unwrap();
    log.reaches(1).await;
    far.write_all(b"22").await.unwrap();
    log.reaches(2).await;
    assert_eq!(log.take(), ["read 1", "read 2"]);
    assert_eq!(DeferredQueue::current().metrics().panicked, 1);
}

#[tokio::test]
async fn a_callback_may_replace_the_callbacks() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let note = log.clone();
    let bev = BufferEvent::builder()
        .on_read(move |bev| {
            note.note("first");
            bev.input().drain(usize::MAX).unwrap();
            let note = note.clone();
            bev.set_callbacks(Callbacks::new().on_read(move |_| note.note("second")));
        })
        .spawn(near);
    far.write_all(b"1").await.unwrap();
    log.reaches(1).await;
    far.write_all(b"2").await.unwrap();
    log.reaches(2).await;
    assert_eq!(log.take(), ["first", "second"]);
    drop(bev);
}

#[tokio::test]
async fn a_callback_may_abort() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let events = log.clone();
    let bev = BufferEvent::builder()
        .on_read(BufferEvent::abort)
        .on_event(move |_, event| events.note(format!("{event:?}")))
        .spawn(near);
    far.write_all(b"1").await.unwrap();
    bev.closed().await;
    all_done().await;
    assert_eq!(log.take(), ["Closed"]);
}

#[tokio::test]
async fn no_callback_runs_after_the_last_handle_was_dropped() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let bev = BufferEvent::new(near);
    bev.set_callbacks(log.callbacks());
    bev.output().add(b"written all the same").unwrap();
    bev.trigger(Direction::Read);
    drop(bev);
    far.write_all(b"nobody is there").await.unwrap();
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    all_done().await;
    assert_eq!(got, b"written all the same");
    assert_eq!(log.len(), 0);
}

#[tokio::test]
async fn dropping_a_bufferevent_drops_its_callbacks() {
    let (near, far) = duplex(64);
    let owned = Arc::new(());
    let held = Arc::clone(&owned);
    let bev = BufferEvent::builder()
        .on_event(move |_, _| drop(Arc::clone(&held)))
        .spawn(near);
    drop(bev);
    drop(far);
    until("the callback is dropped", || Arc::strong_count(&owned) == 1).await;
}

#[tokio::test]
async fn a_detached_bufferevent_keeps_running() {
    let (near, mut far) = duplex(64);
    BufferEvent::builder()
        .on_read(|bev| {
            let _ = bev.input().move_to(bev.output(), usize::MAX);
        })
        .on_event(|bev, event| {
            if matches!(event, Event::Eof) {
                bev.output().close();
            }
        })
        .spawn(near)
        .detach();
    far.write_all(b"echo").await.unwrap();
    far.shutdown().await.unwrap();
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"echo");
}

#[tokio::test]
async fn watermark_callbacks_run_inline_for_both_buffers() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let note = log.clone();
    let bev = BufferEvent::builder()
        .read_watermarks(Watermarks::new(2, 6).unwrap())
        .write_watermarks(Watermarks::new(2, 6).unwrap().and_overflow(9).unwrap())
        .on_watermark(move |_, side, crossing| note.note(format!("{side:?} {crossing:?}")))
        .spawn(near);
    bev.disable(Direction::Write);
    bev.output().add(b"123456").unwrap();
    assert_eq!(log.take(), ["Output High { len: 6 }"]);
    bev.output().add(b"789").unwrap();
    assert_eq!(log.take(), ["Output Overflow { len: 9 }"]);
    far.write_all(b"12345678").await.unwrap();
    log.reaches(1).await;
    assert_eq!(log.take(), ["Input High { len: 6 }"]);
    bev.input().drain(4).unwrap();
    assert_eq!(log.take().first().unwrap(), "Input Low { len: 2 }");
    bev.enable(Direction::Write);
    log.reaches(1).await;
    assert_eq!(log.take(), ["Output Low { len: 0 }"]);
}

#[tokio::test]
async fn a_crossing_caused_by_a_watermark_callback_is_reported_after_it_returns() {
    let (near, _far) = duplex(64);
    let log = Log::default();
    let note = log.clone();
    let depth = AtomicUsize::new(0);
    let bev = BufferEvent::builder()
        .write_watermarks(Watermarks::with_high(4).unwrap().and_overflow(8).unwrap())
        .on_watermark(move |bev, _, crossing| {
            assert_eq!(depth.fetch_add(1, Relaxed), 0, "nested");
            if matches!(crossing, Crossing::High { .. }) {
                bev.output().add(b"more").unwrap();
            }
            note.note(format!("{crossing:?}"));
            depth.fetch_sub(1, Relaxed);
        })
        .spawn(near);
    bev.disable(Direction::Write);
    bev.output().add(b"1234").unwrap();
    assert_eq!(log.take(), ["High { len: 4 }", "Overflow { len: 8 }"]);
}

#[tokio::test]
async fn callbacks_run_on_the_queue_they_are_deferred_to() {
    let (near, mut far) = duplex(64);
    let queue = DeferredQueue::spawn_on(&tokio::runtime::Handle::current());
    let log = Log::default();
    let note = log.clone();
    let _bev = BufferEvent::builder()
        .defer_to(queue.clone())
        .on_read(move |_| note.note("read"))
        .spawn(near);
    far.write_all(b"1").await.unwrap();
    log.reaches(1).await;
    assert!(queue.metrics().run >= 1);
    assert_eq!(DeferredQueue::current().metrics().run, 0);
}

/// The end arrives while a callback runs, together with bytes that the next run must report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_reported_after_the_last_bytes_also_if_both_arrive_during_a_run() {
    let (near, mut far) = duplex(64);
    let log = Log::default();
    let (on_read, on_event) = (log.clone(), log.clone());
    let (running, mut runs) = tokio::sync::mpsc::unbounded_channel();
    let _bev = BufferEvent::builder()
        .on_read(move |bev| {
            on_read.note(format!("read {}", bev.input().drain(usize::MAX).unwrap()));
            if running.send(()).is_ok() && on_read.len() == 1 {
                let mut event = tokio_test::task::spawn(bev.next_event());
                while event.poll().is_pending() {
                    std::thread::yield_now();
                }
            }
        })
        .on_event(move |_, event| on_event.note(format!("{event:?}")))
        .spawn(near);
    far.write_all(b"1").await.unwrap();
    runs.recv().await;
    far.write_all(b"22").await.unwrap();
    far.shutdown().await.unwrap();
    log.reaches(3).await;
    assert_eq!(log.take(), ["read 1", "read 2", "Eof"]);
}

#[tokio::test]
async fn a_callback_that_causes_the_next_event_does_not_starve_the_queue() {
    const ENDLESS: usize = 10_000;
    let (near, _far) = duplex(64);
    let reported = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reported);
    let bev = BufferEvent::builder()
        .on_event(move |bev, event| {
            if count.fetch_add(1, Relaxed) < ENDLESS {
                bev.trigger_event(event);
            }
        })
        .spawn(near);
    bev.trigger_event(Event::Stalled);
    tokio::task::yield_now().await;
    DeferredQueue::current().drained().await;
    let reported = reported.load(Relaxed);
    assert!((1..ENDLESS).contains(&reported), "{reported}");
}

/// Tries each kind of subscription with a callback that owns a handle to its own connection.
#[tokio::test]
async fn all_callbacks_are_dropped_when_the_connection_ends() {
    type Set = fn(BufferEvent, Arc<()>) -> Callbacks;
    let each: [Set; 4] = [
        |own, held| Callbacks::new().on_read(move |_| drop((own.clone(), held.clone()))),
        |own, held| Callbacks::new().on_write(move |_| drop((own.clone(), held.clone()))),
        |own, held| Callbacks::new().on_event(move |_, _| drop((own.clone(), held.clone()))),
        |own, held| Callbacks::new().on_watermark(move |_, _, _| drop((own.clone(), held.clone()))),
    ];
    for (i, set) in each.into_iter().enumerate() {
        for late in [false, true] {
            let owned = Arc::new(());
            let (near, _far) = duplex(64);
            let bev = BufferEvent::new(near);
            let callbacks = set(bev.clone(), Arc::clone(&owned));
            if late {
                bev.abort();
                bev.closed().await;
                bev.set_callbacks(callbacks);
            } else {
                bev.set_callbacks(callbacks);
                bev.abort();
                bev.closed().await;
            }
            all_done().await;
            assert_eq!(Arc::strong_count(&owned), 1, "{i}, {late}");
        }
    }
}
