//! How bytes enter a chain and leave it: any stream through the plain traits, a TCP or Unix socket with one
//! system call for many segments.
//!
//! Knows no policy: how much to read and when is for the layers above to say.

#[cfg(feature = "net")]
mod detect;
#[cfg(not(feature = "net"))]
#[path = "no_net.rs"]
mod detect;
#[cfg(all(feature = "net", any(target_os = "linux", target_os = "android")))]
mod sendfile;
mod sizer;
#[cfg(feature = "net")]
mod socket;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use detect::Finder;
pub(crate) use sizer::ReadSizer;

use crate::buffer::EvBuffer;

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
    match written {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => written,
    }
}
