//! Sizes the next read by what the last ones brought. No I/O.

/// The sizes a read may have, in bytes.
const STEPS: [u32; 5] = [2 << 10, 8 << 10, 32 << 10, 128 << 10, 256 << 10];

/// Grows the size while reads fill it, and shrinks it after two small reads in a row.
///
/// A quiet stream is offered 2 KiB, and a bulk flow 256 KiB after four reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadSizer {
    /// Index into [`STEPS`].
    step: u8,
    /// The last read would have fitted into the step below.
    small: bool,
}

impl ReadSizer {
    /// Returns the bytes to offer to the next read, before other limits apply.
    #[inline]
    pub(crate) fn offer(self) -> usize {
        STEPS[usize::from(self.step)] as usize
    }

    /// Records a read that was offered `offered` bytes and brought `got`.
    #[inline]
    pub(crate) fn record(&mut self, offered: usize, got: usize) {
        let step = usize::from(self.step);
        if got >= self.offer() {
            self.step = (step + 1).min(STEPS.len() - 1) as u8;
            self.small = false;
        } else if got >= offered || step == 0 || got > STEPS[step - 1] as usize {
            // A read that was cut short by its offer says nothing about the stream.
            self.small = false;
        } else if self.small {
            self.step -= 1;
            self.small = false;
        } else {
            self.small = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds reads that bring at most `available` bytes each and returns the offers made.
    fn offers(sizer: &mut ReadSizer, available: &[usize]) -> Vec<usize> {
        let offer_once = |&available: &usize| {
            let offered = sizer.offer();
            sizer.record(offered, available.min(offered));
            offered >> 10
        };
        available.iter().map(offer_once).collect()
    }

    #[test]
    fn grows_to_the_top_while_reads_fill_the_offer() {
        let mut sizer = ReadSizer::default();
        assert_eq!(
            offers(&mut sizer, &[usize::MAX; 6]),
            [2, 8, 32, 128, 256, 256]
        );
    }

    #[test]
    fn shrinks_after_two_small_reads_in_a_row_and_not_after_one() {
        let mut sizer = ReadSizer::default();
        offers(&mut sizer, &[usize::MAX; 5]);
        let seen = offers(&mut sizer, &[64, 200 << 10, 64, 64, 64, 64, 64]);
        assert_eq!(seen, [256, 256, 256, 256, 128, 128, 32]);
    }

    #[test]
    fn stays_at_the_bottom_for_small_messages() {
        let mut sizer = ReadSizer::default();
        assert_eq!(offers(&mut sizer, &[64, 0, 1, 2047]), [2, 2, 2, 2]);
        assert_eq!(sizer, ReadSizer::default());
    }

    #[test]
    fn a_read_cut_by_another_limit_neither_grows_nor_shrinks_it() {
        let mut sizer = ReadSizer::default();
        offers(&mut sizer, &[usize::MAX; 3]);
        let before = sizer;
        for _ in 0..4 {
            sizer.record(100, 100);
        }
        assert_eq!(sizer, before);
    }
}
