//! Linking memory of the user, and ranges of files, without a copy.

use bytes::Bytes;

use super::{chain::EvBuffer, flags::Flags};
use crate::{
    error::{BufferError, End, Result},
    segment::{
        FileSegment, Segment,
        sizing::{self, SLICES_MAX},
    },
};

impl EvBuffer {
    /// Links `data` behind the last byte, without a copy.
    ///
    /// The memory is released when its last byte has left this buffer and all others that share it. In a chain of more
    /// than 64 segments, references shorter than [`COPY_THRESHOLD`](crate::buffer::COPY_THRESHOLD) bytes are copied and
    /// released at once, so that a system call moves more than a few bytes. A reference to nothing is released at once. Behind
    /// the lock of a shared buffer, memory that is shared or has an owner is released after the lock.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). The reference is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use tokio_evbuffer::EvBuffer;
    /// let message = Bytes::from(vec![7; 10_000]);
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_reference(message.clone())?;
    /// assert_eq!(buffer.chunks().next().unwrap().as_ptr(), message.as_ptr());
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add_reference")]
    #[doc(alias = "evbuffer_add_reference_with_offset")]
    pub fn add_reference(&mut self, data: impl Into<Bytes>) -> Result<()> {
        self.reference(data.into(), End::Back)
    }

    /// Links `data` before the first byte, without a copy.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add), for the front. The reference is dropped then.
    pub fn prepend_reference(&mut self, data: impl Into<Bytes>) -> Result<()> {
        self.reference(data.into(), End::Front)
    }

    /// Links the bytes of `owner` behind the last byte, as [`add_reference`](Self::add_reference) does. `owner` is dropped
    /// when the last of them is released.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). `owner` is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tokio_evbuffer::EvBuffer;
    /// let table: Box<[u8]> = vec![7; 4096].into();
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_owner(table)?;
    /// assert_eq!(buffer.len(), 4096);
    /// # Ok::<(), tokio_evbuffer::BufferError>(())
    /// ```
    #[doc(alias = "evbuffer_add_reference")]
    pub fn add_owner<T: AsRef<[u8]> + Send + 'static>(&mut self, owner: T) -> Result<()> {
        self.reference(Bytes::from_owner(owner), End::Back)
    }

    /// Links a range of a file behind the last byte.
    ///
    /// When a `BufferEvent` writes to a socket, the kernel sends the bytes itself. An operation that needs them in memory
    /// loads them with blocking reads of at most 256 KiB; see [`FileSegment`]. Linking takes about 200 bytes of memory, which
    /// [`capacity`](Self::capacity) does not count. An empty range is dropped at once.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add). The segment is dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    /// use tokio_evbuffer::{EvBuffer, buffer::FileSegment};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut file = tempfile::tempfile()?;
    /// file.write_all(b"<p>hello</p>")?;
    ///
    /// let mut answer = EvBuffer::from("content-length: 5\r\n\r\n");
    /// answer.add_file(FileSegment::new(file, 3..8)?)?; // reads nothing
    /// assert_eq!(answer.len(), 26);
    /// assert_eq!(answer, "content-length: 5\r\n\r\nhello"); // reads the file
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_add_file")]
    #[doc(alias = "evbuffer_add_file_segment")]
    pub fn add_file(&mut self, file: FileSegment) -> Result<()> {
        let n = usize::try_from(file.len()).map_err(|_| BufferError::TooLarge)?;
        let refused = match n {
            0 => Some(Ok(())),
            n => self.check_growth(End::Back, n).err().map(Err),
        };
        let segment = Segment::File(Box::new(file.into_range()));
        if let Some(result) = refused {
            self.release_foreign(segment);
            return result;
        }
        self.prepare_add(0);
        self.link(segment);
        self.note_waste();
        self.debug_check();
        Ok(())
    }

    #[inline]
    fn reference(&mut self, data: Bytes, end: End) -> Result<()> {
        let n = data.len();
        if n == 0 {
            self.release_foreign(Segment::Foreign(data));
            return Ok(());
        }
        // The copy makes all checks itself. If there is no memory for it, the reference is linked.
        if self.body.len() >= SLICES_MAX && n < sizing::sizes().copy_threshold {
            let copied = match end {
                End::Back => self.add(&data),
                End::Front => self.prepend(&data),
            };
            if copied.is_ok() {
                self.release_foreign(Segment::Foreign(data));
                return Ok(());
            }
        }
        if let Err(error) = self.check_growth(end, n) {
            self.release_foreign(Segment::Foreign(data));
            return Err(error);
        }
        self.prepare_add(0);
        match end {
            End::Back if self.flags.intersects(Flags::BUDGETED) => {
                let data = self.counted_bytes(data);
                self.link_foreign(data);
            }
            End::Back => self.link_foreign(data),
            End::Front => {
                let data = self.counted_bytes(data);
                self.push_front(Segment::Foreign(data));
                self.note_prepended(n);
            }
        }
        // The room between references is lost, however small they are.
        self.note_waste();
        self.debug_check();
        Ok(())
    }
}
