//! Checks the rules of [`EvBuffer`], and formats its shape for `Debug`.

use std::fmt;

use super::chain::EvBuffer;
use crate::segment::Segment;

impl EvBuffer {
    /// Checks all rules after an operation: of a short chain in debug builds, of each chain with `--cfg evbuffer_verify`.
    #[inline]
    pub(super) fn debug_check(&self) {
        let is_short = cfg!(debug_assertions) && self.body.len() <= CHECKED_SEGMENTS;
        if is_short || cfg!(evbuffer_verify) {
            self.check_invariants();
        }
    }

    /// Walks the chain and panics at the first rule that does not hold.
    pub(crate) fn check_invariants(&self) {
        let body: usize = self.body.iter().map(Segment::len).sum();
        assert_eq!(
            self.len,
            body + self.tail.len(),
            "rule 1: len is the sum over the chain"
        );
        assert!(
            self.body.iter().all(|segment| segment.len() > 0),
            "rule 2: no empty segment"
        );
        let held: usize = self.body.iter().map(Segment::allocated).sum();
        assert_eq!(
            self.held,
            held + self.tail.allocated(),
            "rule 4: held is the sum of what the segments keep"
        );
        assert!(
            self.scanned as usize <= self.len,
            "rule 5: scanned is at most len"
        );
        self.tail.check_invariants();
        for segment in self.body.iter() {
            if let Segment::Block(owned) = segment {
                owned.check_invariants();
            }
        }
    }
}

/// A debug build checks no longer chain, so that the cost of an operation does not grow with the number of segments.
const CHECKED_SEGMENTS: usize = 8;

impl fmt::Debug for EvBuffer {
    /// Shows the shape, never the contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvBuffer")
            .field("len", &self.len)
            .field("segments", &self.segments())
            .finish_non_exhaustive()
    }
}
