//! How bytes enter a chain and leave it: any stream through the plain traits, a TCP or Unix socket with one
//! system call for many segments.
//!
//! Knows no policy: how much to read and when is for the layers above to say.

#[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
mod linux;
#[cfg(not(all(feature = "net", any(target_os = "linux", target_os = "android"))))]
#[path = "no_splice.rs"]
mod linux;
#[cfg(feature = "net")]
mod lookup;
#[cfg(not(feature = "net"))]
#[path = "no_net.rs"]
mod lookup;
pub(crate) mod poll;
mod prefixed;
mod read_size;
#[cfg(feature = "net")]
mod socket;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(all(test, feature = "net", target_os = "linux"))]
pub(crate) use linux::one_at_a_time;
pub(crate) use linux::{HangUp, Pipe};
pub(crate) use lookup::{Finder, take_prefix};
pub use prefixed::{PeekError, Prefixed};
pub(crate) use read_size::ReadSizer;

use crate::buffer::chain::EvBuffer;

/// Reads at most `max` bytes to the back of `chain`: how many, none at the end of stream. `max` is at least one.
///
/// A `Pending` read leaves an empty chain without memory.
#[inline]
pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<S>,
    chain: &mut EvBuffer,
    max: usize,
) -> Poll<io::Result<usize>> {
    debug_assert!(max > 0, "a read of nothing looks like the end of stream");
    match finder.socket(stream) {
        Some(socket) => socket.poll_recv(cx, chain, max),
        None => chain.poll_read_from(cx, Pin::new(stream), max),
    }
}

/// The same, but a socket is read into one block: for a `chain` that is empty and soon will be again.
///
/// Bulk flows through 16 segments took 7 % more CPU time than through one block of the same 256 KiB.
#[inline]
pub(crate) fn poll_fill_flat<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<S>,
    chain: &mut EvBuffer,
    max: usize,
) -> Poll<io::Result<usize>> {
    debug_assert!(max > 0, "a read of nothing looks like the end of stream");
    match finder.socket(stream) {
        Some(socket) => socket.poll_recv_flat(cx, chain, max),
        None => chain.poll_read_from(cx, Pin::new(stream), max),
    }
}

/// Writes at most `max` bytes from the front of `chain`, which is not empty, and drains what was taken.
///
/// # Errors
///
/// [`io::ErrorKind::WriteZero`] where the stream takes nothing.
#[inline]
pub(crate) fn poll_drain<S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<S>,
    chain: &mut EvBuffer,
    max: usize,
) -> Poll<io::Result<usize>> {
    debug_assert!(!chain.is_empty() && max > 0);
    let written = match finder.socket(stream) {
        Some(socket) => socket.poll_send(cx, chain, max),
        None => chain.poll_write_to(cx, Pin::new(stream), max),
    };
    not_zero(written)
}

/// Writes `bytes`, of which there are some, or the beginning of them.
///
/// # Errors
///
/// [`io::ErrorKind::WriteZero`] where the stream takes nothing.
#[inline]
pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<S>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    debug_assert!(!bytes.is_empty());
    not_zero(match finder.socket(stream) {
        Some(socket) => socket.poll_send_slices(cx, &[IoSlice::new(bytes)]),
        None => (Pin::new(stream).poll_write(cx, bytes)).map_ok(|n| n.min(bytes.len())),
    })
}

#[inline]
fn not_zero(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    match written {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => written,
    }
}

/// What came of an attempt to move bytes into a pipe.
// Without splicing every attempt is refused.
#[cfg_attr(
    not(all(feature = "net", any(target_os = "linux", target_os = "android"))),
    allow(dead_code)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// So many, at least one.
    Bytes(usize),
    /// The pipe takes no more before something has left it.
    Full,
    /// No more will come, but there is something in the pipe.
    End,
    /// There is no pipe to be had, or the kernel does not splice what comes next from this stream. Copying still works, and
    /// tells whether that is the end. The pipe is empty.
    Refused,
}

/// Moves what `stream` has received to the pipe in `slot`, up to `limit` bytes in it.
///
/// A pipe is leased when there is something to move. `Pending` means that the socket is empty.
pub(crate) fn poll_splice_in<S>(
    cx: &mut Context<'_>,
    stream: &S,
    finder: Finder<S>,
    slot: &mut Option<Pipe>,
    limit: usize,
) -> Poll<io::Result<Spliced>> {
    match finder.socket(stream) {
        Some(socket) => socket.poll_splice_in(cx, slot, limit),
        None => Poll::Ready(Ok(Spliced::Refused)),
    }
}

/// Moves what `pipe`, which is not empty, holds to `stream`; `None` if that cannot be spliced to.
///
/// # Errors
///
/// [`io::ErrorKind::WriteZero`] where the stream takes nothing.
pub(crate) fn poll_splice_out<S>(
    cx: &mut Context<'_>,
    stream: &S,
    finder: Finder<S>,
    pipe: &mut Pipe,
) -> Poll<io::Result<Option<usize>>> {
    match finder.socket(stream) {
        Some(socket) => match socket.poll_splice_out(cx, pipe) {
            Poll::Ready(Ok(Some(0))) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            spliced => spliced,
        },
        None => Poll::Ready(Ok(None)),
    }
}
