//! The short forms that remove nothing: reading, and settings, each under its own lock.

use std::ops::RangeBounds;

use super::inner::SharedEvBuffer;
#[cfg(doc)]
use crate::EvBuffer;
use crate::{
    EolStyle,
    buffer::{End, Eol, SharedBytes},
    error::BufferError,
};

/// Reading without removing, and settings.
impl SharedEvBuffer {
    /// Returns the number of buffered bytes.
    #[doc(alias = "evbuffer_get_length")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.state.lock().buffer.len()
    }

    /// Returns whether the buffer holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of memory held. See [`EvBuffer::capacity`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.inner.state.lock().buffer.capacity()
    }

    /// Returns the number of segments that hold data.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.inner.state.lock().buffer.segments()
    }

    /// Copies bytes from the front into `out` and returns their number. See [`EvBuffer::copyout`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::copyout`].
    #[doc(alias = "evbuffer_copyout")]
    pub fn copyout(&self, out: &mut [u8]) -> Result<usize, BufferError> {
        self.inner.state.lock().buffer.copyout(out)
    }

    /// Copies bytes from position `pos` on into `out` and returns their number. See [`EvBuffer::copyout_from`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::copyout_from`].
    #[doc(alias = "evbuffer_copyout_from")]
    pub fn copyout_from(&self, pos: usize, out: &mut [u8]) -> Result<usize, BufferError> {
        self.inner.state.lock().buffer.copyout_from(pos, out)
    }

    /// Returns the position of the first `needle` within `range`. See [`EvBuffer::search`].
    #[doc(alias = "evbuffer_search")]
    #[doc(alias = "evbuffer_search_range")]
    #[must_use]
    pub fn search(&self, needle: &[u8], range: impl RangeBounds<usize>) -> Option<usize> {
        self.inner.state.lock().buffer.search(needle, range)
    }

    /// Returns the first end of a line from position `from` on. See [`EvBuffer::search_eol`].
    #[doc(alias = "evbuffer_search_eol")]
    #[must_use]
    pub fn search_eol(&self, from: usize, style: EolStyle) -> Option<Eol> {
        self.inner.state.lock().buffer.search_eol(from, style)
    }

    /// Returns the position of the last `needle` within `range`. See [`EvBuffer::rsearch`].
    #[must_use]
    pub fn rsearch(&self, needle: &[u8], range: impl RangeBounds<usize>) -> Option<usize> {
        self.inner.state.lock().buffer.rsearch(needle, range)
    }

    /// Returns the position of the first of `bytes` from position `from` on. See [`EvBuffer::search_any`].
    #[must_use]
    pub fn search_any(&self, bytes: &[u8], from: usize) -> Option<usize> {
        self.inner.state.lock().buffer.search_any(bytes, from)
    }

    /// Returns the byte at position `at`, if there is one. See [`EvBuffer::get`].
    #[must_use]
    pub fn get(&self, at: usize) -> Option<u8> {
        self.inner.state.lock().buffer.get(at)
    }

    /// Copies the contents. See [`EvBuffer::to_vec`].
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.inner.state.lock().buffer.to_vec()
    }

    /// Shares the contents as one message for many buffers, without a copy. See [`EvBuffer::share`].
    #[must_use]
    pub fn share(&self) -> SharedBytes {
        self.inner.state.lock().buffer.share()
    }

    /// Returns whether the last bytes are `suffix`.
    #[must_use]
    pub fn ends_with(&self, suffix: &[u8]) -> bool {
        self.inner.state.lock().buffer.ends_with(suffix)
    }

    /// Returns whether the first bytes are `prefix`.
    #[must_use]
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        self.inner.state.lock().buffer.starts_with(prefix)
    }

    /// Makes room for `n` bytes. See [`EvBuffer::expand`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::expand`].
    #[doc(alias = "evbuffer_expand")]
    pub fn expand(&self, n: usize) -> Result<(), BufferError> {
        self.lock().expand(n)
    }

    /// Releases spare memory. See [`EvBuffer::shrink_to_fit`].
    pub fn shrink_to_fit(&self) {
        self.lock().shrink_to_fit();
    }

    /// Refuses all changes at `end` until [`unfreeze`](Self::unfreeze). See [`EvBuffer::freeze`].
    ///
    /// Waits that need a change at that end fail, see [`readable`](Self::readable) and the other waits.
    #[doc(alias = "evbuffer_freeze")]
    pub fn freeze(&self, end: End) {
        self.lock().freeze(end);
    }

    /// Allows changes at `end` again.
    #[doc(alias = "evbuffer_unfreeze")]
    pub fn unfreeze(&self, end: End) {
        self.lock().unfreeze(end);
    }

    /// Returns whether changes at `end` are refused.
    #[must_use]
    pub fn is_frozen(&self, end: End) -> bool {
        self.inner.state.lock().buffer.is_frozen(end)
    }

    /// Sets the hard cap on the length, in bytes; `None` is no cap. See [`EvBuffer::set_max_len`].
    pub fn set_max_len(&self, max: Option<usize>) {
        self.lock().set_max_len(max);
    }

    /// Returns the hard cap on the length, in bytes.
    #[must_use]
    pub fn max_len(&self) -> Option<usize> {
        self.inner.state.lock().buffer.max_len()
    }
}
