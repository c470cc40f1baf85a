//! Overwriting bytes in place, and cutting them off at the back.

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::{
    error::{BufferError, End, Result},
    segment::{BlockSlice, Segment},
};

impl EvBuffer {
    /// Overwrites the bytes from position `pos` on with `data`, for example a length field that was not known before.
    ///
    /// Bytes that other buffers or a [`Bytes`](bytes::Bytes) share do not change there: such a segment is copied first, or
    /// only the overwritten part of it if it is foreign memory or a range of a file. Freezing does not matter, since no
    /// byte comes or leaves.
    ///
    /// # Errors
    ///
    /// [`BufferError::OutOfRange`] if `data` would end behind the last byte, [`BufferError::TooLarge`] if there is no memory
    /// for a copy. The buffer is unchanged then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut frame = EvBuffer::new();
    /// frame.add([0; 4])?;
    /// frame.add("payload")?;
    /// let len = u32::try_from(frame.len() - 4).unwrap();
    /// frame.write_at(0, &len.to_be_bytes())?;
    /// assert_eq!(frame, b"\0\0\0\x07payload");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn write_at(&mut self, pos: usize, data: &[u8]) -> Result<()> {
        let len = self.len();
        match pos.checked_add(data.len()) {
            Some(end) if end <= len => {}
            end => {
                let at = end.unwrap_or(usize::MAX);
                return Err(BufferError::OutOfRange { at, len });
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        self.unshare(pos, data.len())?;
        self.scanned = self.scanned.min(u32::try_from(pos).unwrap_or(u32::MAX));
        let mut left = data;
        let mut at = 0;
        for segment in self.body.iter_mut() {
            let Segment::Block(block) = segment else {
                at += segment.len();
                continue;
            };
            left = overwrite(block, &mut at, pos, left);
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            left = overwrite(&mut self.tail, &mut at, pos, left);
        }
        debug_assert!(left.is_empty(), "all bytes were made our own");
        self.count_overwrite();
        self.note_waste();
        self.debug_check();
        Ok(())
    }

    /// Replaces the segments of the `n` bytes from position `pos` on that cannot be written to by copies. Changes nothing if
    /// there is no memory.
    fn unshare(&mut self, pos: usize, n: usize) -> Result<()> {
        if !self.tail.is_empty() && pos + n > self.len - self.tail.len() && !self.tail.is_unique() {
            let copy = BlockSlice::copy_of(self.tail.as_slice()).ok_or(BufferError::TooLarge)?;
            steps::count(copy.len());
            self.set_tail(copy);
            self.flags.remove(Flags::PROMISED);
        }
        let mut start = 0;
        let mut i = 0;
        while i < self.body.len() && start < pos + n {
            steps::count(1);
            let len = self.body[i].len();
            let first = pos.saturating_sub(start).min(len);
            let last = (pos + n - start).min(len);
            let is_ours = match &self.body[i] {
                Segment::Block(block) => block.is_unique(),
                Segment::Foreign(_) | Segment::File(_) => false,
            };
            start += len;
            if first == last || is_ours {
                i += 1;
                continue;
            }
            i += self.replace_part(i, first, last)?;
        }
        Ok(())
    }

    /// Replaces the bytes from `first` to `last` of a segment by a block, which is to be overwritten. Returns the number of
    /// segments that it was divided into.
    fn replace_part(&mut self, i: usize, first: usize, last: usize) -> Result<usize> {
        let old = &self.body[i];
        let len = old.len();
        // Each part of a block, or of a loaded piece of a file, would keep all of it. So these are copied as a whole.
        let whole = match old {
            Segment::Block(block) => Some(block.as_slice()),
            Segment::File(file) => file.chunk(0).filter(|chunk| chunk.len() == len),
            Segment::Foreign(_) => None,
        };
        let (copy, first, last) = match whole {
            Some(bytes) => (
                BlockSlice::copy_of(bytes).ok_or(BufferError::TooLarge)?,
                0,
                len,
            ),
            None => {
                let mut zeroes =
                    BlockSlice::with_capacity(last - first).ok_or(BufferError::TooLarge)?;
                zeroes.commit(last - first);
                (zeroes, first, last)
            }
        };
        steps::count(copy.len());
        let before = (first > 0).then(|| old.part(0, first));
        let behind = (last < len).then(|| old.part(last, len - last));
        let parts = before
            .into_iter()
            .chain([Segment::Block(self.counted(copy))])
            .chain(behind);

        let mut at = i;
        let mut behind = self.body.split_off(i);
        let old = behind.pop_front();
        self.held -= old.as_ref().map_or(0, Segment::allocated);
        for part in parts {
            self.held += part.allocated();
            self.body.push_back(part);
            at += 1;
        }
        self.body.append(&mut behind);
        old.into_iter().for_each(|old| self.release_foreign(old));
        Ok(at - i)
    }

    /// Keeps the first `len` bytes and discards the others. A `len` that is not smaller than the length changes nothing.
    ///
    /// In a shared buffer the discarded bytes count as removed.
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`] if the back is frozen and there is a byte to discard.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::from("head and body");
    /// buffer.truncate(4)?;
    /// assert_eq!(buffer, "head");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len < self.len() {
            self.check_not_frozen(End::Back)?;
            drop(self.cut_back(len));
        }
        Ok(())
    }

    /// Takes the bytes from position `at` on as another buffer.
    ///
    /// Whole segments change owner, and the segment at the cut is shared. The other buffer has no limit and is not frozen. In
    /// a shared buffer the bytes count as removed.
    ///
    /// # Errors
    ///
    /// [`BufferError::OutOfRange`] if `at` is greater than the length, [`BufferError::Frozen`] if the back is frozen and
    /// there is a byte to take. Nothing was taken then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut head = EvBuffer::from("head and body");
    /// let body = head.split_off(4)?;
    /// assert!(head == "head" && body == " and body");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn split_off(&mut self, at: usize) -> Result<EvBuffer> {
        self.check_position(at)?;
        if at == self.len() {
            return Ok(EvBuffer::new());
        }
        self.check_not_frozen(End::Back)?;
        Ok(self.cut_back(at))
    }

    /// Removes the bytes behind position `len`, which were added by an operation that failed. They count in no total.
    pub(super) fn undo_adds(&mut self, len: usize) {
        if len < self.len() {
            let shared = self.flags.only(Flags::SHARED);
            self.flags.remove(shared);
            drop(self.cut_back(len));
            self.flags.insert(shared);
        }
    }

    /// Cuts off the bytes from position `len` on. There is at least one.
    pub(super) fn cut_back(&mut self, len: usize) -> EvBuffer {
        let gone = self.len - len;
        let mut back = EvBuffer::new();
        back.flags.insert(self.flags.only(Flags::FILES));
        self.scanned = self.scanned.min(u32::try_from(len).unwrap_or(u32::MAX));
        // The tail, or its end.
        let tail_len = self.tail.len();
        if gone < tail_len {
            back.link(Segment::Block(self.tail.share(tail_len - gone, gone)));
            self.tail.truncate(tail_len - gone);
        } else {
            if tail_len > 0 {
                let tail = self.take_tail_data();
                self.held -= tail.allocated();
                back.len += tail.len();
                back.held += tail.allocated();
                back.body.push_front(Segment::Block(tail));
            }
            self.cut_body(gone, &mut back);
        }
        self.len = len;
        self.count_truncated(gone);
        self.tidy_up();
        back.tidy_up();
        back
    }

    /// Moves segments from the back of the body to `back` until that has `n` bytes.
    fn cut_body(&mut self, n: usize, back: &mut EvBuffer) {
        while back.len < n {
            steps::count(1);
            let Some(mut last) = self.body.pop_back() else {
                break;
            };
            self.held -= last.allocated();
            let len = last.len();
            let here = (n - back.len).min(len);
            let part = if here == len {
                last
            } else {
                let part = last.part(len - here, here);
                last.truncate(len - here);
                self.held += last.allocated();
                self.body.push_back(last);
                part
            };
            back.len += here;
            back.push_front(part);
        }
    }
}

/// Overwrites the part of `block` that `data` covers, whose first byte goes to position `pos`; `at` is the position of the
/// block, and then of what follows it. Returns the rest of `data`.
fn overwrite<'d>(block: &mut BlockSlice, at: &mut usize, pos: usize, data: &'d [u8]) -> &'d [u8] {
    let len = block.len();
    let first = pos.max(*at);
    let end = *at + len;
    // `data` shrinks as it is written, so its first byte goes to the first position that is not written yet.
    let skip = first - *at;
    *at = end;
    if skip >= len {
        return data;
    }
    let n = data.len().min(len - skip);
    let (here, rest) = data.split_at(n);
    let bytes = block.as_mut_slice().expect("made our own before");
    bytes[skip..skip + n].copy_from_slice(here);
    rest
}
