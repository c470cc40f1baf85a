//! How large a block is made.

use crate::error::{BufferError, Result};

/// Blocks grow by doubling up to this size, in bytes: a system call moves several of them at once, and
/// larger ones measured no better while they waste more when only partly filled.
pub(crate) const BLOCK: usize = 16 * 1024;

/// The smallest block, in bytes.
const MIN_BLOCK: usize = 64;

/// The largest block, in bytes: offsets into a block are kept in 32 bits.
const MAX_BLOCK: usize = 1 << 30;

/// Spare room below this many bytes is not worth keeping apart from the data before it.
pub(crate) const MIN_SPARE: usize = BLOCK / 8;

/// The size that blocks grow to: [`BLOCK`], unless a test of this crate chose a smaller one.
#[inline]
pub(crate) fn block_len() -> usize {
    #[cfg(test)]
    if let Some(len) = test_only::BLOCK_LEN.get() {
        return len;
    }
    BLOCK
}

/// The most that one block may hold.
#[inline]
pub(crate) fn max_block() -> usize {
    #[cfg(test)]
    if let Some(len) = test_only::BLOCK_LEN.get() {
        return len;
    }
    MAX_BLOCK
}

/// The size of a block for `n` bytes that follows one of `previous` bytes.
///
/// Small blocks are powers of two and at least twice their predecessor, so that a buffer filled in small
/// steps has few of them; a large one is exact.
pub(crate) fn next_block(n: usize, previous: usize) -> Result<usize> {
    if n > max_block() {
        return Err(BufferError::TooLarge);
    }
    let limit = block_len();
    if n >= limit {
        return Ok(n);
    }
    let grown = n
        .next_power_of_two()
        .max(previous.saturating_mul(2))
        .max(MIN_BLOCK);
    Ok(grown.min(limit))
}

#[cfg(test)]
pub(crate) mod test_only {
    use std::cell::Cell;

    thread_local! {
        pub(super) static BLOCK_LEN: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Makes every block that this thread allocates at most `len` bytes long.
    #[allow(dead_code)]
    pub(crate) fn set_block_len(len: Option<usize>) {
        BLOCK_LEN.set(len);
    }
}
