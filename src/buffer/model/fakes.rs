//! The environment of a buffer: counted owners, a file, streams with short reads and writes.

use std::{
    io::{self, IoSlice, Write},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_evbuffer::buffer::FileSegment;

use super::op::Data;

/// Creates owners of bytes, and counts those that were dropped.
#[derive(Debug, Default)]
pub struct Owners {
    made: usize,
    dropped: Arc<AtomicUsize>,
}

impl Owners {
    pub fn make(&mut self, bytes: Vec<u8>) -> Owner {
        self.made += 1;
        Owner {
            bytes,
            dropped: self.dropped.clone(),
        }
    }

    pub fn alive(&self) -> usize {
        self.made - self.dropped.load(Relaxed)
    }
}

/// Memory of a user that is overwritten when released, so that a later read returns wrong bytes.
#[derive(Debug)]
pub struct Owner {
    bytes: Vec<u8>,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.bytes.fill(0xDD);
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// Returns a range of a file that holds `data`.
pub fn file_range(data: Data) -> (FileSegment, Vec<u8>) {
    static FILE: OnceLock<(FileSegment, Vec<u8>)> = OnceLock::new();
    let (file, bytes) = FILE.get_or_init(|| {
        let whole = Data {
            len: 400_000,
            seed: 1,
        };
        let bytes = whole.bytes();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (FileSegment::new(file, ..).unwrap(), bytes)
    });
    let start = usize::from(data.seed) * 1000;
    let end = start + data.len;
    let range = file.slice(start as u64..end as u64).unwrap();
    (range, bytes[start..end].to_vec())
}

/// A stream that accepts at most this many bytes per call; with zero it is not ready.
#[derive(Debug)]
pub struct Sink {
    pub taken: Vec<u8>,
    pub at_most: usize,
    pub vectored: bool,
}

impl Sink {
    pub fn new(at_most: usize, vectored: bool) -> Self {
        Self {
            taken: Vec::new(),
            at_most,
            vectored,
        }
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(data)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.at_most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = self.at_most;
        for slice in slices {
            let here = &slice[..slice.len().min(left)];
            self.taken.extend_from_slice(here);
            left -= here.len();
        }
        Ok(self.at_most - left)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut().write_vectored(slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that has no bytes yet.
#[derive(Debug)]
pub struct Silent;

impl AsyncRead for Silent {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
