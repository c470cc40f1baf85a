//! The short forms: one operation under a guard of its own.

use bytes::Bytes;

use super::{
    SharedEvBuffer,
    guard::{self, edit_both},
};
use crate::{EolStyle, EvBuffer, error::BufferError};

impl SharedEvBuffer {
    /// Returns the number of bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.state.lock().buffer.len()
    }

    /// Returns whether the buffer holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `data` to the back. See [`EvBuffer::add`].
    ///
    /// Inline callbacks run before this returns: locks that are held around it are the caller's deadlock.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add")]
    #[inline]
    pub fn add(&self, data: &[u8]) -> Result<(), BufferError> {
        guard::add(self, data)
    }

    /// Copies `data` before the first byte. See [`EvBuffer::prepend`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::prepend`].
    #[doc(alias = "evbuffer_prepend")]
    pub fn prepend(&self, data: &[u8]) -> Result<(), BufferError> {
        self.lock().prepend(data)
    }

    /// Links `data` behind the last byte, without a copy. See [`EvBuffer::add_reference`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_reference`].
    #[doc(alias = "evbuffer_add_reference")]
    pub fn add_reference(&self, data: impl Into<Bytes>) -> Result<(), BufferError> {
        // Foreign code: before the lock.
        let data = data.into();
        self.lock().add_reference(data)
    }

    /// Moves all bytes of `src` to the back and returns how many. See [`EvBuffer::add_buffer`].
    ///
    /// To move between two shared buffers use [`move_to`](Self::move_to), which cannot deadlock.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_buffer`].
    #[doc(alias = "evbuffer_add_buffer")]
    pub fn add_buffer(&self, src: &mut EvBuffer) -> Result<usize, BufferError> {
        self.lock().add_buffer(src)
    }

    /// Removes at most `n` bytes from the front and returns how many. See [`EvBuffer::drain`].
    ///
    /// Inline callbacks run before this returns: locks that are held around it are the caller's deadlock.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::drain`].
    #[doc(alias = "evbuffer_drain")]
    pub fn drain(&self, n: usize) -> Result<usize, BufferError> {
        self.lock().drain(n)
    }

    /// Moves bytes from the front into `out` and returns how many. See [`EvBuffer::remove`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::remove`].
    #[doc(alias = "evbuffer_remove")]
    pub fn remove(&self, out: &mut [u8]) -> Result<usize, BufferError> {
        self.lock().remove(out)
    }

    /// Moves at most `n` bytes from the front to the back of `dst` and returns how many. See
    /// [`EvBuffer::remove_buffer`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::remove_buffer`].
    #[doc(alias = "evbuffer_remove_buffer")]
    pub fn remove_buffer(&self, dst: &mut EvBuffer, n: usize) -> Result<usize, BufferError> {
        self.lock().remove_buffer(dst, n)
    }

    /// Takes at most `n` bytes from the front. See [`EvBuffer::take_bytes`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::take_bytes`].
    pub fn take_bytes(&self, n: usize) -> Result<Bytes, BufferError> {
        self.lock().take_bytes(n)
    }

    /// Copies bytes from the front into `out` and returns how many. See [`EvBuffer::copyout`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::copyout`].
    #[doc(alias = "evbuffer_copyout")]
    pub fn copyout(&self, out: &mut [u8]) -> Result<usize, BufferError> {
        self.inner.state.lock().buffer.copyout(out)
    }

    /// Takes a line without its end, if there is a whole one. See [`EvBuffer::readln`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::readln`].
    #[doc(alias = "evbuffer_readln")]
    pub fn readln(&self, style: EolStyle) -> Result<Option<Bytes>, BufferError> {
        self.lock().readln(style)
    }

    /// Moves at most `n` bytes from the front to the back of `dst` and returns how many: one change of each buffer.
    ///
    /// Both are locked in a fixed order, so that opposite moves do not wait for each other, and both are unlocked before
    /// anybody is told. A move into itself is `Ok(0)`.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::remove_buffer`]. Nothing was moved then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    /// a.add(b"to the other side")?;
    /// assert_eq!(a.move_to(&b, 3)?, 3);
    /// assert_eq!((a.len(), b.len()), (14, 3));
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_remove_buffer")]
    pub fn move_to(&self, dst: &SharedEvBuffer, n: usize) -> Result<usize, BufferError> {
        edit_both(self, dst, |from, to| from.remove_buffer(to, n)).unwrap_or(Ok(0))
    }
}
