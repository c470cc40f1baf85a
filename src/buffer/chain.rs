//! The chain itself: its fields, its rules, and what all operations share.

use std::mem;

use super::{attached::Attached, chunks::Chunks, eol::EolStyle, flags::Flags};
use crate::{
    error::{BufferError, End, Result},
    segment::{
        BlockSlice, Ring, Segment,
        sizing::{self, BLOCK},
    },
};

/// A byte queue made of linked segments.
///
/// Bytes are added at the back and taken from the front; they may be prepended, too. Whole segments move between
/// buffers without a copy, foreign memory is linked in by reference, and what is taken out as [`Bytes`](bytes::Bytes) shares the
/// memory it lies in. An empty new buffer owns no heap memory.
///
/// Each operation either happens whole or changes nothing. Nothing to move is `Ok`, whatever is frozen or full.
/// Reading ([`copyout`](Self::copyout), [`peek`](Self::peek), [`search`](Self::search), [`pullup`](Self::pullup),
/// [`chunks`](Self::chunks)) is never refused.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{EolStyle, EvBuffer};
///
/// let mut buffer = EvBuffer::new();
/// buffer.add(b"GET / HTTP/1.1\r\nHost: ")?;
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
// 3. `tail` comes last. It is where the next byte goes, and when it is empty it is the spare; it was lent by nobody.
// 4. `held` is the sum of what the owned segments answer for, `tail` included.
// 5. The first `scanned` bytes hold no end of line of style `scanned_for`; they are at most `len`.
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
    pub(super) body: Ring<Segment>,
    pub(super) attached: Option<Box<Attached>>,
}

/// How many segments are asked whether they lie on the block of a tail that goes: enough for what is mostly linked between two
/// pieces of a block, and no walk over a long chain.
const HEIRS_MAX: usize = 64;

/// A buffer is moved about, and many of them are held; it stays small.
const _: () = assert!(size_of::<EvBuffer>() <= 96);

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
            tail: BlockSlice::NONE,
            len: 0,
            flags: Flags::NONE,
            scanned: 0,
            scanned_for: EolStyle::Lf,
            held: 0,
            body: Ring::new(),
            attached: None,
        }
    }

    /// Makes an empty buffer with room for about `n` bytes, the next of which go into one segment.
    ///
    /// `n` is a hint: a size that cannot be had is ignored.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        let mut buffer = Self::new();
        // A hint that cannot be followed changes nothing that the caller can rely on.
        let _ = buffer.expand(n);
        buffer
    }

    /// Returns the number of bytes held. This is a field, not a walk.
    #[doc(alias = "evbuffer_get_length")]
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the buffer holds no byte.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes of memory held: blocks with their whole size, foreign memory with what is shown of it.
    ///
    /// A block that several buffers share counts with the first of them. Costs one step a segment.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.held + self.body.iter().map(Segment::foreign_len).sum::<usize>()
    }

    /// Returns the number of segments that hold data.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.body.len() + usize::from(!self.tail.is_empty())
    }

    /// Returns the data, one slice a segment, in order; no slice is empty.
    ///
    /// The first slice is what libevent calls the contiguous space.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let mut buffer = EvBuffer::from(&b"head"[..]);
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

    /// Returns the data from position `pos` on, one slice a segment. Nothing if `pos` is the length or more.
    #[doc(alias = "evbuffer_ptr_set")]
    #[must_use]
    #[inline]
    pub fn chunks_from(&self, pos: usize) -> Chunks<'_> {
        let mut chunks = self.chunks();
        if pos > 0 {
            chunks.skip_bytes(pos);
        }
        chunks
    }

    /// Lets go of spare room. An empty buffer then holds no memory.
    #[inline]
    pub fn shrink_to_fit(&mut self) {
        // Often there is none: then this costs no call.
        if !self.tail.is_none() || self.body.held() > 0 {
            self.release_spare();
        }
    }

    pub(super) fn release_spare(&mut self) {
        if self.tail.is_empty() {
            self.drop_tail();
        }
        self.body.shrink_to_fit();
        self.compact_if_wasteful();
    }

    /// Refuses all changes at `end` until [`unfreeze`](Self::unfreeze).
    ///
    /// A frozen front refuses `drain`, `remove`, `prepend` and moves out; a frozen back refuses adding, reserving
    /// and moves in. Reading goes on. A flag, not a count.
    #[doc(alias = "evbuffer_freeze")]
    pub fn freeze(&mut self, end: End) {
        self.flags.insert(Flags::frozen(end));
        self.notify_owner_of_freeze();
    }

    /// Allows changes at `end` again.
    #[doc(alias = "evbuffer_unfreeze")]
    pub fn unfreeze(&mut self, end: End) {
        self.flags.remove(Flags::frozen(end));
        self.notify_owner_of_freeze();
    }

    fn notify_owner_of_freeze(&mut self) {
        if self.flags.intersects(Flags::SHARED) {
            // What fills the buffer is to stop, or waits to go on.
            self.request_check();
        }
    }

    /// Returns whether changes at `end` are refused.
    #[must_use]
    pub fn is_frozen(&self, end: End) -> bool {
        self.is_frozen_by_user(end) || self.has_owner_flag(Flags::owner_frozen(end))
    }

    /// Whether [`freeze`](Self::freeze) was called for it, whatever the owner of a shared buffer has frozen.
    #[inline]
    pub(crate) fn is_frozen_by_user(&self, end: End) -> bool {
        self.flags.intersects(Flags::frozen(end))
    }

    /// Sets the most bytes that the buffer may hold; `None` is no limit.
    ///
    /// Adding beyond it fails and adds nothing. A limit below the present length is allowed: what is there stays.
    pub fn set_max_len(&mut self, max: Option<usize>) {
        self.set_limit(max);
    }

    /// Returns the most bytes that the buffer may hold.
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

    /// Bytes that may still come in at the back.
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
        self.held += segment.allocated();
        if matches!(segment, Segment::File(_)) {
            self.flags.insert(Flags::FILES);
        }
        self.body.push_back(segment);
    }

    /// Moves the data of the tail into the body, so that a segment can be linked behind it. Spare worth keeping stays.
    #[inline]
    pub(super) fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let data = self.take_tail_data();
            self.body.push_back(Segment::Block(data));
        }
    }

    /// Takes the data of the tail, of which there is some, without an account of their length.
    #[inline(never)]
    pub(super) fn take_tail_data(&mut self) -> BlockSlice {
        let spare = self.tail.spare();
        if spare >= sizing::sizes().min_spare {
            return self.tail.split_data();
        }
        // A little data in a small block moves out of it, and the block stays where the next byte goes.
        match self.tail.copy_out_of() {
            Some(data) => {
                self.held += data.allocated();
                data
            }
            None => mem::take(&mut self.tail),
        }
    }

    /// Puts `block` in the place of the tail, whose data become part of the body. No spare is split off: the new tail is
    /// where the next byte goes.
    pub(super) fn replace_tail(&mut self, block: BlockSlice) {
        self.held += block.allocated();
        let old = mem::replace(&mut self.tail, block);
        if old.is_empty() {
            self.account_for_old_tail(&old);
        } else {
            self.body.push_back(Segment::Block(old));
        }
    }

    pub(super) fn drop_tail(&mut self) {
        let old = mem::take(&mut self.tail);
        self.account_for_old_tail(&old);
    }

    /// Accounts for a tail without data that goes.
    #[inline]
    pub(super) fn account_for_old_tail(&mut self, tail: &BlockSlice) {
        debug_assert!(tail.is_empty());
        if tail.is_unique() || !self.hand_over(tail) {
            self.held -= tail.allocated();
        }
    }

    /// Has what was split off from `tail` and is still here, and keeps its block, answer for that from now on. False if
    /// there is no such segment among the last ones.
    #[inline(never)]
    pub(super) fn hand_over(&mut self, tail: &BlockSlice) -> bool {
        let mut last = self.body.iter_mut().rev().take(HEIRS_MAX);
        last.any(|segment| match segment {
            Segment::Block(owned) => owned.take_over_from(tail),
            Segment::Shared(_) | Segment::File(_) => false,
        })
    }

    /// Keeps at most one block, of at most 16 KiB in all with the ring, after the last byte has gone.
    #[inline]
    pub(super) fn release_if_large(&mut self) {
        debug_assert!(self.is_empty() && self.body.is_empty());
        // The tail is all that is left, so that what it answers for is all that is held.
        let is_of_use = self.tail.reset();
        if !is_of_use || self.held + self.body.held() > BLOCK {
            self.drop_memory(is_of_use);
        }
        self.flags.remove(Flags::EMPTIED);
    }

    #[inline(never)]
    fn drop_memory(&mut self, tail_is_of_use: bool) {
        if !tail_is_of_use || self.held > BLOCK {
            self.drop_tail();
        }
        if self.body.held() > BLOCK - self.held {
            self.body = Ring::new();
        }
    }
}
