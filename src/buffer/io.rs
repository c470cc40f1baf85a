//! Bytes from a reader and to a writer, one call each.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::chain::EvBuffer;
#[cfg(feature = "net")]
use crate::segment::{self, sizing::BLOCK};
use crate::{
    error::End,
    segment::{Segment, sizing::SLICES_MAX},
};

impl EvBuffer {
    /// Adds at most `max` bytes from one call of `read` and returns how many; 0 is the end of `src`, or a `max` of 0.
    ///
    /// # Errors
    ///
    /// What `src` returned; or, before anything was read, what [`add`](Self::add) of one byte would return.
    #[doc(alias = "evbuffer_read")]
    #[doc(alias = "evbuffer_set_max_read")]
    pub fn read_from(
        &mut self,
        src: &mut (impl io::Read + ?Sized),
        max: usize,
    ) -> io::Result<usize> {
        if max == 0 {
            return Ok(0);
        }
        let mut room = self.reserve_one(max)?;
        let (memory, n) = room.first_memory();
        let read = src.read(memory.spare_mut(n))?.min(n);
        room.commit(read)?;
        Ok(read)
    }

    /// Writes at most `max` bytes with one call of `write_vectored`, removes what was written and returns how much.
    ///
    /// # Errors
    ///
    /// What `dst` returned; or, before anything was written, `PermissionDenied` if the front is frozen.
    #[doc(alias = "evbuffer_write")]
    #[doc(alias = "evbuffer_write_atmost")]
    pub fn write_to(
        &mut self,
        dst: &mut (impl io::Write + ?Sized),
        max: usize,
    ) -> io::Result<usize> {
        let n = self.writable(max)?;
        if n == 0 {
            return Ok(0);
        }
        self.load_first(1)?;
        let written = self
            .with_slices(n, |slices| dst.write_vectored(slices))?
            .min(n);
        self.discard(written);
        Ok(written)
    }

    /// Adds at most `max` bytes from one `poll_read` and returns how many; 0 is the end of `src`, or a `max` of 0.
    ///
    /// While it is `Pending` the buffer holds no more memory than before.
    ///
    /// # Errors
    ///
    /// As [`read_from`](Self::read_from).
    pub fn poll_read_from(
        &mut self,
        cx: &mut Context<'_>,
        src: Pin<&mut (impl AsyncRead + ?Sized)>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if max == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut room = self.reserve_one(max)?;
        let (memory, n) = room.first_memory();
        let read = ready!(memory.poll_fill(cx, src, n))?;
        room.commit(read)?;
        Poll::Ready(Ok(read))
    }

    /// Writes at most `max` bytes with one `poll_write` or `poll_write_vectored`, removes what was written and returns
    /// how much.
    ///
    /// # Errors
    ///
    /// As [`write_to`](Self::write_to).
    pub fn poll_write_to(
        &mut self,
        cx: &mut Context<'_>,
        dst: Pin<&mut (impl AsyncWrite + ?Sized)>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let n = self.writable(max)?;
        if n == 0 {
            return Poll::Ready(Ok(0));
        }
        self.load_first(1)?;
        let written = if dst.is_write_vectored() {
            self.with_slices(n, |slices| dst.poll_write_vectored(cx, slices))
        } else {
            let first = self.first_in_memory();
            dst.poll_write(cx, &first[..first.len().min(n)])
        };
        let written = ready!(written)?.min(n);
        self.discard(written);
        Poll::Ready(Ok(written))
    }

    fn writable(&self, max: usize) -> io::Result<usize> {
        let n = max.min(self.len());
        if n > 0 {
            self.check_not_frozen(End::Front)?;
        }
        Ok(n)
    }

    /// Receives at most `max` bytes, at least one, with one system call: how many came, and how many were asked for.
    #[cfg(feature = "net")]
    pub(crate) fn recv_from(
        &mut self,
        socket: &socket2::Socket,
        max: usize,
    ) -> io::Result<(usize, usize)> {
        if max <= BLOCK {
            return self.recv_flat_from(socket, max);
        }
        let mut room = self.reserve(max)?;
        let (tail, fresh) = room.memory();
        let (n, offered) = segment::recv_vectored(socket, tail, fresh, max)?;
        room.commit(n)?;
        Ok((n, offered))
    }

    /// The same into one block, however large: for who soon empties the buffer, since all of the block is held until then.
    #[cfg(feature = "net")]
    pub(crate) fn recv_flat_from(
        &mut self,
        socket: &socket2::Socket,
        max: usize,
    ) -> io::Result<(usize, usize)> {
        self.expand(max)?;
        let n = self.tail.recv(socket, max)?;
        self.commit_to_tail(n);
        Ok((n, max))
    }

    /// Calls `f` with the first `n` bytes, or as many of them as 64 slices hold and are in memory.
    pub(crate) fn with_slices<R>(&self, n: usize, f: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        if self.body.is_empty() {
            return f(&[IoSlice::new(&self.tail.as_slice()[..n])]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut used, mut left) = (0, n);
        for (slot, chunk) in slices.iter_mut().zip(self.chunks_in_memory()) {
            let chunk = &chunk[..chunk.len().min(left)];
            *slot = IoSlice::new(chunk);
            used += 1;
            left -= chunk.len();
            if left == 0 {
                break;
            }
        }
        f(&slices[..used])
    }

    /// The file range at the front, if there is one that is not in memory: the file, the position in it, the length.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn first_file(&self) -> Option<(&std::fs::File, u64, usize)> {
        let piece = self.first_unloaded()?;
        let (file, at) = piece.place();
        Some((file, at, piece.len()))
    }

    /// The same, to be loaded elsewhere. The buffer has the bytes as soon as any copy of it was loaded.
    pub(crate) fn first_unloaded(&self) -> Option<&crate::segment::FilePiece> {
        match self.body.front() {
            Some(Segment::File(piece)) if piece.loaded().is_none() => Some(piece),
            _ => None,
        }
    }

    /// The data up to the first file range that is not in memory.
    fn chunks_in_memory(&self) -> impl Iterator<Item = &[u8]> {
        let body = self.body.iter().map(Segment::in_memory);
        let tail = (!self.tail.is_empty()).then(|| Some(self.tail.as_slice()));
        body.chain(tail).map_while(|chunk| chunk)
    }
}
