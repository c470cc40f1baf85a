//! Bytes come in: copied to the back or the front, or linked by reference.

use std::{io::IoSlice, iter};

use bytes::Bytes;

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::{BufferError, End, Result},
    segment::{
        BlockSlice, FileSegment, Segment,
        sizing::{self, BLOCK},
    },
};

/// The least room in front of the data in a block that was made for prepending, in bytes: a header or two more.
const HEADROOM: usize = 64;

impl EvBuffer {
    /// Copies `data` to the back.
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`] if the back is frozen, [`BufferError::Full`] if the limit would be passed,
    /// [`BufferError::Closed`] if this is part of a closed shared buffer, [`BufferError::TooLarge`] if there is no
    /// memory. Nothing was added then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferError, EvBuffer};
    /// let mut buffer = EvBuffer::new();
    /// buffer.set_max_len(Some(8));
    /// buffer.add(b"12345")?;
    /// assert_eq!(buffer.add(b"6789"), Err(BufferError::Full { max_len: 8 }));
    /// assert_eq!(buffer, b"12345"[..]);
    /// # Ok::<(), BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add")]
    #[inline]
    pub fn add(&mut self, data: &[u8]) -> Result<()> {
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
        self.prepare_add(n);
        self.enlarge_tail(n);
        let spare = self.tail_spare_for(n).min(n);
        let (fits, rest) = data.split_at(spare);
        if rest.len() > sizing::sizes().max_block {
            return self.append(n, iter::once(data));
        }
        if rest.is_empty() {
            self.tail.push(fits);
        } else {
            let mut block = self.block_behind(rest.len())?;
            block.push(rest);
            self.tail.push(fits);
            self.replace_tail(block);
        }
        self.len += n;
        self.debug_check();
        Ok(())
    }

    /// Copies all of `data` to the back, as one change, and returns the number of bytes.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add); also [`BufferError::TooLarge`] if the lengths do not fit a `usize`. It is all or nothing.
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
    fn append<'d>(&mut self, total: usize, pieces: impl Iterator<Item = &'d [u8]>) -> Result<()> {
        if total == 0 {
            return Ok(());
        }
        self.check_growth(End::Back, total)?;
        self.prepare_add(total);
        self.enlarge_tail(total);
        // All memory is had before the first byte is written: whole or nothing.
        let spare = self.tail_spare_for(total);
        let mut blocks = self.blocks_for(total - spare.min(total))?;
        if spare == 0 {
            self.next_tail(&mut blocks);
        }
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

    /// Makes the best of the memory that is there before more is asked for.
    #[inline]
    pub(super) fn prepare_add(&mut self, n: usize) {
        if self.flags.intersects(Flags::WASTEFUL) {
            self.compact_if_wasteful();
        }
        if self.tail.spare() < n && !self.tail.is_empty() {
            self.tail.realign_for(n);
        }
    }

    /// Moves a little data into a block with room for `n` bytes behind it, rather than to begin another segment.
    #[inline]
    pub(super) fn enlarge_tail(&mut self, n: usize) {
        if self.tail.spare() < n && !self.tail.is_empty() {
            self.move_to_larger_tail(n);
        }
    }

    fn move_to_larger_tail(&mut self, n: usize) {
        let (len, sizes) = (self.tail.len(), sizing::sizes());
        let small = len < sizes.copy_threshold && n <= sizes.block.saturating_sub(len);
        if !small || !self.tail.is_unique() {
            return;
        }
        let allocated = self.tail.allocated();
        // Without memory for that the data stays where it is.
        if let Ok(mut block) =
            sizing::next_block(len + n, allocated).and_then(BlockSlice::with_capacity)
        {
            block.push(self.tail.as_slice());
            self.held = self.held - allocated + block.allocated();
            self.tail = block;
        }
    }

    /// The spare that `n` bytes would be put into. A spare block that does not hold them all is left alone: one that
    /// does takes its place.
    pub(super) fn tail_spare_for(&self, n: usize) -> usize {
        let spare = self.tail.spare();
        if spare < n && self.tail.is_empty() && spare < sizing::sizes().block {
            0
        } else {
            spare
        }
    }

    /// Blocks with room for `n` bytes behind the tail.
    fn blocks_for(&self, n: usize) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        let mut left = n;
        while left > 0 {
            // All but the last are as large as a block can be, and the last is made first.
            let len = (left - 1) % sizing::sizes().max_block + 1;
            blocks.push_front(self.block_behind(len)?);
            left -= len;
        }
        Ok(blocks)
    }

    /// A block with room for `n` bytes, to follow the tail.
    pub(super) fn block_behind(&self, n: usize) -> Result<BlockSlice> {
        BlockSlice::with_capacity(sizing::next_block(n, self.previous_block())?)
    }

    fn next_tail(&mut self, blocks: &mut Blocks) {
        let block = blocks.next().expect("blocks were made for all bytes");
        self.replace_tail(block);
    }

    /// Copies `data` before the first byte: into the room in front, or into a block of its own.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), for the front. Nothing was prepended then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut frame = EvBuffer::from(&b"payload"[..]);
    /// let len = u32::try_from(frame.len()).unwrap();
    /// frame.prepend(&len.to_be_bytes())?;
    /// assert_eq!(frame, b"\0\0\0\x07payload"[..]);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_prepend")]
    pub fn prepend(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.check_growth(End::Front, data.len())?;
        self.prepare_add(0);
        if !self.push_front(data) {
            self.prepend_blocks(data)?;
        }
        self.note_prepended(data.len());
        self.debug_check();
        Ok(())
    }

    /// Puts `data` into blocks of their own before the first byte, without an account of the length.
    fn prepend_blocks(&mut self, data: &[u8]) -> Result<()> {
        // All but the first are as large as a block can be.
        let (first, rest) = data.split_at((data.len() - 1) % sizing::sizes().max_block + 1);
        let block = self.block_before(first)?;
        if !rest.is_empty() {
            self.prepend_blocks(rest)?;
        }
        self.held += block.allocated();
        self.body.push_front(Segment::Block(block));
        Ok(())
    }

    fn push_front(&mut self, data: &[u8]) -> bool {
        match self.body.front_mut() {
            Some(Segment::Block(first)) => first.push_front(data),
            Some(Segment::Shared(_) | Segment::File(_)) => false,
            None if self.tail.is_empty() => false,
            None => self.tail.push_front(data),
        }
    }

    /// A block with `data` at its end and room before it.
    fn block_before(&self, data: &[u8]) -> Result<BlockSlice> {
        // In proportion to what is there, so that many small pieces do not come to lie in a block each.
        let headroom = (self.len / 8).clamp(HEADROOM, BLOCK);
        let wanted = if data.len() < BLOCK {
            data.len() + headroom
        } else {
            data.len()
        };
        let mut block = BlockSlice::with_capacity(sizing::next_block(
            wanted.min(sizing::sizes().max_block),
            0,
        )?)?;
        block.align_to_end();
        let fitted = block.push_front(data);
        debug_assert!(fitted, "the block was made for this");
        Ok(block)
    }

    /// Accounts for `n` bytes that were put before all others.
    pub(super) fn note_prepended(&mut self, n: usize) {
        self.len += n;
        self.scanned = 0;
        self.count_prepended(n);
    }

    /// Links `data` behind the last byte, without a copy.
    ///
    /// The memory is released when its last byte has left this buffer and whatever shares it. A reference to nothing is
    /// released at once.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). The reference is dropped then.
    #[doc(alias = "evbuffer_add_reference")]
    #[doc(alias = "evbuffer_add_reference_with_offset")]
    pub fn add_reference(&mut self, data: impl Into<Bytes>) -> Result<()> {
        self.reference(data.into(), End::Back)
    }

    /// Links `data` before the first byte, without a copy.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), for the front. The reference is dropped then.
    pub fn prepend_reference(&mut self, data: impl Into<Bytes>) -> Result<()> {
        self.reference(data.into(), End::Front)
    }

    /// Links the bytes of `owner` behind the last byte, without a copy. `owner` is dropped when the last of them is gone.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). `owner` is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let table: Box<[u8]> = vec![7; 4096].into();
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_owner(table)?;
    /// assert_eq!(buffer.len(), 4096);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add_reference")]
    pub fn add_owner<T: AsRef<[u8]> + Send + 'static>(&mut self, owner: T) -> Result<()> {
        self.reference(Bytes::from_owner(owner), End::Back)
    }

    /// Links a range of a file behind the last byte.
    ///
    /// A socket that a `BufferEvent` writes to is sent the bytes by the kernel. What needs them in
    /// memory loads them, once, with blocking reads of at most 256 KiB; see [`FileSegment`]. A range of no bytes leaves
    /// nothing behind.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    #[doc(alias = "evbuffer_add_file")]
    #[doc(alias = "evbuffer_add_file_segment")]
    pub fn add_file(&mut self, file: FileSegment) -> Result<()> {
        let n = usize::try_from(file.len()).map_err(|_| BufferError::TooLarge)?;
        if n == 0 {
            return Ok(());
        }
        self.check_growth(End::Back, n)?;
        self.prepare_add(0);
        for piece in file.pieces() {
            self.link(Segment::File(piece));
        }
        self.note_waste();
        self.debug_check();
        Ok(())
    }

    #[inline]
    fn reference(&mut self, data: Bytes, end: End) -> Result<()> {
        if data.is_empty() {
            self.release_foreign(data);
            return Ok(());
        }
        if let Err(error) = self.check_growth(end, data.len()) {
            self.release_foreign(data);
            return Err(error);
        }
        self.prepare_add(0);
        match end {
            End::Back => self.link(Segment::Shared(data)),
            End::Front => {
                self.note_prepended(data.len());
                self.body.push_front(Segment::Shared(data));
            }
        }
        // What lies between references cannot be added to any more, however small it is.
        self.note_waste();
        self.debug_check();
        Ok(())
    }
}

/// Blocks for one addition: nearly always one, which then costs no list.
#[derive(Default)]
struct Blocks {
    first: Option<BlockSlice>,
    /// The others, last one first.
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
