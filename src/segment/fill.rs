//! Spare memory that other code fills: a stream through `ReadBuf`, the kernel through `recvmsg`.
#![allow(unsafe_code)]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

#[cfg(feature = "net")]
use socket2::MaybeUninitSlice;
use tokio::io::{AsyncRead, ReadBuf};

use super::BlockSlice;

impl BlockSlice {
    /// Reads at most `max` bytes into the spare, which is not zeroed for that, and does not count them as data yet.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        src: Pin<&mut (impl AsyncRead + ?Sized)>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let max = max.min(self.spare());
        let known = self.spare_known().min(max);
        let mut buf = ReadBuf::uninit(self.spare_uninit(max));
        // SAFETY: this many bytes of the spare are initialised.
        unsafe { buf.assume_init(known) };
        let room = buf.filled().as_ptr();
        ready!(src.poll_read(cx, &mut buf))?;
        let filled = filled_in_place(&buf, room)?.len();
        // SAFETY: `filled` bytes of our own spare were filled, which only a promise to have written them can do.
        unsafe { self.assume_written(filled) };
        Poll::Ready(Ok(filled))
    }

    /// Receives at most `max` bytes, which fit into the spare, and does not count them as data yet.
    #[cfg(feature = "net")]
    pub(crate) fn recv(&mut self, socket: &socket2::Socket, max: usize) -> io::Result<usize> {
        let received = socket.recv(self.spare_uninit(max))?;
        // SAFETY: the kernel has filled this many bytes of the spare.
        unsafe { self.assume_written(received) };
        Ok(received)
    }

    /// Does the same, and leaves the bytes in the socket.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn peek(&mut self, socket: &socket2::Socket, max: usize) -> io::Result<usize> {
        let seen = socket.peek(self.spare_uninit(max))?;
        // SAFETY: the kernel has filled this many bytes of the spare.
        unsafe { self.assume_written(seen) };
        Ok(seen)
    }

    /// Makes a TCP socket discard at most `max` received bytes, which fit into the spare. Returns their number.
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn skip(&mut self, socket: &socket2::Socket, max: usize) -> io::Result<usize> {
        /// The kernel discards the bytes and writes nothing.
        const MSG_TRUNC: std::ffi::c_int = 0x20;
        socket.recv_with_flags(self.spare_uninit(max), MSG_TRUNC)
    }
}

/// Returns what a stream has filled of a buffer that began at `room`.
///
/// Safe code can put another buffer in the place of the one it was given. Its counts say nothing about ours.
///
/// # Errors
///
/// `InvalidData` if it is another buffer.
pub(crate) fn filled_in_place<'a>(buf: &'a ReadBuf<'_>, room: *const u8) -> io::Result<&'a [u8]> {
    if buf.filled().as_ptr() != room {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the stream exchanged the buffer that it was given to read into",
        ));
    }
    Ok(buf.filled())
}

/// The most slices of one receive: 256 KiB in blocks, and a tail that was begun before.
#[cfg(feature = "net")]
const SLICES: usize = 17;

/// Receives into the spares of `tail` and `fresh`, in this order, with one system call, and does not count the
/// bytes as data yet. Returns how many came, and how many were asked for: `max`, or what the first 17 ranges hold.
#[cfg(feature = "net")]
pub(crate) fn recv_vectored(
    socket: &socket2::Socket,
    tail: Option<&mut BlockSlice>,
    fresh: &mut [BlockSlice],
    max: usize,
) -> io::Result<(usize, usize)> {
    let mut ranges = tail.into_iter().chain(fresh);
    let mut offered: [Option<&mut BlockSlice>; SLICES] = std::array::from_fn(|_| ranges.next());
    let mut slices: [MaybeUninitSlice<'_>; SLICES] =
        std::array::from_fn(|_| MaybeUninitSlice::new(&mut []));
    let (mut used, mut left) = (0, max);
    for range in offered.iter_mut().flatten() {
        let n = left.min(range.spare());
        left -= n;
        slices[used] = MaybeUninitSlice::new(range.spare_uninit(n));
        used += 1;
    }
    let offered_len = max - left;
    let (received, _) = socket.recv_vectored(&mut slices[..used])?;

    let mut left = received;
    for range in offered.into_iter().flatten() {
        let n = left.min(range.spare());
        left -= n;
        // SAFETY: the kernel has filled the slices in their order with `received` bytes in all.
        unsafe { range.assume_written(n) };
    }
    Ok((received, offered_len))
}
