//! Notifications of changes: once, exact, in order, and without a lock held.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio_evbuffer::{
    BufferError, DeferredQueue, EvBuffer, SharedEvBuffer, Watermarks,
    buffer::End,
    shared::{CallbackHandle, Change, Crossing},
};

use crate::support::data::{Owner, shared_with};

type Log<T> = Arc<Mutex<Vec<T>>>;

fn log<T>() -> Log<T> {
    Arc::default()
}

fn taken<T>(log: &Log<T>) -> Vec<T> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn change(before: usize, added: u64, removed: u64, after: usize) -> Change {
    Change {
        before,
        added,
        removed,
        after,
    }
}

/// Records every change by an inline callback.
fn inline(buffer: &SharedEvBuffer) -> Log<Change> {
    let log = log();
    let reported = Arc::clone(&log);
    buffer
        .on_change_inline(move |_, change| reported.lock().unwrap().push(change))
        .detach();
    log
}

/// Records every watermark crossing.
fn crossings(buffer: &SharedEvBuffer) -> Log<Crossing> {
    let log = log();
    let reported = Arc::clone(&log);
    buffer
        .on_watermark(move |_, crossing| reported.lock().unwrap().push(crossing))
        .detach();
    log
}

#[test]
fn one_guard_is_one_change() {
    let buffer = SharedEvBuffer::new();
    let reported = inline(&buffer);
    {
        let mut guard = buffer.lock();
        guard.add(b"12345").unwrap();
        guard.prepend(b"0").unwrap();
        guard.drain(2).unwrap();
        assert_eq!(reported.lock().unwrap().len(), 0);
    }
    assert_eq!(taken(&reported), [change(0, 6, 2, 4)]);
}

#[test]
fn a_guard_without_a_change_notifies_no_subscriber() {
    let buffer = shared_with(b"data");
    let reported = inline(&buffer);
    let mut changed = tokio_test::task::spawn(buffer.changed());
    assert!(changed.poll().is_pending());
    {
        let mut guard = buffer.lock();
        guard.drain(0).unwrap();
        guard.add(b"").unwrap();
        guard.pullup(4);
    }
    buffer.lock().freeze(End::Front);
    assert_eq!(taken(&reported), []);
    assert!(!changed.is_woken());
}

#[test]
fn bytes_added_and_removed_again_are_a_change() {
    let buffer = SharedEvBuffer::new();
    let reported = inline(&buffer);
    {
        let mut guard = buffer.lock();
        guard.add(b"gone").unwrap();
        guard.clear().unwrap();
    }
    assert_eq!(taken(&reported), [change(0, 4, 4, 0)]);
}

#[test]
fn every_operation_keeps_the_sums() {
    let buffer = SharedEvBuffer::new();
    let reported = inline(&buffer);
    let mut other = EvBuffer::from(&[7; 2000][..]);
    buffer.add(b"abc\r\ndef").unwrap();
    buffer.prepend(b"x").unwrap();
    buffer
        .add_reference(Bytes::from_static(b"reference"))
        .unwrap();
    buffer.add_buffer(&mut other).unwrap();
    buffer.drain(1).unwrap();
    buffer
        .readln(tokio_evbuffer::EolStyle::Crlf)
        .unwrap()
        .unwrap();
    buffer.take_bytes(700).unwrap();
    buffer.remove(&mut [0; 10]).unwrap();
    buffer.remove_buffer(&mut other, 600).unwrap();
    buffer.copyout(&mut [0; 10]).unwrap();
    buffer.lock().prepend_buffer(&mut other).unwrap();
    buffer
        .lock()
        .add_buffer_reference(&EvBuffer::from(&b"multi"[..]))
        .unwrap();
    let reported = taken(&reported);
    assert_eq!(reported.len(), 11);
    let mut len = 0;
    for change in reported {
        assert_eq!(change.before, len);
        assert_eq!(
            change.before as u64 + change.added - change.removed,
            change.after as u64
        );
        len = change.after;
    }
    assert_eq!(len, buffer.len());
}

#[test]
fn replacing_the_buffer_is_a_change() {
    for how in 0..4 {
        let buffer = shared_with(b"four");
        let reported = inline(&buffer);
        let mark = buffer.mark();
        let mut guard = buffer.lock();
        match how {
            0 => *guard = EvBuffer::from(&b"newcomer"[..]),
            1 => assert_eq!(guard.replace(EvBuffer::from(&b"newcomer"[..])), b"four"[..]),
            2 => {
                assert_eq!(std::mem::take(&mut *guard), b"four"[..]);
                assert!(guard.replace(EvBuffer::from(&b"newcomer"[..])).is_empty());
            }
            _ => {
                let mut old = std::mem::take(&mut *guard);
                assert_eq!(old, b"four"[..]);
                guard.add(b"newcomer").unwrap();
                old.add(b" goes on").unwrap();
            }
        }
        drop(guard);
        assert_eq!(taken(&reported), [change(4, 8, 4, 8)], "way {how}");
        tokio_test::assert_ok!(tokio_test::assert_ready!(
            tokio_test::task::spawn(buffer.drained_to(mark)).poll()
        ));
        buffer.add(b"!").unwrap();
        assert_eq!(taken(&reported), [change(8, 1, 0, 9)], "way {how}");
    }
}

/// A buffer moved out of a closed shared one is an ordinary buffer again, and releases its owners.
#[test]
fn a_buffer_taken_out_of_a_shared_one_is_ordinary() {
    let released = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&released);
    let buffer = SharedEvBuffer::new();
    let owner = Owner::new("owned", move || note.store(true, Ordering::Relaxed));
    buffer.add_owner(owner).unwrap();
    buffer.close();
    let mut taken = std::mem::take(&mut *buffer.lock());
    taken.add(b"more").unwrap();
    taken.drain(5).unwrap();
    assert!(released.load(Ordering::Relaxed));
    assert_eq!(buffer.add(b"no"), Err(BufferError::Closed));
    *buffer.lock() = taken;
    assert_eq!(buffer.add(b"no"), Err(BufferError::Closed));
    assert_eq!(buffer.len(), 4);
}

#[test]
fn swapping_the_buffers_of_two_guards_changes_both() {
    let a = shared_with(b"a");
    let b = shared_with(b"bb");
    let (told_a, told_b) = (inline(&a), inline(&b));
    {
        let (mut a, mut b) = (a.lock(), b.lock());
        std::mem::swap(&mut *a, &mut *b);
    }
    assert_eq!(taken(&told_a), [change(1, 2, 1, 2)]);
    assert_eq!(taken(&told_b), [change(2, 1, 2, 1)]);
}

#[test]
fn a_move_is_one_change_of_each_buffer() {
    let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    a.add(&[1; 1000]).unwrap();
    let (told_a, told_b) = (inline(&a), inline(&b));
    assert_eq!(a.move_to(&b, 600).unwrap(), 600);
    assert_eq!(taken(&told_a), [change(1000, 0, 600, 400)]);
    assert_eq!(taken(&told_b), [change(0, 600, 0, 600)]);
    assert_eq!(a.move_to(&a.clone(), 10).unwrap(), 0);
    b.close();
    assert_eq!(a.move_to(&b, 10), Err(BufferError::Closed));
    assert_eq!(a.len(), 400);
}

/// A callback of the first buffer may use the second: both are unlocked before callbacks run.
#[test]
fn opposite_moves_whose_callbacks_use_the_other_buffer_do_not_deadlock() {
    let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    a.add(&[0; 1000]).unwrap();
    b.add(&[0; 1000]).unwrap();
    for (this, other) in [(&a, &b), (&b, &a)] {
        let other = other.downgrade();
        this.on_change_inline(move |_, _| assert!(other.upgrade().unwrap().len() <= 2000))
            .detach();
    }
    std::thread::scope(|scope| {
        for (from, to) in [(&a, &b), (&b, &a)] {
            scope.spawn(move || {
                for _ in 0..500 {
                    from.move_to(to, 10).unwrap();
                }
            });
        }
    });
    assert_eq!(a.len() + b.len(), 2000);
}

#[test]
fn inline_callbacks_run_in_the_order_of_registration() {
    let buffer = SharedEvBuffer::new();
    let order = log();
    for n in 0..3 {
        let order = Arc::clone(&order);
        buffer
            .on_change_inline(move |_, _| order.lock().unwrap().push(n))
            .detach();
    }
    buffer.add(b"x").unwrap();
    assert_eq!(taken(&order), [0, 1, 2]);
}

/// libevent nests notifications: later callbacks see the newest change first, and sums that do not match.
#[test]
fn defect_d2_an_edit_within_a_callback_is_reported_after_it_and_sums_match() {
    let buffer = SharedEvBuffer::new();
    let reported = log();
    let first = Arc::clone(&reported);
    buffer
        .on_change_inline(move |buffer, change| {
            if change.after == 3 {
                buffer.add(b"!").unwrap();
            }
            first.lock().unwrap().push((1, change));
        })
        .detach();
    let second = Arc::clone(&reported);
    buffer
        .on_change_inline(move |_, change| second.lock().unwrap().push((2, change)))
        .detach();
    buffer.add(b"abc").unwrap();
    assert_eq!(
        taken(&reported),
        [
            (1, change(0, 3, 0, 3)),
            (2, change(0, 4, 0, 4)),
            (1, change(3, 1, 0, 4)),
        ]
    );
}

/// A single inline callback has a fast path, which ends if the callback adds another one.
#[test]
fn the_only_callback_may_add_a_second_callback() {
    let buffer = SharedEvBuffer::new();
    let reported = log();
    let (first, second) = (Arc::clone(&reported), Arc::clone(&reported));
    let mut second = Some(second);
    buffer
        .on_change_inline(move |buffer, change| {
            first.lock().unwrap().push((1, change));
            if let Some(reported) = second.take() {
                buffer
                    .on_change_inline(move |_, change| reported.lock().unwrap().push((2, change)))
                    .detach();
                buffer.add(b"within").unwrap();
            }
        })
        .detach();
    buffer.add(b"x").unwrap();
    assert_eq!(
        taken(&reported),
        [
            (1, change(0, 1, 0, 1)),
            (2, change(1, 6, 0, 7)),
            (1, change(1, 6, 0, 7)),
        ]
    );
    buffer.drain(7).unwrap();
    assert_eq!(
        taken(&reported),
        [(1, change(7, 0, 7, 0)), (2, change(7, 0, 7, 0))]
    );
}

#[test]
fn the_only_callback_may_replace_itself() {
    let buffer = SharedEvBuffer::new();
    let (handle, reported) = (Arc::new(Mutex::new(None)), log());
    let (mine, log) = (Arc::clone(&handle), Arc::clone(&reported));
    *handle.lock().unwrap() = Some(buffer.on_change_inline(move |buffer, _| {
        let reported = Arc::clone(&log);
        let other = buffer.on_change_inline(move |_, change| reported.lock().unwrap().push(change));
        let own = mine.lock().unwrap().replace(other);
        drop(own);
        buffer.add(b"y").unwrap();
    }));
    buffer.add(b"x").unwrap();
    assert_eq!(taken(&reported), [change(1, 1, 0, 2)]);
    buffer.add(b"z").unwrap();
    assert_eq!(taken(&reported), [change(2, 1, 0, 3)]);
}

#[test]
fn an_edit_by_the_only_callback_is_reported_after_it_returns() {
    let buffer = SharedEvBuffer::new();
    let reported = log();
    let (log, marks) = (Arc::clone(&reported), crossings(&buffer));
    buffer.set_watermarks(Watermarks::new(1, 4).unwrap());
    let running = AtomicBool::new(false);
    buffer
        .on_change_inline(move |buffer, change| {
            assert!(!running.swap(true, Ordering::Relaxed), "nested");
            if change.after == 1 {
                buffer.add(b"more").unwrap();
            }
            log.lock().unwrap().push(change);
            running.store(false, Ordering::Relaxed);
        })
        .detach();
    buffer.add(b"x").unwrap();
    assert_eq!(taken(&reported), [change(0, 1, 0, 1), change(1, 4, 0, 5)]);
    assert_eq!(taken(&marks), [Crossing::High { len: 5 }]);
}

#[test]
fn the_only_callback_may_disable_itself_and_panic() {
    let buffer = SharedEvBuffer::new();
    let handle = Arc::new(Mutex::new(None::<CallbackHandle>));
    let calls = Arc::new(AtomicUsize::new(0));
    let (mine, count) = (Arc::clone(&handle), Arc::clone(&calls));
    *handle.lock().unwrap() = Some(buffer.on_change_inline(move |buffer, change| {
        count.fetch_add(1, Ordering::Relaxed);
        if change.after == 1 {
            mine.lock().unwrap().as_ref().unwrap().set_enabled(false);
            buffer.add(b"unheard").unwrap();
            panic!("on purpose");
        }
    }));
    buffer.add(b"x").unwrap();
    buffer.add(b"unheard").unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    handle.lock().unwrap().as_ref().unwrap().set_enabled(true);
    buffer.add(b"heard").unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// libevent notifies the destination of a moved segment while the source still counts it.
#[test]
fn defect_d3_both_lengths_of_a_move_are_final_when_it_is_reported() {
    let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    a.add(&[1; 4000]).unwrap();
    let seen = log();
    let (reported, source) = (Arc::clone(&seen), a.clone());
    b.on_change_inline(move |b, _| reported.lock().unwrap().push(source.len() + b.len()))
        .detach();
    a.move_to(&b, 1500).unwrap();
    assert_eq!(taken(&seen), [4000]);
}

#[test]
fn defect_d5_a_callback_may_remove_any_callback() {
    let buffer = SharedEvBuffer::new();
    let handles = Arc::new(Mutex::new(Vec::new()));
    let calls = log();
    for n in 0..3 {
        let (handles, calls) = (Arc::clone(&handles), Arc::clone(&calls));
        let mine = Arc::clone(&handles);
        let handle = buffer.on_change_inline(move |_, _| {
            calls.lock().unwrap().push(n);
            // The first callback removes itself and the next one.
            let removed: Vec<_> = mine.lock().unwrap().drain(..2).collect();
            drop(removed);
        });
        handles.lock().unwrap().push(handle);
    }
    // Enough bytes for the last callback to remove.
    for _ in 0..4 {
        let handle = buffer.on_change_inline(|_, _| {});
        handles.lock().unwrap().push(handle);
    }
    buffer.add(b"x").unwrap();
    assert_eq!(taken(&calls), [0, 2]);
}

#[test]
fn a_dropped_handle_ends_callbacks_and_a_detached_one_does_not() {
    let buffer = SharedEvBuffer::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = |calls: &Arc<AtomicUsize>| {
        let calls = Arc::clone(calls);
        move |_: &SharedEvBuffer, _| {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    let dropped = buffer.on_change_inline(count(&calls));
    buffer.on_change_inline(count(&calls)).detach();
    buffer.add(b"x").unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    drop(dropped);
    buffer.add(b"x").unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn changes_while_a_callback_is_disabled_are_not_reported_later() {
    let buffer = SharedEvBuffer::new();
    let reported = log();
    let log = Arc::clone(&reported);
    let handle = buffer.on_change_inline(move |_, change| log.lock().unwrap().push(change));
    handle.set_enabled(false);
    buffer.add(b"unheard").unwrap();
    handle.set_enabled(true);
    handle.set_enabled(true);
    assert_eq!(taken(&reported), []);
    buffer.add(b"heard").unwrap();
    assert_eq!(taken(&reported), [change(7, 5, 0, 12)]);
}

#[test]
fn a_callback_gets_changes_since_its_registration() {
    let buffer = SharedEvBuffer::new();
    buffer.add(b"before").unwrap();
    let reported = inline(&buffer);
    buffer.add(b"x").unwrap();
    assert_eq!(taken(&reported), [change(6, 1, 0, 7)]);
}

#[test]
fn a_panicking_inline_callback_does_not_stop_the_others() {
    let buffer = SharedEvBuffer::new();
    buffer
        .on_change_inline(|_, _| panic!("as planned"))
        .detach();
    let reported = inline(&buffer);
    buffer.add(b"x").unwrap();
    buffer.add(b"y").unwrap();
    assert_eq!(taken(&reported).len(), 2);
    assert_eq!(buffer.len(), 2);
}

#[test]
fn a_panic_with_a_guard_leaves_a_usable_buffer_and_is_reported() {
    let buffer = SharedEvBuffer::new();
    let reported = inline(&buffer);
    buffer
        .on_change_inline(|_, _| panic!("within the unwinding"))
        .detach();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = buffer.lock();
        guard.add(b"half").unwrap();
        panic!("as planned");
    }));
    assert!(panicked.is_err());
    assert_eq!(taken(&reported), [change(0, 4, 0, 4)]);
    buffer.add(b" done").unwrap();
    assert_eq!(buffer.len(), 9);
}

#[test]
fn crossings_are_reported_before_the_call_returns() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(2, 6).unwrap().and_overflow(9).unwrap());
    let reported = crossings(&buffer);
    buffer.add(b"12345").unwrap();
    assert_eq!(taken(&reported), []);
    buffer.add(b"6789").unwrap();
    assert_eq!(
        taken(&reported),
        [Crossing::High { len: 9 }, Crossing::Overflow { len: 9 }]
    );
    buffer.drain(6).unwrap();
    assert_eq!(taken(&reported), []);
    buffer.drain(1).unwrap();
    assert_eq!(taken(&reported), [Crossing::Low { len: 2 }]);
    buffer.set_watermarks(Watermarks::with_high(2).unwrap());
    assert_eq!(taken(&reported), [Crossing::High { len: 2 }]);
    buffer.set_watermarks(Watermarks::NONE);
    assert_eq!(taken(&reported), [Crossing::Low { len: 2 }]);
}

#[test]
fn a_crossing_caused_by_a_crossing_callback_is_reported_after_it_in_order() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(0, 4).unwrap());
    let reported = log();
    let first = Arc::clone(&reported);
    buffer
        .on_watermark(move |buffer, crossing| {
            if matches!(crossing, Crossing::High { .. }) {
                buffer.drain(usize::MAX).unwrap();
            }
            first.lock().unwrap().push((1, crossing));
        })
        .detach();
    let second = Arc::clone(&reported);
    buffer
        .on_watermark(move |_, crossing| second.lock().unwrap().push((2, crossing)))
        .detach();
    buffer.add(b"1234").unwrap();
    assert_eq!(
        taken(&reported),
        [
            (1, Crossing::High { len: 4 }),
            (2, Crossing::High { len: 4 }),
            (1, Crossing::Low { len: 0 }),
            (2, Crossing::Low { len: 0 }),
        ]
    );
}

#[test]
fn crossings_before_a_subscription_are_not_reported() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(1, 4).unwrap());
    buffer.add(b"1234").unwrap();
    let reported = crossings(&buffer);
    buffer.add(b"5").unwrap();
    assert_eq!(taken(&reported), []);
    buffer.drain(5).unwrap();
    assert_eq!(taken(&reported), [Crossing::Low { len: 0 }]);
}

#[test]
fn low_is_reported_to_a_callback_that_came_while_the_length_was_high() {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(Watermarks::new(1, 4).unwrap());
    buffer.add(b"1234").unwrap();
    let reported = crossings(&buffer);
    buffer.drain(4).unwrap();
    assert_eq!(taken(&reported), [Crossing::Low { len: 0 }]);
}

/// Returns memory that notes whether `buffer` is empty when it is released. This deadlocks if the lock is held.
fn owner_that_looks_at(buffer: &SharedEvBuffer) -> (Owner<impl FnMut() + use<>>, Arc<AtomicBool>) {
    let released = Arc::new(AtomicBool::new(false));
    let (buffer, note) = (buffer.clone(), Arc::clone(&released));
    let owner = Owner::new("owned", move || {
        note.store(buffer.is_empty(), Ordering::Relaxed);
    });
    (owner, released)
}

#[test]
fn an_owner_is_released_after_the_lock() {
    let buffer = SharedEvBuffer::new();
    let (owner, released) = owner_that_looks_at(&buffer);
    buffer.lock().add_owner(owner).unwrap();
    buffer.drain(5).unwrap();
    assert!(released.load(Ordering::Relaxed));
}

#[test]
fn a_refused_reference_is_released_after_the_lock() {
    let buffer = SharedEvBuffer::new();
    let (owner, released) = owner_that_looks_at(&buffer);
    buffer.close();
    let added = buffer.add_reference(Bytes::from_owner(owner));
    assert_eq!(added, Err(BufferError::Closed));
    assert!(released.load(Ordering::Relaxed));
}

// ---- deferred callbacks

#[tokio::test]
async fn a_deferred_callback_runs_later_and_merges_changes() {
    let buffer = SharedEvBuffer::new();
    let reported = log();
    let log = Arc::clone(&reported);
    let _handle = buffer.on_change(move |_, change| log.lock().unwrap().push(change));
    buffer.add(b"12345").unwrap();
    buffer.drain(2).unwrap();
    buffer.add(b"6").unwrap();
    assert_eq!(taken(&reported), []);
    let queue = DeferredQueue::current();
    assert_eq!((queue.metrics().depth, queue.metrics().merged), (1, 2));
    queue.drained().await;
    assert_eq!(taken(&reported), [change(0, 6, 2, 4)]);
}

/// libevent skips inline callbacks while a run is queued, or reports the same counts repeatedly.
#[tokio::test]
async fn defect_d1_inline_and_deferred_callbacks_each_have_a_position() {
    let buffer = SharedEvBuffer::new();
    let deferred = log();
    let log = Arc::clone(&deferred);
    let _handle = buffer.on_change(move |_, change| log.lock().unwrap().push(change));
    let inline = inline(&buffer);
    buffer.add(b"123").unwrap();
    buffer.add(b"45").unwrap();
    assert_eq!(taken(&inline), [change(0, 3, 0, 3), change(3, 2, 0, 5)]);
    DeferredQueue::current().drained().await;
    assert_eq!(taken(&deferred), [change(0, 5, 0, 5)]);
}

/// libevent runs a queued callback after the buffer was freed.
#[tokio::test]
async fn defect_d4_no_run_begins_after_the_handle_was_dropped() {
    let buffer = SharedEvBuffer::new();
    let handle = buffer.on_change(|_, _| unreachable!("it was dropped"));
    buffer.add(b"x").unwrap();
    drop(handle);
    DeferredQueue::current().drained().await;
    assert_eq!(DeferredQueue::current().metrics().panicked, 0);
}

#[tokio::test]
async fn a_deferred_callback_may_edit_close_and_drop_its_own_handle() {
    let buffer = SharedEvBuffer::new();
    let reported = log();
    let own = Arc::new(Mutex::new(None));
    let (log, mine) = (Arc::clone(&reported), Arc::clone(&own));
    let handle = buffer.on_change(move |buffer, change| {
        log.lock().unwrap().push(change.after);
        match change.after {
            1 if !buffer.is_closed() => buffer.add(b"2").unwrap(),
            2 => {
                buffer.close();
                buffer.drain(1).unwrap();
            }
            _ => drop(mine.lock().unwrap().take()),
        }
    });
    *own.lock().unwrap() = Some(handle);
    buffer.add(b"1").unwrap();
    for _ in 0..4 {
        DeferredQueue::current().drained().await;
    }
    assert_eq!(taken(&reported), [1, 2, 1]);
    buffer.drain(1).unwrap();
    DeferredQueue::current().drained().await;
    assert_eq!(taken(&reported), []);
}

#[tokio::test]
async fn a_panicking_deferred_callback_is_counted_and_stays_registered() {
    let buffer = SharedEvBuffer::new();
    let _first = buffer.on_change(|_, _| panic!("as planned"));
    let reported = log();
    let log = Arc::clone(&reported);
    let _second = buffer.on_change(move |_, change| log.lock().unwrap().push(change.after));
    for n in 1..=2 {
        buffer.add(b"x").unwrap();
        DeferredQueue::current().drained().await;
        assert_eq!(DeferredQueue::current().metrics().panicked, n);
    }
    assert_eq!(taken(&reported), [1, 2]);
    buffer.on_change_inline(|_, _| panic!("inline")).detach();
    buffer.add(b"x").unwrap();
    DeferredQueue::current().drained().await;
    assert_eq!(DeferredQueue::current().metrics().panicked, 4);
}

#[test]
fn registering_a_deferred_callback_outside_a_runtime_panics_with_advice() {
    let buffer = SharedEvBuffer::new();
    let panic = catch_unwind(AssertUnwindSafe(|| buffer.on_change(|_, _| {}).detach()));
    let message = panic.unwrap_err();
    let message = message.downcast_ref::<&str>().unwrap();
    assert!(message.contains("defer_to"), "{message}");
    buffer.add(b"still works").unwrap();
}

#[test]
fn a_buffer_bound_to_a_queue_accepts_callbacks_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let queue = DeferredQueue::of(runtime.handle());
    let buffer = SharedEvBuffer::new();
    buffer.defer_to(queue.clone());
    let reported = log();
    let log = Arc::clone(&reported);
    buffer
        .on_change(move |_, change| log.lock().unwrap().push(change.after))
        .detach();
    buffer.add(b"abc").unwrap();
    runtime.block_on(queue.drained());
    assert_eq!(taken(&reported), [3]);

    // Notifications for a runtime that has ended are dropped silently; another queue takes over.
    drop(runtime);
    buffer.add(b"d").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let queue = DeferredQueue::of(runtime.handle());
    buffer.defer_to(queue.clone());
    buffer.add(b"e").unwrap();
    runtime.block_on(queue.drained());
    assert_eq!(taken(&reported), [5]);
}

#[test]
fn a_pending_run_moves_to_the_new_queue_when_its_runtime_ends() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let queue = DeferredQueue::of(second.handle());
    let buffer = SharedEvBuffer::new();
    buffer.defer_to(DeferredQueue::of(first.handle()));
    let reported = log();
    let log = Arc::clone(&reported);
    buffer
        .on_change(move |_, change| log.lock().unwrap().push(change.after))
        .detach();
    buffer.add(b"abc").unwrap();
    buffer.defer_to(queue.clone());
    buffer.add(b"d").unwrap();
    drop(first);
    second.block_on(queue.drained());
    assert_eq!(taken(&reported), [4]);
}

#[test]
fn a_callback_that_owns_its_buffer_and_handle_does_not_leak() {
    let marker = Arc::new(());
    let slot = Arc::new(Mutex::new(None));
    {
        let buffer = SharedEvBuffer::new();
        let held = (Arc::clone(&marker), Arc::clone(&slot));
        let handle = buffer.on_change_inline(move |_, _| {
            let _held = &held;
        });
        *slot.lock().unwrap() = Some(handle);
        buffer.add(b"x").unwrap();
    }
    drop(slot.lock().unwrap().take());
    assert_eq!(Arc::strong_count(&marker), 1);
}

#[test]
fn closing_refuses_adds_and_keeps_buffered_bytes() {
    let buffer = SharedEvBuffer::new();
    buffer.add(b"rest").unwrap();
    buffer.close();
    buffer.close();
    assert!(buffer.is_closed());
    assert_eq!(buffer.add(b"x"), Err(BufferError::Closed));
    assert_eq!(buffer.prepend(b"x"), Err(BufferError::Closed));
    assert_eq!(buffer.add(b""), Ok(()));
    assert_eq!(
        buffer.add_buffer(&mut EvBuffer::from(&b"x"[..])),
        Err(BufferError::Closed)
    );
    assert_eq!(buffer.take_bytes(10).unwrap(), "rest");
}

#[test]
fn closing_applies_to_a_replacing_buffer() {
    let buffer = SharedEvBuffer::new();
    buffer.close();
    *buffer.lock() = EvBuffer::new();
    assert_eq!(buffer.add(b"x"), Err(BufferError::Closed));
    buffer.lock().replace(EvBuffer::from(&b"left"[..]));
    assert_eq!(buffer.add(b"x"), Err(BufferError::Closed));
    assert_eq!(buffer.len(), 4);
}
