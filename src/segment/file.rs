//! Ranges of files, which are read when their bytes are needed in memory.
#![allow(unsafe_code)]

use std::{
    fmt,
    fs::File,
    io, mem,
    ops::{Bound, Range, RangeBounds},
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::error::{BufferError, Result};

/// The most bytes that are loaded at a time.
const PIECE: u64 = 256 * 1024;

/// A range of an open file, whose length is fixed when the segment is made.
///
/// [`EvBuffer::add_file`](crate::EvBuffer::add_file) links it into a buffer, any number of times. Linking takes no memory
/// in proportion to the range. When a `BufferEvent` writes to a socket, the kernel sends the bytes itself; an operation
/// that needs them in memory loads them with blocking reads, in pieces of at most 256 KiB, and only the pieces that it
/// touches. Clones and slices share the open file, which is closed with the last of them. The file is never mapped.
///
/// The kernel's call, `sendfile`, has no way to suppress `SIGPIPE`. Rust programs ignore that signal from the start. A
/// process that restores its default disposition may be killed when a range is sent to a connection that is gone; it has
/// to add the bytes of the file from memory instead.
///
/// If the file has become shorter when a range is loaded, that is an error of kind
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
#[doc(alias = "evbuffer_file_segment")]
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
        let file = Arc::new(OpenFile {
            file,
            _hook: Hook::default(),
            _inner: None,
        });
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
    /// The hook runs in the thread that drops the last reference, never under the lock of a shared buffer.
    #[doc(alias = "evbuffer_file_segment_add_cleanup_cb")]
    #[must_use]
    pub fn on_release(self, hook: impl FnOnce() + Send + 'static) -> Self {
        let file = Arc::new(OpenFile {
            file: self.file.file.clone(),
            _hook: Hook(Some(Box::new(hook))),
            _inner: Some(self.file),
        });
        Self {
            file,
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

    /// Makes the segment of a chain from it.
    pub(crate) fn into_range(self) -> FileRange {
        let len = self.len();
        FileRange::new(self.file, self.range.start, len)
    }
}

/// An open file, and the hook that runs when it is not used any more.
#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    // Declared before `_inner`, so that the hook that was added last runs first.
    _hook: Hook,
    /// The same file with the hooks that were added before.
    _inner: Option<Arc<OpenFile>>,
}

/// User code that runs when this value is dropped.
#[derive(Default)]
struct Hook(Option<Box<dyn FnOnce() + Send>>);

// SAFETY: a `&Hook` gives no access to the closure, which is used only by the drop.
unsafe impl Sync for Hook {}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook();
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
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

/// A range of a file in a chain.
///
/// It is loaded in pieces, whose borders count from `at`. The first piece is shared with the ranges that show the same
/// bytes, so that it is loaded once for all of them; it goes with the last range that needs it. The other pieces are
/// loaded only by operations that look ahead, each range for itself.
#[derive(Debug)]
pub(crate) struct FileRange {
    file: Arc<OpenFile>,
    /// Position in the file from which pieces are counted.
    at: u64,
    /// Where the remaining bytes begin and end, from `at` on.
    start: u64,
    end: u64,
    first: Arc<Piece>,
    /// One slot for each piece, the first ones unused; made when an operation looks ahead.
    ahead: OnceLock<Box<[OnceLock<Bytes>]>>,
}

/// A piece of a file that is loaded at once.
#[derive(Debug)]
struct Piece {
    /// May reach behind the end of a range that shows a part of it.
    len: usize,
    bytes: OnceLock<Bytes>,
}

/// The first piece of a range that is not in memory, to be loaded by another thread. All ranges that share it see the bytes
/// as soon as they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct FilePiece {
    file: Arc<OpenFile>,
    at: u64,
    piece: Arc<Piece>,
}

impl FilePiece {
    /// Reads the bytes, which blocks.
    pub(crate) fn load(&self) -> Result<()> {
        self.piece.load(&self.file.file, self.at).map(drop)
    }

    /// Returns whether both are loaded together.
    pub(crate) fn is_part_of_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.piece, &other.piece)
    }
}

impl Piece {
    fn load(&self, file: &File, at: u64) -> Result<&Bytes> {
        load_into(&self.bytes, file, at, self.len)
    }
}

/// Reads `len` bytes from position `at` on into `slot`, if it is empty.
fn load_into<'s>(slot: &'s OnceLock<Bytes>, file: &File, at: u64, len: usize) -> Result<&'s Bytes> {
    if let Some(bytes) = slot.get() {
        return Ok(bytes);
    }
    let bytes = read(file, at, len).map_err(|error| BufferError::File(error.kind()))?;
    // Another thread that has read the piece meanwhile has read the same.
    Ok(slot.get_or_init(|| bytes))
}

fn read(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    bytes.resize(len, 0);
    read_exact_at(file, &mut bytes, at)?;
    Ok(bytes.into())
}

impl FileRange {
    fn new(file: Arc<OpenFile>, at: u64, len: u64) -> Self {
        let first = Piece {
            len: len.min(PIECE) as usize,
            bytes: OnceLock::new(),
        };
        Self {
            file,
            at,
            start: 0,
            end: len,
            first: Arc::new(first),
            ahead: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.end - self.start).expect("checked when it was linked")
    }

    /// Returns the number of pieces, each of which is a chunk.
    pub(crate) fn chunks(&self) -> usize {
        (self.last_piece() - self.first_piece()) as usize + 1
    }

    fn first_piece(&self) -> u64 {
        self.start / PIECE
    }

    fn last_piece(&self) -> u64 {
        (self.end - 1) / PIECE
    }

    /// Returns the bytes of memory that the loaded pieces take.
    pub(crate) fn loaded_len(&self) -> usize {
        let ahead = self.ahead.get().into_iter().flatten();
        let loaded = ahead.chain([&self.first.bytes]).filter_map(OnceLock::get);
        loaded.map(Bytes::len).sum()
    }

    /// Removes the first `n` bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len());
        let before = self.first_piece();
        self.start += n as u64;
        if self.start == self.end || self.first_piece() == before {
            return;
        }
        let (first, start) = (self.first_piece(), self.first_piece() * PIECE);
        let mut bytes = OnceLock::new();
        if let Some(ahead) = self.ahead.get_mut() {
            for piece in &mut ahead[before as usize..=first as usize] {
                bytes = mem::take(piece);
            }
        }
        let len = (self.end - start).min(PIECE) as usize;
        self.first = Arc::new(Piece { len, bytes });
    }

    /// Keeps the first `len` bytes, at least one.
    pub(crate) fn truncate(&mut self, len: usize) {
        assert!(0 < len && len <= self.len());
        self.end = self.start + len as u64;
        let kept = self.last_piece() as usize + 1;
        if let Some(ahead) = self.ahead.get_mut() {
            for piece in &mut ahead[kept..] {
                *piece = OnceLock::new();
            }
        }
    }

    /// Returns the same `n` bytes from position `from` on as another range, which shares the first piece if it begins in
    /// it.
    pub(crate) fn share(&self, from: usize, n: usize) -> Self {
        assert!(n > 0 && from <= self.len() && n <= self.len() - from);
        let start = self.start + from as u64;
        let piece = start / PIECE;
        if piece != self.first_piece() {
            return Self::new(self.file.clone(), self.at + start, n as u64);
        }
        Self {
            file: self.file.clone(),
            at: self.at,
            start,
            end: start + n as u64,
            first: self.first.clone(),
            ahead: OnceLock::new(),
        }
    }

    /// Returns the same `n` bytes from position `from` on as another range, which loads only its own bytes if they are not
    /// in memory.
    pub(crate) fn part(&self, from: usize, n: usize) -> Self {
        if self.first.bytes.get().is_some() {
            return self.share(from, n);
        }
        Self::new(
            self.file.clone(),
            self.at + self.start + from as u64,
            n as u64,
        )
    }

    /// Returns the bytes from position `from` to the end of their piece, if they are in memory.
    pub(crate) fn chunk(&self, from: usize) -> Option<&[u8]> {
        let (piece, range) = self.piece_at(from);
        let bytes = match piece == self.first_piece() {
            true => self.first.bytes.get(),
            false => self.ahead.get()?[piece as usize].get(),
        };
        Some(&bytes?[range])
    }

    /// Returns the bytes from position `from` to the end of their piece. Reads them if they are not in memory, which
    /// blocks.
    pub(crate) fn load(&self, from: usize) -> Result<&[u8]> {
        let (piece, range) = self.piece_at(from);
        let (file, at) = (&self.file.file, self.at + piece * PIECE);
        let bytes = if piece == self.first_piece() {
            self.first.load(file, at)?
        } else {
            let ahead = self.ahead.get_or_init(|| {
                let count = self.last_piece() + 1;
                (0..count).map(|_| OnceLock::new()).collect()
            });
            let len = (self.end - piece * PIECE).min(PIECE) as usize;
            load_into(&ahead[piece as usize], file, at, len)?
        };
        Ok(&bytes[range])
    }

    /// Returns the first piece, if it is not in memory.
    pub(crate) fn first_unloaded(&self) -> Option<FilePiece> {
        let is_loaded = self.first.bytes.get().is_some();
        (!is_loaded).then(|| FilePiece {
            file: self.file.clone(),
            at: self.at + self.first_piece() * PIECE,
            piece: self.first.clone(),
        })
    }

    /// Returns the first bytes up to the end of their piece, if they are in memory.
    pub(crate) fn first_bytes(&self) -> Option<Bytes> {
        let (_, range) = self.piece_at(0);
        Some(self.first.bytes.get()?.slice(range))
    }

    /// Returns the number of the piece that position `from` lies in, and the bytes of that piece from there on.
    fn piece_at(&self, from: usize) -> (u64, Range<usize>) {
        let pos = self.start + from as u64;
        debug_assert!(pos < self.end);
        let piece = pos / PIECE;
        let until = self.end.min((piece + 1) * PIECE);
        let range = (pos % PIECE) as usize..(until - piece * PIECE) as usize;
        (piece, range)
    }

    /// Returns the file and the position of the first byte in it.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn place(&self) -> (&File, u64) {
        (&self.file.file, self.at + self.start)
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
