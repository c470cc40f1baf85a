//! Removing bytes at the front.

use std::mem;

use bytes::{Buf, Bytes};

use super::{chain::EvBuffer, flags::Flags, steps};
use crate::{
    error::{BufferError, End, Result},
    segment::{
        BlockSlice, Segment,
        sizing::{self, PINNED_MAX},
    },
};

impl EvBuffer {
    /// Removes at most `n` bytes from the front and returns their number.
    ///
    /// # Errors
    ///
    /// [`BufferError::Frozen`] if the front is frozen and there is a byte to remove.
    #[doc(alias = "evbuffer_drain")]
    #[inline]
    pub fn drain(&mut self, n: usize) -> Result<usize> {
        let n = self.removable(n)?;
        self.discard(n);
        Ok(n)
    }

    /// Removes all bytes and returns their number.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn clear(&mut self) -> Result<usize> {
        self.drain(usize::MAX)
    }

    /// Moves bytes from the front into `out`, as many as there are or as fit, and returns their number.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain); [`BufferError::File`] if a range of a file among them cannot be loaded.
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
    /// The result shares the segment in which the bytes lie. Short pieces are copied instead, so that a `Bytes` you keep
    /// does not keep a much larger block in memory; bytes of several segments are copied together.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove); [`BufferError::TooLarge`] if there is no memory for a copy.
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

    /// Removes the first `n` bytes, which the buffer holds and may be removed, and returns the first `kept` of them.
    #[inline]
    pub(super) fn take_front(&mut self, kept: usize, n: usize) -> Result<Bytes> {
        match self.body.front_mut() {
            None if kept < sizing::sizes().copy_threshold => {
                // A copy of a short piece costs no more than to share it, and keeps little else in memory.
                let copied = copy_of(&self.tail.as_slice()[..kept]);
                self.tail.advance(n);
                self.after_removal(n);
                return Ok(copied);
            }
            Some(Segment::Foreign(first)) if n < first.len() => {
                let taken = first.slice(..kept);
                first.advance(n);
                self.held -= n;
                self.after_removal(n);
                return Ok(taken);
            }
            Some(Segment::Block(first))
                if kept < sizing::sizes().copy_threshold && n <= first.len() =>
            {
                let copied = copy_of(&first.as_slice()[..kept]);
                self.discard(n);
                return Ok(copied);
            }
            _ => {}
        }
        self.take_long_front(kept, n)
    }

    #[inline(never)]
    fn take_long_front(&mut self, kept: usize, n: usize) -> Result<Bytes> {
        if n == 0 {
            return Ok(Bytes::new());
        }
        self.load_first(n)?;
        if n > self.first_in_memory().len() {
            let gathered = self.gather(kept)?;
            self.discard(n);
            return Ok(gathered);
        }
        if let Some(taken) = self.take_whole_segment(n) {
            return Ok(taken.slice(..kept));
        }
        let taken = match self.body.front() {
            Some(Segment::Foreign(first)) => first.slice(..kept),
            Some(Segment::Block(first)) => bytes_of(first, kept),
            None => bytes_of(&self.tail, kept),
            Some(Segment::File(file)) => {
                let piece = file.first_bytes().expect("it was just loaded");
                match kept < sizing::sizes().copy_threshold {
                    true => Bytes::copy_from_slice(&piece[..kept]),
                    false => piece.slice(..kept),
                }
            }
        };
        self.discard(n);
        Ok(taken)
    }

    /// Takes the first segment if it has `n` bytes and keeps little more memory: then nothing has to be shared.
    fn take_whole_segment(&mut self, n: usize) -> Option<Bytes> {
        let (len, allocated) = match self.body.front() {
            Some(Segment::File(_)) => return None,
            Some(first) => (first.len(), first.allocated()),
            // Spare behind the taken bytes stays, if it is worth that.
            None if self.tail.spare() >= sizing::sizes().min_spare => return None,
            None => (self.tail.len(), self.tail.allocated()),
        };
        if len != n || allocated / PINNED_MAX > n {
            return None;
        }
        let taken = match self.body.pop_front() {
            Some(Segment::Foreign(bytes)) => bytes,
            Some(Segment::Block(block)) => block.into_bytes(),
            Some(Segment::File(_)) => unreachable!("ruled out above"),
            None => mem::take(&mut self.tail).into_bytes(),
        };
        self.held -= allocated;
        self.after_removal(n);
        Some(taken)
    }

    /// Returns the first chunk, which is in memory and also stays in the buffer. The buffer is not empty.
    pub(super) fn front_bytes(&mut self) -> Bytes {
        match self.body.front() {
            Some(Segment::Foreign(first)) => first.clone(),
            Some(Segment::Block(first)) => first.share(0, first.len()).into_bytes(),
            Some(Segment::File(file)) => file.first_bytes().expect("it was just loaded"),
            None => self.tail.share(0, self.tail.len()).into_bytes(),
        }
    }

    /// Makes the first `n` bytes contiguous and returns them; `None` if there are fewer.
    ///
    /// Nothing is copied if they are contiguous already. This changes no byte, so it works on a frozen buffer, too. Also
    /// returns `None` if there is no memory for a copy, or a range of a file cannot be loaded.
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

    /// Makes the first `n` bytes contiguous and in memory, if there are that many.
    #[cold]
    fn pull_up(&mut self, n: usize) -> Option<()> {
        if n > self.len() {
            return None;
        }
        self.load_first(n).ok()?;
        if n > self.first_in_memory().len() {
            self.gather_first(n).ok()?;
        }
        Some(())
    }

    /// Puts the first `n` bytes, which are in memory, into one segment.
    ///
    /// The first segment is used if it has the room, so that a caller who looks further and further ahead copies each
    /// byte a constant number of times.
    fn gather_first(&mut self, n: usize) -> Result<()> {
        if n > sizing::sizes().max_block {
            let gathered = self.gather(n)?;
            let owners = self.unlink_first(n);
            self.push_front(Segment::Foreign(gathered));
            self.end_gathering(owners);
            return Ok(());
        }
        let mut first = match self.body.front_mut() {
            Some(Segment::Block(first)) if first.spare() >= n - first.len() => {
                self.held -= first.allocated();
                let first = mem::take(first);
                self.body.pop_front();
                first
            }
            front => {
                let previous = match front {
                    Some(Segment::Block(first)) => first.allocated(),
                    _ => 0,
                };
                sizing::next_block(n, previous)
                    .and_then(BlockSlice::with_capacity)
                    .ok_or(BufferError::TooLarge)?
            }
        };
        let missing = n - first.len();
        steps::count(missing);
        self.copy_to(missing, |chunk| first.push(chunk));
        let owners = self.unlink_first(missing);
        let is_last = self.body.is_empty() && self.tail.is_empty();
        if is_last && self.tail.spare() < first.spare() && !first.has_past() {
            // The spare behind the gathered bytes is where the next byte goes.
            first.forget_spare();
            self.replace_tail(first);
        } else {
            self.push_front(Segment::Block(first));
        }
        self.end_gathering(owners);
        Ok(())
    }

    fn end_gathering(&mut self, owners: Owners) {
        self.tidy_up();
        // User code, so the bytes are in their new place before it runs.
        self.release_owners(owners);
    }

    /// Unlinks the first `n` bytes, without counting their length, and returns the segments whose drop runs user code.
    pub(super) fn unlink_first(&mut self, n: usize) -> Owners {
        let mut owners = Owners::default();
        let mut left = n;
        while left > 0 {
            steps::count(1);
            let Some(first) = self.body.front_mut() else {
                self.tail.advance(left);
                break;
            };
            let len = first.len();
            if left < len {
                self.held -= first.advance(left);
                break;
            }
            left -= len;
            self.held -= first.allocated();
            match self.body.pop_front() {
                Some(first) if first.has_owner() => owners.push(first),
                _ => {}
            }
        }
        owners
    }

    /// Drops `owners`: now, or after the lock around this buffer was released.
    #[inline]
    pub(super) fn release_owners(&mut self, owners: Owners) {
        if self.defers_drops() {
            owners
                .into_iter()
                .for_each(|owner| self.release_foreign(owner));
        }
    }

    /// Returns how many of at most `n` bytes may be removed now.
    #[inline]
    pub(super) fn removable(&self, n: usize) -> Result<usize> {
        let n = n.min(self.len());
        if n > 0 {
            self.check_not_frozen(End::Front)?;
        }
        Ok(n)
    }

    /// Removes the first `n` bytes, which the buffer holds, even if the front is frozen.
    #[inline]
    pub(crate) fn discard(&mut self, n: usize) {
        match self.body.front_mut() {
            None => self.tail.advance(n),
            Some(Segment::Block(first)) if n < first.len() => first.advance(n),
            Some(_) => return self.discard_segments(n),
        }
        self.after_removal(n);
    }

    /// Does the same where there are other segments than the tail.
    ///
    /// The drop of an owner is user code, which may panic. So each segment is accounted for before it is dropped: an owner
    /// that panics takes its own bytes along and no others.
    #[inline(never)]
    fn discard_segments(&mut self, n: usize) {
        // Bytes that are still to be removed, and bytes of blocks that were removed and not yet accounted for.
        let (mut left, mut blocks) = (n, 0);
        loop {
            let Some(first) = self.body.front_mut() else {
                self.tail.advance(left);
                break;
            };
            let len = first.len();
            if left < len {
                self.held -= first.advance(left);
                break;
            }
            steps::count(1);
            left -= len;
            self.held -= first.allocated();
            if first.has_owner() {
                self.count_unlinked(mem::take(&mut blocks) + len);
                self.release_front();
            } else {
                blocks += len;
                drop(self.body.pop_front());
            }
        }
        self.after_removal(blocks + left);
    }

    /// Drops the first segment, which was accounted for.
    #[inline]
    fn release_front(&mut self) {
        if let Some(first) = self.body.pop_front() {
            self.release_foreign(first);
        }
    }

    /// Copies the first `n` bytes, which are in memory, into new memory.
    fn gather(&self, n: usize) -> Result<Bytes> {
        let mut gathered = Vec::new();
        gathered
            .try_reserve_exact(n)
            .map_err(|_| BufferError::TooLarge)?;
        steps::count(n);
        self.copy_to(n, |chunk| gathered.extend_from_slice(chunk));
        Ok(gathered.into())
    }

    /// Passes the first `n` bytes, which are in memory, to `copy`. Does not touch what lies behind them.
    fn copy_to(&self, n: usize, mut copy: impl FnMut(&[u8])) {
        let mut left = n;
        let mut chunks = self.chunks();
        while left > 0 {
            let chunk = chunks.next().expect("so many bytes are in memory");
            let chunk = &chunk[..chunk.len().min(left)];
            copy(chunk);
            left -= chunk.len();
        }
    }

    /// Returns the data of the first segment, up to the end of its first chunk, if it is in memory; else nothing.
    #[inline]
    pub(super) fn first_in_memory(&self) -> &[u8] {
        match self.body.front() {
            Some(Segment::Block(block)) => block.as_slice(),
            Some(first) => first.chunk(0).unwrap_or_default(),
            None => self.tail.as_slice(),
        }
    }

    /// Loads the parts of files among the first `n` bytes, so that nothing after this can fail.
    #[inline]
    pub(crate) fn load_first(&self, n: usize) -> Result<()> {
        self.load_range(0, n)
    }

    /// Loads the parts of files among the `n` bytes from position `from` on.
    #[inline]
    pub(crate) fn load_range(&self, from: usize, n: usize) -> Result<()> {
        if self.flags.intersects(Flags::FILES) {
            self.load_files(from, n)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn load_files(&self, from: usize, n: usize) -> Result<()> {
        let mut left = n;
        let mut chunks = self.chunks_from(from);
        while left > 0 {
            let Some(chunk) = chunks.try_next() else {
                break;
            };
            left = left.saturating_sub(chunk?.len());
        }
        Ok(())
    }
}

/// Segments whose drop runs user code. There are mostly few, which cost no list.
#[derive(Default)]
pub(super) struct Owners {
    first: [Option<Segment>; 2],
    more: Vec<Segment>,
}

impl Owners {
    fn push(&mut self, segment: Segment) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(segment),
            None => self.more.push(segment),
        }
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Segment> {
        self.first.into_iter().flatten().chain(self.more)
    }
}

/// Copies a short piece. This costs less than `Bytes::copy_from_slice`, which makes a `Vec` first.
#[inline]
fn copy_of(piece: &[u8]) -> Bytes {
    Bytes::from(Box::<[u8]>::from(piece))
}

/// Returns the first `n` bytes of `block`: shared, unless that would keep much more memory than that.
fn bytes_of(block: &BlockSlice, n: usize) -> Bytes {
    if n == 0 || block.allocated() / PINNED_MAX > n {
        return Bytes::copy_from_slice(&block.as_slice()[..n]);
    }
    block.share(0, n).into_bytes()
}
