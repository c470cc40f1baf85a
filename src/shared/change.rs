//! The position of a subscriber: bytes ever added and removed. Each change is the difference of two positions.

/// The bytes added and removed between two points in time: `before + added - removed == after`.
///
/// Changes that were made in between are summed up; bytes that were added and removed again count in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "evbuffer_cb_info")]
#[allow(clippy::exhaustive_structs)] // The equation above holds for these four.
pub struct Change {
    /// The length at the earlier point, in bytes.
    pub before: usize,
    /// Bytes added since, at either end.
    pub added: u64,
    /// Bytes removed since.
    pub removed: u64,
    /// The length at the later point, in bytes.
    pub after: usize,
}

/// The position of a subscriber.
///
/// The bytes ever added are `removed + len`. The totals wrap; their differences are right nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) removed: u64,
    pub(super) len: usize,
    pub(super) closed: bool,
}

impl Totals {
    /// Returns how the contents have changed since `earlier`, if they have.
    #[inline]
    pub(super) fn since(self, earlier: Self) -> Option<Change> {
        let is_same = self.removed == earlier.removed && self.len == earlier.len;
        (!is_same).then(|| self.difference(earlier))
    }

    /// Returns how the contents have changed since `earlier`, or that the buffer was closed since; `None` if neither.
    #[inline]
    pub(super) fn since_or_closed(self, earlier: Self) -> Option<Change> {
        (self != earlier).then(|| self.difference(earlier))
    }

    #[inline]
    fn difference(self, earlier: Self) -> Change {
        Change {
            before: earlier.len,
            added: self.added().wrapping_sub(earlier.added()),
            removed: self.removed.wrapping_sub(earlier.removed),
            after: self.len,
        }
    }

    /// Returns whether no change can follow.
    pub(super) fn is_final(self) -> bool {
        self.closed && self.len == 0
    }

    fn added(self) -> u64 {
        self.removed.wrapping_add(self.len as u64)
    }
}

/// A position in the stream of all bytes ever appended to a buffer, returned by
/// [`SharedEvBuffer::mark`](crate::SharedEvBuffer::mark).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) appended: u64,
}

impl Mark {
    /// Returns whether only bytes that were appended after the mark are left among `len` bytes.
    pub(crate) fn is_reached(self, appended: u64, len: usize) -> bool {
        len as u64 <= appended.wrapping_sub(self.appended)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn totals(removed: u64, len: usize) -> Totals {
        Totals {
            removed,
            len,
            closed: false,
        }
    }

    #[test]
    fn a_change_is_the_difference_of_two_positions() {
        let (earlier, later) = (totals(10, 5), totals(12, 7));
        let change = later.since(earlier).unwrap();
        assert_eq!((change.before, change.after), (5, 7));
        assert_eq!((change.added, change.removed), (4, 2));
        assert_eq!(later.since(later), None);
    }

    #[test]
    fn closing_is_a_change_without_a_difference() {
        let (earlier, later) = (
            totals(10, 5),
            Totals {
                closed: true,
                ..totals(10, 5)
            },
        );
        assert_eq!(later.since(earlier), None);
        let change = later.since_or_closed(earlier).unwrap();
        assert_eq!((change.added, change.removed, change.after), (0, 0, 5));
        assert!(!later.is_final());
    }

    #[test]
    fn totals_may_wrap() {
        let change = totals(2, 1).since(totals(u64::MAX - 1, 4)).unwrap();
        assert_eq!((change.added, change.removed), (1, 4));
    }

    #[test]
    fn a_mark_is_reached_when_only_later_bytes_are_left() {
        let mark = Mark { appended: 10 };
        for (appended, len, reached) in [
            (10, 10, false),
            (10, 0, true),
            (14, 5, false),
            (14, 4, true),
        ] {
            assert_eq!(mark.is_reached(appended, len), reached, "{appended}, {len}");
        }
    }
}
