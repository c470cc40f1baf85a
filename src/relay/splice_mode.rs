//! When a flow has proved to be bulk, and when it is so no more. Pure.

/// Bytes that must have come in large reads before a flow is spliced.
const PROVEN: u32 = 1 << 20;

/// A read of so many bytes is a large one. Smaller ones are cheaper to copy.
const LARGE: usize = 16 << 10;

/// Small moves in a row after which a flow is copied again.
const SMALL_MAX: u8 = 2;

/// Whether a direction copies or splices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Copies for good.
    Never,
    /// Copies; so many bytes have come in large reads, one after the other.
    Copying(u32),
    /// Splices; so many moves in a row were small.
    Splicing(u8),
}

impl Mode {
    pub(super) const START: Self = Self::Copying(0);

    #[inline]
    pub(super) fn is_splicing(self) -> bool {
        matches!(self, Self::Splicing(_))
    }

    /// A read has copied `n` bytes.
    #[inline]
    pub(super) fn copied(&mut self, n: usize) {
        if let Self::Copying(proof) = self {
            *proof = if n < LARGE {
                0
            } else {
                proof.saturating_add(n as u32)
            };
            if *proof >= PROVEN {
                *self = Self::Splicing(0);
            }
        }
    }

    /// A move into the pipe has brought `n` bytes.
    #[inline]
    pub(super) fn spliced(&mut self, n: usize) {
        if let Self::Splicing(small) = self {
            *small = if n < LARGE { *small + 1 } else { 0 };
            if *small >= SMALL_MAX {
                *self = Self::START;
            }
        }
    }

    /// There was no pipe, or the kernel refused: copies, and has to prove itself anew.
    pub(super) fn refused(&mut self) {
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
            assert!(!mode.is_splicing(), "a small read starts the proof anew");
        }
        mode.copied(LARGE);
        assert!(mode.is_splicing());
    }

    #[test]
    fn two_small_moves_in_a_row_end_it_and_one_does_not() {
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
    fn what_was_refused_has_to_be_proved_again_and_never_stays_never() {
        let mut mode = Mode::Splicing(1);
        mode.refused();
        assert_eq!(mode, Mode::START);
        let mut mode = Mode::Never;
        mode.copied(1 << 30);
        mode.refused();
        assert_eq!(mode, Mode::Never);
    }
}
