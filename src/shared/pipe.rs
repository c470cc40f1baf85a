//! [`pipe`]: one direction in memory.

use super::{Reader, Writer, inner::SharedEvBuffer, watermarks::Watermarks};

/// Makes one direction in memory: what is written to the one end is read from the other.
///
/// The writer waits at the high watermark and continues at the low one; [`Watermarks::NONE`] makes a pipe without a bound.
/// Segments move from end to end; what goes in and comes out as [`Bytes`](bytes::Bytes) is not copied. When the writer is
/// shut down or dropped, the reader takes what is left and then sees the end; [`Writer::close_with`] ends with an error
/// instead. When the reader is dropped, what is left is discarded and writing fails with
/// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe).
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use futures::{SinkExt, TryStreamExt};
/// use tokio_evbuffer::{Watermarks, pipe};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut writer, mut reader) = pipe(Watermarks::with_high(64 * 1024)?);
/// tokio::spawn(async move { writer.send(Bytes::from_static(b"through the pipe")).await });
///
/// assert_eq!(reader.try_next().await?.unwrap(), "through the pipe");
/// assert_eq!(reader.try_next().await?, None);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "bufferevent_pair_new")]
#[must_use]
pub fn pipe(watermarks: Watermarks) -> (Writer, Reader) {
    let buffer = SharedEvBuffer::new();
    buffer.set_watermarks(watermarks);
    (Writer::new(buffer.clone(), true), Reader::new(buffer, true))
}
