//! Relays with default settings, as functions.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    HalfClose, RelayError, RelayStream, RelaySummary, TransferError, builder::Relay,
    transfer::Transfer,
};

/// Relays between `a` and `b` until both have ended: what one sends, the other gets.
///
/// The end of one side's stream is passed on. The other direction then continues for as long as bytes move, and ends when
/// none has moved for 30 s. [`Relay`] has the settings.
///
/// # Errors
///
/// A [`RelayError`] for the first operation that failed. It names the operation and the stream, and counts the bytes
/// delivered in each direction. What was read before is still delivered to the healthy side, which is then reset if it is a
/// TCP socket and dropped without `shutdown` if it is not.
///
/// # Cancel safety
///
/// Not cancel safe: what was read and not yet written is lost with the future. [`Relay::run_until`] stops without loss.
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

/// Replaces `tokio::io::copy_bidirectional`: same signature, same results, same half-close.
///
/// Copies in both directions until both have ended, and returns the bytes copied from `a` to `b` and from `b` to `a`.
/// There are no time limits: a side that never ends keeps it permanently. Sockets take the same fast path as in a
/// [`Relay`].
///
/// # Errors
///
/// The first error of any operation, at once. `Interrupted` is not an error; the operation is repeated.
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

/// Replaces `tokio::io::copy`: same signature, same results.
///
/// Copies from `reader` to `writer` until the end of the reader, flushes the writer, and returns the number of bytes
/// copied. Sockets take the same fast path as in a [`Transfer`], which has the settings.
///
/// # Errors
///
/// The first error of any operation. What was read before a failed read is still written. `Interrupted` is not an error:
/// the operation is tried again.
///
/// # Cancel safety
///
/// Not cancel safe: what was read and not yet written is lost with the future.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut reader, mut writer) = (&b"all of it"[..], Vec::new());
/// assert_eq!(tokio_evbuffer::copy(&mut reader, &mut writer).await?, 9);
/// assert_eq!(writer, b"all of it");
/// # Ok(())
/// # }
/// ```
pub async fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    let transfer = Transfer::new(reader, writer).run();
    transfer.await.map_err(|failed| failed.error)
}

/// Copies exactly `n` bytes from `reader` to `writer`, and flushes the writer.
///
/// Never a byte more than that is taken out of the reader. Between sockets, bulk is spliced on Linux.
///
/// # Errors
///
/// A [`TransferError`] for the first operation that failed, with the number of bytes written. An end of the reader before
/// `n` bytes is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
///
/// # Cancel safety
///
/// Not cancel safe: what was read and not yet written is lost with the future.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::relay::copy_exact;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tokio_evbuffer::relay::TransferError> {
/// let (mut reader, mut writer) = (&b"body, and more"[..], Vec::new());
/// copy_exact(&mut reader, &mut writer, 4).await?;
/// assert_eq!((&writer[..], reader), (&b"body"[..], &b", and more"[..]));
/// # Ok(())
/// # }
/// ```
pub async fn copy_exact<R, W>(reader: &mut R, writer: &mut W, n: u64) -> Result<(), TransferError>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    Transfer::new(reader, writer).limit(n).run().await.map(drop)
}
