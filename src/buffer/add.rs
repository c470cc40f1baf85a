//! Copying bytes into a buffer, to the back or the front.

use std::{fmt, io::IoSlice, iter, mem};

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::{
    error::{BufferError, End, Result},
    segment::{
        BlockSlice, Segment,
        sizing::{self, BLOCK},
    },
};

/// The least room before the data in a block that was made for prepending, in bytes: enough for a header or two more.
const HEADROOM: usize = 64;

impl EvBuffer {
    /// Copies `data` to the back.
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`] if the back is frozen, [`BufferError::Full`] if the maximum length would be exceeded,
    /// [`BufferError::Closed`] if this is part of a closed shared buffer, [`BufferError::TooLarge`] if there is no
    /// memory. Nothing was added then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferError, EvBuffer};
    /// let mut buffer = EvBuffer::new();
    /// buffer.set_max_len(Some(8));
    /// buffer.add("12345")?;
    /// assert_eq!(buffer.add(b"6789"), Err(BufferError::Full { max_len: 8 }));
    /// assert_eq!(buffer, "12345");
    /// # Ok::<(), BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add")]
    #[inline]
    pub fn add(&mut self, data: impl AsRef<[u8]>) -> Result<()> {
        let data = data.as_ref();
        if data.len() <= self.tail.spare() && !self.flags.intersects(Flags::SLOW_ADD) {
            self.tail.push(data);
            self.len += data.len();
            return Ok(());
        }
        self.add_slow(data)
    }

    #[cold]
    #[inline(never)]
    fn add_slow(&mut self, data: &[u8]) -> Result<()> {
        let n = data.len();
        if n == 0 {
            return Ok(());
        }
        self.check_growth(End::Back, n)?;
        if self.tail.is_none() && !self.flags.intersects(Flags::WASTEFUL) {
            return self.add_to_new_tail(data);
        }
        self.prepare_add(n);
        self.enlarge_tail(n);
        let spare = self.tail_spare_for(n).min(n);
        steps::count(n);
        let (fits, rest) = data.split_at(spare);
        if rest.len() > sizing::sizes().max_block {
            return self.append(n, iter::once(data));
        }
        if rest.is_empty() {
            self.tail.push(fits);
        } else {
            let mut block = self.block_behind(rest.len()).ok_or(BufferError::TooLarge)?;
            block.push(rest);
            self.tail.push(fits);
            self.replace_tail(block);
        }
        self.len += n;
        self.debug_check();
        Ok(())
    }

    /// Copies `data`, which is not empty, to a new block. There is no tail.
    #[inline]
    fn add_to_new_tail(&mut self, data: &[u8]) -> Result<()> {
        if data.len() > sizing::sizes().max_block {
            return self.append(data.len(), iter::once(data));
        }
        steps::count(data.len());
        let mut block = self.block_behind(data.len()).ok_or(BufferError::TooLarge)?;
        block.push(data);
        self.set_tail(block);
        self.len += data.len();
        self.debug_check();
        Ok(())
    }

    /// Copies all of `data` to the back, as one change, and returns the number of bytes.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add); also [`BufferError::TooLarge`] if the sum of the lengths overflows. Nothing was added then.
    #[doc(alias = "evbuffer_add_iovec")]
    pub fn add_vectored(&mut self, data: &[IoSlice<'_>]) -> Result<usize> {
        let total = data
            .iter()
            .try_fold(0_usize, |sum, slice| sum.checked_add(slice.len()))
            .ok_or(BufferError::TooLarge)?;
        self.append(total, data.iter().map(|slice| &**slice))?;
        Ok(total)
    }

    /// Copies `pieces`, which are `total` bytes in all, to the back.
    pub(super) fn append<'d>(
        &mut self,
        total: usize,
        pieces: impl Iterator<Item = &'d [u8]>,
    ) -> Result<()> {
        if total == 0 {
            return Ok(());
        }
        self.check_growth(End::Back, total)?;
        self.prepare_add(total);
        self.enlarge_tail(total);
        // All memory is allocated before the first byte is written, so that all or nothing is added.
        let spare = self.tail_spare_for(total);
        let mut blocks = self.blocks_for(total - spare.min(total))?;
        if spare == 0 {
            self.next_tail(&mut blocks);
        }
        steps::count(total);
        for mut piece in pieces {
            loop {
                piece = self.tail.push_some(piece);
                if piece.is_empty() {
                    break;
                }
                self.next_tail(&mut blocks);
            }
        }
        self.len += total;
        self.debug_check();
        Ok(())
    }

    /// Uses the present memory better before more is asked for.
    #[inline]
    pub(super) fn prepare_add(&mut self, n: usize) {
        if self.flags.intersects(Flags::WASTEFUL) {
            self.compact_if_wasteful();
        }
        if self.tail.spare() < n && !self.tail.is_empty() {
            self.tail.realign_for(n);
        }
    }

    /// Moves a little data into a block with room for `n` bytes behind it, instead of starting another segment.
    #[inline]
    pub(super) fn enlarge_tail(&mut self, n: usize) {
        if self.tail.spare() < n && !self.tail.is_empty() {
            self.move_to_larger_tail(n);
        }
    }

    fn move_to_larger_tail(&mut self, n: usize) {
        let (len, sizes) = (self.tail.len(), sizing::sizes());
        let is_small = len < sizes.copy_threshold && n <= sizes.block.saturating_sub(len);
        if !is_small || !self.tail.is_unique() {
            return;
        }
        let allocated = self.tail.allocated();
        // Without memory for that the data stays where it is.
        if let Some(mut block) =
            sizing::next_block(len + n, allocated).and_then(BlockSlice::with_capacity)
        {
            steps::count(len);
            block.push(self.tail.as_slice());
            self.set_tail(block);
            self.flags.remove(Flags::PROMISED);
        }
    }

    /// Returns the spare that `n` bytes would be put into. A spare block that does not hold them all is left alone: one
    /// that does replaces it.
    pub(super) fn tail_spare_for(&self, n: usize) -> usize {
        let spare = self.tail.spare();
        if spare < n && self.tail.is_empty() && spare < sizing::sizes().block {
            0
        } else {
            spare
        }
    }

    /// Allocates blocks with room for `n` bytes behind the tail.
    fn blocks_for(&self, n: usize) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        let mut left = n;
        while left > 0 {
            // All but the last are as large as a block can be; the last is made first.
            let len = (left - 1) % sizing::sizes().max_block + 1;
            blocks.push_front(self.block_behind(len).ok_or(BufferError::TooLarge)?);
            left -= len;
        }
        Ok(blocks)
    }

    /// Allocates a block with room for `n` bytes, to follow the tail. `None` if there is no memory.
    #[inline]
    pub(super) fn block_behind(&self, n: usize) -> Option<BlockSlice> {
        BlockSlice::with_capacity(sizing::next_block(n, self.previous_block())?)
    }

    fn next_tail(&mut self, blocks: &mut Blocks) {
        let block = blocks.next().expect("blocks were made for all bytes");
        self.replace_tail(block);
    }

    /// Adds a formatted text completely or not at all.
    pub(super) fn add_formatted(&mut self, args: fmt::Arguments<'_>) -> Result<()> {
        if let Some(text) = args.as_str() {
            return self.add(text);
        }
        let mut text = FormattedText {
            len_before: self.len(),
            buffer: self,
            result: Ok(()),
        };
        let formatted = fmt::Write::write_fmt(&mut text, args);
        // A `Display` that fails by itself gives no reason.
        text.result
            .and(formatted.map_err(|_| BufferError::TooLarge))?;
        mem::forget(text);
        Ok(())
    }

    /// Copies `data` before the first byte.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), for the front. Nothing was prepended then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut frame = EvBuffer::from("payload");
    /// let len = u32::try_from(frame.len()).unwrap();
    /// frame.prepend(len.to_be_bytes())?;
    /// assert_eq!(frame, b"\0\0\0\x07payload");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_prepend")]
    pub fn prepend(&mut self, data: impl AsRef<[u8]>) -> Result<()> {
        let data = data.as_ref();
        if data.is_empty() {
            return Ok(());
        }
        self.check_growth(End::Front, data.len())?;
        self.prepare_add(0);
        steps::count(data.len());
        if !self.push_into_headroom(data) {
            self.prepend_blocks(data)?;
        }
        self.note_prepended(data.len());
        self.debug_check();
        Ok(())
    }

    /// Puts `data` into separate blocks before the first byte, without counting their length.
    fn prepend_blocks(&mut self, data: &[u8]) -> Result<()> {
        // All but the first are as large as a block can be.
        let (first, rest) = data.split_at((data.len() - 1) % sizing::sizes().max_block + 1);
        let block = self.block_before(first).ok_or(BufferError::TooLarge)?;
        if !rest.is_empty() {
            self.prepend_blocks(rest)?;
        }
        self.push_front(Segment::Block(block));
        Ok(())
    }

    fn push_into_headroom(&mut self, data: &[u8]) -> bool {
        match self.body.front_mut() {
            Some(Segment::Block(first)) => first.push_front(data),
            Some(Segment::Foreign(_) | Segment::File(_)) => false,
            None if self.tail.is_empty() => false,
            None => self.tail.push_front(data),
        }
    }

    /// Allocates a block with `data` at its end and room before it.
    fn block_before(&self, data: &[u8]) -> Option<BlockSlice> {
        // In proportion to the length, so that many small pieces need few blocks.
        let headroom = (self.len / 8).clamp(HEADROOM, BLOCK);
        let wanted = if data.len() < BLOCK {
            data.len() + headroom
        } else {
            data.len()
        };
        let wanted = wanted.min(sizing::sizes().max_block);
        let mut block = BlockSlice::with_headroom(sizing::next_block(wanted, 0)?)?;
        let has_room = block.push_front(data);
        debug_assert!(has_room, "the block was made for this");
        Some(block)
    }

    /// Accounts for `n` bytes that were put before all others.
    pub(super) fn note_prepended(&mut self, n: usize) {
        self.len += n;
        self.scanned = 0;
        self.count_prepended(n);
    }
}

/// A text that is added piece by piece. Its drop removes what was added, also if the user's `Display` panics.
struct FormattedText<'a> {
    buffer: &'a mut EvBuffer,
    len_before: usize,
    /// The error of the buffer, which `fmt::Error` does not carry.
    result: Result<()>,
}

impl fmt::Write for FormattedText<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // A `Display` may ignore an error and continue.
        self.result = self.result.and_then(|()| self.buffer.add(piece));
        self.result.map_err(|_| fmt::Error)
    }
}

impl Drop for FormattedText<'_> {
    fn drop(&mut self) {
        self.buffer.undo_adds(self.len_before);
    }
}

/// The blocks for one addition. There is nearly always one, which then costs no list.
#[derive(Default)]
struct Blocks {
    first: Option<BlockSlice>,
    /// The other segments, the last one first.
    more: Vec<BlockSlice>,
}

impl Blocks {
    /// Adds a block before all others.
    fn push_front(&mut self, block: BlockSlice) {
        self.more.extend(self.first.replace(block));
    }

    fn next(&mut self) -> Option<BlockSlice> {
        self.first.take().or_else(|| self.more.pop())
    }
}
