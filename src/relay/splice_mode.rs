//! Decides whether a flow is bulk, and so is spliced. No I/O.

use super::config::Splice;
use crate::transport::Socket;

/// The unit in which the bytes of large reads are counted, so that the count takes one byte.
const UNIT: usize = 8 << 10;

/// The units that arrive in large reads before a flow is spliced: 1 MiB.
const PROVEN: u8 = ((1 << 20) / UNIT) as u8;

/// The smallest large read, in bytes. Smaller ones are cheaper to copy.
const LARGE: usize = 16 << 10;

/// The number of small splices in a row after which a flow is copied again.
const SMALL_MAX: u8 = 2;

/// Whether a direction copies or splices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Always copies.
    Never,
    /// Copies. The value is the number of units in large reads in a row.
    Copying(u8),
    /// Splices. The value is the number of small splices in a row.
    Splicing(u8),
}

impl Mode {
    pub(crate) const START: Self = Self::Copying(0);

    /// Returns the mode in which a direction from one stream to another begins.
    ///
    /// A Unix socket is not spliced from: that took 1.3 times the CPU time of copying. Splicing to one takes less.
    pub(crate) fn of(splice: Splice, from: Option<Socket<'_>>, to: Option<Socket<'_>>) -> Self {
        match splice {
            Splice::Auto if from.is_some_and(Socket::is_tcp) && to.is_some() => Self::START,
            _ => Self::Never,
        }
    }

    #[inline]
    pub(crate) fn is_splicing(self) -> bool {
        matches!(self, Self::Splicing(_))
    }

    /// Records that a read has copied `n` bytes.
    #[inline]
    pub(crate) fn copied(&mut self, n: usize) {
        if let Self::Copying(proof) = self {
            *proof = if n < LARGE {
                0
            } else {
                proof.saturating_add(u8::try_from(n / UNIT).unwrap_or(u8::MAX))
            };
            if *proof >= PROVEN {
                *self = Self::Splicing(0);
            }
        }
    }

    /// Records that a read has copied `n` bytes, and a limit allowed no more: a small read says nothing about the flow.
    pub(crate) fn copied_cut(&mut self, n: usize) {
        if n >= LARGE {
            self.copied(n);
        }
    }

    /// Records that a splice has brought `n` bytes to the pipe.
    #[inline]
    pub(crate) fn spliced(&mut self, n: usize) {
        if let Self::Splicing(small) = self {
            *small = if n < LARGE { *small + 1 } else { 0 };
            if *small >= SMALL_MAX {
                *self = Self::START;
            }
        }
    }

    /// Records that no pipe was available, or that the kernel refused: copies, and starts to count again.
    pub(crate) fn refused(&mut self) {
        if *self != Self::Never {
            *self = Self::START;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_spliced_after_a_mebibyte_of_large_reads_in_a_row() {
        let mut mode = Mode::START;
        for _ in 0..63 {
            mode.copied(LARGE);
        }
        assert!(!mode.is_splicing());
        mode.copied(LARGE - 1);
        for _ in 0..63 {
            mode.copied(LARGE);
            assert!(!mode.is_splicing(), "a small read starts the count again");
        }
        mode.copied(LARGE);
        assert!(mode.is_splicing());
    }

    #[test]
    fn a_read_that_a_limit_cuts_short_does_not_start_the_count_again() {
        let mut mode = Mode::START;
        for _ in 0..64 {
            mode.copied(LARGE);
            mode.copied_cut(LARGE - 1);
        }
        assert!(mode.is_splicing());
    }

    #[test]
    fn two_small_splices_in_a_row_end_it_and_one_does_not() {
        let mut mode = Mode::Splicing(0);
        for n in [100, LARGE, 100, 1 << 20, 100] {
            mode.spliced(n);
            assert!(mode.is_splicing());
        }
        mode.spliced(100);
        assert_eq!(mode, Mode::START);
    }

    #[test]
    fn small_messages_are_never_spliced() {
        let mut mode = Mode::START;
        for _ in 0..1_000_000 {
            mode.copied(LARGE - 1);
        }
        assert_eq!(mode, Mode::START);
    }

    #[test]
    fn a_refused_flow_starts_again_and_never_stays_never() {
        let mut mode = Mode::Splicing(1);
        mode.refused();
        assert_eq!(mode, Mode::START);
        let mut mode = Mode::Never;
        mode.copied(1 << 30);
        mode.refused();
        assert_eq!(mode, Mode::Never);
    }
}
