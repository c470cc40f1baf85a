//! How large a block is made, and from which size on it pays to share instead of to copy.

use crate::error::{BufferError, Result};

/// Blocks grow by doubling up to this size, in bytes: a system call moves several of them at once, and
/// larger ones measured no better while they waste more when only partly filled.
pub(crate) const BLOCK: usize = 16 * 1024;

/// The smallest block, in bytes.
pub(super) const MIN_BLOCK: usize = 64;

/// Pieces shorter than this many bytes are copied on a move, not shared.
///
/// Sharing a piece pins the whole block that it lies in and costs an atomic operation or two; below this size
/// copying is as cheap and pins nothing.
pub const COPY_THRESHOLD: usize = 512;

/// The most slices of one vectored write.
pub(crate) const SLICES_MAX: usize = 64;

/// The sizes, in bytes, at which the buffer does one thing or another. Constants, but for tests of this crate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The size that blocks grow to.
    pub(crate) block: usize,
    /// The most that one block may hold: offsets into a block are kept in 32 bits.
    pub(crate) max_block: usize,
    /// Spare room below this is not worth keeping apart from the data before it.
    pub(crate) min_spare: usize,
    /// [`COPY_THRESHOLD`].
    pub(crate) copy_threshold: usize,
    /// A buffer whose memory is more than this and more than 1.5 times its length is compacted.
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

/// The sizes that hold now.
#[inline]
pub(crate) fn sizes() -> Sizes {
    #[cfg(test)]
    if let Some(sizes) = test_only::SIZES.get() {
        return sizes;
    }
    Sizes::USUAL
}

/// The size of a block for `n` bytes that follows one of `previous` bytes.
///
/// Small blocks are powers of two and at least twice their predecessor, so that a buffer filled in small
/// steps has few of them; a large one is exact.
pub(crate) fn next_block(n: usize, previous: usize) -> Result<usize> {
    let Sizes {
        block, max_block, ..
    } = sizes();
    if n > max_block {
        return Err(BufferError::TooLarge);
    }
    if n >= block {
        return Ok(n);
    }
    let grown = n
        .next_power_of_two()
        .max(previous.saturating_mul(2))
        .max(MIN_BLOCK);
    Ok(grown.min(block))
}

#[cfg(test)]
pub(crate) mod test_only {
    use std::cell::Cell;

    use super::Sizes;

    thread_local! {
        pub(super) static SIZES: Cell<Option<Sizes>> = const { Cell::new(None) };
    }

    /// Makes this thread use other sizes, so that few bytes reach what else takes many.
    pub(crate) fn set_sizes(sizes: Sizes) {
        SIZES.set(Some(sizes));
    }
}
