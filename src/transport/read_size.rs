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

    /// Whether reads are offered the most: the stream is a bulk flow.
    #[inline]
    pub(crate) fn is_bulk(self) -> bool {
        usize::from(self.step) == STEPS.len() - 1
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

/// The most bytes of a block of whole frames: 256 KiB, and room for headers.
const FRAMES_BLOCK_MAX: usize = 288 << 10;

/// The most bytes of a read of whole frames. With half of that, frames of 64 KiB took 1.15 times the CPU time.
const FRAMES_MAX: usize = 2 * FRAMES_BLOCK_MAX;

/// The length of the frames of a flow, once two waits in a row were for frames of the same length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameLen {
    /// The length of the last frame that was awaited; 0 if it does not fit into a block.
    last: u32,
    is_steady: bool,
}

/// A read from a bulk flow of frames: it ends where a frame ends, and so does each of its blocks.
///
/// A frame that lies in two blocks has to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FramesRead {
    /// The most bytes to read.
    pub(crate) max: usize,
    /// The length of its blocks. The first one may be shorter.
    pub(crate) block: usize,
}

impl FrameLen {
    /// Records that a task waits for a frame of `len` bytes.
    pub(crate) fn record(&mut self, len: usize) {
        let len = match len <= FRAMES_BLOCK_MAX {
            true => len as u32,
            false => 0,
        };
        self.is_steady = len == self.last && len > 0;
        self.last = len;
    }

    /// Returns the length, or 0 if it is not known.
    pub(crate) fn get(self) -> usize {
        match self.is_steady {
            true => self.last as usize,
            false => 0,
        }
    }

    /// Returns a read of at most `most` bytes, behind `here` bytes that begin with a frame. `None` if the length of the
    /// frames is not known, or the read would end no frame.
    pub(crate) fn read(self, here: usize, most: usize) -> Option<FramesRead> {
        let frame = self.get();
        let begun = here.checked_rem(frame)?;
        let frames = (begun + most.min(FRAMES_MAX)) / frame;
        (frames > 0).then(|| FramesRead {
            max: frames * frame - begun,
            block: FRAMES_BLOCK_MAX / frame * frame,
        })
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
    fn the_length_of_frames_is_known_after_two_of_the_same() {
        let mut frames = FrameLen::default();
        let mut lens = |len| {
            frames.record(len);
            frames.get()
        };
        assert_eq!([5, 5, 5, 9, 5, 5].map(&mut lens), [0, 5, 5, 0, 0, 5]);
        let too_long = FRAMES_BLOCK_MAX + 1;
        assert_eq!(
            [too_long, too_long, 5, 5, 0, 0].map(&mut lens),
            [0, 0, 0, 5, 0, 0]
        );
    }

    #[test]
    fn a_read_of_frames_ends_with_one_and_so_do_its_blocks() {
        let read = |frame, here, most| {
            let mut frames = FrameLen::default();
            frames.record(frame);
            frames.record(frame);
            frames.read(here, most)
        };
        let of = |frame, here, most| read(frame, here, most).map(|read| (read.max, read.block));
        let all = usize::MAX;
        assert_eq!(of(65_540, 0, all), Some((8 * 65_540, 4 * 65_540)));
        assert_eq!(of(65_540, 65_524, all), Some((16 + 8 * 65_540, 4 * 65_540)));
        assert_eq!(of(65_540, 2 * 65_540, 256 << 10).unwrap().0, 3 * 65_540);
        assert_eq!(of(100_000, 30_000, 69_999), None);
        assert_eq!(of(100_000, 30_000, 70_000).unwrap().0, 70_000);
        assert_eq!(of(100_000, 230_000, 100_000).unwrap().0, 70_000);
        assert_eq!(of(1, 7, all), Some((FRAMES_MAX, FRAMES_BLOCK_MAX)));
        assert_eq!(of(FRAMES_BLOCK_MAX, 0, all).unwrap().0, FRAMES_MAX);
        assert_eq!(of(FRAMES_BLOCK_MAX + 1, 0, all), None);
        assert_eq!((of(0, 0, all), of(5, 0, 0)), (None, None));
        for (frame, here) in [(1, 0), (3, 2), (4_100, 4_099), (65_540, 9), (294_912, 1)] {
            for most in [frame, 10_000, 300_000, all] {
                let Some(FramesRead { max, block }) = read(frame, here, most) else {
                    assert!(here % frame + most < frame);
                    continue;
                };
                assert!(0 < max && max <= most.min(FRAMES_MAX));
                assert!(0 < block && block <= FRAMES_BLOCK_MAX);
                assert_eq!(((here + max) % frame, block % frame), (0, 0));
            }
        }
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
