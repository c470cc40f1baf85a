//! Bytes ever added and removed: two running totals, of which every change is a difference.

/// What happened to a buffer between two looks at it: `before + added - removed == after`.
///
/// Changes that were made in between are summed up; bytes that came and went are counted in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "evbuffer_cb_info")]
pub struct Change {
    /// The length at the earlier look.
    pub before: usize,
    /// Bytes added since, at either end.
    pub added: u64,
    /// Bytes removed since.
    pub removed: u64,
    /// The length at the later look.
    pub after: usize,
}

/// A reading of the totals: a position that a subscriber keeps.
///
/// The bytes ever added are `removed + len`. Totals wrap, and differences of them are right all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) removed: u64,
    pub(super) len: usize,
}

impl Totals {
    /// What changed since `earlier`, if anything did.
    #[inline]
    pub(super) fn since(self, earlier: Self) -> Option<Change> {
        (self != earlier).then(|| Change {
            before: earlier.len,
            added: self.added().wrapping_sub(earlier.added()),
            removed: self.removed.wrapping_sub(earlier.removed),
            after: self.len,
        })
    }

    fn added(self) -> u64 {
        self.removed.wrapping_add(self.len as u64)
    }
}

/// A point in the stream of all bytes ever appended to a buffer, had from
/// [`SharedEvBuffer::mark`](crate::SharedEvBuffer::mark).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) appended: u64,
}

impl Mark {
    /// Whether what was appended after the mark is all that is left of `len` bytes.
    pub(crate) fn is_reached(self, appended: u64, len: usize) -> bool {
        len as u64 <= appended.wrapping_sub(self.appended)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_the_difference_of_two_readings() {
        let earlier = Totals {
            removed: 10,
            len: 5,
        };
        let later = Totals {
            removed: 12,
            len: 7,
        };
        let change = later.since(earlier).unwrap();
        assert_eq!((change.before, change.after), (5, 7));
        assert_eq!((change.added, change.removed), (4, 2));
        assert_eq!(later.since(later), None);
    }

    #[test]
    fn totals_may_wrap() {
        let earlier = Totals {
            removed: u64::MAX - 1,
            len: 4,
        };
        let later = Totals { removed: 2, len: 1 };
        let change = later.since(earlier).unwrap();
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
