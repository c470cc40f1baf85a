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

    /// Returns whether reads are offered the most: the stream is a bulk flow.
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

/// The most bytes of a read of several frames. With half of that, frames of 64 KiB took 1.15 times the CPU time.
const FRAMES_MAX: usize = 2 * FRAMES_BLOCK_MAX;

/// The longest frame that gets a block and a read to itself: 1 MiB, and a header. Those of 1 MiB took twice the CPU time when
/// each was copied together from several blocks.
const FRAME_MAX: usize = 1088 << 10;

/// The length of the frames of a flow, once two waits in a row were for frames of the same length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameLen {
    /// The length of the last frame that was awaited; 0 if it is too long for a block.
    last: u32,
    is_steady: bool,
    /// The last read got all that it was offered.
    fills_reads: bool,
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
        let len = match len <= FRAME_MAX {
            true => len as u32,
            false => 0,
        };
        self.is_steady = len == self.last && len > 0;
        self.last = len;
    }

    /// Records a read that was offered `offered` bytes and brought `got`.
    pub(crate) fn record_read(&mut self, offered: usize, got: usize) {
        self.fills_reads = got >= offered;
    }

    /// Returns a read of at most `most` bytes, behind `here` bytes that begin with a frame. `None` if the length of the
    /// frames is not known, or the read would end no frame.
    pub(crate) fn read(self, here: usize, most: usize) -> Option<FramesRead> {
        let (frame, begun) = self.frame_and_begun(here)?;
        let is_long = frame > FRAMES_BLOCK_MAX;
        if is_long && !self.fills_reads {
            // Of a block that is filled in small part, the bytes would be copied.
            return None;
        }
        let most = most.min(FRAMES_MAX.max(frame - begun));
        let frames = (begun + most) / frame;
        (frames > 0).then(|| FramesRead {
            max: frames * frame - begun,
            block: (FRAMES_BLOCK_MAX / frame).max(1) * frame,
        })
    }

    /// Returns whether `room` bytes behind `here` ones end no frame, though the length of the frames is known.
    pub(crate) fn is_blocked(self, here: usize, room: usize) -> bool {
        self.frame_and_begun(here)
            .is_some_and(|(frame, begun)| room < frame - begun)
    }

    /// Returns the length, if it is known, and how much there is of the last one of the frames in `here` bytes.
    fn frame_and_begun(self, here: usize) -> Option<(usize, usize)> {
        let frame = self.last as usize;
        let begun = here.checked_rem(frame)?;
        self.is_steady.then_some((frame, begun))
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

    /// Frames of `frame` bytes from a stream that fills reads.
    fn frames_of(frame: usize) -> FrameLen {
        let mut frames = FrameLen::default();
        frames.record(frame);
        frames.record(frame);
        frames.record_read(100, 100);
        frames
    }

    #[test]
    fn the_length_of_frames_is_known_after_two_of_the_same() {
        let mut frames = FrameLen::default();
        let mut is_known = |len| {
            frames.record(len);
            frames.read(0, usize::MAX).is_some()
        };
        let (yes, no) = (true, false);
        let known = [5, 5, 5, 9, 5, 5].map(&mut is_known);
        assert_eq!(known, [no, yes, yes, no, no, yes]);
        let too_long = FRAME_MAX + 1;
        let known = [too_long, too_long, 5, 5, 0, 0].map(&mut is_known);
        assert_eq!(known, [no, no, no, yes, no, no]);
    }

    #[test]
    fn a_read_of_frames_ends_with_one_and_so_do_its_blocks() {
        let of = |frame, here, most| {
            let read = frames_of(frame).read(here, most);
            read.map(|read| (read.max, read.block))
        };
        let all = usize::MAX;
        assert_eq!(of(65_540, 0, all), Some((8 * 65_540, 4 * 65_540)));
        assert_eq!(of(65_540, 65_524, all), Some((16 + 8 * 65_540, 4 * 65_540)));
        assert_eq!(of(65_540, 2 * 65_540, 256 << 10).unwrap().0, 3 * 65_540);
        assert_eq!(of(100_000, 30_000, 69_999), None);
        assert_eq!(of(100_000, 30_000, 70_000).unwrap().0, 70_000);
        assert_eq!(of(100_000, 230_000, 100_000).unwrap().0, 70_000);
        assert_eq!(of(1, 7, all), Some((FRAMES_MAX, FRAMES_BLOCK_MAX)));
        assert_eq!(of(300_000, 0, all), Some((300_000, 300_000)));
        assert_eq!(of(FRAME_MAX, 0, all), Some((FRAME_MAX, FRAME_MAX)));
        assert_eq!(of(FRAME_MAX, 9, all), Some((FRAME_MAX - 9, FRAME_MAX)));
        assert_eq!((of(FRAME_MAX + 1, 0, all), of(5, 0, 0)), (None, None));
        for (frame, here) in [(1, 0), (3, 2), (4_100, 4_099), (65_540, 9), (700_000, 1)] {
            let frames = frames_of(frame);
            for most in [frame - 1, frame, 10_000, 300_000, all] {
                let read = frames.read(here, most);
                assert_eq!(read.is_none(), frames.is_blocked(here, most));
                let Some(FramesRead { max, block }) = read else {
                    assert!(here % frame + most < frame);
                    continue;
                };
                assert!(0 < max && max <= most.min(FRAMES_MAX.max(frame)));
                assert!(0 < block && block <= FRAMES_BLOCK_MAX.max(frame));
                assert_eq!(((here + max) % frame, block % frame), (0, 0));
            }
        }
    }

    #[test]
    fn long_frames_get_a_block_only_where_reads_are_filled() {
        for (frame, is_read) in [(FRAMES_BLOCK_MAX, true), (FRAMES_BLOCK_MAX + 1, false)] {
            let mut frames = frames_of(frame);
            assert!(frames.read(0, usize::MAX).is_some());
            frames.record_read(100, 99);
            assert_eq!(frames.read(0, usize::MAX).is_some(), is_read);
            assert!(!frames.is_blocked(0, frame) && frames.is_blocked(0, frame - 1));
        }
        assert!(!FrameLen::default().is_blocked(0, 0));
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
