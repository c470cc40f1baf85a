//! Wakes the task of a connection, and only when it waits for what has happened.

use std::{mem, sync::Arc, task::Waker};

use crate::{
    SharedEvBuffer,
    shared::{BufferGuard, ChangeHook, ChangeInfo},
    sync::{AtomicU8, Lock, Ordering},
};

/// Reasons to wake the task. The task waits for those whose bits are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WakeFor(u8);

impl WakeFor {
    /// The output is empty. Wake for bytes, or when it is closed.
    pub(super) const OUTPUT: Self = Self(1);
    /// The input has no room. Wake when it has.
    pub(super) const ROOM: Self = Self(1 << 1);
    /// Wake when the output rises above its high watermark.
    pub(super) const HIGH: Self = Self(1 << 2);
}

/// Set once the output was closed.
const OUTPUT_CLOSED: u8 = 1 << 5;

/// Set until the task has seen new commands, or new watermarks.
const COMMANDS: u8 = 1 << 6;
const WATERMARKS: u8 = 1 << 7;

/// Wakes the task on behalf of the two buffers and the handles.
///
/// While the task runs it waits for nothing, so changes to the buffers do not wake it. When it has to wait for a change of
/// a buffer, it sets the bit while that buffer is locked. The change itself is made under the same lock, so none
/// is missed in between.
#[derive(Debug)]
pub(super) struct TaskWaker {
    bits: AtomicU8,
    waker: Lock<Stored>,
}

/// The waker to use.
#[derive(Debug)]
enum Stored {
    None,
    /// That of a task that the runtime has spawned, for all wake-ups.
    Spawned(Waker),
    /// That of another task, for one wake-up: it registers again when it is polled. Its `clone` is user code, which must not
    /// run under a lock, so it is moved out.
    Foreign(Waker),
}

impl TaskWaker {
    pub(super) fn new() -> Self {
        Self {
            bits: AtomicU8::new(COMMANDS | WATERMARKS),
            waker: Lock::new(Stored::None),
        }
    }

    /// Subscribes to the changes of both buffers.
    pub(super) fn follow(self: &Arc<Self>, input: &SharedEvBuffer, output: &SharedEvBuffer) {
        input.set_hook(Arc::clone(self) as _);
        output.set_hook(Arc::new(Output(Arc::clone(self))));
    }

    /// Stores the waker of a spawned task.
    pub(super) fn register(&self, waker: &Waker) {
        self.replace(Stored::Spawned(waker.clone()));
    }

    /// Stores the waker of any task, for one wake-up.
    pub(super) fn register_once(&self, waker: &Waker) {
        self.replace(Stored::Foreign(waker.clone()));
    }

    /// Forgets the waker of the task.
    pub(super) fn unregister(&self) {
        self.replace(Stored::None);
    }

    fn replace(&self, waker: Stored) {
        let replaced = mem::replace(&mut *self.waker.lock(), waker);
        drop(replaced); // user code: after the lock
    }

    fn waker(&self) -> Option<Waker> {
        let mut stored = self.waker.lock();
        if let Stored::Spawned(waker) = &*stored {
            return Some(waker.clone());
        }
        match mem::replace(&mut *stored, Stored::None) {
            Stored::Foreign(waker) => Some(waker),
            Stored::Spawned(_) | Stored::None => None,
        }
    }

    /// Adds a reason to wake the task, under the lock of the buffer that it is about.
    #[inline]
    pub(super) fn wait_for(&self, what: WakeFor, buffer: &mut BufferGuard<'_>) {
        if !self.waits_for(what) {
            self.bits.fetch_or(what.0, Ordering::AcqRel);
            buffer.hook_waits();
        }
    }

    #[inline]
    pub(super) fn waits_for(&self, what: WakeFor) -> bool {
        self.bits.load(Ordering::Acquire) & what.0 != 0
    }

    /// Returns whether nothing more is added to the output. The buffer itself decides that; this saves the task from
    /// locking it.
    #[inline]
    pub(super) fn is_output_closed(&self) -> bool {
        self.bits.load(Ordering::Acquire) & OUTPUT_CLOSED != 0
    }

    /// Returns whether there were commands since the last call.
    #[inline]
    pub(super) fn take_commands(&self) -> bool {
        self.take(COMMANDS)
    }

    /// Returns whether the watermarks of the input may have changed since the last call.
    #[inline]
    pub(super) fn take_watermarks(&self) -> bool {
        self.take(WATERMARKS)
    }

    /// Wakes the task for commands. The caller holds no lock that the task takes.
    pub(super) fn command(&self) {
        self.bits.fetch_or(COMMANDS, Ordering::AcqRel);
        if let Some(waker) = self.waker() {
            waker.wake();
        }
    }

    #[inline]
    fn take(&self, bit: u8) -> bool {
        self.bits.load(Ordering::Acquire) & bit != 0
            && self.bits.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Returns the waker of the task if it waits for `what`, and removes that reason.
    fn take_waker(&self, what: WakeFor) -> Option<Waker> {
        match self.take(what.0) {
            true => self.waker(),
            false => None,
        }
    }
}

/// Follows the input.
impl ChangeHook for TaskWaker {
    fn changed(&self, info: ChangeInfo<'_>) -> Option<Waker> {
        let removed = match &info.change {
            Some(change) => change.removed > 0,
            None => {
                self.bits.fetch_or(WATERMARKS, Ordering::AcqRel);
                true
            }
        };
        match removed && self.waits_for(WakeFor::ROOM) && info.has_room() {
            true => self.take_waker(WakeFor::ROOM),
            false => None,
        }
    }

    fn waits(&self) -> bool {
        self.waits_for(WakeFor::ROOM)
    }
}

/// Follows the output.
struct Output(Arc<TaskWaker>);

impl ChangeHook for Output {
    fn changed(&self, info: ChangeInfo<'_>) -> Option<Waker> {
        if info.is_closed() {
            self.0.bits.fetch_or(OUTPUT_CLOSED, Ordering::AcqRel);
        }
        let bytes = (info.len() > 0 || info.is_closed())
            .then(|| self.0.take_waker(WakeFor::OUTPUT))
            .flatten();
        let high = info
            .is_high()
            .then(|| self.0.take_waker(WakeFor::HIGH))
            .flatten();
        bytes.or(high)
    }

    fn waits(&self) -> bool {
        self.0.waits_for(WakeFor::OUTPUT) || self.0.waits_for(WakeFor::HIGH)
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

    fn followed() -> (Arc<TaskWaker>, SharedEvBuffer, SharedEvBuffer, Arc<Count>) {
        let (task, input, output) = (
            Arc::new(TaskWaker::new()),
            SharedEvBuffer::new(),
            SharedEvBuffer::new(),
        );
        task.follow(&input, &output);
        let count = Arc::new(Count(AtomicU64::new(0)));
        task.register(&Waker::from(Arc::clone(&count)));
        (task, input, output, count)
    }

    fn woken(count: &Count) -> u64 {
        count.0.swap(0, Ordering::Relaxed)
    }

    #[test]
    fn output_wakes_once_and_only_while_the_task_waits_for_it() {
        let (task, _input, output, count) = followed();
        output.add(b"while the task runs").unwrap();
        assert_eq!(woken(&count), 0);
        task.wait_for(WakeFor::OUTPUT, &mut output.lock());
        for _ in 0..3 {
            output.add(b"line by line").unwrap();
        }
        assert_eq!(woken(&count), 1);
    }

    #[test]
    fn room_wakes_at_the_low_watermark_and_not_before() {
        let (task, input, _output, count) = followed();
        input.set_watermarks(Watermarks::new(2, 8).unwrap());
        input.add(b"12345678").unwrap();
        task.wait_for(WakeFor::ROOM, &mut input.lock());
        input.drain(5).unwrap();
        assert_eq!(woken(&count), 0);
        input.drain(1).unwrap();
        assert_eq!(woken(&count), 1);
        input.drain(1).unwrap();
        assert_eq!(woken(&count), 0);
    }

    #[test]
    fn new_watermarks_make_room() {
        let (task, input, _output, count) = followed();
        input.set_watermarks(Watermarks::with_high(4).unwrap());
        input.add(b"12345678").unwrap();
        assert!(task.take_watermarks());
        task.wait_for(WakeFor::ROOM, &mut input.lock());
        input.set_watermarks(Watermarks::with_high(100).unwrap());
        assert_eq!(woken(&count), 1);
        assert!(task.take_watermarks() && !task.take_watermarks());
    }

    #[test]
    fn a_command_always_wakes() {
        let (task, _input, _output, count) = followed();
        assert!(task.take_commands());
        task.command();
        task.command();
        assert_eq!(woken(&count), 2);
        assert!(task.take_commands() && !task.take_commands());
        task.unregister();
        task.command();
        assert_eq!(woken(&count), 0);
    }

    #[test]
    fn a_waker_of_user_code_is_moved_out_and_not_cloned() {
        let (task, _input, output, count) = followed();
        task.register_once(&Waker::from(Arc::clone(&count)));
        let stored = Arc::strong_count(&count);
        let waker = task.waker();
        assert_eq!(Arc::strong_count(&count), stored);
        assert!(waker.is_some() && task.waker().is_none());

        task.register_once(&Waker::from(Arc::clone(&count)));
        task.wait_for(WakeFor::OUTPUT, &mut output.lock());
        output.add(b"bytes").unwrap();
        task.command();
        assert_eq!(woken(&count), 1, "it has to register again");
    }
}
