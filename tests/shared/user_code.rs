//! User code: owners of memory, wakers and callbacks run without a lock, and not after their handles were dropped.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::SinkExt;
use tokio::runtime::Builder;
use tokio_evbuffer::{
    DeferredQueue, EvBuffer, SharedEvBuffer, Watermarks, pipe, shared::CallbackHandle,
};

use crate::support::{
    data::Owner,
    tasks::{current_thread, in_time},
};

/// A short segment of another buffer is copied on the move, and its owner is dropped after the lock.
#[test]
fn an_owner_of_moved_memory_is_dropped_after_the_lock() {
    in_time(|| {
        let shared = SharedEvBuffer::new();
        shared.add(b"something").unwrap();
        let mut src = EvBuffer::new();
        let other = shared.clone();
        // A deadlock if the lock is held.
        let owner = Owner::new("short: copied on the move", move || {
            let _ = other.len();
        });
        src.add_owner(owner).unwrap();
        shared.add_buffer(&mut src).unwrap();
    });
}

/// The drop of one callback drops the handle of the next one, which is then not called.
#[test]
fn no_run_starts_after_the_drop_of_another_callback_dropped_the_handle() {
    struct DropsTheOther(Arc<Mutex<Option<CallbackHandle>>>, Arc<AtomicBool>);
    impl Drop for DropsTheOther {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap().take());
            self.1.store(true, Ordering::SeqCst);
        }
    }
    let buffer = SharedEvBuffer::new();
    let other = Arc::new(Mutex::new(None));
    let is_gone = Arc::new(AtomicBool::new(false));
    let own = Arc::new(Mutex::new(None::<CallbackHandle>));
    let mine = Arc::clone(&own);
    let drops = DropsTheOther(Arc::clone(&other), Arc::clone(&is_gone));
    let first = buffer.on_change_inline(move |_, _| {
        let _drops = &drops;
        drop(mine.lock().unwrap().take());
    });
    *own.lock().unwrap() = Some(first);
    let called_when_gone = Arc::new(AtomicBool::new(false));
    let (gone, called) = (Arc::clone(&is_gone), Arc::clone(&called_when_gone));
    *other.lock().unwrap() = Some(buffer.on_change_inline(move |_, _| {
        called.store(gone.load(Ordering::SeqCst), Ordering::SeqCst);
    }));
    buffer.add(b"x").unwrap();
    assert!(is_gone.load(Ordering::SeqCst));
    assert!(
        !called_when_gone.load(Ordering::SeqCst),
        "a run began after its handle was dropped"
    );
}

/// A waker that is woken by the change drops the handle. The callback is chosen after that.
#[test]
fn no_run_starts_after_a_waker_dropped_the_handle() {
    struct Dropping(Mutex<Option<CallbackHandle>>, Arc<AtomicBool>);
    impl Wake for Dropping {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            self.1.store(true, Ordering::SeqCst);
        }
    }
    let buffer = SharedEvBuffer::new();
    let is_gone = Arc::new(AtomicBool::new(false));
    let called_when_gone = Arc::new(AtomicBool::new(false));
    let (gone, called) = (Arc::clone(&is_gone), Arc::clone(&called_when_gone));
    let handle = buffer.on_change_inline(move |_, _| {
        called.store(gone.load(Ordering::SeqCst), Ordering::SeqCst);
    });
    let waker = Arc::new(Dropping(Mutex::new(Some(handle)), Arc::clone(&is_gone))).into();
    let mut readable = Box::pin(buffer.readable(1));
    let polled = readable.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    buffer.add(b"x").unwrap();
    assert!(is_gone.load(Ordering::SeqCst));
    assert!(!called_when_gone.load(Ordering::SeqCst));
}

/// A callback that another one registers within a delivery is not notified of the crossing before.
#[test]
fn a_watermark_callback_is_notified_of_crossings_since_its_registration_only() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(1, 4).unwrap());
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let mut log = Some(log);
    buffer
        .on_watermark(move |buffer, _| {
            if let Some(log) = log.take() {
                buffer
                    .on_watermark(move |_, crossing| log.lock().unwrap().push(crossing))
                    .detach();
            }
        })
        .detach();
    buffer.add(b"1234").unwrap();
    assert_eq!(
        *reported.lock().unwrap(),
        [],
        "crossed before it was registered"
    );
}

/// Returns 1000 bytes whose owner panics when it is dropped.
fn panicking() -> Bytes {
    Bytes::from_owner(Owner::new([7; 1000], || panic!("as planned")))
}

/// The contents are dropped with the reader; a panic of their owner is caught.
#[tokio::test]
async fn a_panic_of_an_owner_is_caught_when_a_pipe_is_dropped() {
    let (mut writer, reader) = pipe(Watermarks::NONE);
    writer.send(panicking()).await.unwrap();
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(reader)));
    assert!(dropped.is_ok(), "the drop of the reader panicked");
}

/// The last bytes of an owner are drained; a panic of its drop goes no further, and the buffer stays usable.
#[test]
fn a_panic_of_an_owner_does_not_reach_the_call_that_releases_it() {
    let buffer = SharedEvBuffer::new();
    buffer.add_reference(panicking()).unwrap();
    buffer.add(b"behind").unwrap();
    let drained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.drain(1000)));
    assert!(drained.is_ok(), "the panic reached the caller");
    assert_eq!(buffer.take_bytes(6).unwrap(), "behind");
}

/// The queue of the runtime holds a buffer that is locked by this thread.
#[test]
fn a_runtime_may_be_dropped_under_a_guard() {
    in_time(|| {
        let runtime = current_thread();
        let buffer = SharedEvBuffer::new();
        buffer.defer_to(DeferredQueue::of(runtime.handle()));
        buffer.on_change(|_, _| {}).detach();
        buffer.add(b"x").unwrap();
        let guard = buffer.lock();
        drop(runtime);
        drop(guard);
    });
}

/// Closed and empty buffers drop their callbacks, also detached ones.
#[test]
fn two_closed_buffers_whose_callbacks_use_each_other_are_freed() {
    let marker = Arc::new(());
    {
        let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
        for (this, other) in [(&a, &b), (&b, &a)] {
            let (other, held) = (other.clone(), Arc::clone(&marker));
            this.on_change_inline(move |_, _| {
                let _ = (&other, &held);
            })
            .detach();
        }
        a.close();
        b.close();
    }
    assert_eq!(Arc::strong_count(&marker), 1, "leaked");
}

/// After `cancel` no run is in progress on any thread, for deferred and inline callbacks.
#[test]
fn no_run_is_in_progress_after_cancel() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let buffer = SharedEvBuffer::new();
    buffer.defer_to(DeferredQueue::of(runtime.handle()));
    let stop = Arc::new(AtomicBool::new(false));
    let changer = thread::spawn({
        let (buffer, stop) = (buffer.clone(), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                buffer.add(b"x").unwrap();
                buffer.drain(1).unwrap();
            }
        }
    });
    let late = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let gone = Arc::new(AtomicBool::new(false));
        let counting = |late: &Arc<AtomicUsize>| {
            let (gone, late) = (Arc::clone(&gone), Arc::clone(late));
            move |_: &SharedEvBuffer, _| {
                late.fetch_add(gone.load(Ordering::SeqCst).into(), Ordering::SeqCst);
            }
        };
        let inline = buffer.on_change_inline(counting(&late[0]));
        let deferred = buffer.on_change(counting(&late[1]));
        runtime.block_on(async {
            inline.cancel().await;
            deferred.cancel().await;
        });
        gone.store(true, Ordering::SeqCst);
        assert_eq!(Arc::strong_count(&gone), 1, "the callbacks were dropped");
    }
    stop.store(true, Ordering::Relaxed);
    changer.join().unwrap();
    let late = late.map(|late| late.load(Ordering::SeqCst));
    assert_eq!(
        late,
        [0, 0],
        "[inline, deferred] runs that started too late"
    );
}

/// An inline callback that another thread is in the middle of.
struct Running {
    handle: CallbackHandle,
    end: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

fn running(buffer: &SharedEvBuffer, calls: &Arc<AtomicUsize>) -> Running {
    let (started, has_started) = mpsc::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let calls = Arc::clone(calls);
    let handle = buffer.on_change_inline(move |_, _| {
        calls.fetch_add(1, Ordering::SeqCst);
        started.send(()).unwrap();
        may_end.recv().unwrap();
    });
    let buffer = buffer.clone();
    let thread = thread::spawn(move || buffer.add(b"x").unwrap());
    has_started.recv().unwrap();
    Running {
        handle,
        end,
        thread,
    }
}

#[test]
fn cancel_waits_for_the_run_in_progress() {
    let running = running(&SharedEvBuffer::new(), &Arc::default());
    let mut cancel = tokio_test::task::spawn(running.handle.cancel());
    assert!(cancel.poll().is_pending());
    running.end.send(()).unwrap();
    running.thread.join().unwrap();
    assert!(cancel.is_woken());
    assert!(cancel.poll().is_ready());
}

#[test]
fn a_cancel_that_is_dropped_at_any_moment_removes_the_callback() {
    for polls in [0, 1] {
        let buffer = SharedEvBuffer::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let handle = buffer.on_change_inline(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let mut cancel = tokio_test::task::spawn(handle.cancel());
        for _ in 0..polls {
            assert!(cancel.poll().is_ready());
        }
        drop(cancel);
        buffer.add(b"x").unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }
    let (buffer, calls) = (SharedEvBuffer::new(), Arc::default());
    let running = running(&buffer, &calls);
    let mut cancel = tokio_test::task::spawn(running.handle.cancel());
    assert!(cancel.poll().is_pending());
    drop(cancel);
    running.end.send(()).unwrap();
    running.thread.join().unwrap();
    buffer.add(b"y").unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
