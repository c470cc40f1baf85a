//! The chain itself: its fields, its rules, its length, and what refuses a change.

use super::{attached::Attached, chunks::Chunks, eol::EolStyle, flags::Flags};
use crate::{
    error::{BufferError, End, Result},
    segment::{BlockSlice, QuickDrop, Segment, SegmentList},
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
#[doc(alias("evbuffer", "evbuffer_new", "evbuffer_free"))]
#[doc(alias("evbuffer_add_printf", "evbuffer_add_vprintf"))]
pub struct EvBuffer {
    pub(super) tail: BlockSlice,
    pub(super) len: usize,
    pub(super) flags: Flags,
    pub(super) scanned: u32,
    pub(super) scanned_for: EolStyle,
    pub(super) held: usize,
    pub(super) body: SegmentList,
    pub(super) attached: QuickDrop<Option<Box<Attached>>>,
}

/// Many buffers are held, and they are moved; so they stay small.
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
            tail: BlockSlice::none(),
            len: 0,
            flags: Flags::NONE,
            scanned: 0,
            scanned_for: EolStyle::Lf,
            held: 0,
            body: SegmentList::empty(),
            attached: QuickDrop::new(None),
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
    /// list of its segments, if it has room for more than 64. A block of which several buffers show a part counts in each
    /// of them. Takes one step if there is no range of a file, and otherwise one for each segment.
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
        if self.is_empty() {
            self.drop_tail();
            self.body = SegmentList::empty();
            self.flags.remove(Flags::EMPTIED);
            return;
        }
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferError, EvBuffer, buffer::End};
    /// let mut buffer = EvBuffer::from("header");
    /// buffer.freeze(End::Front);
    /// assert_eq!(buffer.drain(1), Err(BufferError::Frozen(End::Front)));
    /// buffer.add(" and body")?;
    /// buffer.unfreeze(End::Front);
    /// buffer.drain(7)?;
    /// assert_eq!(buffer, "and body");
    /// # Ok::<(), BufferError>(())
    /// ```
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
    #[inline]
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::{BufferError, EvBuffer};
    /// let mut buffer = EvBuffer::new();
    /// buffer.set_max_len(Some(4));
    /// assert!(matches!(buffer.add("hello"), Err(BufferError::Full { .. })));
    /// assert!(buffer.is_empty());
    /// buffer.add("four")?;
    /// # Ok::<(), BufferError>(())
    /// ```
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
}
