//! Reading from a reader and writing to a writer, with one call each.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{chain::EvBuffer, flags::Flags};
#[cfg(feature = "net")]
use crate::segment::{self, sizing::BLOCK};
use crate::segment::{FilePart, Segment, sizing::SLICES_MAX};

impl EvBuffer {
    /// Adds at most `max` bytes from one call of `read` and returns their number; 0 is the end of `src`, or a `max` of 0.
    ///
    /// # Errors
    ///
    /// The error of `src`; or, before a byte was read, the error of [`add`](Self::add) of one byte.
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
        // A reader may claim more than it was given room for.
        let read = src.read(memory.spare_mut(n))?.min(n);
        room.commit(read)?;
        Ok(read)
    }

    /// Writes at most `max` bytes with one call of `write_vectored`, removes the bytes that were written and returns their
    /// number.
    ///
    /// # Errors
    ///
    /// The error of `dst`; or, before a byte was written, `PermissionDenied` if the front is frozen, and the error of
    /// loading a range of a file at the front.
    #[doc(alias = "evbuffer_write")]
    #[doc(alias = "evbuffer_write_atmost")]
    pub fn write_to(
        &mut self,
        dst: &mut (impl io::Write + ?Sized),
        max: usize,
    ) -> io::Result<usize> {
        let n = self.removable(max)?;
        if n == 0 {
            return Ok(0);
        }
        self.load_first(1)?;
        let (written, offered) = self.with_slices(n, |slices| dst.write_vectored(slices));
        // A writer may claim more than it was given.
        let written = written?.min(offered);
        self.discard(written);
        Ok(written)
    }

    /// Adds at most `max` bytes from one `poll_read` and returns their number; 0 is the end of `src`, or a `max` of 0.
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

    /// Writes at most `max` bytes with one `poll_write` or `poll_write_vectored`, removes the bytes that were written and
    /// returns their number.
    ///
    /// A range of a file at the front is read at once, which may wait for a disk.
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
        let n = self.removable(max)?;
        if n == 0 {
            return Poll::Ready(Ok(0));
        }
        self.load_first(1)?;
        let (written, offered) = if dst.is_write_vectored() {
            self.with_slices(n, |slices| dst.poll_write_vectored(cx, slices))
        } else {
            let first = self.first_in_memory();
            let first = &first[..first.len().min(n)];
            (dst.poll_write(cx, first), first.len())
        };
        // A writer may claim more than it was given.
        let written = ready!(written)?.min(offered);
        self.discard(written);
        Poll::Ready(Ok(written))
    }

    /// Receives at most `max` bytes, at least one, with one system call. Returns how many came, and how many were asked for.
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

    /// Does the same into one block of any size, all of which is held until the buffer is empty. For callers that empty it
    /// soon.
    #[cfg(feature = "net")]
    pub(crate) fn recv_flat_from(
        &mut self,
        socket: &socket2::Socket,
        max: usize,
    ) -> io::Result<(usize, usize)> {
        self.make_room(max)?;
        let n = self.tail.recv(socket, max)?;
        self.commit_to_tail(n);
        Ok((n, max))
    }

    /// Does the same into blocks: all of `len` bytes but the first, which is shorter if `max` is no multiple.
    #[cfg(feature = "net")]
    pub(crate) fn recv_blocks_from(
        &mut self,
        socket: &socket2::Socket,
        max: usize,
        len: usize,
    ) -> io::Result<(usize, usize)> {
        let mut room = self.reserve_blocks(max, len)?;
        let (tail, fresh) = room.memory();
        let (n, offered) = segment::recv_vectored(socket, tail, fresh, max)?;
        room.commit(n)?;
        Ok((n, offered))
    }

    /// Copies at most `max` received bytes, at least one, into one block, and leaves them in the socket.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn peek_from(&mut self, socket: &socket2::Socket, max: usize) -> io::Result<usize> {
        self.make_room(max)?;
        let n = self.tail.peek(socket, max)?;
        self.commit_to_tail(n);
        Ok(n)
    }

    /// Discards the first `n` received bytes of a TCP socket, which were peeked at, and all data of the buffer.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn skip_in(&mut self, socket: &socket2::Socket, n: usize) -> io::Result<()> {
        self.drain(self.len())?;
        self.make_room(n)?;
        let mut left = n;
        while left > 0 {
            match self.tail.skip(socket, left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(skipped) => left -= skipped,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Calls `f` with the first `n` bytes, or as many of them as 64 slices hold and are in memory. Returns its result and how
    /// many bytes it was given.
    pub(crate) fn with_slices<R>(
        &self,
        n: usize,
        f: impl FnOnce(&[IoSlice<'_>]) -> R,
    ) -> (R, usize) {
        if self.body.is_empty() {
            return (f(&[IoSlice::new(&self.tail.as_slice()[..n])]), n);
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
        (f(&slices[..used]), n - left)
    }

    /// Returns at most `max` bytes of the range of a file at the front, if there is one that is not in memory.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn first_file(&self, max: usize) -> Option<FilePart> {
        match self.body.front() {
            Some(Segment::File(range)) if range.chunk(0).is_none() => Some(range.first_part(max)),
            _ => None,
        }
    }

    /// Returns the first part of a file among the first `n` bytes that is not in memory, and the position of a byte in it.
    #[inline]
    pub(crate) fn first_unloaded(&self, n: usize) -> Option<(usize, FilePart)> {
        match self.flags.intersects(Flags::FILES) {
            true => self.find_unloaded(n),
            false => None,
        }
    }

    #[cold]
    fn find_unloaded(&self, n: usize) -> Option<(usize, FilePart)> {
        let mut before = 0;
        for segment in self.body.iter() {
            if before >= n {
                break;
            }
            if let Segment::File(range) = segment {
                if let Some((at, part)) = range.first_unloaded(n - before) {
                    return Some((before + at, part));
                }
            }
            before += segment.len();
        }
        None
    }

    /// Returns the data up to the first piece of a file that is not in memory. Of a range of a file only the first piece
    /// counts.
    fn chunks_in_memory(&self) -> impl Iterator<Item = &[u8]> {
        let mut is_whole = true;
        let body = self.body.iter().map_while(move |segment| {
            let chunk = segment.chunk(0).filter(|_| is_whole)?;
            is_whole = chunk.len() == segment.len();
            Some(chunk)
        });
        let all_in_memory = !self.flags.intersects(Flags::FILES);
        let tail = (all_in_memory && !self.tail.is_empty()).then(|| self.tail.as_slice());
        body.chain(tail)
    }
}
