//! Moves between buffers: segments change hands, bytes stay where they are.

use std::mem;

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::{End, Result},
    segment::{
        Segment,
        sizing::{self, SLICES_MAX},
    },
};

impl EvBuffer {
    /// Moves all bytes of `src` to the back of `self` and returns how many that were.
    ///
    /// Costs one step a segment of the shorter chain, however long the segments are. A single segment below
    /// [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes is copied. `src` is left empty and usable.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), and [`BufferError::Frozen`](crate::BufferError::Frozen) if the front of `src` is frozen.
    /// Both buffers are then as they were.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let (mut head, mut tail) = (EvBuffer::from(&b"GET "[..]), EvBuffer::from(&b"/index"[..]));
    /// assert_eq!(head.add_buffer(&mut tail)?, 6);
    /// assert!(head == b"GET /index"[..] && tail.is_empty());
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add_buffer")]
    #[doc(alias = "bufferevent_write_buffer")]
    #[doc(alias = "bufferevent_read_buffer")]
    pub fn add_buffer(&mut self, src: &mut EvBuffer) -> Result<usize> {
        let n = src.len();
        if n == 0 {
            return Ok(0);
        }
        self.check_move(End::Back, src, n)?;
        self.take_all(src);
        Ok(n)
    }

    fn take_all(&mut self, src: &mut EvBuffer) {
        let n = src.len();
        if n < sizing::sizes().copy_threshold
            && src.segments() == 1
            && self.copy_short(src.first_in_memory())
        {
            return src.discard(n);
        }
        self.append_body(src);
        if !src.tail.is_empty() {
            self.take_tail(src);
        }
        self.len += n;
        src.note_removed(n);
        self.compact_if_wasteful();
        self.debug_check();
    }

    /// Moves the tail of `src`, which is not empty, behind our body. It becomes ours, unless we could then see what `src`
    /// removed from it.
    fn take_tail(&mut self, src: &mut EvBuffer) {
        let mut tail = mem::take(&mut src.tail);
        src.held -= tail.allocated();
        let becomes_ours = tail.forget_past();
        // Only now: a range that was lent counts with whoever may write behind it.
        self.held += tail.allocated();
        if becomes_ours {
            self.held -= self.tail.allocated();
            self.tail = tail;
        } else {
            self.body.push_back(Segment::Block(tail));
        }
    }

    /// Checks that `n` bytes may come in at `end` and leave `src`: both freezes count before any limit.
    fn check_move(&self, end: End, src: &EvBuffer, n: usize) -> Result<()> {
        src.check_not_frozen(End::Front)?;
        self.check_growth(end, n)
    }

    /// Moves the body of `src` behind all data; the longer list stays in place.
    fn append_body(&mut self, src: &mut EvBuffer) {
        self.adopt(src);
        if self.body.len() >= src.body.len() {
            self.seal_tail();
            return self.body.append(&mut src.body);
        }
        if !self.tail.is_empty() {
            let data = self.take_tail_data();
            src.body.push_front(Segment::Block(data));
        }
        while let Some(segment) = self.body.pop_back() {
            src.body.push_front(segment);
        }
        mem::swap(&mut self.body, &mut src.body);
    }

    /// Answers from now on for what the body of `src` holds.
    fn adopt(&mut self, src: &mut EvBuffer) {
        let moved = src.held - src.tail.allocated();
        src.held -= moved;
        self.held += moved;
        self.flags.insert(src.flags.only(Flags::FILES));
    }

    /// Moves all bytes of `src` before the first byte of `self` and returns how many that were.
    ///
    /// # Errors
    ///
    /// As [`prepend`](Self::prepend), and [`BufferError::Frozen`](crate::BufferError::Frozen) if the front of `src` is
    /// frozen. Both buffers are then as they were.
    #[doc(alias = "evbuffer_prepend_buffer")]
    pub fn prepend_buffer(&mut self, src: &mut EvBuffer) -> Result<usize> {
        let n = src.len();
        if n == 0 {
            return Ok(0);
        }
        self.check_move(End::Front, src, n)?;
        if n < sizing::sizes().copy_threshold
            && src.segments() == 1
            && self.prepend_short(src.first_in_memory())
        {
            src.discard(n);
            return Ok(n);
        }
        if !src.tail.is_empty() {
            let tail = mem::take(&mut src.tail);
            src.body.push_back(Segment::Block(tail));
        }
        mem::swap(&mut self.body, &mut src.body);
        self.adopt(src);
        self.body.append(&mut src.body);
        self.note_prepended(n);
        src.note_removed(n);
        self.compact_if_wasteful();
        self.debug_check();
        Ok(n)
    }

    /// Moves at most `n` bytes from the front of `self` to the back of `dst` and returns how many that were.
    ///
    /// Whole segments change hands. Of the segment in the middle the part that goes is shared, not copied, unless it is
    /// below [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) for `dst`, if what would move does not fit there, and
    /// [`BufferError::Frozen`](crate::BufferError::Frozen) if the front of `self` is frozen. Nothing was moved then.
    #[doc(alias = "evbuffer_remove_buffer")]
    pub fn remove_buffer(&mut self, dst: &mut EvBuffer, n: usize) -> Result<usize> {
        let n = n.min(self.len());
        if n == 0 {
            return Ok(0);
        }
        dst.check_move(End::Back, self, n)?;
        if n == self.len() {
            dst.take_all(self);
            return Ok(n);
        }
        let mut left = n;
        while left > 0 {
            left -= self.move_front(dst, left);
        }
        self.note_removed(n);
        dst.compact_if_wasteful();
        dst.debug_check();
        Ok(n)
    }

    /// Moves what of the first segment is among the first `left` bytes, without an account of our length.
    fn move_front(&mut self, dst: &mut EvBuffer, left: usize) -> usize {
        let first_len = self.first_len();
        let n = first_len.min(left);
        let first = self.first_in_memory();
        if n < sizing::sizes().copy_threshold && dst.copy_short(&first[..n.min(first.len())]) {
            self.skip(n);
        } else if n < first_len || self.body.is_empty() {
            let piece = match self.body.front_mut() {
                Some(first) => first.split_to(n),
                None => {
                    let piece = self.tail.share(n);
                    self.tail.advance(n);
                    Segment::Block(piece)
                }
            };
            dst.link(piece);
        } else if let Some(segment) = self.body.pop_front() {
            self.held -= segment.allocated();
            dst.link(segment);
        }
        n
    }

    /// Adds all bytes of `src` to the back of `self`, without a copy and without removing them; returns how many.
    ///
    /// Both buffers then share the memory; neither sees what the other does to its own bytes. Any segment may be shared
    /// any number of times, and `src` goes on writing to its spare room.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). A frozen front of `src` does not matter, since nothing leaves it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut news = EvBuffer::from(&b"to all"[..]);
    /// let mut clients: [EvBuffer; 3] = Default::default();
    /// for client in &mut clients {
    ///     client.add_buffer_reference(&mut news)?;
    /// }
    /// assert!(clients.iter().all(|client| *client == news));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add_buffer_reference")]
    pub fn add_buffer_reference(&mut self, src: &mut EvBuffer) -> Result<usize> {
        let n = src.len();
        if n == 0 {
            return Ok(0);
        }
        self.check_growth(End::Back, n)?;
        for segment in src.body.iter_mut() {
            let short = if segment.len() < sizing::sizes().copy_threshold {
                segment.in_memory()
            } else {
                None
            };
            if !self.copy_short(short.unwrap_or_default()) {
                self.link(segment.share());
            }
        }
        let tail = src.tail.len();
        let short = if tail < sizing::sizes().copy_threshold {
            src.tail.as_slice()
        } else {
            &[]
        };
        if tail > 0 && !self.copy_short(short) {
            self.link(Segment::Block(src.tail.share(tail)));
        }
        self.compact_if_wasteful();
        self.debug_check();
        Ok(n)
    }

    /// Shares what of the first `max` bytes lies in the first 64 segments with `dst`, behind what is there, and returns how
    /// many bytes that were. They stay here, to be drained later.
    pub(crate) fn share_front(&mut self, dst: &mut EvBuffer, max: usize) -> usize {
        let mut left = max.min(self.len());
        let all = left;
        for segment in self.body.iter_mut().take(SLICES_MAX) {
            if left == 0 {
                break;
            }
            let n = segment.len().min(left);
            dst.link(segment.share().split_to(n));
            left -= n;
        }
        if left > 0 && self.body.len() < SLICES_MAX {
            let tail = self.tail.share(left);
            if dst.is_empty() {
                // A single segment needs no ring.
                dst.replace_tail(tail);
                dst.len = left;
            } else {
                dst.link(Segment::Block(tail));
            }
            left = 0;
        }
        dst.debug_check();
        all - left
    }

    /// Copies a piece that is too short to be shared; false if there is none, or no memory for it.
    fn copy_short(&mut self, piece: &[u8]) -> bool {
        !piece.is_empty() && self.add(piece).is_ok()
    }

    /// The same at the front.
    fn prepend_short(&mut self, piece: &[u8]) -> bool {
        !piece.is_empty() && self.prepend(piece).is_ok()
    }
}
