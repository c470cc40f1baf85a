//! Reserving room at the back, to write into it.

use std::{fmt, slice};

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::{BufferError, End, Result},
    segment::{BlockSlice, sizing},
};

/// The most new blocks of one reservation, so that one vectored system call can fill them.
const BLOCKS_MAX: usize = 64;

/// The most bytes of one reservation. The allocator is not asked for more, since it might grant it block by block.
const RESERVE_MAX: usize = (1_usize << 30).saturating_mul(BLOCKS_MAX);

impl EvBuffer {
    /// Reserves room for at least `n` bytes at the back, in one or several slices.
    ///
    /// The room becomes part of the buffer only by [`commit`](Reservation::commit); a reservation that is dropped without it
    /// leaves the buffer unchanged. The room never exceeds the maximum length of the buffer.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) of `n` bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::new();
    /// let mut room = buffer.reserve(100)?;
    /// assert!(room.capacity() >= 100);
    /// assert_eq!(room.put(b"only this"), 9);
    /// room.commit(9)?;
    /// assert_eq!(buffer, b"only this"[..]);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_reserve_space")]
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Result<Reservation<'_>> {
        let spare = self.tail.spare();
        if n <= spare && !self.flags.intersects(Flags::SLOW_ADD) {
            return Ok(Reservation {
                buffer: self,
                spare,
                fresh: None,
                capacity: spare,
                cursor: 0,
            });
        }
        self.reserve_slow(n)
    }

    #[cold]
    fn reserve_slow(&mut self, n: usize) -> Result<Reservation<'_>> {
        if n > 0 {
            self.check_growth(End::Back, n)?;
        }
        self.prepare_add(n);
        let spare = self.tail_spare_for(n);
        let fresh = if n > spare {
            Some(self.fresh_blocks(n - spare)?)
        } else {
            None
        };
        Ok(Reservation::new(self, spare, fresh))
    }

    /// Reserves room for 1 to `n` bytes in one slice: the spare if it is large enough to be worth it, else a new block.
    pub(super) fn reserve_one(&mut self, n: usize) -> Result<Reservation<'_>> {
        let n = n.min(self.room()).min(sizing::sizes().block);
        self.check_growth(End::Back, n.max(1))?;
        self.prepare_add(n);
        if self.tail.spare() >= n.min(sizing::sizes().min_spare) {
            let spare = self.tail.spare().min(n);
            return Ok(Reservation::new(self, spare, None));
        }
        let fresh = Some(vec![self.block_behind(n).ok_or(BufferError::TooLarge)?]);
        let mut room = Reservation::new(self, 0, fresh);
        // The block may be larger.
        room.capacity = n;
        Ok(room)
    }

    /// Reserves room for `n` bytes in new blocks: all of `len` bytes but the first, which is shorter if `n` is no multiple.
    #[cfg(feature = "net")]
    pub(super) fn reserve_blocks(&mut self, n: usize, len: usize) -> Result<Reservation<'_>> {
        self.check_growth(End::Back, n)?;
        let first = n - (n - 1) / len * len;
        let mut blocks = Vec::new();
        let mut reserved = 0;
        while reserved < n {
            let each = if reserved == 0 { first } else { len };
            blocks.push(BlockSlice::with_capacity(each).ok_or(BufferError::TooLarge)?);
            reserved += each;
        }
        Ok(Reservation::new(self, 0, Some(blocks)))
    }

    fn fresh_blocks(&self, n: usize) -> Result<Vec<BlockSlice>> {
        if n > RESERVE_MAX {
            return Err(BufferError::TooLarge);
        }
        let each = n
            .div_ceil(BLOCKS_MAX)
            .max(sizing::sizes().block)
            .min(sizing::sizes().max_block);
        let mut blocks = Vec::new();
        let mut left = n;
        while left > 0 {
            let block = self
                .block_behind(left.min(each))
                .ok_or(BufferError::TooLarge)?;
            left = left.saturating_sub(block.spare());
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// Makes room for `n` more bytes, so that they are added without an allocation and into one segment.
    ///
    /// The room is kept for all adds and drains until it is filled, the last byte of the buffer is removed, other
    /// bytes are linked behind it, or [`shrink_to_fit`](Self::shrink_to_fit) is called. One segment holds at most 1 GiB:
    /// of more, room for the first GiB is made. Zero does nothing.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) of `n` bytes; [`BufferError::TooLarge`] above 64 GiB. The buffer is unchanged then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::new();
    /// buffer.expand(5000)?;
    /// let held = buffer.capacity();
    /// for _ in 0..100 {
    ///     buffer.add([7; 50])?;
    /// }
    /// assert_eq!((buffer.segments(), buffer.capacity()), (1, held));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_expand")]
    pub fn expand(&mut self, n: usize) -> Result<()> {
        if n == 0 {
            return Ok(());
        }
        if n > RESERVE_MAX {
            return Err(BufferError::TooLarge);
        }
        self.make_room(n.min(sizing::sizes().max_block))?;
        self.flags.insert(Flags::PROMISED);
        Ok(())
    }

    /// Does the same without a promise that the room is kept.
    pub(super) fn make_room(&mut self, n: usize) -> Result<()> {
        self.check_growth(End::Back, n)?;
        self.prepare_add(n);
        self.enlarge_tail(n);
        if self.tail.spare() < n {
            let block = self.block_behind(n).ok_or(BufferError::TooLarge)?;
            self.replace_tail(block);
        }
        self.debug_check();
        Ok(())
    }

    /// Makes sure that there is spare for one more byte, and returns all of the spare that may be used.
    pub(super) fn spare_for_one(&mut self) -> Result<(&mut BlockSlice, usize)> {
        let room = self.room();
        if room > 0 {
            self.prepare_add(0);
            if self.tail.spare() == 0 {
                self.make_room(1)?;
            }
        }
        let n = self.tail.spare().min(room);
        Ok((&mut self.tail, n))
    }

    /// Makes the first `n` bytes of the spare data.
    #[inline]
    pub(super) fn commit_to_tail(&mut self, n: usize) {
        self.tail.commit(n);
        self.len += n;
        self.debug_check();
    }
}

/// Room at the back of a buffer, from [`EvBuffer::reserve`].
///
/// A reservation that is dropped without [`commit`](Self::commit) leaves the buffer unchanged. The room never shows bytes of
/// another buffer; where nothing was written before, it is zero.
#[must_use = "nothing is added before `commit`"]
pub struct Reservation<'a> {
    buffer: &'a mut EvBuffer,
    /// How much of the tail's spare is part of the room.
    spare: usize,
    /// Blocks that follow the tail once something is committed to them. `None` is the usual case, which costs no drop.
    fresh: Option<Vec<BlockSlice>>,
    capacity: usize,
    /// Where the next [`put`](Self::put) goes.
    cursor: usize,
}

impl<'a> Reservation<'a> {
    #[inline]
    fn new(buffer: &'a mut EvBuffer, spare: usize, fresh: Option<Vec<BlockSlice>>) -> Self {
        let all = spare + fresh.iter().flatten().map(BlockSlice::spare).sum::<usize>();
        // The room is only what may be added, even if zero bytes were asked for.
        let capacity = if buffer.flags.intersects(Flags::SLOW_ADD) {
            all.min(buffer.room())
        } else {
            all
        };
        Self {
            buffer,
            spare: spare.min(capacity),
            fresh,
            capacity,
            cursor: 0,
        }
    }

    /// Returns the bytes of room: at least what was asked for.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the room as slices, whose lengths sum to [`capacity`](Self::capacity). May be called again.
    ///
    /// Bytes that were [`put`](Self::put) or written before are still there.
    pub fn slices_mut(&mut self) -> SlicesMut<'_> {
        let tail = (self.spare > 0).then_some(&mut self.buffer.tail);
        SlicesMut {
            tail,
            spare: self.spare,
            fresh: self.fresh.as_deref_mut().unwrap_or_default().iter_mut(),
            left: self.capacity,
        }
    }

    /// Writes `src` behind the bytes that were put before, and returns how many of them fit.
    #[inline]
    pub fn put(&mut self, src: &[u8]) -> usize {
        let end = self.cursor + src.len();
        if end > self.spare {
            return self.put_over_blocks(src);
        }
        self.buffer.tail.write_spare(self.cursor, src);
        self.cursor = end;
        src.len()
    }

    #[cold]
    fn put_over_blocks(&mut self, src: &[u8]) -> usize {
        let mut at = self.cursor;
        let mut left = &src[..src.len().min(self.capacity - self.cursor)];
        let n = left.len();
        for slice in self.slices_mut() {
            if at >= slice.len() {
                at -= slice.len();
                continue;
            }
            let here = left.len().min(slice.len() - at);
            slice[at..at + here].copy_from_slice(&left[..here]);
            left = &left[here..];
            at = 0;
            if left.is_empty() {
                break;
            }
        }
        self.cursor += n;
        n
    }

    /// Adds the first `n` bytes of the room to the buffer. Bytes that were not written are zero.
    ///
    /// # Errors
    ///
    /// [`BufferError::OutOfRange`] if `n` is more than [`capacity`](Self::capacity). Nothing is added then.
    #[doc(alias = "evbuffer_commit_space")]
    #[inline]
    pub fn commit(self, n: usize) -> Result<()> {
        if n > self.capacity {
            return Err(BufferError::OutOfRange {
                at: n,
                len: self.capacity,
            });
        }
        let to_tail = n.min(self.spare);
        self.buffer.tail.commit(to_tail);
        self.buffer.len += n;
        if n > to_tail {
            link_blocks(self.buffer, self.fresh.unwrap_or_default(), n - to_tail);
        }
        // Few bytes of a large block must not keep all of it.
        self.buffer.compact_sparse_tail();
        self.buffer.debug_check();
        Ok(())
    }

    /// Returns the memory of the room for a receive call, which fills it without zeroing it first: the tail if it is part of
    /// the room, and the blocks behind it.
    #[cfg(feature = "net")]
    pub(crate) fn memory(&mut self) -> (Option<&mut BlockSlice>, &mut [BlockSlice]) {
        let tail = (self.spare > 0).then_some(&mut self.buffer.tail);
        (tail, self.fresh.as_deref_mut().unwrap_or_default())
    }

    /// Returns the first slice of the room, which is not empty, and how many bytes of it may be used.
    pub(crate) fn first_memory(&mut self) -> (&mut BlockSlice, usize) {
        let capacity = self.capacity;
        if self.spare > 0 {
            return (&mut self.buffer.tail, self.spare);
        }
        let first = self
            .fresh
            .as_deref_mut()
            .and_then(<[BlockSlice]>::first_mut)
            .expect("the room is not empty");
        let n = first.spare().min(capacity);
        (first, n)
    }
}

/// Links the first `n` bytes of `blocks`, the last of which becomes the tail.
#[inline(never)]
fn link_blocks(buffer: &mut EvBuffer, blocks: Vec<BlockSlice>, n: usize) {
    let mut left = n;
    for mut block in blocks {
        if left == 0 {
            break;
        }
        let here = left.min(block.spare());
        block.commit(here);
        left -= here;
        buffer.replace_tail(block);
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// The slices of a [`Reservation`], from [`Reservation::slices_mut`].
#[derive(Debug)]
pub struct SlicesMut<'a> {
    tail: Option<&'a mut BlockSlice>,
    spare: usize,
    fresh: slice::IterMut<'a, BlockSlice>,
    left: usize,
}

impl<'a> Iterator for SlicesMut<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<&'a mut [u8]> {
        if self.left == 0 {
            return None;
        }
        let (block, n) = match self.tail.take() {
            Some(tail) => (tail, self.spare),
            None => {
                let block = self.fresh.next()?;
                let n = block.spare();
                (block, n)
            }
        };
        let n = n.min(self.left);
        self.left -= n;
        Some(block.spare_mut(n))
    }
}
