//! Frames of a buffer as a stream: [`FrameDecoder`], [`Frames`] and two decoders.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::Stream;

use super::{
    WaitError,
    guard::BufferGuard,
    inner::SharedEvBuffer,
    interest::Interest,
    waiter::{LOADED_AHEAD, Taker, Waiter},
};
use crate::{
    EolStyle, EvBuffer,
    buffer::{End, LineError},
};

/// Cuts the bytes of a buffer into frames. Used by [`SharedEvBuffer::frames`].
///
/// The methods are those of the `Decoder` of `tokio_util`, over an [`EvBuffer`], in which a frame can be taken without a
/// copy. They run with the buffer locked, so they must not use handles of that buffer.
pub trait FrameDecoder {
    /// The type of a decoded frame.
    type Item;
    /// Why a frame cannot be decoded.
    type Error: From<io::Error>;

    /// Takes the next frame from the front of `src`. Returns `None` if it is not complete, and leaves it there.
    ///
    /// It is called again after each `Some`, and after each change of the buffer, or once [`frame_len`](Self::frame_len) bytes
    /// are there.
    ///
    /// # Errors
    ///
    /// The bytes are not a frame. The stream ends after the error.
    fn decode(&mut self, src: &mut EvBuffer) -> Result<Option<Self::Item>, Self::Error>;

    /// Takes the next frame at the end of the stream, when no more bytes follow. Called until it returns `None`.
    ///
    /// By default it calls [`decode`](Self::decode), and bytes that are left are an error.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode); by default [`io::ErrorKind::UnexpectedEof`] for an incomplete frame.
    fn decode_eof(&mut self, src: &mut EvBuffer) -> Result<Option<Self::Item>, Self::Error> {
        match self.decode(src)? {
            None if !src.is_empty() => {
                let error = format!("the stream ended within a frame, after {} bytes", src.len());
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, error).into())
            }
            frame => Ok(frame),
        }
    }

    /// Returns the length in bytes of the frame at the front of `src`, with its header, if the bytes there show it.
    ///
    /// It is called after [`decode`](Self::decode) has found no complete frame. The task is then woken when that many bytes
    /// are there, not after each change. A [`BufferEvent`](crate::BufferEvent) that reads a bulk flow of frames of the same
    /// length ends its reads where a frame ends, so that none needs to be copied. By default it is `None`; that, and a length
    /// that is there already, wakes the task after each change.
    ///
    /// It must not be more than `decode` needs, or the task may wait for bytes that do not come.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use bytes::Bytes;
    /// use futures::TryStreamExt;
    /// use tokio_evbuffer::{EvBuffer, SharedEvBuffer, shared::FrameDecoder};
    ///
    /// /// A byte with the length, then as many bytes.
    /// struct Short;
    ///
    /// impl FrameDecoder for Short {
    ///     type Item = Bytes;
    ///     type Error = io::Error;
    ///
    ///     fn decode(&mut self, src: &mut EvBuffer) -> io::Result<Option<Bytes>> {
    ///         let len = match self.frame_len(src) {
    ///             Some(len) if len <= src.len() => len,
    ///             _ => return Ok(None),
    ///         };
    ///         src.drain(1)?;
    ///         Ok(Some(src.take_bytes(len - 1)?))
    ///     }
    ///
    ///     fn frame_len(&self, src: &EvBuffer) -> Option<usize> {
    ///         src.get(0).map(|len| 1 + usize::from(len))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> io::Result<()> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"\x05hello\x03all")?;
    /// buffer.close();
    /// let frames: Vec<_> = buffer.frames(Short).try_collect().await?;
    /// assert_eq!(frames, ["hello", "all"]);
    /// # Ok(())
    /// # }
    /// ```
    fn frame_len(&self, src: &EvBuffer) -> Option<usize> {
        let _ = src;
        None
    }
}

/// The frames of a buffer, a [`Stream`]. Returned by [`SharedEvBuffer::frames`].
///
/// It ends after the last frame, and after the first error. While it waits, it holds no memory of the buffer.
///
/// # Cancel safety
///
/// Dropping the future of the next item, or the stream, loses nothing but what the decoder keeps: bytes of frames that were
/// not returned are in the buffer.
#[must_use = "streams do nothing unless polled"]
pub struct Frames<D> {
    taker: Taker<'static>,
    decoder: D,
    ended: bool,
}

impl<D> Frames<D> {
    /// Returns the buffer.
    #[must_use]
    pub fn buffer(&self) -> &SharedEvBuffer {
        self.taker.buffer()
    }

    /// Returns the decoder.
    #[must_use]
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// Returns the decoder, for instance to change a limit.
    #[must_use]
    pub fn decoder_mut(&mut self) -> &mut D {
        &mut self.decoder
    }
}

/// No field is pinned.
impl<D> Unpin for Frames<D> {}

impl<D: FrameDecoder> Stream for Frames<D> {
    type Item = Result<D::Item, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self {
            taker,
            decoder,
            ended,
        } = self.get_mut();
        if *ended {
            return Poll::Ready(None);
        }
        let frame = ready!(taker.poll_once(cx, Interest::Take, LOADED_AHEAD, |guard| {
            if guard.is_frozen_by_user(End::Front) {
                let error = WaitError::Frozen(End::Front);
                return Ok(Some(Err(io::Error::from(error).into())));
            }
            let end = guard.state().end();
            let decoded = match end {
                Some(WaitError::Closed) => decoder.decode_eof(guard),
                _ => decoder.decode(guard),
            };
            match (decoded, end) {
                (Ok(Some(frame)), _) => Ok(Some(Ok(frame))),
                (Err(error), _) => Ok(Some(Err(error))),
                (Ok(None), Some(WaitError::Closed)) => Ok(None),
                (Ok(None), _) => match guard.state().why_no_more() {
                    Some(error) => Ok(Some(Err(io::Error::from(error).into()))),
                    None => Err(interest_in(decoder.frame_len(guard), guard)),
                },
            }
        }));
        *ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }
}

/// Returns what to wait for: a whole frame if its length is known, and it fits into the buffer.
fn interest_in(frame_len: Option<usize>, guard: &BufferGuard<'_>) -> Interest {
    match frame_len {
        Some(n) if n > guard.len() && guard.state().why_never(n).is_none() => {
            Interest::TakeFrame(n)
        }
        _ => Interest::Take,
    }
}

impl<D: fmt::Debug> fmt::Debug for Frames<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("decoder", &self.decoder)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl SharedEvBuffer {
    /// Returns a stream of the frames that `decoder` cuts the bytes into.
    ///
    /// While it waits, writers do not pause between the watermarks, so the buffer can fill up to the high one. The stream
    /// ends with the buffer; one that was closed with an error ends with that error. A frame that can never fit below the
    /// high watermark or the hard cap is an error, [`InvalidInput`](io::ErrorKind::InvalidInput), not a wait without end.
    /// Several tasks that take from one buffer take turns.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::TryStreamExt;
    /// use tokio_evbuffer::{SharedEvBuffer, shared::LengthDecoder};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// let mut frames = buffer.frames(LengthDecoder::new(1024));
    /// buffer.add(b"\0\0\0\x05first\0\0\0\x06sec")?;
    /// assert_eq!(frames.try_next().await?.unwrap(), "first");
    ///
    /// buffer.add(b"ond")?;
    /// buffer.close();
    /// assert_eq!(frames.try_next().await?.unwrap(), "second");
    /// assert_eq!(frames.try_next().await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn frames<D: FrameDecoder>(&self, decoder: D) -> Frames<D> {
        Frames {
            taker: Taker::new(Waiter::owning(self.clone())),
            decoder,
            ended: false,
        }
    }
}

/// Lines of at most `max` bytes, as [`SharedEvBuffer::next_line`]: without their terminators, and with the last line also if
/// it lacks one. A longer line is [`LineError::TooLong`], converted into an [`io::Error`].
///
/// # Examples
///
/// ```
/// use futures::TryStreamExt;
/// use tokio_evbuffer::{EolStyle, SharedEvBuffer, shared::LineDecoder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SharedEvBuffer::new();
/// buffer.add("one\ntwo")?;
/// buffer.close();
/// let decoder = LineDecoder { style: EolStyle::Lf, max: 80 };
/// let lines: Vec<_> = buffer.frames(decoder).try_collect().await?;
/// assert_eq!(lines, ["one", "two"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // A plain description that is written as a literal.
pub struct LineDecoder {
    /// What ends a line.
    pub style: EolStyle,
    /// The most bytes of a line, without its terminator.
    pub max: usize,
}

impl FrameDecoder for LineDecoder {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut EvBuffer) -> io::Result<Option<Bytes>> {
        Ok(src.readln_max(self.style, self.max)?)
    }

    fn decode_eof(&mut self, src: &mut EvBuffer) -> io::Result<Option<Bytes>> {
        match self.decode(src)? {
            None if src.len() > self.max => Err(LineError::TooLong { max: self.max }.into()),
            None if !src.is_empty() => Ok(Some(src.take_bytes(usize::MAX)?)),
            line => Ok(line),
        }
    }
}

/// Frames with their length in front, as `LengthDelimitedCodec` of `tokio_util` decodes them.
///
/// By default, the length is a big-endian integer of four bytes at the start of the frame, and counts the bytes behind it.
/// The header is removed. The item is the rest of the frame: a [`Bytes`] that shares the memory of the buffer, without a copy,
/// if the frame lies in one segment.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::{EvBuffer, shared::{FrameDecoder, LengthDecoder}};
///
/// // A type of one byte, a little-endian length of two bytes that counts the whole frame.
/// let mut decoder = LengthDecoder::new(100)
///     .length_width(2)
///     .length_offset(1)
///     .length_adjustment(-3)
///     .little_endian();
/// let mut buffer = EvBuffer::from(&b"\x07\x08\x00hello"[..]);
/// assert_eq!(decoder.decode(&mut buffer)?.unwrap(), "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthDecoder {
    width: usize,
    offset: usize,
    adjustment: isize,
    little_endian: bool,
    max: usize,
}

impl LengthDecoder {
    /// Decodes frames of at most `max` bytes, without the header. A longer one is an error,
    /// [`InvalidData`](io::ErrorKind::InvalidData).
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self {
            width: 4,
            offset: 0,
            adjustment: 0,
            little_endian: false,
            max,
        }
    }

    /// Sets the width of the length field, in bytes. The default is 4.
    ///
    /// # Panics
    ///
    /// Unless `width` is 1 to 8.
    #[must_use]
    pub const fn length_width(self, width: usize) -> Self {
        assert!(1 <= width && width <= 8, "a length field has 1 to 8 bytes");
        Self { width, ..self }
    }

    /// Sets the number of bytes in front of the length field. They are removed with the header. The default is 0.
    #[must_use]
    pub const fn length_offset(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// Sets what is added to the length field to get the number of bytes behind the header. The default is 0; minus the
    /// length of the header where the field counts the whole frame.
    #[must_use]
    pub const fn length_adjustment(self, adjustment: isize) -> Self {
        Self { adjustment, ..self }
    }

    /// Reads the length field with the least significant byte first. The default is the most significant byte first.
    #[must_use]
    pub const fn little_endian(self) -> Self {
        Self {
            little_endian: true,
            ..self
        }
    }

    /// Sets the most bytes of a frame, without the header.
    #[must_use]
    pub const fn max(self, max: usize) -> Self {
        Self { max, ..self }
    }

    fn header_len(&self) -> usize {
        self.offset.saturating_add(self.width)
    }

    /// Returns the number of bytes after the header of the first frame; `None` if `src` does not have the whole header.
    fn next_body_len(&self, src: &EvBuffer) -> io::Result<Option<usize>> {
        if src.len() < self.header_len() {
            return Ok(None);
        }
        let mut field = [0; 8];
        let field = &mut field[..self.width];
        src.copyout_from(self.offset, field)?;
        self.body_len(field).map(Some)
    }

    /// Returns the number of bytes after the header, computed from the length `field`.
    fn body_len(&self, field: &[u8]) -> io::Result<usize> {
        let value = match self.little_endian {
            true => field
                .iter()
                .rev()
                .fold(0, |n, &byte| n << 8 | u64::from(byte)),
            false => field.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)),
        };
        let len = usize::try_from(value)
            .ok()
            .and_then(|len| len.checked_add_signed(self.adjustment));
        len.filter(|&len| len <= self.max).ok_or_else(|| {
            let error = format!(
                "a frame of {value} bytes, adjusted by {}, exceeds the maximum of {} or is negative",
                self.adjustment, self.max
            );
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }
}

impl FrameDecoder for LengthDecoder {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut EvBuffer) -> io::Result<Option<Bytes>> {
        let header = self.header_len();
        match self.next_body_len(src)? {
            Some(body) if src.len() - header >= body => {
                // Without this the header would be gone after an error of a file that has the body.
                src.load_range(header, body)?;
                src.drain(header)?;
                Ok(Some(src.take_bytes(body)?))
            }
            _ => Ok(None),
        }
    }

    fn frame_len(&self, src: &EvBuffer) -> Option<usize> {
        let body = self.next_body_len(src).ok().flatten()?;
        self.header_len().checked_add(body)
    }
}
