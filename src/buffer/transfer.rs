//! Moves between buffers: segments change owner, bytes stay in place.

use std::mem;

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::{
    error::{End, Result},
    segment::{
        BlockSlice, Segment,
        sizing::{self, SLICES_MAX},
    },
};

impl EvBuffer {
    /// Moves all bytes of `src` to the back of `self` and returns their number.
    ///
    /// Takes one step for each segment of the shorter chain, regardless of the length of the segments. Fewer than
    /// [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes are copied. `src` is left empty and usable.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), and [`BufferError::Frozen`](crate::BufferError::Frozen) if the front of `src` is frozen.
    /// Both buffers are unchanged then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let (mut head, mut tail) = (EvBuffer::from("GET "), EvBuffer::from("/index"));
    /// assert_eq!(head.add_buffer(&mut tail)?, 6);
    /// assert!(head == "GET /index" && tail.is_empty());
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
        if n < sizing::sizes().copy_threshold && self.copy_short(src, n) {
            return src.discard_into(n, self);
        }
        if !src.body.is_empty() {
            self.append_body(src);
        }
        if !src.tail.is_empty() {
            self.take_tail(src);
        }
        self.len += n;
        src.after_removal(n);
        self.compact_if_wasteful();
        self.debug_check();
    }

    /// Moves the tail of `src`, which is not empty, behind the body. It becomes the tail of `self`, unless its spare could
    /// then show bytes that were removed from `src`.
    #[inline]
    fn take_tail(&mut self, src: &mut EvBuffer) {
        self.seal_tail();
        src.held -= src.tail.allocated();
        if !src.tail.has_past() {
            self.drop_tail();
            // In place: a move through other memory would cost more than the rest.
            mem::swap(&mut self.tail, &mut src.tail);
            self.tail.forget_spare();
            self.count_new_tail();
            self.compact_sparse_tail();
        } else {
            let tail = mem::take(&mut src.tail);
            self.push_back(Segment::Block(tail));
        }
    }

    /// Checks that `n` bytes may leave `src` and come in at `end`. A frozen end is reported before a limit.
    fn check_move(&self, end: End, src: &EvBuffer, n: usize) -> Result<()> {
        src.check_not_frozen(End::Front)?;
        self.check_growth(end, n)
    }

    /// Moves the body of `src`, which is not empty, behind all data; the longer list stays in place.
    #[inline]
    fn append_body(&mut self, src: &mut EvBuffer) {
        src.thin_front();
        self.count_body_of(src);
        self.adopt_body(src);
        if self.is_empty() {
            steps::count(1);
            return mem::swap(&mut self.body, &mut src.body);
        }
        if self.body.len() >= src.body.len() {
            self.seal_tail();
            steps::count(src.body.len());
            return self.body.append(&mut src.body);
        }
        steps::count(self.body.len() + 1);
        if !self.tail.is_empty() {
            let data = self.take_tail_data();
            src.body.push_front(Segment::Block(data));
        }
        while let Some(segment) = self.body.pop_back() {
            src.body.push_front(segment);
        }
        mem::swap(&mut self.body, &mut src.body);
    }

    /// Counts the memory of the body of `src` as held by `self` instead of `src`.
    fn adopt_body(&mut self, src: &mut EvBuffer) {
        let moved = src.held - src.tail.allocated();
        src.held -= moved;
        self.held += moved;
        self.flags.insert(src.flags.only(Flags::FILES));
    }

    /// Moves all bytes of `src` before the first byte of `self` and returns their number.
    ///
    /// Takes one step for each segment of `src`. Fewer than [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes are
    /// copied.
    ///
    /// # Errors
    ///
    /// As [`prepend`](Self::prepend), and [`BufferError::Frozen`](crate::BufferError::Frozen) if the front of `src` is
    /// frozen. Both buffers are unchanged then.
    #[doc(alias = "evbuffer_prepend_buffer")]
    pub fn prepend_buffer(&mut self, src: &mut EvBuffer) -> Result<usize> {
        let n = src.len();
        if n == 0 {
            return Ok(0);
        }
        self.check_move(End::Front, src, n)?;
        if n < sizing::sizes().copy_threshold && src.load_first(n).is_ok() {
            let copied = BlockSlice::with_capacity(n).and_then(|mut copy| {
                src.chunks().for_each(|chunk| copy.push(chunk));
                self.prepend(copy.as_slice()).ok()
            });
            if copied.is_some() {
                src.discard_into(n, self);
                return Ok(n);
            }
        }
        src.seal_tail();
        src.thin_front();
        self.thin_front();
        steps::count(src.body.len());
        self.count_body_of(src);
        self.adopt_body(src);
        while let Some(segment) = src.body.pop_back() {
            self.body.push_front(segment);
        }
        self.note_prepended(n);
        src.after_removal(n);
        self.compact_if_wasteful();
        self.debug_check();
        Ok(n)
    }

    /// Moves at most `n` bytes from the front of `self` to the back of `dst` and returns their number.
    ///
    /// Whole segments change owner. Of a segment that is moved in part, that part is shared, not copied, unless it has fewer
    /// than [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes or is a small part of a large block.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) for `dst`, if the bytes do not fit there, and
    /// [`BufferError::Frozen`](crate::BufferError::Frozen) if the front of `self` is frozen. Nothing was moved then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut from = EvBuffer::from("header and body");
    /// let mut to = EvBuffer::new();
    /// assert_eq!(from.remove_buffer(&mut to, 6)?, 6);
    /// assert_eq!((to, from), ("header".into(), " and body".into()));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
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
        if n < sizing::sizes().copy_threshold && dst.copy_short(self, n) {
            self.discard_into(n, dst);
            return Ok(n);
        }
        let mut left = n;
        while left > 0 {
            left -= self.move_front(dst, left);
        }
        self.after_removal(n);
        dst.compact_if_wasteful();
        dst.debug_check();
        Ok(n)
    }

    /// Moves the part of the first segment that is among the first `left` bytes, without counting our length. Returns its
    /// length.
    fn move_front(&mut self, dst: &mut EvBuffer, left: usize) -> usize {
        let Some(first) = self.body.front_mut() else {
            let piece = Segment::Block(self.tail.share(0, left));
            self.tail.advance(left);
            dst.link(piece);
            return left;
        };
        let len = first.len();
        if len <= left {
            self.held -= first.allocated();
            if let Some(mut segment) = self.body.pop_front() {
                if !self.flags.intersects(Flags::BUDGETED) {
                    segment = dst.counted_foreign(segment);
                }
                dst.link(segment);
            }
            return len;
        }
        let copy = match first {
            Segment::File(file) if file.loaded_len() / 2 > left => {
                let loaded = file.chunk(0).and_then(|chunk| chunk.get(..left));
                loaded.and_then(BlockSlice::copy_of)
            }
            _ => None,
        };
        let piece = match copy {
            Some(copy) => Segment::Block(copy),
            None => first.part(0, left),
        };
        self.held -= first.advance(left);
        dst.link(piece);
        left
    }

    /// Adds all bytes of `src` to the back of `self`, without a copy and without removing them; returns their number.
    ///
    /// Both buffers then share the memory; changes of one do not affect the other. Segments shorter than
    /// [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes are copied. To add one message to many buffers in many
    /// tasks, see [`share`](Self::share).
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). A frozen front of `src` does not matter, since no byte leaves it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let message = EvBuffer::from("to all");
    /// let mut clients: [EvBuffer; 3] = Default::default();
    /// for client in &mut clients {
    ///     client.add_buffer_reference(&message)?;
    /// }
    /// assert!(clients.iter().all(|client| *client == message));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add_buffer_reference")]
    pub fn add_buffer_reference(&mut self, src: &EvBuffer) -> Result<usize> {
        let n = src.len();
        if n == 0 {
            return Ok(0);
        }
        self.check_growth(End::Back, n)?;
        if n < sizing::sizes().copy_threshold && self.copy_short(src, n) {
            return Ok(n);
        }
        for segment in src.body.iter() {
            self.link_shared(segment);
        }
        if !src.tail.is_empty() {
            self.link_shared_block(&src.tail);
        }
        self.compact_if_wasteful();
        self.debug_check();
        Ok(n)
    }

    /// Links the bytes of `segment`, which keeps them too. Short ones are copied.
    pub(super) fn link_shared(&mut self, segment: &Segment) {
        let short = segment.in_memory().filter(|data| is_short(data));
        if short.is_none_or(|data| self.add(data).is_err()) {
            let shared = self.counted_foreign(segment.share(0, segment.len()));
            self.link(shared);
        }
    }

    pub(super) fn link_shared_block(&mut self, block: &BlockSlice) {
        if !is_short(block.as_slice()) || self.add(block.as_slice()).is_err() {
            self.link(Segment::Block(block.share(0, block.len())));
        }
    }

    /// Shares the part of the first `max` bytes that lies in the first 64 segments with `dst`, behind the data there, and
    /// returns its length. The bytes stay here, to be drained later.
    pub(crate) fn share_front(&mut self, dst: &mut EvBuffer, max: usize) -> usize {
        let mut left = max.min(self.len());
        let all = left;
        for segment in self.body.iter().take(SLICES_MAX) {
            if left == 0 {
                break;
            }
            let n = segment.len().min(left);
            dst.link(segment.share(0, n));
            left -= n;
        }
        if left > 0 && self.body.len() < SLICES_MAX {
            let tail = self.tail.share(0, left);
            if dst.is_empty() {
                // A single segment needs no list.
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

    /// Copies the first `n` bytes of `src`, which are too few to be shared, if they are in memory. Returns whether it
    /// did.
    fn copy_short(&mut self, src: &EvBuffer, n: usize) -> bool {
        match src.first_in_memory().get(..n) {
            Some(first) => self.add(first).is_ok(),
            None if src.flags.intersects(Flags::FILES) => false,
            None => {
                let mut left = n;
                let chunks = src.chunks().map_while(|chunk| {
                    let here = &chunk[..chunk.len().min(left)];
                    left -= here.len();
                    (!here.is_empty()).then_some(here)
                });
                self.append(n, chunks).is_ok()
            }
        }
    }

    /// Removes the first `n` bytes, of which `dst` has a copy. If `dst` is behind a lock, memory with an owner is dropped
    /// after the lock is released.
    fn discard_into(&mut self, n: usize, dst: &mut EvBuffer) {
        if self.defers_drops() || !dst.defers_drops() {
            return self.discard(n);
        }
        let owners = self.unlink_first(n);
        self.after_removal(n);
        dst.release_owners(owners);
    }
}

/// Returns whether copying `data` costs no more than sharing it.
fn is_short(data: &[u8]) -> bool {
    data.len() < sizing::sizes().copy_threshold
}
