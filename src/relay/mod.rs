//! Two streams joined: one task, both directions, backpressure, half-close.
//!
//! [`relay`] joins two streams with the defaults that a proxy wants, [`Relay`] with others, and
//! [`copy_bidirectional`] stands in for Tokio's function of that name.
//!
//! Each direction is a chain of segments between a reading and a writing end. Reading goes on while a write waits, up
//! to a limit; a chain that is empty holds no memory, so that an idle relay costs its future and nothing else. A relay
//! spawns nothing and knows no lock.
//!
//! A [`TcpStream`] or [`UnixStream`], by value or as `&mut`, is
//! recognised and read with one system call for many segments; between two of them bulk flows are spliced on Linux
//! ([`Splice`]). One limit is shared with Tokio's own reads: bytes behind
//! an urgent mark (`MSG_OOB`) that were queued already wait for the next byte, the end of stream or a time limit.
//!
//! [`TcpStream`]: https://docs.rs/tokio/latest/tokio/net/struct.TcpStream.html
//! [`UnixStream`]: https://docs.rs/tokio/latest/tokio/net/struct.UnixStream.html

mod builder;
mod clock;
mod config;
mod counters;
mod direction;
mod future;
mod pump;
mod splice_mode;
mod summary;

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::transport::PeekError;
pub use builder::Relay;
pub use config::{HalfClose, OnError, Splice};
pub use counters::RelayCounters;
pub use summary::{Peer, Progress, RelayEnd, RelayError, RelaySummary, Step};

/// A stream that can be relayed, by value or as `&mut`.
pub trait RelayStream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> RelayStream for T {}

/// Joins `a` and `b` until both have ended: what one sends, the other gets.
///
/// The end of one side's stream is passed on, and the other direction lives on for as long as bytes move, or up to
/// 30 s after the last one did. [`Relay`] has the settings.
///
/// # Errors
///
/// A [`RelayError`] for the first operation that failed. It says which, on which stream, and how many bytes were
/// delivered each way. What was read before is still delivered to the healthy side, which is then reset if it is a TCP
/// socket and ended if it is not.
///
/// # Panics
///
/// From the first end of stream or error on, outside a runtime or in one without timers.
///
/// # Cancel safety
///
/// Not cancel safe: what was read and not yet written is lost with the future.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, a) = tokio::io::duplex(64);
/// let (mut server, b) = tokio::io::duplex(64);
/// let relay = tokio::spawn(tokio_evbuffer::relay(a, b));
///
/// client.write_all(b"ping").await?;
/// client.shutdown().await?;
/// let mut request = String::new();
/// server.read_to_string(&mut request).await?;
/// server.write_all(b"pong!").await?;
/// drop(server);
///
/// let summary = relay.await??;
/// assert_eq!(request, "ping");
/// assert_eq!((summary.a_to_b, summary.b_to_a), (4, 5));
/// # Ok(())
/// # }
/// ```
pub fn relay<A: RelayStream, B: RelayStream>(
    a: A,
    b: B,
) -> impl Future<Output = Result<RelaySummary, RelayError>> {
    Relay::new(a, b).run()
}

/// In place of `tokio::io::copy_bidirectional`: same signature, same results, same half-close.
///
/// Copies in both directions until both have ended, and returns the bytes copied from `a` to `b` and from `b` to `a`.
/// There are no time limits: a side that never ends keeps it for ever. Sockets take the same fast path as in a
/// [`Relay`].
///
/// # Errors
///
/// The first error of any operation, at once. `Interrupted` is not an error, but tried again.
///
/// # Cancel safety
///
/// Not cancel safe: what was read and not yet written is lost with the future.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncWriteExt;
/// use tokio_evbuffer::copy_bidirectional;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, mut a) = tokio::io::duplex(64);
/// let (mut server, mut b) = tokio::io::duplex(64);
/// client.write_all(b"ping").await?;
/// drop(client);
/// server.shutdown().await?;
///
/// assert_eq!(copy_bidirectional(&mut a, &mut b).await?, (4, 0));
/// # Ok(())
/// # }
/// ```
pub async fn copy_bidirectional<A, B>(a: &mut A, b: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let relay = Relay::new(a, b)
        .half_close(HalfClose::Propagate)
        .run_until_error();
    match relay.await {
        Ok(summary) => Ok((summary.a_to_b, summary.b_to_a)),
        Err(failed) => Err(failed.error),
    }
}
