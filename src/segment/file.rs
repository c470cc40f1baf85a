//! [`FileSegment`]: a range of an open file, which the user makes and adds to buffers.

use std::{
    fs::File,
    io,
    ops::{Bound, Range, RangeBounds},
    path::Path,
    sync::Arc,
};

use super::{file_range::FileRange, open_file::OpenFile};

/// A range of an open file, whose length is fixed when the segment is made.
///
/// [`EvBuffer::add_file`](crate::EvBuffer::add_file) links it into a buffer, any number of times. Linking takes no memory
/// in proportion to the range. When a `BufferEvent` writes to a socket, the kernel sends the bytes itself; an operation
/// that needs them in memory loads them, in pieces of at most 256 KiB, and only the pieces that it touches. Clones and
/// slices share the open file, which is closed with the last of them. The file is never mapped.
///
/// # Blocking
///
/// The futures, streams and connections of this crate do not wait for a disk on a worker thread. They ask the kernel
/// whether the next bytes are in the page cache. If they are not, or if the file system does not say, a thread of Tokio's
/// blocking pool reads them first, up to 1 MiB at a time. Without a Tokio runtime, the future reads them where it is
/// polled.
///
/// The kernel is asked for the first and the last byte, with reads that do not wait (`RWF_NOWAIT`), so a range of which the
/// cache has lost only the middle is taken for cached. Other systems than Linux are not asked: there, and without the
/// feature `net`, the pool reads every range.
///
/// Methods of [`EvBuffer`](crate::EvBuffer), also those of its Tokio traits, read where they are called. So does your code
/// that looks at a buffer: a filter or a decoder finds its first 256 KiB in memory.
///
/// # Sending
///
/// The kernel's call, `sendfile`, has no way to suppress `SIGPIPE`. Rust programs ignore that signal from the start. A
/// process that restores its default disposition may be killed when a range is sent to a connection that is gone; it has
/// to add the bytes of the file from memory instead.
///
/// If the file has become shorter when a range is loaded or sent, that is an error of kind
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use tokio_evbuffer::{EvBuffer, buffer::FileSegment};
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"0123456789")?;
/// let segment = FileSegment::new(file, 2..)?;
///
/// let mut buffer = EvBuffer::new();
/// buffer.add_file(segment.slice(..3)?)?;
/// assert_eq!(buffer, b"234"[..]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias("evbuffer_file_segment", "evbuffer_file_segment_free"))]
#[derive(Clone, Debug)]
pub struct FileSegment {
    file: Arc<OpenFile>,
    range: Range<u64>,
}

impl FileSegment {
    /// Makes a segment of the bytes of `file` in `range`. A range without an end ends at the present end of the file.
    ///
    /// # Errors
    ///
    /// The error of asking for the length of the file; `InvalidInput` if `range` is reversed or exceeds the file.
    #[doc(alias = "evbuffer_file_segment_new")]
    pub fn new(file: impl Into<Arc<File>>, range: impl RangeBounds<u64>) -> io::Result<Self> {
        let file = file.into();
        let range = within(range, file.metadata()?.len())?;
        let file = Arc::new(OpenFile::new(file));
        Ok(Self { file, range })
    }

    /// Opens the file at `path` for reading and makes a segment of all of it.
    ///
    /// # Errors
    ///
    /// The error of opening it, or of asking for its length.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(File::open(path)?, ..)
    }

    /// Keeps `owner` until the last reference to this segment is gone, and drops it then.
    ///
    /// References are the segment itself, its clones and slices, and the ranges of it in buffers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tokio_evbuffer::{EvBuffer, buffer::FileSegment};
    /// # let file = tempfile::tempfile()?;
    /// # file.set_len(10)?;
    /// let lease = Arc::new(());
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_file(FileSegment::new(file, ..)?.with_owner(lease.clone()))?;
    /// assert_eq!(Arc::strong_count(&lease), 2);
    /// buffer.drain(10)?;
    /// assert_eq!(Arc::strong_count(&lease), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn with_owner(self, owner: impl Send + 'static) -> Self {
        self.on_release(move || drop(owner))
    }

    /// Calls `hook` once when the last reference to this segment is gone, as [`with_owner`](Self::with_owner) describes.
    ///
    /// The hook runs in the thread that drops the last reference, never under the lock of a shared buffer. Of several hooks,
    /// the one that was added last runs first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use tokio_evbuffer::{EvBuffer, buffer::FileSegment};
    /// # let file = tempfile::tempfile()?;
    /// # file.set_len(10)?;
    /// let (released, is_released) = mpsc::channel();
    /// let mut buffer = EvBuffer::new();
    /// buffer.add_file(FileSegment::new(file, ..)?.on_release(move || {
    ///     let _ = released.send(());
    /// }))?;
    /// assert!(is_released.try_recv().is_err());
    /// buffer.drain(10)?;
    /// assert!(is_released.try_recv().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "evbuffer_file_segment_add_cleanup_cb")]
    #[must_use]
    pub fn on_release(self, hook: impl FnOnce() + Send + 'static) -> Self {
        Self {
            file: Arc::new(OpenFile::with_hook(self.file, hook)),
            range: self.range,
        }
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Returns whether the range is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Makes a segment of a part of this one; positions count from its start.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `range` is reversed or exceeds this segment.
    #[doc(alias = "evbuffer_add_file_segment")]
    pub fn slice(&self, range: impl RangeBounds<u64>) -> io::Result<Self> {
        let part = within(range, self.len())?;
        let range = self.range.start + part.start..self.range.start + part.end;
        Ok(Self {
            file: self.file.clone(),
            range,
        })
    }

    /// Makes the file wait for `disk` instead of using the page cache.
    #[cfg(test)]
    pub(crate) fn on_disk(file: File, disk: Arc<super::slow_disk::SlowDisk>) -> io::Result<Self> {
        let mut segment = Self::new(file, ..)?;
        Arc::get_mut(&mut segment.file).expect("it is new").disk = Some(disk);
        Ok(segment)
    }

    /// Makes the segment of a chain from it.
    pub(crate) fn into_range(self) -> FileRange {
        let len = self.len();
        FileRange::new(self.file, self.range.start, len)
    }
}

/// Resolves `range` if it lies within `len` bytes.
fn within(range: impl RangeBounds<u64>, len: u64) -> io::Result<Range<u64>> {
    let start = match range.start_bound() {
        Bound::Included(&at) => Some(at),
        Bound::Excluded(&at) => at.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.checked_add(1),
        Bound::Excluded(&at) => Some(at),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => Ok(start..end),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the range is reversed, or exceeds {len} bytes"),
        )),
    }
}
