//! The bytes of a buffer, to be added to many others.

use std::{fmt, sync::Arc};

use super::{chain::EvBuffer, chunks::Chunks};
use crate::{
    error::{End, Result},
    segment::{BlockSlice, Segment},
};

/// Bytes that many buffers can share: one message for many connections.
///
/// Made by [`EvBuffer::share`], and added to a buffer by [`EvBuffer::add_shared`]. A clone costs one atomic operation,
/// regardless of the length, and can go to another task. The bytes never change.
///
/// # Examples
///
/// ```
/// # use tokio_evbuffer::EvBuffer;
/// let mut message = EvBuffer::from("header: ");
/// message.add_reference(vec![7; 4096])?;
/// let shared = message.share();
///
/// let mut clients: [EvBuffer; 3] = Default::default();
/// for client in &mut clients {
///     client.add_shared(&shared)?; // no copy of the 4 KiB
/// }
/// assert!(clients.iter().all(|client| *client == message));
/// # Ok::<(), tokio_evbuffer::BufferError>(())
/// ```
#[derive(Clone)]
pub struct SharedBytes {
    segments: Arc<[Segment]>,
    len: usize,
}

impl SharedBytes {
    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes as slices, one for each segment, in order.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks::of_segments(&self.segments)
    }
}

impl EvBuffer {
    /// Returns the bytes of the buffer in a form that can be added to many others, without a copy and without removing them.
    ///
    /// Small pieces of large blocks are copied once, so that the result keeps little more memory than its length.
    ///
    /// # Examples
    ///
    /// See [`SharedBytes`].
    #[must_use]
    pub fn share(&self) -> SharedBytes {
        let tail = (!self.tail.is_empty()).then(|| shared_block(&self.tail));
        let body = self.body.iter().map(|segment| match segment {
            Segment::Block(block) => shared_block(block),
            other => other.share(0, other.len()),
        });
        SharedBytes {
            segments: body.chain(tail).collect(),
            len: self.len(),
        }
    }

    /// Adds shared bytes to the back and returns their number.
    ///
    /// Segments shorter than [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes are copied, the others shared.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    #[doc(alias = "evbuffer_add_buffer_reference")]
    pub fn add_shared(&mut self, bytes: &SharedBytes) -> Result<usize> {
        let n = bytes.len();
        if n == 0 {
            return Ok(0);
        }
        self.check_growth(End::Back, n)?;
        for segment in bytes.segments.iter() {
            self.link_shared(segment);
        }
        self.compact_if_wasteful();
        self.debug_check();
        Ok(n)
    }
}

/// Shares the data of `block`, or copies them if they are less than half of it.
fn shared_block(block: &BlockSlice) -> Segment {
    let is_sparse = block.allocated() > 2 * block.len();
    let copy = is_sparse.then(|| BlockSlice::copy_of(block.as_slice()));
    match copy.flatten() {
        Some(copy) => Segment::Block(copy),
        // Without memory for a copy the block is shared.
        None => Segment::Block(block.share(0, block.len())),
    }
}

impl From<EvBuffer> for SharedBytes {
    fn from(buffer: EvBuffer) -> Self {
        buffer.share()
    }
}

impl fmt::Debug for SharedBytes {
    /// Shows the shape, never the contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes")
            .field("len", &self.len)
            .field("segments", &self.segments.len())
            .finish()
    }
}
