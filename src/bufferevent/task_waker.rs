//! Wakes the task, and only when it waits for what has happened.

use std::{sync::Arc, task::Waker};

use crate::{
    SharedEvBuffer,
    shared::{Edit, Watch},
    sync::{AtomicU8, Lock, Ordering},
};

/// Reasons to wake the task. Each is wanted while its bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted(u8);

impl Wanted {
    /// The output is empty. Wanted: bytes, or that there will be none.
    pub(super) const OUTPUT: Self = Self(1);
    /// The input may take no more. Wanted: that it may.
    pub(super) const ROOM: Self = Self(1 << 1);
    /// Somebody wants to know when the output gets too long.
    pub(super) const HIGH: Self = Self(1 << 2);
}

/// Set while the task does not know yet of an order, or of other marks.
const ORDERS: u8 = 1 << 6;
const MARKS: u8 = 1 << 7;

/// How the buffers and the handles of a BufferEvent reach its task.
///
/// While the task runs it wants nothing, so that whatever is done to the buffers meanwhile wakes nobody. What it wants
/// of a buffer it says with that buffer locked, when it sees that it has to wait; what it waits for is done with
/// the buffer locked, too. So none can fall between the two.
#[derive(Debug)]
pub(super) struct Signal {
    bits: AtomicU8,
    waker: Lock<Option<Waker>>,
}

impl Signal {
    pub(super) fn new() -> Self {
        Self {
            bits: AtomicU8::new(ORDERS | MARKS),
            waker: Lock::new(None),
        }
    }

    /// Has it follow the two buffers.
    pub(super) fn watch(self: &Arc<Self>, input: &SharedEvBuffer, output: &SharedEvBuffer) {
        input.set_watch(Arc::new(Input(Arc::clone(self))));
        output.set_watch(Arc::new(Output(Arc::clone(self))));
    }

    /// Remembers whom to wake.
    pub(super) fn register(&self, waker: &Waker) {
        let mut kept = self.waker.lock();
        match &mut *kept {
            Some(kept) if kept.will_wake(waker) => {}
            kept => *kept = Some(waker.clone()),
        }
    }

    /// Wakes nobody any more.
    pub(super) fn unregister(&self) {
        let waker = self.waker.lock().take();
        drop(waker);
    }

    /// Says what the task waits for. The buffer in question is locked.
    #[inline]
    pub(super) fn want(&self, what: Wanted) {
        self.bits.fetch_or(what.0, Ordering::AcqRel);
    }

    #[inline]
    pub(super) fn wants(&self, what: Wanted) -> bool {
        self.bits.load(Ordering::Acquire) & what.0 != 0
    }

    /// Takes the news that there are orders.
    #[inline]
    pub(super) fn take_orders(&self) -> bool {
        self.take(ORDERS)
    }

    /// Takes the news that the marks of the input may have moved.
    #[inline]
    pub(super) fn take_marks(&self) -> bool {
        self.take(MARKS)
    }

    /// Tells the task that there are orders. No lock may be held that it takes.
    pub(super) fn order(&self) {
        self.bits.fetch_or(ORDERS, Ordering::AcqRel);
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[inline]
    fn take(&self, bit: u8) -> bool {
        self.bits.load(Ordering::Acquire) & bit != 0
            && self.bits.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// What happened was wanted, perhaps.
    fn happened(&self, what: Wanted) -> Option<Waker> {
        match self.take(what.0) {
            true => self.waker.lock().clone(),
            false => None,
        }
    }
}

struct Input(Arc<Signal>);

impl Watch for Input {
    fn changed(&self, edit: &Edit) -> Option<Waker> {
        let removed = match &edit.change {
            Some(change) => change.removed > 0,
            None => {
                self.0.bits.fetch_or(MARKS, Ordering::AcqRel);
                true
            }
        };
        match removed && edit.has_room {
            true => self.0.happened(Wanted::ROOM),
            false => None,
        }
    }

    fn waits_at(&self, _: usize) -> bool {
        self.0.wants(Wanted::ROOM)
    }
}

struct Output(Arc<Signal>);

impl Watch for Output {
    fn changed(&self, edit: &Edit) -> Option<Waker> {
        let bytes = (edit.len > 0 || edit.closed)
            .then(|| self.0.happened(Wanted::OUTPUT))
            .flatten();
        let high = edit
            .is_high
            .then(|| self.0.happened(Wanted::HIGH))
            .flatten();
        bytes.or(high)
    }

    fn waits_at(&self, len: usize) -> bool {
        // Of an empty output nothing can be written, and it is not too long.
        len > 0 && (self.0.wants(Wanted::OUTPUT) || self.0.wants(Wanted::HIGH))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::{Watermarks, sync::AtomicU64};

    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn watched() -> (Arc<Signal>, SharedEvBuffer, SharedEvBuffer, Arc<Count>) {
        let (signal, input, output) = (
            Arc::new(Signal::new()),
            SharedEvBuffer::new(),
            SharedEvBuffer::new(),
        );
        signal.watch(&input, &output);
        let count = Arc::new(Count(AtomicU64::new(0)));
        signal.register(&Waker::from(Arc::clone(&count)));
        (signal, input, output, count)
    }

    fn woken(count: &Count) -> u64 {
        count.0.swap(0, Ordering::Relaxed)
    }

    #[test]
    fn output_wakes_once_and_only_while_it_is_wanted() {
        let (signal, _input, output, count) = watched();
        output.add(b"while the task runs").unwrap();
        assert_eq!(woken(&count), 0);
        signal.want(Wanted::OUTPUT);
        for _ in 0..3 {
            output.add(b"line by line").unwrap();
        }
        assert_eq!(woken(&count), 1);
    }

    #[test]
    fn room_wakes_at_the_low_mark_and_not_before() {
        let (signal, input, _output, count) = watched();
        input.set_watermarks(Watermarks::new(2, 8).unwrap());
        input.add(b"12345678").unwrap();
        signal.want(Wanted::ROOM);
        input.drain(5).unwrap();
        assert_eq!(woken(&count), 0);
        input.drain(1).unwrap();
        assert_eq!(woken(&count), 1);
        input.drain(1).unwrap();
        assert_eq!(woken(&count), 0);
    }

    #[test]
    fn marks_that_move_make_room() {
        let (signal, input, _output, count) = watched();
        input.set_watermarks(Watermarks::with_high(4).unwrap());
        input.add(b"12345678").unwrap();
        assert!(signal.take_marks());
        signal.want(Wanted::ROOM);
        input.set_watermarks(Watermarks::with_high(100).unwrap());
        assert_eq!(woken(&count), 1);
        assert!(signal.take_marks() && !signal.take_marks());
    }

    #[test]
    fn an_order_always_wakes() {
        let (signal, _input, _output, count) = watched();
        assert!(signal.take_orders());
        signal.order();
        signal.order();
        assert_eq!(woken(&count), 2);
        assert!(signal.take_orders() && !signal.take_orders());
        signal.unregister();
        signal.order();
        assert_eq!(woken(&count), 0);
    }
}
