//! Sizes of blocks, and the sizes from which on sharing pays more than copying.

/// Blocks grow by doubling up to this size, in bytes.
///
/// A system call moves several blocks at once. Larger blocks measured no better, and waste more when they are only partly
/// filled; with half the size the bulk rows of the peers program take more system calls.
pub(crate) const BLOCK: usize = 16 * 1024;

/// The smallest block, in bytes.
pub(super) const MIN_BLOCK: usize = 64;

/// Pieces shorter than this many bytes are copied instead of shared.
///
/// Sharing a piece keeps the whole block in which it lies and costs an atomic operation or two. A copy of fewer bytes costs
/// no more and keeps nothing else.
pub const COPY_THRESHOLD: usize = 512;

/// A `Bytes` that was taken out keeps at most this many times its length in memory; a shorter one is a copy.
pub(crate) const PINNED_MAX: usize = 32;

/// The most slices of one vectored write. In a longer chain short references are copied, so that a write moves more.
pub(crate) const SLICES_MAX: usize = 64;

/// The sizes, in bytes, at which the buffer changes what it does. Constant, except in tests of this crate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The size that blocks grow to.
    pub(crate) block: usize,
    /// The largest block: positions in a block have 32 bits.
    pub(crate) max_block: usize,
    /// A shorter spare is not worth keeping apart from the data before it.
    pub(crate) min_spare: usize,
    /// [`COPY_THRESHOLD`].
    pub(crate) copy_threshold: usize,
    /// A buffer with no more memory than this is not compacted.
    pub(crate) waste_allowed: usize,
}

impl Sizes {
    const USUAL: Self = Self {
        block: BLOCK,
        max_block: 1 << 30,
        min_spare: BLOCK / 8,
        copy_threshold: COPY_THRESHOLD,
        waste_allowed: 2 * BLOCK,
    };
}

/// Returns the sizes in effect.
#[inline]
pub(crate) fn sizes() -> Sizes {
    #[cfg(test)]
    if let Some(sizes) = test_only::SIZES.get() {
        return sizes;
    }
    Sizes::USUAL
}

/// Returns the size of a block for `n` bytes that follows one of `previous` bytes; `None` if no block is so large.
///
/// Small blocks are powers of two and at least twice as large as the one before, so that a buffer that is filled in small
/// steps has few of them; a large one is exact.
#[inline]
pub(crate) fn next_block(n: usize, previous: usize) -> Option<usize> {
    let Sizes {
        block, max_block, ..
    } = sizes();
    if n > max_block {
        return None;
    }
    if n >= block {
        return Some(n);
    }
    let grown = n
        .next_power_of_two()
        .max(previous.saturating_mul(2))
        .max(MIN_BLOCK);
    Some(grown.min(block))
}

#[cfg(test)]
pub(crate) mod test_only {
    use std::cell::Cell;

    use super::Sizes;

    thread_local! {
        pub(super) static SIZES: Cell<Option<Sizes>> = const { Cell::new(None) };
    }

    /// Makes this thread use other sizes, so that a few bytes reach borders that otherwise take many.
    pub(crate) fn set_sizes(sizes: Sizes) {
        SIZES.set(Some(sizes));
    }
}
