//! The short forms that add or remove bytes: one operation of [`EvBuffer`] under its own guard.

use std::io::{self, IoSlice, Read, Write};

use bytes::Bytes;

use super::{
    BufferGuard,
    guard::edit_both,
    inner::{SharedEvBuffer, State},
};
use crate::{
    EolStyle, EvBuffer,
    buffer::{FileSegment, LineError, SharedBytes},
    error::BufferError,
    sync::LockGuard,
};

/// Adding bytes. Each call is one change. Inline callbacks run before it returns, with the locks held that you hold around it.
impl SharedEvBuffer {
    /// Copies `data` to the back. See [`EvBuffer::add`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add")]
    #[inline]
    pub fn add(&self, data: impl AsRef<[u8]>) -> Result<(), BufferError> {
        add(self, data.as_ref())
    }

    /// Copies all of `data` to the back and returns the number of bytes. See [`EvBuffer::add_vectored`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_vectored`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add_iovec")]
    pub fn add_vectored(&self, data: &[IoSlice<'_>]) -> Result<usize, BufferError> {
        self.lock().add_vectored(data)
    }

    /// Links `data` to the back, without a copy. See [`EvBuffer::add_reference`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_reference`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add_reference")]
    pub fn add_reference(&self, data: impl Into<Bytes>) -> Result<(), BufferError> {
        let data = data.into(); // user code: before the lock
        self.lock().add_reference(data)
    }

    /// Links the memory of `owner` to the back, without a copy. See [`EvBuffer::add_owner`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_owner`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add_reference_with_offset")]
    pub fn add_owner<T: AsRef<[u8]> + Send + 'static>(&self, owner: T) -> Result<(), BufferError> {
        self.add_reference(Bytes::from_owner(owner))
    }

    /// Links a range of a file to the back. See [`EvBuffer::add_file`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_file`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add_file")]
    #[doc(alias = "evbuffer_add_file_segment")]
    pub fn add_file(&self, file: FileSegment) -> Result<(), BufferError> {
        self.lock().add_file(file)
    }

    /// Moves all bytes of `src` to the back and returns their number. See [`EvBuffer::add_buffer`].
    ///
    /// To move between two shared buffers use [`move_to`](Self::move_to), which cannot deadlock.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_buffer`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add_buffer")]
    pub fn add_buffer(&self, src: &mut EvBuffer) -> Result<usize, BufferError> {
        self.lock().add_buffer(src)
    }

    /// Adds all bytes of `src` to the back, without a copy and without removing them; returns their number. See
    /// [`EvBuffer::add_buffer_reference`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_buffer_reference`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_add_buffer_reference")]
    pub fn add_buffer_reference(&self, src: &EvBuffer) -> Result<usize, BufferError> {
        self.lock().add_buffer_reference(src)
    }

    /// Adds a message that many buffers share, without a copy; returns its length. See [`EvBuffer::add_shared`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::add_shared`]; [`BufferError::Closed`] after [`close`](Self::close).
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{EvBuffer, SharedEvBuffer};
    ///
    /// let message = EvBuffer::from("to all of them").share();
    /// let clients = [SharedEvBuffer::new(), SharedEvBuffer::new()];
    /// for client in &clients {
    ///     assert_eq!(client.add_shared(&message)?, 14);
    /// }
    /// assert_eq!(clients[1].to_vec(), b"to all of them");
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    pub fn add_shared(&self, message: &SharedBytes) -> Result<usize, BufferError> {
        self.lock().add_shared(message)
    }

    /// Overwrites bytes from position `pos` on. See [`EvBuffer::write_at`].
    ///
    /// The length stays the same, so no callback is called. Tasks that wait for certain contents look again.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::write_at`].
    pub fn write_at(&self, pos: usize, data: &[u8]) -> Result<(), BufferError> {
        self.lock().write_at(pos, data)
    }

    /// Copies `data` before the first byte. See [`EvBuffer::prepend`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::prepend`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_prepend")]
    pub fn prepend(&self, data: impl AsRef<[u8]>) -> Result<(), BufferError> {
        let data = data.as_ref(); // user code: before the lock
        self.lock().prepend(data)
    }

    /// Links `data` before the first byte, without a copy. See [`EvBuffer::prepend_reference`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::prepend_reference`]; [`BufferError::Closed`] after [`close`](Self::close).
    pub fn prepend_reference(&self, data: impl Into<Bytes>) -> Result<(), BufferError> {
        let data = data.into(); // user code: before the lock
        self.lock().prepend_reference(data)
    }

    /// Moves all bytes of `src` before the first byte and returns their number. See [`EvBuffer::prepend_buffer`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::prepend_buffer`]; [`BufferError::Closed`] after [`close`](Self::close).
    #[doc(alias = "evbuffer_prepend_buffer")]
    pub fn prepend_buffer(&self, src: &mut EvBuffer) -> Result<usize, BufferError> {
        self.lock().prepend_buffer(src)
    }

    /// Reads at most `n` bytes from `src` to the back and returns their number. See [`EvBuffer::read_from`].
    ///
    /// `src` is read with the buffer locked.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::read_from`].
    #[doc(alias = "evbuffer_read")]
    pub fn read_from(&self, src: &mut (impl Read + ?Sized), n: usize) -> io::Result<usize> {
        self.lock().read_from(src, n)
    }
}

/// Removing bytes. Each call is one change. Inline callbacks run before it returns, with the locks held that you hold around
/// it.
impl SharedEvBuffer {
    /// Removes at most `n` bytes from the front and returns their number. See [`EvBuffer::drain`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::drain`].
    #[doc(alias = "evbuffer_drain")]
    pub fn drain(&self, n: usize) -> Result<usize, BufferError> {
        self.lock().drain(n)
    }

    /// Removes all bytes and returns their number. See [`EvBuffer::clear`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::clear`].
    pub fn clear(&self) -> Result<usize, BufferError> {
        self.lock().clear()
    }

    /// Moves bytes from the front into `out` and returns their number. See [`EvBuffer::remove`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::remove`].
    #[doc(alias = "evbuffer_remove")]
    pub fn remove(&self, out: &mut [u8]) -> Result<usize, BufferError> {
        self.lock().remove(out)
    }

    /// Moves at most `n` bytes from the front to the back of `dst` and returns their number. See
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

    /// Takes a line without its terminator, if a whole one is there. See [`EvBuffer::readln`], and
    /// [`next_line`](Self::next_line), which waits.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::readln`].
    #[doc(alias = "evbuffer_readln")]
    #[inline]
    pub fn readln(&self, style: EolStyle) -> Result<Option<Bytes>, BufferError> {
        self.lock().readln(style)
    }

    /// Takes a line of at most `max` bytes without its terminator, if a whole one is there. See
    /// [`EvBuffer::readln_max`], and [`next_line`](Self::next_line), which waits.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::readln_max`].
    #[inline]
    pub fn readln_max(&self, style: EolStyle, max: usize) -> Result<Option<Bytes>, LineError> {
        self.lock().readln_max(style, max)
    }

    /// Calls `f` with each whole line and removes them; returns their number. See [`EvBuffer::read_lines`].
    ///
    /// `f` runs with the buffer locked and must not use handles of this buffer.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::read_lines`].
    pub fn read_lines(&self, style: EolStyle, f: impl FnMut(&[u8])) -> Result<usize, BufferError> {
        self.lock().read_lines(style, f)
    }

    /// Discards all bytes from position `len` on. See [`EvBuffer::truncate`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::truncate`].
    pub fn truncate(&self, len: usize) -> Result<(), BufferError> {
        self.lock().truncate(len)
    }

    /// Moves all bytes from position `at` on into a new buffer. See [`EvBuffer::split_off`].
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::split_off`].
    pub fn split_off(&self, at: usize) -> Result<EvBuffer, BufferError> {
        self.lock().split_off(at)
    }

    /// Writes at most `n` bytes from the front to `dst` and returns their number. See [`EvBuffer::write_to`].
    ///
    /// `dst` is written with the buffer locked.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::write_to`].
    #[doc(alias = "evbuffer_write_atmost")]
    pub fn write_to(&self, dst: &mut (impl Write + ?Sized), n: usize) -> io::Result<usize> {
        self.lock().write_to(dst, n)
    }

    /// Moves at most `n` bytes from the front to the back of `dst` and returns their number: one change of each buffer.
    ///
    /// Both are locked in a fixed order, so that opposite moves do not wait for each other, and both are unlocked before a
    /// subscriber is notified. Watermarks are ignored; [`move_up_to_high`](Self::move_up_to_high) stops at the high
    /// watermark of `dst`. A move into itself is `Ok(0)`.
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::remove_buffer`]. Nothing is moved then.
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
        edit_both(self, dst, |from, to| {
            from.buffer.remove_buffer(&mut to.buffer, n)
        })
        .unwrap_or(Ok(0))
    }

    /// Moves as many bytes to the back of `dst` as a [`Writer`](super::Writer) could add there, and returns their number.
    ///
    /// That is up to the high watermark of `dst`, and nothing from then on until the low one is reached; also not more than
    /// the hard cap allows. For a proxy made of callbacks: move in the callback of the source, and again in the callback of
    /// `dst` for [`Crossing::Low`](super::Crossing::Low).
    ///
    /// # Errors
    ///
    /// As [`EvBuffer::remove_buffer`]. Nothing is moved then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{SharedEvBuffer, Watermarks};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (a, b) = (SharedEvBuffer::new(), SharedEvBuffer::new());
    /// b.set_watermarks(Watermarks::new(2, 8)?);
    /// a.add(b"more than eight bytes")?;
    /// assert_eq!(a.move_up_to_high(&b)?, 8);
    /// b.drain(5)?;
    /// assert_eq!(a.move_up_to_high(&b)?, 0); // not below the low watermark yet
    /// b.drain(1)?;
    /// assert_eq!(a.move_up_to_high(&b)?, 6);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_remove_buffer")]
    pub fn move_up_to_high(&self, dst: &SharedEvBuffer) -> Result<usize, BufferError> {
        let moved = edit_both(self, dst, |from, to| match (to.refusal(), to.room()) {
            // The same errors as `move_to`.
            (None, 0) => Ok(0),
            (refusal, room) => {
                let n = if refusal.is_some() { usize::MAX } else { room };
                from.buffer.remove_buffer(&mut to.buffer, n)
            }
        });
        moved.unwrap_or(Ok(0))
    }
}

/// Copies `data` to the back as one change.
#[inline]
fn add(buffer: &SharedEvBuffer, data: &[u8]) -> Result<(), BufferError> {
    let mut state = buffer.inner.state.lock();
    // Without a guard where no subscriber needs a notification.
    let len = state.buffer.len().saturating_add(data.len());
    match state.needs_notify(len) {
        true => add_and_notify(buffer, state, data),
        false => state.buffer.add(data),
    }
}

#[inline(never)]
fn add_and_notify(
    buffer: &SharedEvBuffer,
    state: LockGuard<'_, State>,
    data: &[u8],
) -> Result<(), BufferError> {
    BufferGuard::new(buffer, state).add(data)
}
