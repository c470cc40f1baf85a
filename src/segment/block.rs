//! Memory for segments, and the counter of the slices that share one block.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc},
    ptr::{self, NonNull},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

use crate::{limits::budget::Account, stats};

/// The alignment of blocks: a freed block in the pool holds a pointer to the next one.
pub(super) const ALIGN: usize = align_of::<usize>();

/// Allocates a block of `len` bytes, which are uninitialised; `None` if there is no memory. `len` is not zero.
pub(super) fn allocate_new(len: usize) -> Option<NonNull<u8>> {
    assert!(len > 0);
    let layout = Layout::from_size_align(len, ALIGN).ok()?;
    // SAFETY: the size of the layout is not zero, since `len` is not.
    let block = unsafe { alloc(layout) };
    let block = NonNull::new(block)?;
    stats::block_allocated(len);
    Some(block)
}

/// Returns a block to the allocator.
///
/// # Safety
///
/// `block` came from `allocate_new(len)` and is not used any more.
pub(super) unsafe fn release(block: NonNull<u8>, len: usize) {
    let layout = Layout::from_size_align(len, ALIGN).expect("the block was allocated with it");
    // SAFETY: the caller promises that the block was allocated with this layout.
    unsafe { dealloc(block.as_ptr(), layout) }
    stats::block_released(len);
}

/// A pointer to the counter of the slices that share one block.
///
/// Another thread may free the counter as soon as this one has decremented it. So no reference to the whole
/// [`Counter`] may be alive at that moment: its methods take the pointer and form only an `&AtomicUsize`, as the
/// standard library's `Arc` does. Fields beside the atomic are read before, or by the last holder.
///
/// The orderings are those of `Arc`: a holder that reads a count of one sees everything that the other holders did
/// before they decremented the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedCounter(NonNull<Counter>);

/// See [`SharedCounter`].
#[derive(Debug)]
pub(super) struct Counter {
    holders: AtomicUsize,
    /// The length of the whole block, of which a slice knows only a part.
    pub(super) block_len: u32,
    /// The account for which the block counts: that of the first buffer with a budget.
    account: OnceLock<Arc<Account>>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(account) = self.account.get() {
            account.subtract(self.block_len as usize);
        }
    }
}

impl SharedCounter {
    /// Allocates a counter of `holders` slices.
    pub(super) fn new(block_len: u32, holders: usize) -> Self {
        let counter = Counter {
            holders: AtomicUsize::new(holders),
            block_len,
            account: OnceLock::new(),
        };
        Self(NonNull::from(Box::leak(Box::new(counter))))
    }

    pub(super) fn from_ptr(ptr: *mut Counter) -> Option<Self> {
        NonNull::new(ptr).map(Self)
    }

    pub(super) fn as_ptr(self) -> *mut Counter {
        self.0.as_ptr()
    }

    /// # Safety
    ///
    /// The counter is alive: the caller is, or borrows, one of the slices that it counts.
    unsafe fn holders<'a>(self) -> &'a AtomicUsize {
        // SAFETY: the pointer is valid, as the caller promises; no reference to the other fields is formed.
        unsafe { &*ptr::addr_of!((*self.0.as_ptr()).holders) }
    }

    /// Returns the length of the whole block.
    ///
    /// # Safety
    ///
    /// The counter is alive: the caller is, or borrows, one of the slices that it counts.
    pub(super) unsafe fn block_len(self) -> u32 {
        // SAFETY: the pointer is valid, as the caller promises; the field never changes.
        unsafe { ptr::addr_of!((*self.0.as_ptr()).block_len).read() }
    }

    /// Returns the account for which the block counts.
    ///
    /// # Safety
    ///
    /// The counter is alive for `'a`: the caller is, or borrows, one of the slices that it counts.
    pub(super) unsafe fn account<'a>(self) -> &'a OnceLock<Arc<Account>> {
        // SAFETY: the pointer is valid, as the caller promises; no reference to the other fields is formed.
        unsafe { &*ptr::addr_of!((*self.0.as_ptr()).account) }
    }

    /// Returns whether there is one slice.
    ///
    /// # Safety
    ///
    /// The counter is alive: the caller is, or borrows, one of the slices that it counts.
    pub(super) unsafe fn is_one(self) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { self.holders() }.load(Ordering::Acquire) == 1
    }

    /// Increments the counter for a new slice.
    ///
    /// # Safety
    ///
    /// The counter is alive: the caller is, or borrows, one of the slices that it counts.
    pub(super) unsafe fn increment(self) {
        // SAFETY: passed on to the caller.
        let holders = unsafe { self.holders() }.fetch_add(1, Ordering::Relaxed);
        // As `Arc` does: a counter that wraps would free memory in use.
        if holders > isize::MAX as usize {
            std::process::abort();
        }
    }

    /// Decrements the counter for the calling slice. Returns the counter itself if that was the last slice.
    ///
    /// # Safety
    ///
    /// The caller is one of the slices that the counter counts, and does not use the counter after this call.
    #[must_use]
    pub(super) unsafe fn decrement(self) -> Option<Box<Counter>> {
        // SAFETY: the counter is alive until the `fetch_sub` below; the reference is not used after it.
        if unsafe { self.holders() }.fetch_sub(1, Ordering::Release) != 1 {
            return None;
        }
        #[cfg(not(evbuffer_tsan))]
        fence(Ordering::Acquire);
        // The thread sanitizer does not model fences. SAFETY: this was the last slice, so the counter is alive.
        #[cfg(evbuffer_tsan)]
        unsafe { self.holders() }.load(Ordering::Acquire);
        // SAFETY: this was the last slice, so nothing else refers to the leaked box of `new`.
        Some(unsafe { self.into_box() })
    }

    /// Takes the counter back.
    ///
    /// # Safety
    ///
    /// Nothing else refers to the counter.
    pub(super) unsafe fn into_box(self) -> Box<Counter> {
        // SAFETY: it came from the leaked box of `new`, and nothing else refers to it.
        unsafe { Box::from_raw(self.0.as_ptr()) }
    }
}
