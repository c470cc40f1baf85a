//! Moves bytes between a stream and a chain: any stream through Tokio's traits, a TCP or Unix socket with one system
//! call for many segments.
//!
//! Decides nothing: how much to read and when is up to the layers above.

mod fallback;
#[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
mod linux;
#[cfg(feature = "net")]
mod lookup;
pub(crate) mod poll;
mod prefixed;
mod read_size;
#[cfg(feature = "net")]
mod socket;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(not(feature = "net"))]
pub(crate) use fallback::{Finder, Hook, Socket, take_prefix};
#[cfg(not(all(feature = "net", any(target_os = "linux", target_os = "android"))))]
pub(crate) use fallback::{HangUp, Pipe};
#[cfg(all(test, feature = "net", target_os = "linux"))]
pub(crate) use linux::pipe_test_lock;
#[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
pub(crate) use linux::{HangUp, Pipe};
#[cfg(feature = "net")]
pub(crate) use lookup::{Finder, Hook, take_prefix};
pub use prefixed::{PeekError, Prefixed};
pub(crate) use read_size::{FrameLen, ReadSizer};

#[cfg(feature = "net")]
pub use lookup::Socket;

use crate::{buffer::chain::EvBuffer, loading::Loading, stats};

/// Returns the most pipes that the relays of this process use at the same time. The default is 32.
///
/// Always 0 where the system or the build cannot splice.
pub fn max_pipes() -> usize {
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    return linux::max_pipes();
    #[cfg(not(all(feature = "net", any(target_os = "linux", target_os = "android"))))]
    return 0;
}

/// Sets the most pipes that the relays of this process use at the same time. With 0 nothing is spliced.
///
/// Each pipe takes two descriptors and up to 1 MiB of kernel memory. Linux grants a user without privilege 64 MiB in
/// pipes by default (`/proc/sys/fs/pipe-user-pages-soft`); the default of 32 pipes is half of that. Pipes in use are not
/// affected until they are returned. Has no effect where the system or the build cannot splice.
///
/// # Examples
///
/// ```standalone_crate
/// # use tokio_evbuffer::relay::{max_pipes, set_max_pipes};
/// set_max_pipes(8);
/// assert!(max_pipes() == 8 || cfg!(not(target_os = "linux")) || cfg!(not(feature = "net")));
/// ```
pub fn set_max_pipes(n: usize) {
    #[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
    linux::set_max_pipes(n);
    #[cfg(not(all(feature = "net", any(target_os = "linux", target_os = "android"))))]
    let _ = n;
}

/// The memory that a read from a socket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Segments of the usual size, which are released one by one as they are consumed.
    Segments,
    /// One block, for a chain that is empty and soon will be empty again.
    ///
    /// Bulk flows took 7 % more CPU time through 16 segments than through one block of the same 256 KiB.
    OneBlock,
    /// Blocks of this length, for such a chain. The first one may be shorter.
    Blocks(usize),
}

/// Reads at most `max` bytes to the back of `chain` and returns their number; 0 is the end of the stream.
///
/// `max` is at least one. A `Pending` read leaves an empty chain without memory. Works also after [`poll_hang_up`] has
/// hidden the readiness of the socket.
#[inline]
pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<'_, S>,
    chain: &mut EvBuffer,
    max: usize,
    layout: Layout,
    hang_up: &mut HangUp,
) -> Poll<io::Result<usize>> {
    debug_assert!(max > 0, "a read of nothing looks like the end of stream");
    let Some(socket) = finder.socket(stream) else {
        return chain.poll_read_from(cx, Pin::new(stream), max);
    };
    if hang_up.is_cleared() {
        if let Some(read) = hang_up.read_held(socket, chain, max, layout) {
            return Poll::Ready(read);
        }
    }
    socket.poll_recv(cx, chain, max, layout)
}

/// Returns whether [`AsyncRead`] reads from `stream` as [`poll_fill`] does: to be used for short messages, which need
/// no chain.
#[inline]
pub(crate) fn reads_plainly<S>(stream: &S, finder: Finder<'_, S>) -> bool {
    match finder.socket(stream) {
        // After a short read Tokio assumes that the socket is empty, but that of a Unix socket may be short although more
        // follows.
        Some(socket) => socket.is_tcp() && !finder.is_inside(stream),
        None => true,
    }
}

/// Waits until the peer has ended its stream, or until the connection was reset, which is an error. Reads nothing.
///
/// Stays pending for a stream that is not a socket. Afterwards [`poll_fill`] reads what has arrived.
pub(crate) fn poll_hang_up<S>(
    cx: &mut Context<'_>,
    stream: &S,
    finder: Finder<'_, S>,
    hang_up: &mut HangUp,
) -> Poll<io::Result<()>> {
    match finder.socket(stream) {
        Some(socket) => socket.poll_hang_up(cx, hang_up),
        None => Poll::Pending,
    }
}

/// Writes at most `max` bytes from the front of `chain`, which is not empty, and removes what was written.
///
/// A range of a file that the page cache does not hold is read by `loading` first.
///
/// # Errors
///
/// [`io::ErrorKind::WriteZero`] if the stream takes nothing; the error of reading a range of a file.
#[inline]
pub(crate) fn poll_write_from<S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<'_, S>,
    chain: &mut EvBuffer,
    max: usize,
    loading: &mut Loading,
) -> Poll<io::Result<usize>> {
    debug_assert!(!chain.is_empty() && max > 0);
    let written = match finder.socket(stream) {
        Some(socket) => socket.poll_send(cx, chain, max, loading),
        None => {
            ready!(loading.poll_loaded(cx, chain, 1))?;
            count_copied(chain.poll_write_to(cx, Pin::new(stream), max))
        }
    };
    zero_is_an_error(written)
}

/// Writes a prefix of `bytes`, which is not empty.
///
/// # Errors
///
/// [`io::ErrorKind::WriteZero`] if the stream takes nothing.
#[inline]
pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    finder: Finder<'_, S>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    debug_assert!(!bytes.is_empty());
    zero_is_an_error(match finder.socket(stream) {
        Some(socket) => socket.poll_send_slices(cx, &[IoSlice::new(bytes)]),
        None => {
            count_copied((Pin::new(stream).poll_write(cx, bytes)).map_ok(|n| n.min(bytes.len())))
        }
    })
}

/// Counts what a stream that is no socket has taken; a socket counts by itself.
#[inline]
fn count_copied(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    written.map_ok(|n| {
        stats::copied(n);
        n
    })
}

#[inline]
fn zero_is_an_error(written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    match written {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => written,
    }
}

/// Returns about how many bytes the send queue of `stream` takes now; `None` where that is unknown.
pub(crate) fn send_room<S>(stream: &S, finder: Finder<'_, S>) -> Option<usize> {
    finder.socket(stream)?.send_room()
}

/// Returns whether `stream` is a TCP socket of which the kernel tells the room in the send queue.
#[inline]
pub(crate) fn has_send_queue<S>(stream: &S, finder: Finder<'_, S>) -> bool {
    cfg!(any(target_os = "linux", target_os = "android"))
        && finder.socket(stream).is_some_and(Socket::is_tcp)
}

/// The outcome of [`forward`].
// Nothing is forwarded where no send queue is known.
#[cfg_attr(
    not(all(feature = "net", any(target_os = "linux", target_os = "android"))),
    allow(dead_code)
)]
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// The source had `seen` bytes, at most as many as were asked for. The sink has taken some of them, at least one.
    Bytes { seen: usize, taken: usize },
    /// The source has ended.
    End,
    /// The source has no bytes, and will wake the task.
    SourceWaits,
    /// The sink has taken nothing, and will wake the task.
    SinkWaits,
    /// The sink has failed.
    WriteFailed(io::Error),
}

/// Sends at most `max` of the bytes that `from` has received to `to`, and leaves in `from` what `to` does not take.
///
/// Both have a send queue. The error is that of reading.
pub(crate) fn forward<R, W>(
    cx: &mut Context<'_>,
    (from, from_finder): (&R, Finder<'_, R>),
    (to, to_finder): (&W, Finder<'_, W>),
    max: usize,
) -> io::Result<Forwarded> {
    match (from_finder.socket(from), to_finder.socket(to)) {
        (Some(from), Some(to)) => from.forward(cx, to, max),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Returns whether Tokio knows of bytes to read, or of an end, in `stream`. Also `true` if that is unknown.
///
/// Registers no waker.
#[inline]
pub(crate) fn seems_readable<S>(stream: &S, finder: Finder<'_, S>) -> bool {
    match finder.socket(stream) {
        // A function of the user may find another socket than before.
        Some(socket) if !finder.is_inside(stream) => socket.seems_readable(),
        _ => true,
    }
}

/// Waits until `stream`, a socket, has bytes to read, or its end. `Ready` if it is no socket.
#[inline]
pub(crate) fn poll_readable<S>(
    cx: &mut Context<'_>,
    stream: &S,
    finder: Finder<'_, S>,
) -> Poll<io::Result<()>> {
    match finder.socket(stream) {
        Some(socket) => socket.poll_readable(cx),
        None => Poll::Ready(Ok(())),
    }
}

/// The outcome of an attempt to move bytes into a pipe.
// Where there are no pipes, every attempt is refused.
#[cfg_attr(
    not(all(feature = "net", any(target_os = "linux", target_os = "android"))),
    allow(dead_code)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// The number of bytes that moved, at least one.
    Bytes(usize),
    /// The pipe takes no more until something has left it.
    Full,
    /// The source has ended, and the pipe still holds bytes.
    End,
    /// No pipe is available, or the kernel does not splice what comes next. A read works, and shows whether that is the
    /// end of the stream. The pipe is empty.
    Refused,
}

/// Moves what `stream` has received to the pipe in `slot`, up to `limit` bytes in it.
///
/// A pipe is leased when there is something to move. `Pending` means that the socket is empty. Works also after
/// [`poll_hang_up`] has hidden the readiness of the socket. With `short_is_all`, a splice of less than the limit counts as
/// one that has emptied the socket; the caller comes back soon in any case.
pub(crate) fn poll_splice_in<S>(
    cx: &mut Context<'_>,
    stream: &S,
    finder: Finder<'_, S>,
    slot: &mut Option<Pipe>,
    limit: usize,
    hang_up: &mut HangUp,
    short_is_all: bool,
) -> Poll<io::Result<Spliced>> {
    match finder.socket(stream) {
        Some(socket) => socket.poll_splice_in(cx, slot, limit, hang_up, short_is_all),
        None => Poll::Ready(Ok(Spliced::Refused)),
    }
}

/// Moves what `pipe`, which is not empty, holds to `stream`; `None` if the stream does not take a splice.
///
/// # Errors
///
/// [`io::ErrorKind::WriteZero`] if the stream takes nothing.
pub(crate) fn poll_splice_out<S>(
    cx: &mut Context<'_>,
    stream: &S,
    finder: Finder<'_, S>,
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
