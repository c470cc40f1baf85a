//! A slice of a block of memory: `misalign | data | spare`.
#![allow(unsafe_code)]

use std::{
    fmt,
    mem::MaybeUninit,
    ptr::{self, NonNull},
    slice,
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
    },
};

use bytes::Bytes;

use super::{
    block::{Counter, SharedCounter},
    pool,
    sizing::sizes,
};
use crate::limits::budget::Account;

/// A slice of a block: bytes that it shows, and possibly the right to append to them.
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
/// 2. The bytes from 0 to `end` are initialised. Those from `start` to `end` are not written to while any slice shows
///    them.
/// 3. The bytes from `end` to `init` are initialised, where `init` is larger than `end`.
/// 4. The bytes from `end` to `cap` belong to this slice alone: of all slices of a block at most one has spare.
/// 5. Without a counter this is the only slice of its block, and `cap` is the length of the block.
/// 6. The counter lives as long as any slice that points to it.
///
/// From 2 and 4 it follows that the holder may write to its spare at any time, and to its misalign, or over its own data,
/// only while it is the only slice of the block.
pub(crate) struct BlockSlice {
    base: NonNull<u8>,
    /// Null until the block is shared for the first time, which may happen through a shared reference.
    counter: AtomicPtr<Counter>,
    cap: u32,
    start: u32,
    end: u32,
    init: u32,
}

// SAFETY: a slice owns its spare (rule 4); what it shares with others is never written to (rule 2), and the counter is
// atomic.
unsafe impl Send for BlockSlice {}
// SAFETY: through `&BlockSlice` only initialised bytes are read, which are not written to (rule 2).
unsafe impl Sync for BlockSlice {}

impl BlockSlice {
    /// Returns a slice without memory.
    pub(crate) const fn none() -> Self {
        Self {
            base: NonNull::dangling(),
            counter: AtomicPtr::new(ptr::null_mut()),
            cap: 0,
            start: 0,
            end: 0,
            init: 0,
        }
    }

    /// Allocates a block of `cap` bytes, all of them spare. `None` if there is no memory.
    // Not a `Result`, whose moves through memory cost more than the allocation.
    #[inline]
    pub(crate) fn with_capacity(cap: usize) -> Option<Self> {
        let cap = u32::try_from(cap).ok()?;
        if cap == 0 {
            return Some(Self::none());
        }
        Some(Self {
            base: pool::allocate(cap as usize)?,
            counter: AtomicPtr::new(ptr::null_mut()),
            cap,
            start: 0,
            end: 0,
            init: 0,
        })
    }

    /// Copies `data` into a block of that length. `data` is not empty.
    pub(crate) fn copy_of(data: &[u8]) -> Option<Self> {
        let mut copy = Self::with_capacity(data.len())?;
        copy.push(data);
        Some(copy)
    }

    /// Returns whether this slice has no memory.
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

    /// Returns the number of bytes that can be appended in place.
    #[inline]
    pub(crate) fn spare(&self) -> usize {
        (self.cap - self.end) as usize
    }

    /// Returns the length of the whole block, all of which this slice keeps in memory.
    #[inline]
    pub(crate) fn allocated(&self) -> usize {
        match self.counter() {
            // SAFETY: rule 6.
            Some(counter) => unsafe { counter.block_len() as usize },
            None => self.cap as usize,
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: rules 1 and 2: these bytes are initialised, in one allocation, and not written to meanwhile.
        unsafe { slice::from_raw_parts(self.at(self.start), self.len()) }
    }

    /// Returns the data for writing, if no other slice shows the block.
    pub(crate) fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: rules 1 and 2: initialised, in one allocation, and of no other slice, as was just checked.
        Some(unsafe { slice::from_raw_parts_mut(self.at(self.start).cast_mut(), self.len()) })
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
        self.end += data.len() as u32;
    }

    /// Appends the bytes of `data` that fit and returns the others.
    pub(crate) fn push_some<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let (fits, rest) = data.split_at(data.len().min(self.spare()));
        self.push(fits);
        rest
    }

    /// Writes `data` before the first byte. Returns false if there is no room for it, or another slice may show that
    /// room.
    #[must_use]
    pub(crate) fn push_front(&mut self, data: &[u8]) -> bool {
        if data.len() > self.start as usize || !self.is_unique() {
            return false;
        }
        let start = self.start - data.len() as u32;
        // SAFETY: the misalign is ours to write while there is no other slice of the block, and large enough.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.at(start).cast_mut(), data.len()) };
        self.start = start;
        true
    }

    /// Allocates a block of `cap` bytes, all of them misalign: room for [`push_front`](Self::push_front).
    pub(crate) fn with_headroom(cap: usize) -> Option<Self> {
        let mut block = Self::with_capacity(cap)?;
        block.zero_unknown(cap);
        (block.start, block.end) = (block.cap, block.cap);
        Some(block)
    }

    /// Removes the first `n` bytes.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len());
        self.start += n as u32;
    }

    /// Keeps the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        assert!(len <= self.len());
        let end = self.start + len as u32;
        if self.is_unique() {
            self.init = self.init.max(self.end);
        } else {
            // Another slice may show the bytes behind the new end: they never become spare.
            (self.cap, self.init) = (end, 0);
        }
        self.end = end;
    }

    /// Moves the data to the start of the block, if that makes room for `n` bytes at little cost.
    pub(crate) fn realign_for(&mut self, n: usize) {
        let (cap, len) = (self.cap as usize, self.len());
        let is_cheap = len <= sizes().min_spare && len <= cap / 2;
        if n > cap - len || !is_cheap || !self.is_unique() {
            return;
        }
        // SAFETY: there is no other slice of the block, so its data may be moved within it (rule 2).
        unsafe { ptr::copy(self.at(self.start), self.at(0).cast_mut(), len) };
        self.init = self.init.max(self.end);
        (self.start, self.end) = (0, len as u32);
    }

    /// Makes an empty slice as large as it can be. Returns false if it is not worth keeping.
    #[inline]
    #[must_use]
    pub(crate) fn reset(&mut self) -> bool {
        debug_assert!(self.is_empty());
        if !self.take_block_back() {
            return self.spare() >= sizes().min_spare;
        }
        self.init = self.init.max(self.end);
        (self.start, self.end) = (0, 0);
        true
    }

    /// Makes this slice cover its whole block again, if it is the only one. Returns whether it is.
    #[inline]
    fn take_block_back(&mut self) -> bool {
        match self.counter() {
            None => true,
            Some(counter) => self.take_shared_block_back(counter),
        }
    }

    #[inline(never)]
    fn take_shared_block_back(&mut self, counter: SharedCounter) -> bool {
        // SAFETY: rule 6.
        if !unsafe { counter.is_one() } {
            return false;
        }
        // SAFETY: rule 6.
        self.cap = unsafe { counter.block_len() };
        // SAFETY: rule 6. A counter that knows an account is needed until the block is freed.
        if unsafe { counter.account() }.get().is_none() {
            *self.counter.get_mut() = ptr::null_mut();
            // SAFETY: this is the only slice, and it does not point to the counter any more.
            drop(unsafe { counter.into_box() });
        }
        true
    }

    /// Makes the block count for `account`, unless it counts for one already.
    pub(crate) fn count_for(&mut self, account: &Arc<Account>) {
        if self.is_none() {
            return;
        }
        let counter = self.counter().unwrap_or_else(|| {
            let counter = SharedCounter::new(self.cap, 1);
            *self.counter.get_mut() = counter.as_ptr();
            counter
        });
        // SAFETY: rule 6.
        let (slot, block_len) = unsafe { (counter.account(), counter.block_len()) };
        if slot.set(account.clone()).is_ok() {
            account.add(block_len as usize);
        }
    }

    /// Returns whether the block counts for an account, whose members may be woken when it is freed.
    #[inline]
    pub(crate) fn has_account(&self) -> bool {
        // SAFETY: rule 6.
        self.counter()
            .is_some_and(|counter| unsafe { counter.account() }.get().is_some())
    }

    /// Returns whether old data may lie before the present data. A new holder must not use the spare then, since an empty
    /// slice starts again at the beginning of its block.
    #[inline]
    pub(crate) fn has_past(&self) -> bool {
        self.start > 0
    }

    /// Hides from a new holder what the old one left in the spare.
    #[inline]
    pub(crate) fn forget_spare(&mut self) {
        self.init = self.end;
    }

    /// Returns a slice of the bytes from `from` to `from + n`, without a copy and without spare. `n` is not zero.
    pub(crate) fn share(&self, from: usize, n: usize) -> Self {
        assert!(n > 0 && from <= self.len() && n <= self.len() - from);
        let counter = self.count_one_more();
        let start = self.start + from as u32;
        let end = start + n as u32;
        Self {
            base: self.base,
            counter: AtomicPtr::new(counter.as_ptr()),
            cap: end,
            start,
            end,
            init: 0,
        }
    }

    fn count_one_more(&self) -> SharedCounter {
        if let Some(counter) = self.counter() {
            // SAFETY: rule 6.
            unsafe { counter.increment() };
            return counter;
        }
        let fresh = SharedCounter::new(self.cap, 2);
        let set = self.counter.compare_exchange(
            ptr::null_mut(),
            fresh.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match set {
            Ok(_) => fresh,
            Err(other) => {
                // SAFETY: no other slice knows the fresh counter.
                drop(unsafe { fresh.into_box() });
                let counter = SharedCounter::from_ptr(other).expect("another thread has set it");
                // SAFETY: rule 6.
                unsafe { counter.increment() };
                counter
            }
        }
    }

    /// Appends `next` without a copy if its bytes follow in the same block. Returns whether it did.
    #[must_use]
    pub(crate) fn join(&mut self, next: &mut Self) -> bool {
        let counter = self.counter();
        if counter.is_none() || counter != next.counter() || self.end != next.start {
            return false;
        }
        // The spare moves with the bytes before it, so that there is still one slice that has it.
        (self.end, self.cap, self.init) = (next.end, next.cap, next.init);
        (next.cap, next.init) = (next.end, 0);
        true
    }

    /// Returns the data as `Bytes`, without a copy. The block is released with them.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Makes the first `n` bytes of the spare data. Bytes that were never written are zero.
    #[inline]
    pub(crate) fn commit(&mut self, n: usize) {
        self.zero_unknown(n);
        self.end += n as u32;
    }

    /// Returns the first `n` bytes of the spare. Bytes that were never written are zeroed, once in the life of the block.
    pub(crate) fn spare_mut(&mut self, n: usize) -> &mut [u8] {
        self.zero_unknown(n);
        // SAFETY: the spare is ours alone (rule 4), and its first `n` bytes are initialised now (rule 3).
        unsafe { slice::from_raw_parts_mut(self.at(self.end).cast_mut(), n) }
    }

    /// Writes `data` to position `at` of the spare, where it fits, and does not make it data of the slice yet.
    #[inline]
    pub(crate) fn write_spare(&mut self, at: usize, data: &[u8]) {
        self.zero_unknown(at);
        let until = at + data.len();
        let room = &mut self.spare_uninit(until)[at..];
        // SAFETY: `room` is as long as `data`, which is a borrow of other bytes, since ours are behind `&mut self`.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), room.as_mut_ptr().cast(), data.len()) };
        self.init = self.init.max(self.end + until as u32);
    }

    /// Returns the first `n` bytes of the spare as they are.
    pub(crate) fn spare_uninit(&mut self, n: usize) -> &mut [MaybeUninit<u8>] {
        assert!(n <= self.spare());
        let spare = self.at(self.end).cast_mut().cast();
        // SAFETY: the spare is ours alone (rule 4), and `MaybeUninit` asks nothing of its contents. Its users, all in
        // this folder, `transport` or `BufMut`, only write initialised bytes.
        unsafe { slice::from_raw_parts_mut(spare, n) }
    }

    /// Returns how many bytes of the spare are initialised.
    pub(crate) fn spare_known(&self) -> usize {
        self.init.saturating_sub(self.end) as usize
    }

    /// Records that the first `n` bytes of the spare were written.
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

    /// Returns whether this is the only slice of its block.
    pub(crate) fn is_unique(&self) -> bool {
        // SAFETY: rule 6.
        self.counter()
            .is_none_or(|counter| unsafe { counter.is_one() })
    }

    #[inline]
    fn counter(&self) -> Option<SharedCounter> {
        SharedCounter::from_ptr(self.counter.load(Ordering::Acquire))
    }

    #[inline]
    fn at(&self, offset: u32) -> *const u8 {
        debug_assert!(offset <= self.cap);
        // SAFETY: rule 1: an offset up to `cap` stays within the allocation, or is 0 where there is none.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// Panics at the first rule that does not hold.
    pub(crate) fn check_invariants(&self) {
        let in_order = self.start <= self.end && self.end <= self.cap;
        assert!(in_order, "rule 1: {self:?}");
        assert!(self.cap as usize <= self.allocated(), "rule 1: {self:?}");
        assert!(self.init <= self.cap, "rule 3: {self:?}");
    }

    /// Releases the block of a slice that has one. Only for the drop of this slice.
    #[inline(never)]
    fn release(&mut self) {
        let len = match self.counter() {
            None => self.cap,
            // SAFETY: this slice is one of those that are counted, and it ends here.
            Some(counter) => match unsafe { counter.decrement() } {
                Some(counter) => return self.release_counted(counter),
                None => return,
            },
        };
        // SAFETY: this was the last slice of the block, which was allocated with this length (rule 5).
        unsafe { pool::free(self.base, len as usize) }
    }

    /// Does the same for the last slice of a shared block.
    fn release_counted(&mut self, counter: Box<Counter>) {
        // SAFETY: this was the last slice of the block, which was allocated with this length (rule 5).
        unsafe { pool::free(self.base, counter.block_len as usize) }
        // Its account may wake tasks, so the memory is freed before.
        drop(counter);
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
        Self::none()
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
