//! The chain itself: its fields, its rules, and the private steps that its operations share.

use std::mem;

use bytes::Bytes;

use super::{attached::Attached, chunks::Chunks, eol::EolStyle, flags::Flags, steps};
use crate::{
    error::{BufferError, End, Result},
    segment::{
        BlockSlice, Segment, SegmentList,
        sizing::{self, BLOCK},
    },
};

/// A byte queue made of linked segments.
///
/// Bytes are added at the back and removed from the front; they can also be prepended. Whole segments move between
/// buffers without a copy, foreign memory (a [`Bytes`](bytes::Bytes), or any value that owns bytes) is linked by reference,
/// and bytes that are taken out as `Bytes` share the memory in which they lie. An empty new buffer owns no heap memory.
///
/// # All or nothing
///
/// Each operation either happens completely or changes nothing. Moving zero bytes is `Ok`, even if the buffer is frozen or
/// full. Reading ([`copyout`](Self::copyout), [`peek`](Self::peek), [`search`](Self::search), [`pullup`](Self::pullup),
/// [`chunks`](Self::chunks)) is never refused.
///
/// # Memory and time
///
/// [`capacity`](Self::capacity) is at most four times the length plus 64 KiB after each operation, for every sequence of
/// operations. This does not bound room that [`expand`](Self::expand) or [`with_capacity`](Self::with_capacity) asked for, until
/// that is used; the parts of foreign memory that are not linked; about 250 bytes for each range of a file; and blocks of which a
/// [`Bytes`](bytes::Bytes) that was taken out keeps a part, which is at most 32 times its length.
///
/// To hold that bound, operations copy bytes: short pieces instead of sharing them, and small pieces of large blocks.
/// Over a sequence of operations each byte is copied a constant number of times, so the cost is linear in the bytes and
/// segments that the operations touch.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{EolStyle, EvBuffer};
///
/// let mut buffer = EvBuffer::new();
/// buffer.add("GET / HTTP/1.1\r\nHost: ")?;
/// buffer.add_reference("example.org\r\n")?; // linked, not copied
///
/// assert_eq!(buffer.readln(EolStyle::Crlf)?.unwrap(), "GET / HTTP/1.1");
/// assert_eq!(buffer.len(), 19);
/// assert!(buffer.starts_with(b"Host:"));
/// # Ok::<(), tokio_evbuffer::BufferError>(())
/// ```
//
// Rules, checked by `check_invariants`:
//
// 1. `len` is the sum of the lengths of all segments, `tail` included.
// 2. No segment of `body` is empty.
// 3. `tail` comes last. The next byte goes there; when it is empty it is the spare.
// 4. `held` is the sum of the memory that the segments keep, `tail` included, without loaded pieces of files.
// 5. The first `scanned` bytes hold no end of line of style `scanned_for`; `scanned` is at most `len`.
#[doc(alias = "evbuffer")]
#[doc(alias = "evbuffer_new")]
#[doc(alias = "evbuffer_free")]
pub struct EvBuffer {
    pub(super) tail: BlockSlice,
    pub(super) len: usize,
    pub(super) flags: Flags,
    pub(super) scanned: u32,
    pub(super) scanned_for: EolStyle,
    pub(super) held: usize,
    pub(super) body: SegmentList,
    pub(super) attached: Option<Box<Attached>>,
}

/// Many buffers are held, and they are moved; so they stay small.
const _: () = assert!(size_of::<EvBuffer>() <= 96);

/// A list of segments with room for no more entries than this keeps its memory, and counts as no memory.
const LIST_KEPT: usize = 64;

impl Default for EvBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl EvBuffer {
    /// Makes an empty buffer, which owns no heap memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tail: BlockSlice::none(),
            len: 0,
            flags: Flags::NONE,
            scanned: 0,
            scanned_for: EolStyle::Lf,
            held: 0,
            body: SegmentList::new(),
            attached: None,
        }
    }

    /// Makes an empty buffer with room for `n` bytes, as [`expand`](Self::expand) does.
    ///
    /// `n` is a hint: a size that is not available is ignored.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        let mut buffer = Self::new();
        // A hint that cannot be followed changes nothing that the caller can rely on.
        let _ = buffer.expand(n);
        buffer
    }

    /// Returns the number of bytes in the buffer. This is a field, not a walk.
    #[doc(alias = "evbuffer_get_length")]
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the buffer is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes of memory that the buffer keeps allocated.
    ///
    /// That is its blocks, each with its whole length; the linked part of foreign memory; loaded pieces of files; and the
    /// list of its segments, if it has room for more than 64. A block of which several buffers show a part counts in each of them. Takes one step if there
    /// is no range of a file, and otherwise one for each segment.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let loaded = match self.flags.intersects(Flags::FILES) {
            true => self.body.iter().map(Segment::loaded_len).sum(),
            false => 0,
        };
        self.held + self.list_held() + loaded
    }

    /// Returns the number of segments that hold data. A range of a file counts as its pieces of 256 KiB.
    #[must_use]
    pub fn segments(&self) -> usize {
        let body = match self.flags.intersects(Flags::FILES) {
            true => self.body.iter().map(Segment::chunks).sum(),
            false => self.body.len(),
        };
        body + usize::from(!self.tail.is_empty())
    }

    /// Returns the data as slices, one for each segment, in order; no slice is empty.
    ///
    /// The first slice is what libevent calls the contiguous space.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::from("head");
    /// buffer.add_reference("body")?;
    /// assert_eq!(buffer.chunks().collect::<Vec<_>>(), [b"head", b"body"]);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_get_contiguous_space")]
    #[must_use]
    #[inline]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.body, &self.tail)
    }

    /// Returns the data from position `pos` on as slices. There are none if `pos` is the length or more.
    #[doc(alias = "evbuffer_ptr_set")]
    #[must_use]
    #[inline]
    pub fn chunks_from(&self, pos: usize) -> Chunks<'_> {
        match pos {
            0 => self.chunks(),
            pos => Chunks::starting_at(&self.body, &self.tail, self.len, pos),
        }
    }

    /// Releases spare room, also that of [`expand`](Self::expand). An empty buffer then keeps no memory.
    #[inline]
    pub fn shrink_to_fit(&mut self) {
        // Often there is none: then this costs no call.
        if !self.tail.is_none() || self.body.capacity() > 0 {
            self.release_spare();
        }
    }

    fn release_spare(&mut self) {
        self.flags.remove(Flags::PROMISED);
        if self.tail.is_empty() {
            self.drop_tail();
        }
        self.body.shrink_to_fit();
        self.compact_if_wasteful();
        self.debug_check();
    }

    /// Refuses changes at `end` until [`unfreeze`](Self::unfreeze).
    ///
    /// A frozen front refuses `drain`, `remove`, `prepend` and moves out of the buffer; a frozen back refuses adding,
    /// reserving and moves into it. Reading still works. This is a flag, not a count.
    #[doc(alias = "evbuffer_freeze")]
    pub fn freeze(&mut self, end: End) {
        self.flags.insert(Flags::frozen(end));
        self.request_check_of_freeze();
    }

    /// Allows changes at `end` again.
    #[doc(alias = "evbuffer_unfreeze")]
    pub fn unfreeze(&mut self, end: End) {
        self.flags.remove(Flags::frozen(end));
        self.request_check_of_freeze();
    }

    fn request_check_of_freeze(&mut self) {
        if self.flags.intersects(Flags::SHARED) {
            // The task that fills or empties the buffer has to stop, or waits to continue.
            self.request_check();
        }
    }

    /// Returns whether changes at `end` are refused.
    #[must_use]
    pub fn is_frozen(&self, end: End) -> bool {
        self.is_frozen_by_user(end) || self.has_owner_flag(Flags::owner_frozen(end))
    }

    /// Returns whether [`freeze`](Self::freeze) was called for `end`, regardless of the owner of a shared buffer.
    #[inline]
    pub(crate) fn is_frozen_by_user(&self, end: End) -> bool {
        self.flags.intersects(Flags::frozen(end))
    }

    /// Sets the maximum length in bytes; `None`, the default, is no limit. Zero refuses every byte.
    ///
    /// Adding beyond it fails and adds nothing. A limit below the present length is allowed and removes nothing.
    pub fn set_max_len(&mut self, max: Option<usize>) {
        self.set_limit(max);
    }

    /// Returns the maximum length in bytes.
    #[must_use]
    pub fn max_len(&self) -> Option<usize> {
        self.limit()
    }

    /// Checks that `n` more bytes may come in at `end`.
    #[inline]
    pub(super) fn check_growth(&self, end: End, n: usize) -> Result<()> {
        if self.flags.intersects(Flags::REFUSING) {
            return self.check_refusals(end, n);
        }
        match self.len.checked_add(n) {
            Some(_) => Ok(()),
            None => Err(BufferError::TooLarge),
        }
    }

    #[cold]
    fn check_refusals(&self, end: End, n: usize) -> Result<()> {
        if self.has_owner_flag(Flags::CLOSED) {
            return Err(BufferError::Closed);
        }
        self.check_not_frozen(end)?;
        let len = self.len.checked_add(n).ok_or(BufferError::TooLarge)?;
        match self.max_len() {
            Some(max_len) if len > max_len => Err(BufferError::Full { max_len }),
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn check_not_frozen(&self, end: End) -> Result<()> {
        if self.is_frozen(end) {
            Err(BufferError::Frozen(end))
        } else {
            Ok(())
        }
    }

    /// Returns how many bytes may still come in at the back.
    pub(super) fn room(&self) -> usize {
        if self.check_growth(End::Back, 1).is_err() {
            return 0;
        }
        self.max_len()
            .unwrap_or(isize::MAX as usize)
            .saturating_sub(self.len)
    }

    /// Links `segment`, which is not empty, behind all data.
    #[inline]
    pub(super) fn link(&mut self, segment: Segment) {
        self.seal_tail();
        self.len += segment.len();
        self.push_back(segment);
    }

    /// Links foreign memory, which is not empty, behind all data.
    #[inline]
    pub(super) fn link_foreign(&mut self, bytes: Bytes) {
        steps::count(1);
        self.seal_tail();
        self.len += bytes.len();
        self.held += bytes.len();
        self.body.push_back(Segment::Foreign(bytes));
    }

    /// Appends `segment` to the body, without counting its length.
    pub(super) fn push_back(&mut self, segment: Segment) {
        steps::count(1);
        let segment = match segment {
            Segment::Block(mut block) => {
                if let Some(Segment::Block(last)) = self.body.back_mut() {
                    if last.join(&mut block) {
                        return;
                    }
                }
                if let Some(copy) = copy_if_wasteful(&block) {
                    self.release_block(mem::replace(&mut block, copy));
                }
                Segment::Block(block)
            }
            Segment::File(file) => {
                self.flags.insert(Flags::FILES);
                Segment::File(file)
            }
            foreign => foreign,
        };
        self.held += segment.allocated();
        self.body.push_back(segment);
        if self.flags.intersects(Flags::BUDGETED) {
            self.count_back();
        }
    }

    /// Puts `segment` before the body, without counting its length.
    pub(super) fn push_front(&mut self, segment: Segment) {
        steps::count(1);
        self.thin_front();
        if matches!(segment, Segment::File(_)) {
            self.flags.insert(Flags::FILES);
        }
        self.held += segment.allocated();
        self.body.push_front(segment);
        self.count_front();
    }

    /// Moves a little data at the front out of a large block, before another segment comes to lie before it.
    ///
    /// At the front most of a block may have been drained; elsewhere a segment fills at least half of it.
    pub(super) fn thin_front(&mut self) {
        let Some(Segment::Block(first)) = self.body.front_mut() else {
            return;
        };
        let (len, allocated) = (first.len(), first.allocated());
        if allocated > 2 * len && allocated > sizing::sizes().copy_threshold {
            // Without memory for a copy the data stays where it is.
            if let Ok(copy) = BlockSlice::copy_of(first.as_slice()) {
                steps::count(len);
                self.held = self.held - allocated + copy.allocated();
                let old = mem::replace(first, copy);
                self.count_front();
                self.release_block(old);
            }
        }
    }

    /// Moves the data of the tail into the body, so that a segment can be linked behind it.
    #[inline]
    pub(super) fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let data = self.take_tail_data();
            self.body.push_back(Segment::Block(data));
        }
    }

    /// Takes the data of the tail, which is not empty. It counts in `held` as before.
    ///
    /// A little data in a large block moves out of it, and the block stays the tail, where the next byte goes. So a
    /// segment of the body fills at least half of its block.
    #[inline(never)]
    pub(super) fn take_tail_data(&mut self) -> BlockSlice {
        let (len, allocated) = (self.tail.len(), self.tail.allocated());
        if len < allocated / 2 {
            if let Ok(copy) = BlockSlice::copy_of(self.tail.as_slice()) {
                steps::count(len);
                self.held += copy.allocated();
                self.tail.advance(len);
                if !self.tail.reset() {
                    self.drop_tail();
                }
                return self.counted(copy);
            }
        }
        self.flags.remove(Flags::PROMISED);
        mem::take(&mut self.tail)
    }

    /// Makes `block` the tail, where the next byte goes. The data of the old tail become part of the body.
    pub(super) fn replace_tail(&mut self, block: BlockSlice) {
        self.seal_tail();
        self.set_tail(block);
        self.flags.remove(Flags::PROMISED);
    }

    /// Replaces the tail by `block`, without an account of the length.
    #[inline]
    pub(super) fn set_tail(&mut self, block: BlockSlice) {
        self.held = self.held - self.tail.allocated() + block.allocated();
        let block = self.counted(block);
        let old = mem::replace(&mut self.tail, block);
        self.release_block(old);
    }

    /// Drops the tail, which is empty.
    pub(super) fn drop_tail(&mut self) {
        debug_assert!(self.tail.is_empty());
        self.flags.remove(Flags::PROMISED);
        self.set_tail(BlockSlice::none());
    }

    /// Accounts for `n` bytes that were unlinked from the front.
    #[inline]
    pub(super) fn after_removal(&mut self, n: usize) {
        self.len -= n;
        self.scanned = self
            .scanned
            .saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        self.count_removed(n);
        self.tidy_up();
    }

    /// Bounds the memory of a buffer that has become shorter.
    #[inline]
    pub(super) fn tidy_up(&mut self) {
        if self.is_empty() {
            self.release_if_large();
        } else if self.has_much_waste()
            || self.flags.intersects(Flags::FILES)
            || self.body.capacity() / 4 > self.body.len().max(LIST_KEPT / 4)
        {
            self.release_waste();
        }
        self.debug_check();
    }

    /// Returns whether to look for memory to release: once when the memory exceeds twice the data, and again when it
    /// exceeds four times the data.
    #[inline]
    fn has_much_waste(&self) -> bool {
        let held = self.held + self.body.len() * size_of::<Segment>();
        let is_noted = self.flags.intersects(Flags::WASTEFUL);
        let factor = if is_noted { 4 } else { 2 };
        held > sizing::sizes().waste_allowed && held / factor > self.len
    }

    #[inline(never)]
    fn release_waste(&mut self) {
        if self.body.capacity() > LIST_KEPT && self.body.len() < self.body.capacity() / 4 {
            // Half of the list stays free, so that the next change of size is far.
            let kept = 2 * self.body.len();
            self.body.shrink_to(kept);
        }
        self.note_waste();
        self.compact_if_too_large();
        self.release_loaded_file();
    }

    /// Replaces a range of a file at the front, of which little is left of much that was loaded, by a copy of the rest.
    fn release_loaded_file(&mut self) {
        let Some(Segment::File(file)) = self.body.front() else {
            return;
        };
        let (len, loaded) = (file.len(), file.loaded_len());
        if loaded <= BLOCK || loaded / 4 <= len {
            return;
        }
        let rest = file.chunk(0).filter(|chunk| chunk.len() == len);
        if let Some(Ok(copy)) = rest.map(BlockSlice::copy_of) {
            steps::count(len);
            self.held += copy.allocated();
            if let Some(file) = self.body.pop_front() {
                self.body.push_front(Segment::Block(copy));
                self.count_front();
                self.release_foreign(file);
            }
        }
    }

    /// Bounds the memory of a buffer that has become empty: one block of at most 16 KiB, the list included.
    #[inline]
    fn release_if_large(&mut self) {
        debug_assert!(self.is_empty() && self.body.is_empty());
        let is_of_use = self.tail.reset();
        // The tail is all that is left, so what it keeps is all that is held.
        if !is_of_use || self.held > BLOCK || self.body.capacity() > LIST_KEPT {
            self.release_memory(is_of_use);
        }
        self.flags.remove(Flags::EMPTIED);
    }

    #[inline(never)]
    fn release_memory(&mut self, tail_is_of_use: bool) {
        if !tail_is_of_use || self.held > BLOCK {
            self.drop_tail();
        }
        if self.list_held() > BLOCK - self.held {
            self.body = SegmentList::new();
        }
    }

    /// Returns the bytes of memory that a long list of segments takes.
    #[inline]
    fn list_held(&self) -> usize {
        match self.body.capacity() {
            0..=LIST_KEPT => 0,
            capacity => capacity * size_of::<Segment>(),
        }
    }
}

/// Returns a copy of the data of `block` if they are little of a large block, all of which a slice keeps in memory.
fn copy_if_wasteful(block: &BlockSlice) -> Option<BlockSlice> {
    let (len, allocated) = (block.len(), block.allocated());
    if allocated <= sizing::sizes().block || allocated <= 2 * len {
        return None;
    }
    steps::count(len);
    // Without memory for a copy the block is kept.
    BlockSlice::copy_of(block.as_slice()).ok()
}
