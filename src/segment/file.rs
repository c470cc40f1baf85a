//! A range of a file, which is read when somebody needs its bytes in memory.

use std::{
    fs::File,
    io,
    ops::{Bound, Range, RangeBounds},
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::error::{BufferError, Result};

/// The most bytes that are loaded at a time.
const PIECE: u64 = 256 * 1024;

/// A range of an open file, whose length is fixed when it is made.
///
/// [`EvBuffer::add_file`](crate::EvBuffer::add_file) links it into a buffer, any number of times. A socket that a
/// `BufferEvent` writes to is sent the bytes by the kernel; whatever needs them in memory loads
/// them, once, in pieces of at most 256 KiB. Cloning and slicing share the descriptor, which is closed with the last of
/// them. The file is never mapped.
///
/// A file that turns out to be shorter by then is an error of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
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
#[doc(alias = "evbuffer_file_segment")]
#[derive(Clone, Debug)]
pub struct FileSegment {
    file: Arc<File>,
    range: Range<u64>,
}

impl FileSegment {
    /// Makes a segment of the bytes of `file` in `range`, which end at the present end of the file if it has no end.
    ///
    /// # Errors
    ///
    /// What asking for the length of the file returned; `InvalidInput` if `range` is reversed or reaches beyond the end.
    #[doc(alias = "evbuffer_file_segment_new")]
    pub fn new(file: impl Into<Arc<File>>, range: impl RangeBounds<u64>) -> io::Result<Self> {
        let file = file.into();
        let range = within(range, file.metadata()?.len())?;
        Ok(Self { file, range })
    }

    /// Opens the file at `path` for reading and makes a segment of all of it.
    ///
    /// # Errors
    ///
    /// What opening it, or asking for its length, returned.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(File::open(path)?, ..)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Returns whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Makes a segment of a part of this one; positions count from its start.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `range` is reversed or reaches beyond the end.
    #[doc(alias = "evbuffer_add_file_segment")]
    pub fn slice(&self, range: impl RangeBounds<u64>) -> io::Result<Self> {
        let part = within(range, self.len())?;
        let range = self.range.start + part.start..self.range.start + part.end;
        Ok(Self {
            file: self.file.clone(),
            range,
        })
    }

    /// Cuts the range into pieces that are loaded by themselves.
    pub(crate) fn pieces(self) -> impl Iterator<Item = FilePiece> {
        let Self { file, range } = self;
        let end = range.end;
        let step = usize::try_from(PIECE).expect("a piece is small");
        range
            .step_by(step)
            .map(move |at| FilePiece::new(file.clone(), at, PIECE.min(end - at)))
    }
}

/// `range` in numbers, if it lies within `len` bytes.
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
            format!("the range does not lie within the {len} bytes of the file"),
        )),
    }
}

/// A part of a file in a chain. Parts of it share what was loaded.
#[derive(Clone, Debug)]
pub(crate) struct FilePiece {
    source: Arc<Source>,
    start: u32,
    end: u32,
}

#[derive(Debug)]
struct Source {
    file: Arc<File>,
    at: u64,
    len: u32,
    loaded: OnceLock<Bytes>,
}

impl FilePiece {
    fn new(file: Arc<File>, at: u64, len: u64) -> Self {
        let len = u32::try_from(len).expect("a piece is small");
        let source = Arc::new(Source {
            file,
            at,
            len,
            loaded: OnceLock::new(),
        });
        Self {
            source,
            start: 0,
            end: len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len());
        self.start += n as u32;
    }

    pub(crate) fn split_to(&mut self, n: usize) -> Self {
        let mut front = self.clone();
        self.advance(n);
        front.end = self.start;
        front
    }

    /// The bytes, if they are in memory.
    pub(crate) fn loaded(&self) -> Option<&[u8]> {
        let bytes = self.source.loaded.get()?;
        Some(&bytes[self.start as usize..self.end as usize])
    }

    /// Whether both are loaded together.
    pub(crate) fn is_part_of_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }

    /// The bytes, which are in memory, to be held apart from this piece.
    pub(crate) fn bytes(&self) -> Bytes {
        let bytes = self
            .source
            .loaded
            .get()
            .expect("loaded before its bytes are taken");
        bytes.slice(self.start as usize..self.end as usize)
    }

    /// The bytes, which are read now if they have not been; this blocks.
    pub(crate) fn load(&self) -> Result<&[u8]> {
        if self.source.loaded.get().is_none() {
            let bytes = self
                .source
                .read()
                .map_err(|error| BufferError::File(error.kind()))?;
            // Whoever else read it meanwhile read the same.
            let _ = self.source.loaded.set(bytes);
        }
        Ok(self.loaded().unwrap_or_default())
    }

    /// The file and the position of the first byte in it.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn place(&self) -> (&Arc<File>, u64) {
        (&self.source.file, self.source.at + u64::from(self.start))
    }
}

impl Source {
    fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len as usize];
        read_exact_at(&self.file, &mut bytes, self.at)?;
        Ok(bytes.into())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
