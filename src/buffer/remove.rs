//! Bytes go out, or are looked at.

use std::{io::IoSlice, mem};

use bytes::{Buf, Bytes};

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::{BufferError, End, Result},
    segment::{BlockSlice, Segment, sizing},
};

impl EvBuffer {
    /// Removes at most `n` bytes from the front and returns how many that were.
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`] if the front is frozen and there is something to remove.
    #[doc(alias = "evbuffer_drain")]
    #[inline]
    pub fn drain(&mut self, n: usize) -> Result<usize> {
        let n = self.removable(n)?;
        self.discard(n);
        Ok(n)
    }

    /// Removes all bytes and returns how many that were.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn clear(&mut self) -> Result<usize> {
        self.drain(usize::MAX)
    }

    /// Moves bytes from the front into `out`, as many as there are or as fit, and returns how many.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    #[doc(alias = "evbuffer_remove")]
    #[doc(alias = "bufferevent_read")]
    #[inline]
    pub fn remove(&mut self, out: &mut [u8]) -> Result<usize> {
        let n = self.removable(out.len())?;
        self.load_first(n)?;
        self.copy_front(&mut out[..n]);
        self.discard(n);
        Ok(n)
    }

    /// Takes at most `n` bytes from the front.
    ///
    /// Without a copy when one segment holds them all, but for short pieces of short segments, which are copied rather
    /// than to pin the block they lie in; else they are gathered.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain); [`BufferError::TooLarge`] if there is no memory to gather them in.
    ///
    /// # Examples
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::from(Bytes::from_static(b"head and body"));
    /// assert_eq!(buffer.take_bytes(4)?, "head");
    /// assert_eq!(buffer.take_bytes(100)?, " and body");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn take_bytes(&mut self, n: usize) -> Result<Bytes> {
        let n = self.removable(n)?;
        self.take_front(n, n)
    }

    /// Removes the first `n` bytes, which are there and may be removed, and returns the first `kept` of them.
    #[inline]
    pub(super) fn take_front(&mut self, kept: usize, n: usize) -> Result<Bytes> {
        match self.body.front_mut() {
            // The next piece of what is shared already, as line after line of a segment is.
            Some(Segment::Shared(first)) if n < first.len() => {
                let taken = first.slice(..kept);
                first.advance(n);
                self.note_removed(n);
                Ok(taken)
            }
            _ => self.take_front_slow(kept, n),
        }
    }

    #[inline(never)]
    fn take_front_slow(&mut self, kept: usize, n: usize) -> Result<Bytes> {
        if n == 0 {
            return Ok(Bytes::new());
        }
        self.load_first(n)?;
        let first = self.first_len();
        if n > first {
            let gathered = self.gather(kept)?;
            self.discard(n);
            return Ok(gathered);
        }
        if n.max(first - n) < sizing::sizes().copy_threshold && self.first_is_owned() {
            let copied = Bytes::copy_from_slice(&self.first_in_memory()[..kept]);
            self.discard(n);
            return Ok(copied);
        }
        let mut taken = self.split_first(n);
        taken.truncate(kept);
        Ok(taken)
    }

    /// Takes the first `n` bytes, all in the first segment, without a copy.
    fn split_first(&mut self, n: usize) -> Bytes {
        self.share_first();
        let Some(Segment::Shared(first)) = self.body.front_mut() else {
            unreachable!("the first segment was just made one that is shared")
        };
        if n < first.len() {
            let taken = first.split_to(n);
            self.note_removed(n);
            return taken;
        }
        let taken = mem::take(first);
        self.body.pop_front();
        self.note_removed(n);
        taken
    }

    /// Makes `Bytes` of the first segment, of which there is one, so that pieces of it cost one atomic operation each.
    pub(super) fn share_first(&mut self) {
        let first = match self.body.front_mut() {
            Some(first) => first,
            None => {
                let owned = self.data_of_tail();
                self.body.push_front(Segment::Shared(owned.into_bytes()));
                return;
            }
        };
        let bytes = match first {
            Segment::Shared(_) => return,
            Segment::Block(owned) => {
                self.held -= owned.allocated();
                mem::take(owned).into_bytes()
            }
            Segment::File(file) => file.bytes(),
        };
        *first = Segment::Shared(bytes);
    }

    /// The first segment, of which there is one, which is in memory; it stays where it is.
    pub(super) fn front_bytes(&mut self) -> Bytes {
        self.share_first();
        match self.body.front() {
            Some(Segment::Shared(first)) => first.clone(),
            _ => unreachable!("the first segment was just made one that is shared"),
        }
    }

    /// The data of the tail, whose spare stays if it is worth that.
    fn data_of_tail(&mut self) -> BlockSlice {
        if self.tail.spare() >= sizing::sizes().min_spare {
            return self.tail.split_data();
        }
        self.held -= self.tail.allocated();
        mem::take(&mut self.tail)
    }

    /// Copies bytes from the front into `out`, as many as there are or as fit, and returns how many.
    ///
    /// # Errors
    ///
    /// [`BufferError::File`] if there is a file range among them that cannot be loaded.
    #[doc(alias = "evbuffer_copyout")]
    #[inline]
    pub fn copyout(&self, out: &mut [u8]) -> Result<usize> {
        let n = out.len().min(self.len());
        self.load_first(n)?;
        self.copy_front(&mut out[..n]);
        Ok(n)
    }

    /// Copies bytes from position `pos` on into `out`, as many as there are or as fit, and returns how many.
    ///
    /// # Errors
    ///
    /// [`BufferError::OutOfRange`] if `pos` is larger than the length.
    #[doc(alias = "evbuffer_copyout_from")]
    pub fn copyout_from(&self, pos: usize, out: &mut [u8]) -> Result<usize> {
        if pos > self.len() {
            return Err(BufferError::OutOfRange {
                at: pos,
                len: self.len(),
            });
        }
        let n = out.len().min(self.len() - pos);
        self.load_first(pos + n)?;
        copy_chunks(self.chunks_from(pos), &mut out[..n]);
        Ok(n)
    }

    /// Makes the first `n` bytes contiguous and returns them; `None` if there are fewer.
    ///
    /// Nothing is copied if they are contiguous already. This is no change: it works on a frozen buffer, too. `None` also
    /// if there is no memory for a copy.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_reference("GE")?;
    /// buffer.add_reference("T /")?;
    /// assert_eq!(buffer.pullup(3), Some(&b"GET"[..]));
    /// assert_eq!(buffer.pullup(6), None);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_pullup")]
    #[inline]
    pub fn pullup(&mut self, n: usize) -> Option<&[u8]> {
        if n > self.first_in_memory().len() {
            self.pull_up(n)?;
        }
        Some(&self.first_in_memory()[..n])
    }

    /// Makes the first `n` bytes contiguous and in memory, if there are so many.
    #[cold]
    fn pull_up(&mut self, n: usize) -> Option<()> {
        if n > self.len() {
            return None;
        }
        self.load_first(n).ok()?;
        if n > self.first_len() {
            self.gather_first(n).ok()?;
            self.debug_check();
        }
        Some(())
    }

    fn gather_first(&mut self, n: usize) -> Result<()> {
        if n > sizing::sizes().max_block {
            let gathered = self.gather(n)?;
            self.skip(n);
            self.body.push_front(Segment::Shared(gathered));
            return Ok(());
        }
        let mut first = self.roomy_first(n)?;
        let mut left = n - first.len();
        while left > 0 {
            let piece = self.first_in_memory();
            let piece = &piece[..piece.len().min(left)];
            first.push(piece);
            let piece_len = piece.len();
            self.skip(piece_len);
            left -= piece_len;
        }
        self.held += first.allocated();
        let is_last = self.body.is_empty() && self.tail.is_empty();
        if is_last && self.tail.spare() < first.spare() && first.forget_past() {
            self.replace_tail(first);
            self.held -= self.tail.allocated();
        } else {
            self.body.push_front(Segment::Block(first));
        }
        Ok(())
    }

    /// Unlinks a block with room for the first `n` bytes: the first segment if it has that room, so that looking further
    /// and further ahead copies each byte a bounded number of times; else a new block with that segment's data.
    fn roomy_first(&mut self, n: usize) -> Result<BlockSlice> {
        match self.body.front_mut() {
            Some(Segment::Block(first)) if first.spare() >= n - first.len() => {
                let first = mem::take(first);
                self.held -= first.allocated();
                self.body.pop_front();
                Ok(first)
            }
            Some(Segment::Block(first)) => {
                BlockSlice::with_capacity(sizing::next_block(n, first.allocated())?)
            }
            _ => BlockSlice::with_capacity(sizing::next_block(n, 0)?),
        }
    }

    /// Lists the data from position `pos` on in `out`, one slice a segment, and returns how many slices were filled.
    ///
    /// The rest, if `out` was too short, is had from [`chunks_from`](Self::chunks_from).
    #[doc(alias = "evbuffer_peek")]
    pub fn peek<'a>(&'a self, pos: usize, out: &mut [IoSlice<'a>]) -> usize {
        self.chunks_from(pos).list(out)
    }

    /// Returns whether the buffer begins with `prefix`.
    #[must_use]
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        let mut left = prefix;
        for chunk in self.chunks() {
            if chunk.len() >= left.len() {
                return chunk.starts_with(left);
            }
            let (here, rest) = left.split_at(chunk.len());
            if chunk != here {
                return false;
            }
            left = rest;
        }
        left.is_empty()
    }

    /// How many of at most `n` bytes may be removed now.
    #[inline]
    fn removable(&self, n: usize) -> Result<usize> {
        let n = n.min(self.len());
        if n > 0 {
            self.check_not_frozen(End::Front)?;
        }
        Ok(n)
    }

    /// Removes the first `n` bytes, which are there, whatever is frozen.
    #[inline]
    pub(crate) fn discard(&mut self, n: usize) {
        match self.body.front_mut() {
            None => self.tail.advance(n),
            Some(first) if n < first.len() => first.advance(n),
            Some(_) => self.skip(n),
        }
        self.note_removed(n);
    }

    /// Accounts for `n` bytes that have left at the front.
    #[inline]
    pub(super) fn note_removed(&mut self, n: usize) {
        self.len -= n;
        self.scanned = 0;
        self.count_removed(n);
        if self.is_empty() {
            self.release_if_large();
        } else {
            self.note_waste();
        }
        self.debug_check();
    }

    /// Lets the first `n` bytes go, without an account of the length.
    #[inline(never)]
    pub(super) fn skip(&mut self, n: usize) {
        let mut left = n;
        while let Some(first) = self.body.front_mut() {
            let len = first.len();
            if left < len {
                return first.advance(left);
            }
            left -= len;
            self.held -= first.allocated();
            // Memory of our own runs nobody's code when it goes.
            let is_foreign = matches!(first, Segment::Shared(_));
            let on_panic = Recount(self);
            if is_foreign && on_panic.0.flags.intersects(Flags::SHARED) {
                if let Some(Segment::Shared(bytes)) = on_panic.0.body.pop_front() {
                    on_panic.0.release_foreign(bytes);
                }
            } else {
                on_panic.0.body.drop_front();
            }
            mem::forget(on_panic);
            if left == 0 {
                return;
            }
        }
        self.tail.advance(left);
    }

    fn gather(&self, n: usize) -> Result<Bytes> {
        let mut gathered = Vec::new();
        gathered
            .try_reserve_exact(n)
            .map_err(|_| BufferError::TooLarge)?;
        for chunk in self.chunks() {
            gathered.extend_from_slice(&chunk[..chunk.len().min(n - gathered.len())]);
        }
        Ok(gathered.into())
    }

    #[inline]
    fn copy_front(&self, out: &mut [u8]) {
        match self.first_in_memory().get(..out.len()) {
            Some(front) => out.copy_from_slice(front),
            None => copy_chunks(self.chunks(), out),
        }
    }

    /// The first segment's data, if that is in memory; else nothing.
    #[inline]
    pub(super) fn first_in_memory(&self) -> &[u8] {
        match self.body.front() {
            Some(first) => first.in_memory().unwrap_or_default(),
            None => self.tail.as_slice(),
        }
    }

    /// Brings what of the first `n` bytes lies in files into memory, so that nothing after this can fail.
    #[inline]
    pub(crate) fn load_first(&self, n: usize) -> Result<()> {
        if self.flags.intersects(Flags::FILES) {
            self.load_files(n)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn load_files(&self, n: usize) -> Result<()> {
        let mut left = n;
        for segment in &self.body {
            if left == 0 {
                break;
            }
            segment.load()?;
            left = left.saturating_sub(segment.len());
        }
        Ok(())
    }

    pub(super) fn first_len(&self) -> usize {
        self.body
            .front()
            .map_or_else(|| self.tail.len(), Segment::len)
    }

    fn first_is_owned(&self) -> bool {
        matches!(self.body.front(), None | Some(Segment::Block(_)))
    }
}

/// Makes good for what could not be done because the `Drop` of an owner has panicked: the length is that of what is there.
struct Recount<'a>(&'a mut EvBuffer);

impl Drop for Recount<'_> {
    fn drop(&mut self) {
        let buffer = &mut *self.0;
        let body: usize = buffer.body.iter().map(Segment::len).sum();
        buffer.len = body + buffer.tail.len();
        buffer.scanned = 0;
    }
}

#[inline(never)]
fn copy_chunks<'a>(chunks: impl Iterator<Item = &'a [u8]>, mut out: &mut [u8]) {
    for chunk in chunks {
        let n = chunk.len().min(out.len());
        out[..n].copy_from_slice(&chunk[..n]);
        out = &mut out[n..];
        if out.is_empty() {
            return;
        }
    }
}
