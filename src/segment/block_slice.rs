//! A range of a block of memory: `misalign | data | spare`.
#![allow(unsafe_code)]

use std::{fmt, mem::MaybeUninit, ptr, ptr::NonNull, slice};

use bytes::Bytes;

use super::{block::Count, pool, sizing::sizes};
use crate::error::{BufferError, Result};

/// A range of a block, and the right to extend it.
///
/// ```text
///  base            start            end        init       cap
///   ├── misalign ────┼───── data ────┼─────── spare ───────┤
///                                    ├─ zeroed ─┤ unknown ┤
/// ```
///
/// Rules, for every value of this type:
///
/// 1. `start <= end <= cap`, and `cap` bytes from `base` on lie in one live allocation (none if `cap` is 0).
/// 2. The bytes from `start` to `end` are initialised, and nobody writes to them while any range shows them.
/// 3. The bytes from `end` to `init` are initialised, where `init` is larger than `end`.
/// 4. The bytes from `end` to `cap` belong to this range alone: of all ranges on a block at most one has spare.
/// 5. Without a count this is the only range on its block, and `cap` is the length of the block.
/// 6. A range that was lent from another has no spare and `init == 0`: the lender answers for the memory, until another range
///    [takes that over](Self::take_over_from).
///
/// From 2 and 4 it follows that the holder may write to its spare at any time, and to its misalign, or over data
/// of its own, only while it is the only range on the block.
pub(crate) struct BlockSlice {
    base: NonNull<u8>,
    count: Option<NonNull<Count>>,
    cap: u32,
    start: u32,
    end: u32,
    init: u32,
}

// SAFETY: a range owns its spare (rule 4); what it shares with others is never written to (rule 2), and the count
// is atomic.
unsafe impl Send for BlockSlice {}
// SAFETY: through `&BlockSlice` only initialised bytes are read, which nobody writes to (rule 2).
unsafe impl Sync for BlockSlice {}

impl BlockSlice {
    /// No memory at all.
    pub(crate) const NONE: Self = Self {
        base: NonNull::dangling(),
        count: None,
        cap: 0,
        start: 0,
        end: 0,
        init: 0,
    };

    /// A block of `cap` bytes, all of them spare.
    #[inline]
    pub(crate) fn with_capacity(cap: usize) -> Result<Self> {
        let cap = u32::try_from(cap).map_err(|_| BufferError::TooLarge)?;
        if cap == 0 {
            return Ok(Self::NONE);
        }
        Ok(Self {
            base: pool::allocate(cap as usize)?,
            cap,
            ..Self::NONE
        })
    }

    /// Whether this stands for no memory at all. A range on a block has bytes of it: a count is made by one, for another of
    /// at least one byte.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.cap == 0
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that can be appended in place.
    #[inline]
    pub(crate) fn spare(&self) -> usize {
        (self.cap - self.end) as usize
    }

    /// Bytes of the block that this range answers for: all, or none if it was lent.
    #[inline]
    pub(crate) fn allocated(&self) -> usize {
        match self.count() {
            Some(_) if self.init == 0 => 0,
            Some(count) => count.block_len as usize,
            None => self.cap as usize,
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: rules 1 and 2: these bytes are initialised, in one allocation, and not written to meanwhile.
        unsafe { slice::from_raw_parts(self.at(self.start), self.len()) }
    }

    /// Appends `data`, which fits into the spare.
    #[inline]
    pub(crate) fn push(&mut self, data: &[u8]) {
        assert!(data.len() <= self.spare());
        // SAFETY: the spare is ours to write (rule 4) and large enough; `data` is a borrow of other bytes, since
        // ours are behind `&mut self`.
        unsafe {
            ptr::copy_nonoverlapping(data.as_ptr(), self.at(self.end).cast_mut(), data.len())
        };
        self.grow(data.len() as u32);
    }

    /// Appends what fits of `data` and returns the rest.
    pub(crate) fn push_some<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let (fits, rest) = data.split_at(data.len().min(self.spare()));
        self.push(fits);
        rest
    }

    /// Writes `data` before the first byte, if there is room that nobody else may see.
    #[must_use]
    pub(crate) fn push_front(&mut self, data: &[u8]) -> bool {
        if data.len() > self.start as usize || !self.is_unique() {
            return false;
        }
        let start = self.start - data.len() as u32;
        // SAFETY: the misalign is ours to write while no other range is on the block, and large enough.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.at(start).cast_mut(), data.len()) };
        self.start = start;
        true
    }

    /// Moves an empty range to the end of its block, so that all of it is misalign.
    pub(crate) fn align_to_end(&mut self) {
        debug_assert!(self.is_empty() && self.is_unique());
        (self.start, self.end, self.init) = (self.cap, self.cap, 0);
    }

    /// Forgets the first `n` bytes.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len());
        self.start += n as u32;
    }

    /// Moves the data to the start of the block, if that makes room for `n` bytes at a small price.
    pub(crate) fn realign_for(&mut self, n: usize) {
        if self.can_realign(n) {
            self.realign();
        }
    }

    fn can_realign(&self, n: usize) -> bool {
        let (cap, len) = (self.cap as usize, self.len());
        n <= cap - len && len <= sizes().min_spare && len <= cap / 2 && self.is_unique()
    }

    fn realign(&mut self) {
        assert!(self.is_unique());
        let len = self.end - self.start;
        // SAFETY: no other range is on the block, so its data may be moved within it (rule 2).
        unsafe { ptr::copy(self.at(self.start), self.at(0).cast_mut(), len as usize) };
        self.init = self.init.max(self.end);
        (self.start, self.end) = (0, len);
    }

    /// Makes an empty range as large as it can be again. False if it is not worth keeping.
    #[inline]
    #[must_use]
    pub(crate) fn reset(&mut self) -> bool {
        debug_assert!(self.is_empty());
        // A range that was lent never becomes the block: nobody has accounted for that.
        let lent = self.init == 0;
        if self.count.is_some() && (lent || !self.take_block_back()) {
            return self.spare() >= sizes().min_spare;
        }
        self.init = self.init.max(self.end);
        (self.start, self.end) = (0, 0);
        true
    }

    /// Makes a range that was shared the only one on its block again, if the others are gone.
    #[inline(never)]
    fn take_block_back(&mut self) -> bool {
        let Some(count) = self.count() else {
            return true;
        };
        if !count.is_one() {
            return false;
        }
        self.cap = count.block_len;
        self.drop_count();
        true
    }

    /// Hides from a new holder what the old one left behind the data. False if there may be something before them,
    /// too: then the spare must not be used, since an empty range begins anew at the start of its block.
    #[must_use]
    pub(crate) fn forget_past(&mut self) -> bool {
        self.init = self.end;
        self.start == 0
    }

    /// The first `n` bytes once more, without a copy, for somebody who only reads them. `n` is not zero.
    pub(crate) fn share(&mut self, n: usize) -> Self {
        assert!(0 < n && n <= self.len());
        if self.count.is_none() || self.init != 0 {
            // The lender is told from what it lends by an `init` that is not zero (rule 6).
            self.init = self.init.max(self.end);
        }
        let count = *self.count.get_or_insert_with(|| Count::new(self.cap));
        // SAFETY: the count lives as long as any range that has it, and this one does.
        unsafe { count.as_ref() }.increment();
        let end = self.start + n as u32;
        Self {
            base: self.base,
            count: Some(count),
            cap: end,
            start: self.start,
            end,
            init: 0,
        }
    }

    /// Splits the data off, of which there is some, and keeps the spare.
    pub(crate) fn split_data(&mut self) -> Self {
        let data = self.share(self.len());
        self.start = self.end;
        data
    }

    /// Moves the data into a block of their own and keeps this one, if it is mostly spare and nobody shares it.
    pub(crate) fn copy_out_of(&mut self) -> Option<Self> {
        if self.spare() < self.cap as usize / 2 || !self.is_unique() {
            return None;
        }
        let mut data = Self::with_capacity(self.len()).ok()?;
        data.push(self.as_slice());
        self.advance(self.len());
        let all = self.reset();
        debug_assert!(all, "nobody shares the block");
        Some(data)
    }

    /// Answers for the block from now on, in the place of `lender`. False if this lies on another one.
    #[must_use]
    pub(crate) fn take_over_from(&mut self, lender: &Self) -> bool {
        let is_heir = self.count.is_some() && self.count == lender.count;
        if is_heir {
            // Which is told by an `init` that is not zero (rule 6).
            self.init = self.end;
        }
        is_heir
    }

    /// Length of the whole block that this range lies on, whoever answers for it.
    pub(crate) fn block_len(&self) -> usize {
        self.count().map_or(self.cap, |count| count.block_len) as usize
    }

    /// The data as `Bytes`, without a copy. The memory goes when they do.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Counts `n` bytes of the spare as data. Those that nobody wrote are zero.
    #[inline]
    pub(crate) fn commit(&mut self, n: usize) {
        self.zero_unknown(n);
        self.grow(n as u32);
    }

    /// The first `n` bytes of the spare. What was never written is zeroed, once in the life of the block.
    pub(crate) fn spare_mut(&mut self, n: usize) -> &mut [u8] {
        self.zero_unknown(n);
        // SAFETY: the spare is ours alone (rule 4) and initialised up to `init` (rule 3), which is at least `until`.
        unsafe { slice::from_raw_parts_mut(self.at(self.end).cast_mut(), n) }
    }

    /// Writes `data` into the spare, where they fit from position `at` on, and does not count them as data yet.
    #[inline]
    pub(crate) fn draft(&mut self, at: usize, data: &[u8]) {
        self.zero_unknown(at);
        let until = at + data.len();
        let room = &mut self.spare_uninit(until)[at..];
        // SAFETY: `room` is as long as `data`, which is a borrow of other bytes, since ours are behind `&mut self`.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), room.as_mut_ptr().cast(), data.len()) };
        self.init = self.init.max(self.end + until as u32);
    }

    /// The first `n` bytes of the spare as they are.
    pub(crate) fn spare_uninit(&mut self, n: usize) -> &mut [MaybeUninit<u8>] {
        assert!(n <= self.spare());
        let spare = self.at(self.end).cast_mut().cast();
        // SAFETY: the spare is ours alone (rule 4), and `MaybeUninit` asks nothing of its contents. That nobody
        // uninitialises what is known to be initialised is for the callers, all in this folder or `BufMut`'s.
        unsafe { slice::from_raw_parts_mut(spare, n) }
    }

    /// How many bytes of the spare are initialised.
    pub(crate) fn spare_known(&self) -> usize {
        self.init.saturating_sub(self.end) as usize
    }

    /// Notes that the first `n` bytes of the spare were written.
    ///
    /// # Safety
    ///
    /// They were.
    pub(crate) unsafe fn assume_written(&mut self, n: usize) {
        assert!(n <= self.spare());
        self.init = self.init.max(self.end + n as u32);
    }

    /// Makes sure that the first `n` bytes of the spare are initialised.
    #[inline]
    fn zero_unknown(&mut self, n: usize) {
        assert!(n <= self.spare());
        let until = self.end + n as u32;
        let known = self.init.max(self.end);
        if known < until {
            // SAFETY: `known..until` lies in the spare, which is ours to write (rule 4).
            unsafe { ptr::write_bytes(self.at(known).cast_mut(), 0, (until - known) as usize) };
            self.init = until;
        }
    }

    #[inline]
    fn grow(&mut self, n: u32) {
        self.end += n;
    }

    /// Whether no other range is on the block.
    pub(crate) fn is_unique(&self) -> bool {
        self.count().is_none_or(Count::is_one)
    }

    #[inline]
    fn count(&self) -> Option<&Count> {
        // SAFETY: the count lives as long as any range that has it, and this one does.
        self.count.map(|count| unsafe { count.as_ref() })
    }

    fn drop_count(&mut self) {
        if let Some(count) = self.count.take() {
            // SAFETY: called by the last holder only, which had it from `Count::new`, a leaked box.
            drop(unsafe { Box::from_raw(count.as_ptr()) });
        }
    }

    #[inline]
    fn at(&self, offset: u32) -> *const u8 {
        debug_assert!(offset <= self.cap);
        // SAFETY: rule 1: an offset up to `cap` stays within the allocation, or is 0 where there is none.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// Panics at the first rule that does not hold.
    pub(crate) fn check_invariants(&self) {
        assert!(
            self.start <= self.end && self.end <= self.cap,
            "rule 1: {self:?}"
        );
        match self.count() {
            Some(count) => assert!(self.cap <= count.block_len, "rule 1: {self:?}"),
            None => assert!(self.init <= self.cap, "rule 3: {self:?}"),
        }
    }
}

impl BlockSlice {
    /// Lets go of the block, of which there is one. Only for the end of this range.
    #[inline(never)]
    fn release(&mut self) {
        let mut len = self.cap;
        if let Some(count) = self.count() {
            if !count.decrement() {
                return;
            }
            len = count.block_len;
            self.drop_count();
        }
        // SAFETY: this was the last range on the block, which was allocated with this length (rule 5).
        unsafe { pool::free(self.base, len as usize) }
    }
}

impl Drop for BlockSlice {
    #[inline]
    fn drop(&mut self) {
        if !self.is_none() {
            self.release();
        }
    }
}

impl AsRef<[u8]> for BlockSlice {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Default for BlockSlice {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for BlockSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockSlice")
            .field("misalign", &self.start)
            .field("len", &self.len())
            .field("spare", &self.spare())
            .finish_non_exhaustive()
    }
}
