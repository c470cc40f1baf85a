//! What a waiting task waits for, and at which lengths of the buffer it may need to be woken.

use std::ops::Range;

use super::change::Mark;

/// What a task waits for. All but the last two are also woken by the end of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Any change of the contents.
    Change,
    /// A condition on the contents, checked after each change. It wants the buffer to be filled.
    Condition,
    /// At least this many bytes.
    Len(usize),
    /// This many bytes to take from the front.
    TakeLen(usize),
    /// A frame of this many bytes to take from the front. Others may follow, so it wants the buffer to be filled.
    TakeFrame(usize),
    /// Something to take from the front, by a condition on the contents.
    Take,
    /// Something to read that no other reader has borrowed.
    Read,
    /// Room for a writer: below the high watermark for a byte, below the hard cap for this many bytes.
    Write(usize),
    /// All bytes up to the mark have left.
    Drained(Mark),
    /// The run of the callback with this id has ended.
    CallbackReturned(u64),
}

/// The state of the buffer that decides which tasks are woken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    /// The contents have changed.
    pub(super) changed: bool,
    pub(super) closed: bool,
    pub(super) len: usize,
    /// The length up to which the buffer is filled: the high watermark or the hard cap.
    pub(super) limit: usize,
    /// The user has frozen the front: nothing can be taken.
    pub(super) frozen_front: bool,
    /// The user has frozen the back: nothing can be added.
    pub(super) frozen_back: bool,
    /// Bytes ever appended.
    pub(super) appended: u64,
    /// The hard cap.
    pub(super) cap: usize,
    /// Bytes that a writer may add now.
    pub(super) room: usize,
    /// Writing fails, however long a writer waits.
    pub(super) refuses: bool,
    /// A reader has borrowed the front.
    pub(super) borrowed: bool,
}

impl Interest {
    /// Returns how many bytes the buffer has to hold for this to come true; `usize::MAX` if that is not known, zero if it
    /// does not depend on more bytes.
    pub(super) fn wanted(self) -> usize {
        match self {
            Self::Len(n) | Self::TakeLen(n) => n,
            Self::Condition | Self::Take | Self::TakeFrame(_) => usize::MAX,
            Self::Change
            | Self::Read
            | Self::Write(_)
            | Self::Drained(_)
            | Self::CallbackReturned(_) => 0,
        }
    }

    /// Returns whether the length alone, or that the contents have changed, makes this [due](Self::is_due).
    #[inline]
    pub(super) fn is_reached(self, len: usize, changed: bool) -> bool {
        match self {
            Self::Len(n) | Self::TakeLen(n) | Self::TakeFrame(n) => len >= n,
            Self::Change | Self::Condition | Self::Take => changed,
            _ => false,
        }
    }

    /// Returns whether the task has to check again: what it waits for has come true, or can no longer come true.
    pub(super) fn is_due(self, view: &View) -> bool {
        let is_full = view.len >= view.limit;
        match self {
            Self::CallbackReturned(_) => false,
            Self::Drained(mark) => view.frozen_front || mark.is_reached(view.appended, view.len),
            _ if view.closed => true,
            Self::Change => view.changed,
            Self::TakeLen(_) | Self::TakeFrame(_) | Self::Take if view.frozen_front => true,
            Self::Condition | Self::Take => view.changed || is_full || view.frozen_back,
            Self::Len(n) | Self::TakeLen(n) | Self::TakeFrame(n) => {
                view.len >= n || n > view.limit || view.frozen_back
            }
            Self::Read => (view.len > 0 && !view.borrowed) || view.frozen_front,
            Self::Write(n) => {
                let fits = view.room > 0 && view.cap.saturating_sub(view.len) >= n;
                fits || view.refuses || n > view.cap
            }
        }
    }

    /// Returns the lengths at which the task certainly need not be woken. Other reasons to end the wait do not depend
    /// on the length; they request a check of the buffer.
    pub(super) fn quiet_range(self) -> Range<usize> {
        match self {
            Self::Len(n) | Self::TakeLen(n) | Self::TakeFrame(n) => 0..n,
            Self::Read => 0..1,
            Self::CallbackReturned(_) => 0..usize::MAX,
            Self::Change | Self::Condition | Self::Take | Self::Write(_) | Self::Drained(_) => 0..0,
        }
    }

    /// Returns whether tasks with these interests take turns.
    pub(super) fn competes_with(self, other: Self) -> bool {
        (self.takes() && other.takes()) || (self.adds() && other.adds())
    }

    pub(super) fn takes(self) -> bool {
        matches!(
            self,
            Self::Read | Self::TakeLen(_) | Self::TakeFrame(_) | Self::Take
        )
    }

    pub(super) fn adds(self) -> bool {
        matches!(self, Self::Write(_))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_woken_when_its_condition_may_hold_or_can_no_longer_hold() {
        use Interest::*;
        let mark = Mark { appended: 3 };
        let nothing = View {
            limit: 10,
            cap: 20,
            ..View::default()
        };
        let with = |change: fn(&mut View)| {
            let mut view = nothing;
            change(&mut view);
            view
        };
        let changed = with(|view| view.changed = true);
        let closed = with(|view| view.closed = true);
        let frozen_front = with(|view| view.frozen_front = true);
        let frozen = with(|view| view.frozen_back = true);
        let one = with(|view| view.len = 1);
        let full = with(|view| view.len = 10);
        let refuses = with(|view| view.refuses = true);
        for (interest, view, due) in [
            (Change, nothing, false),
            (Change, changed, true),
            (Change, closed, true),
            (Change, frozen, false),
            (Condition, frozen_front, false),
            (Len(5), frozen_front, false),
            (Take, frozen_front, true),
            (Read, frozen_front, true),
            (Read, frozen, false),
            (Condition, one, false),
            (Condition, changed, true),
            (Condition, full, true),
            (Condition, frozen, true),
            (Len(5), changed, false),
            (Len(1), one, true),
            (Len(11), nothing, true),
            (Len(5), frozen, true),
            (TakeLen(2), one, false),
            (TakeLen(1), one, true),
            (TakeFrame(2), one, false),
            (TakeFrame(1), one, true),
            (TakeFrame(5), changed, false),
            (TakeFrame(5), frozen_front, true),
            (TakeFrame(11), nothing, true),
            (Take, changed, true),
            (Take, full, true),
            (Drained(mark), closed, true),
            (
                Drained(mark),
                View {
                    len: 2,
                    appended: 4,
                    closed: true,
                    ..nothing
                },
                false,
            ),
            (
                Drained(mark),
                View {
                    len: 1,
                    appended: 4,
                    ..nothing
                },
                true,
            ),
            (Read, one, true),
            (
                Read,
                View {
                    borrowed: true,
                    ..one
                },
                false,
            ),
            (Write(1), nothing, false),
            (Write(1), View { room: 1, ..nothing }, true),
            (
                Write(15),
                View {
                    room: 1,
                    len: 6,
                    ..nothing
                },
                false,
            ),
            (
                Write(15),
                View {
                    room: 1,
                    len: 5,
                    ..nothing
                },
                true,
            ),
            (Write(21), nothing, true),
            (Write(1), refuses, true),
            (Write(1), changed, false),
            (Write(1), closed, true),
            (CallbackReturned(1), closed, false),
        ] {
            assert_eq!(interest.is_due(&view), due, "{interest:?}, {view:?}");
            assert!(due || !interest.is_reached(view.len, view.changed));
            if due
                && !(view.closed
                    || view.frozen_front
                    || view.frozen_back
                    || view.changed
                    || view.len >= view.limit)
            {
                let hopeless = matches!(interest, Len(n) | TakeFrame(n) if n > view.limit);
                assert!(hopeless || !interest.quiet_range().contains(&view.len));
            }
        }
    }

    #[test]
    fn those_that_take_and_those_that_add_compete_among_themselves() {
        use Interest::*;
        assert!(Read.competes_with(Take) && Write(1).competes_with(Write(9)));
        assert!(!Read.competes_with(Write(1)) && !Len(1).competes_with(Read));
    }
}
