//! Waits on a shared buffer: woken when their condition may hold, and never lost.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake},
};

use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_evbuffer::{
    EvBuffer, SharedEvBuffer, Watermarks,
    shared::{Change, Closed, InvalidWatermarks, WaitError},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};

use crate::support::data::shared_with;

#[test]
fn changed_counts_from_the_call_not_from_the_first_poll() {
    let buffer = shared_with(b"12");
    let mut changed = task::spawn(buffer.changed());
    buffer.add(b"345").unwrap();
    buffer.drain(1).unwrap();
    let change = assert_ready_ok!(changed.poll());
    assert_eq!(
        change,
        Change {
            before: 2,
            added: 3,
            removed: 1,
            after: 4
        }
    );
}

#[test]
fn changed_is_woken_by_a_change() {
    let buffer = SharedEvBuffer::new();
    let mut changed = task::spawn(buffer.changed());
    assert_pending!(changed.poll());
    buffer.add(b"x").unwrap();
    assert!(changed.is_woken());
    assert_ready_ok!(changed.poll());
}

#[test]
fn changed_ends_with_the_buffer_unless_something_changed() {
    let buffer = SharedEvBuffer::new();
    let mut waiting = task::spawn(buffer.changed());
    assert_pending!(waiting.poll());
    let mut changed = task::spawn(buffer.changed());
    buffer.add(b"x").unwrap();
    buffer.close();
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());
    assert_ready_ok!(changed.poll());
    assert_eq!(
        assert_ready_err!(task::spawn(buffer.changed()).poll()),
        Closed
    );
}

#[test]
fn a_stream_of_changes_merges_and_loses_nothing() {
    let buffer = SharedEvBuffer::new();
    let mut changes = task::spawn(buffer.changes());
    assert_pending!(changes.poll_next());
    let (mut added, mut removed) = (0, 0);
    for round in 0..10 {
        for _ in 0..=round {
            buffer.add(b"xyz").unwrap();
            buffer.drain(2).unwrap();
        }
        assert!(changes.is_woken());
        let change = assert_ready!(changes.poll_next()).unwrap();
        added += change.added;
        removed += change.removed;
        assert_eq!(change.after, buffer.len());
        assert_pending!(changes.poll_next());
    }
    assert_eq!((added, removed), (165, 110));
    buffer.close();
    assert_pending!(changes.poll_next());
    buffer.clear().unwrap();
    assert!(changes.is_woken());
    assert_eq!(assert_ready!(changes.poll_next()).unwrap().removed, 55);
    assert_eq!(assert_ready!(changes.poll_next()), None);
}

#[test]
fn wait_for_checks_again_after_each_change() {
    let buffer = SharedEvBuffer::new();
    let mut waiting = task::spawn(buffer.wait_for(|b| b.search(b"\r\n\r\n", ..).is_some()));
    assert_pending!(waiting.poll());
    buffer.add(b"head\r\n").unwrap();
    assert!(waiting.is_woken());
    assert_pending!(waiting.poll());
    buffer.add(b"\r\n").unwrap();
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());

    buffer.close();
    let mut waiting = task::spawn(buffer.wait_for(EvBuffer::is_empty));
    assert_eq!(assert_ready_err!(waiting.poll()), Closed);
    let mut holding = task::spawn(buffer.wait_for(|b| b.len() == 8));
    assert_ready_ok!(holding.poll());
}

/// The awaited change wakes once; other changes do not wake.
#[test]
fn readable_is_woken_only_by_enough_bytes() {
    let buffer = SharedEvBuffer::new();
    let mut readable = task::spawn(buffer.readable(5));
    assert_pending!(readable.poll());
    for _ in 0..4 {
        buffer.add(b"x").unwrap();
        assert!(!readable.is_woken());
    }
    buffer.add(b"x").unwrap();
    assert!(readable.is_woken());
    assert_ready_ok!(readable.poll());
    assert_ready_ok!(task::spawn(buffer.readable(0)).poll());
}

#[test]
fn a_readable_that_can_never_succeed_is_an_error_at_once() {
    let buffer = shared_with(b"123");
    buffer.set_watermarks(Watermarks::with_high(10).unwrap());
    let never = |n| {
        let mut readable = task::spawn(buffer.readable(n));
        readable.poll()
    };
    assert_ready_ok!(never(3));
    assert_pending!(never(10));
    assert_eq!(
        assert_ready_err!(never(11)),
        WaitError::AboveHigh { high: 10 }
    );
    buffer.lock().set_max_len(Some(5));
    assert_eq!(
        assert_ready_err!(never(6)),
        WaitError::NeverFits { limit: 5 }
    );
    assert_eq!(
        assert_ready_err!(never(usize::MAX)),
        WaitError::NeverFits { limit: 5 }
    );
    buffer.close();
    assert_ready_ok!(never(3));
    assert_eq!(assert_ready_err!(never(4)), WaitError::Closed);
}

/// A reader that waits for more bytes and a writer that waits for room must not wait for each other.
#[test]
fn awaited_bytes_are_read_between_the_watermarks() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(2, 10).unwrap());
    let mut writer = buffer.writer();
    let mut writing = task::spawn(writer.write_all(&[7; 30]));
    assert_pending!(writing.poll());
    buffer.drain(5).unwrap();
    assert!(!writing.is_woken(), "the low mark was not reached");

    let mut readable = task::spawn(buffer.readable(8));
    assert_pending!(readable.poll());
    assert!(writing.is_woken());
    assert_pending!(writing.poll());
    assert!(readable.is_woken());
    assert_eq!(buffer.len(), 8, "no more than that");
    assert_ready_ok!(readable.poll());

    buffer.drain(1).unwrap();
    let mut given_up = task::spawn(buffer.readable(10));
    assert_pending!(given_up.poll());
    drop(given_up);
    assert_pending!(writing.poll());
    assert_eq!(buffer.len(), 7, "no waiter needs more");
}

#[test]
fn a_limit_lowered_below_the_awaited_length_wakes_the_waiter() {
    let buffer = SharedEvBuffer::new();
    let mut by_cap = task::spawn(buffer.readable(100));
    let mut by_mark = task::spawn(buffer.readable(100));
    assert_pending!(by_mark.poll());
    buffer.set_watermarks(Watermarks::with_high(50).unwrap());
    assert!(by_mark.is_woken());
    assert_eq!(
        assert_ready_err!(by_mark.poll()),
        WaitError::AboveHigh { high: 50 }
    );
    buffer.set_watermarks(Watermarks::NONE);
    assert_pending!(by_cap.poll());
    buffer.lock().set_max_len(Some(20));
    assert!(by_cap.is_woken());
    assert_eq!(
        assert_ready_err!(by_cap.poll()),
        WaitError::NeverFits { limit: 20 }
    );
}

#[test]
fn a_mark_is_reached_when_the_earlier_bytes_were_removed() {
    let buffer = shared_with(b"first");
    let mark = buffer.mark();
    buffer.add(b"second").unwrap();
    let mut drained = task::spawn(buffer.drained_to(mark));
    assert_pending!(drained.poll());
    buffer.drain(4).unwrap();
    assert!(!drained.is_woken());
    buffer.drain(1).unwrap();
    assert!(drained.is_woken());
    assert_ready_ok!(drained.poll());
}

/// Bytes prepended before the mark was taken leave first; bytes prepended later can only delay it.
#[test]
fn a_mark_stays_correct_if_bytes_are_prepended() {
    let buffer = shared_with(b"marked");
    buffer.prepend(b"before").unwrap();
    let mark = buffer.mark();
    buffer.prepend(b"after").unwrap();
    buffer.add(b"appended").unwrap();
    for left in (1..=17).rev() {
        assert_pending!(task::spawn(buffer.drained_to(mark)).poll(), "{left}");
        buffer.drain(1).unwrap();
    }
    assert_ready_ok!(task::spawn(buffer.drained_to(mark)).poll());
    assert_eq!(buffer.len(), 8);
}

#[test]
fn a_mark_is_waited_for_also_after_the_buffer_was_closed() {
    let buffer = shared_with(b"rest");
    let mark = buffer.mark();
    let mut drained = task::spawn(buffer.drained_to(mark));
    assert_pending!(drained.poll());
    buffer.close();
    assert!(!drained.is_woken());
    assert_pending!(drained.poll());
    buffer.drain(4).unwrap();
    assert!(drained.is_woken());
    assert_ready_ok!(drained.poll());
}

#[test]
fn every_waiter_of_a_kind_is_woken() {
    let buffer = SharedEvBuffer::new();
    let mut waiters: Vec<_> = (0..100)
        .map(|n| task::spawn(buffer.readable(n / 10 + 1)))
        .collect();
    for waiter in &mut waiters {
        assert_pending!(waiter.poll());
    }
    for len in 1..=10 {
        buffer.add(b"x").unwrap();
        let woken = waiters.iter().filter(|waiter| waiter.is_woken()).count();
        assert_eq!(woken, len * 10);
    }
    assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_ready()));
}

/// A waker that counts wake-ups and its live clones.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A future may be dropped at any point.
#[test]
fn a_dropped_future_releases_its_slot_and_waker() {
    let buffer = SharedEvBuffer::new();
    let counting = Arc::new(CountingWaker::default());
    let waker = counting.clone().into();
    let mut cx = Context::from_waker(&waker);
    let alive = Arc::strong_count(&counting);
    let mark = {
        buffer.add(b"x").unwrap();
        let mark = buffer.mark();
        buffer.drain(1).unwrap();
        buffer.prepend(b"y").unwrap();
        mark
    };
    for polls in 0..3 {
        let mut changed = buffer.changed();
        let mut changes = buffer.changes();
        let mut wait_for = Box::pin(buffer.wait_for(|_| false));
        let mut readable = Box::pin(buffer.readable(1000));
        let mut drained = Box::pin(buffer.drained_to(mark));
        for _ in 0..polls {
            assert!(pin!(&mut changed).poll(&mut cx).is_pending());
            assert!(pin!(&mut changes).poll_next(&mut cx).is_pending());
            assert!(wait_for.as_mut().poll(&mut cx).is_pending());
            assert!(readable.as_mut().poll(&mut cx).is_pending());
            assert!(drained.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(
            Arc::strong_count(&counting) - alive,
            if polls == 0 { 0 } else { 5 },
            "polling again keeps one waker"
        );
        drop((changed, changes, wait_for, readable, drained));
        assert_eq!(Arc::strong_count(&counting), alive);
    }
    buffer.add(&[0; 1000]).unwrap();
    assert_eq!(counting.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_future_moved_to_another_task_wakes_that_task() {
    let buffer = SharedEvBuffer::new();
    let mut readable = Box::pin(buffer.readable(1));
    let (first, second) = <(Arc<CountingWaker>, Arc<CountingWaker>)>::default();
    for waker in [first.clone().into(), second.clone().into()] {
        let mut cx = Context::from_waker(&waker);
        assert!(readable.as_mut().poll(&mut cx).is_pending());
    }
    buffer.add(b"x").unwrap();
    assert_eq!(first.0.load(Ordering::Relaxed), 0);
    assert_eq!(second.0.load(Ordering::Relaxed), 1);
}

/// Wakers are user code: they are cloned, woken and dropped without a lock held.
#[test]
fn a_waker_may_use_the_buffer() {
    struct Uses(SharedEvBuffer, AtomicUsize);
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.len(), Ordering::Relaxed);
        }
    }
    impl Drop for Uses {
        fn drop(&mut self) {
            assert_eq!(self.0.len(), 1);
        }
    }
    let buffer = SharedEvBuffer::new();
    let uses = Arc::new(Uses(buffer.clone(), AtomicUsize::new(0)));
    let waker = uses.clone().into();
    let mut readable = Box::pin(buffer.readable(1));
    let pending = readable.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(pending.is_pending());
    buffer.add(b"x").unwrap();
    assert_eq!(uses.1.load(Ordering::Relaxed), 1);
}

#[test]
fn a_predicate_that_panics_leaves_the_buffer_usable() {
    let buffer = SharedEvBuffer::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = task::spawn(buffer.wait_for(|_| panic!("as planned"))).poll();
    }));
    assert!(panicked.is_err());
    buffer.add(b"x").unwrap();
    assert_eq!(buffer.len(), 1);
}

/// A task that waits on a buffer and touches it in between must sleep.
#[tokio::test(start_paused = true)]
async fn a_waiting_task_that_touches_its_buffer_does_not_spin() {
    let buffer = SharedEvBuffer::new();
    let waiting = buffer.clone();
    let waiter = tokio::spawn(async move {
        let looks = AtomicUsize::new(0);
        let look = waiting.wait_for(|_| looks.fetch_add(1, Ordering::Relaxed) > 100);
        tokio::pin!(look);
        loop {
            tokio::select! {
                result = &mut look => break result,
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {
                    drop(waiting.lock());
                    if waiting.is_closed() {
                        break Err(WaitError::Closed);
                    }
                }
            }
        }
    });
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    buffer.close();
    assert_eq!(waiter.await.unwrap(), Err(WaitError::Closed));
}

/// A loop over a future that is always ready must let other tasks run.
#[tokio::test]
async fn waiting_uses_the_coop_budget() {
    let buffer = shared_with(b"x");
    let ready = buffer.clone();
    let busy = tokio::spawn(async move {
        loop {
            ready.readable(1).await?;
            if ready.is_closed() {
                return Ok::<_, WaitError>(());
            }
        }
    });
    tokio::task::yield_now().await;
    buffer.close();
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_task_is_woken_from_another_thread() {
    let buffer = SharedEvBuffer::new();
    let mut changes = buffer.changes();
    let producer = buffer.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..1000 {
            producer.add(b"x").unwrap();
        }
        producer.close();
    });
    let mut sum = 0;
    while sum < 1000 {
        sum += changes.next().await.unwrap().added;
    }
    thread.join().unwrap();
    assert_eq!(sum, 1000);
}

#[test]
fn errors_convert_to_io_errors() {
    assert_eq!(io::Error::from(Closed).kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(WaitError::from(Closed), WaitError::Closed);
    assert_eq!(
        io::Error::from(WaitError::Closed).kind(),
        io::ErrorKind::BrokenPipe
    );
    let never = io::Error::from(WaitError::NeverFits { limit: 77 });
    assert_eq!(never.kind(), io::ErrorKind::InvalidInput);
    assert!(never.to_string().contains("77"));
    let invalid: InvalidWatermarks = Watermarks::new(9, 8).unwrap_err();
    let error = io::Error::from(invalid);
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains('9') && error.to_string().contains('8'));
    assert!(error.get_ref().unwrap().is::<InvalidWatermarks>());
}
