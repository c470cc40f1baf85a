//! Awaited and bounded: lines, and pieces of a known length or up to a needle.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    WaitError,
    inner::{SharedEvBuffer, State},
    interest::Interest,
    waiter::{LOADED_AHEAD, Take},
};
use crate::{
    BufferError, EolStyle,
    buffer::{End, LineError},
};

impl SharedEvBuffer {
    /// Takes the next line, without its terminator, once the whole line is there. Returns `None` at the end.
    ///
    /// The last line may lack a terminator. `max` bounds the line without its terminator; a `max` of zero accepts only empty
    /// lines. While it waits, writers do not pause between the watermarks, so the buffer can fill up to the high one. Several
    /// tasks that take from one buffer take turns.
    ///
    /// # Errors
    ///
    /// [`LineError::TooLong`] if the line has, or already has, more than `max` bytes. It stays in the buffer.
    ///
    /// [`LineError::Closed`] with the reason why no whole line can come in: [`WaitError::Stream`] if the buffer was closed
    /// with an error, after all whole lines were taken; [`WaitError::AboveHigh`] or [`WaitError::NeverFits`] if the buffer
    /// is full; [`WaitError::Frozen`] if an end is frozen.
    ///
    /// [`LineError::Buffer`] if the line is there and cannot be removed: the front is frozen, or a file cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a line that was not returned is in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{EolStyle, SharedEvBuffer, buffer::LineError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"GET /\r\nmuch too long\r\nrest")?;
    /// buffer.close();
    ///
    /// assert_eq!(buffer.next_line(EolStyle::Crlf, 8).await?.unwrap(), "GET /");
    /// assert_eq!(buffer.next_line(EolStyle::Crlf, 8).await, Err(LineError::TooLong { max: 8 }));
    /// assert_eq!(buffer.next_line(EolStyle::Crlf, 80).await?.unwrap(), "much too long");
    /// assert_eq!(buffer.next_line(EolStyle::Crlf, 80).await?.unwrap(), "rest");
    /// assert_eq!(buffer.next_line(EolStyle::Crlf, 80).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_readln")]
    pub async fn next_line(&self, style: EolStyle, max: usize) -> Result<Option<Bytes>, LineError> {
        let reach = max.saturating_add(2).min(LOADED_AHEAD);
        Take::new(self, reach, |guard| {
            match guard.readln_max(style, max) {
                Ok(Some(line)) => return Ok(Ok(Some(line))),
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
            let state = guard.state();
            match state.end() {
                Some(WaitError::Closed) if guard.is_empty() => Ok(Ok(None)),
                Some(WaitError::Closed) if guard.len() > max => Ok(Err(LineError::TooLong { max })),
                Some(WaitError::Closed) => {
                    let all = guard.len();
                    Ok(guard.take_bytes(all).map(Some).map_err(Into::into))
                }
                _ => match state.why_no_more() {
                    Some(error) => Ok(Err(error.into())),
                    None => Err(Interest::Take),
                },
            }
        })
        .await
    }

    /// Takes exactly `n` bytes from the front, once they are there. Zero is ready at once.
    ///
    /// The bytes share the memory of the buffer if they lie in one segment, and are copied together otherwise. While it waits,
    /// writers do not pause between the watermarks before there are `n` bytes. Several tasks that take from one buffer take
    /// turns.
    ///
    /// # Errors
    ///
    /// As [`readable`](Self::readable), and [`WaitError::Frozen`] if the front is frozen. Fewer bytes than `n` stay in the
    /// buffer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: bytes that were not returned are in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::{SharedEvBuffer, shared::WaitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"headbody")?;
    /// buffer.close();
    /// assert_eq!(buffer.take_exact(4).await?, "head");
    /// assert_eq!(buffer.take_exact(5).await, Err(WaitError::Closed));
    /// assert_eq!(buffer.len(), 4);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn take_exact(&self, n: usize) -> Result<Bytes, WaitError> {
        Take::new(self, n, |guard| {
            if n > 0 && guard.is_frozen_by_user(End::Front) {
                return Ok(Err(WaitError::Frozen(End::Front)));
            }
            if guard.len() < n {
                let state = guard.state();
                return state.why_never(n).map(Err).ok_or(Interest::TakeLen(n));
            }
            // Only a range of a file that cannot be read fails now.
            let failed = |error: BufferError| WaitError::Stream(Arc::new(error.into()));
            Ok(guard.take_bytes(n).map_err(failed))
        })
        .await
    }

    /// Takes everything up to and including `needle`, once that is there. Returns `None` at the end of an empty buffer.
    ///
    /// At the end, bytes without a needle are returned as they are. `max` bounds the bytes with the needle. Several tasks
    /// that take from one buffer take turns. An empty needle is found at once: it takes nothing.
    ///
    /// # Errors
    ///
    /// As [`next_line`](Self::next_line): [`LineError::TooLong`] if there is no needle within the first `max` bytes, and so
    /// on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: bytes that were not returned are in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody")?;
    /// let head = buffer.take_until(b"\r\n\r\n", 1024).await?.unwrap();
    /// assert!(head.ends_with(b"Host: a\r\n\r\n"));
    /// assert_eq!(buffer.take_exact(4).await?, "body");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "evbuffer_search")]
    pub async fn take_until(&self, needle: &[u8], max: usize) -> Result<Option<Bytes>, LineError> {
        let mut searched = Searched::default();
        Take::new(self, max.min(LOADED_AHEAD), |guard| {
            let len = guard.len();
            let from = searched.position(guard.state());
            let found = guard.search(needle, from.min(len)..len.min(max));
            if let Some(at) = found {
                let taken = guard.take_bytes(at + needle.len());
                return Ok(taken.map(Some).map_err(Into::into));
            }
            if len >= max {
                return Ok(Err(LineError::TooLong { max }));
            }
            let state = guard.state();
            match state.end() {
                Some(WaitError::Closed) if len == 0 => Ok(Ok(None)),
                Some(WaitError::Closed) => Ok(guard.take_bytes(len).map(Some).map_err(Into::into)),
                _ => match state.why_no_more() {
                    Some(error) => Ok(Err(error.into())),
                    None => {
                        // The needle may have begun already.
                        let may_have_begun = needle.len().saturating_sub(1);
                        searched = Searched::new(state, len.saturating_sub(may_have_begun));
                        Err(Interest::Take)
                    }
                },
            }
        })
        .await
    }
}

/// How far a buffer was searched without success, so that the next look continues there.
#[derive(Default)]
struct Searched {
    /// The totals at the last search: they show how other handles moved the front since, or changed what was searched.
    prepended: u64,
    removed: u64,
    overwrites: u64,
    len: usize,
}

impl Searched {
    fn new(state: &State, len: usize) -> Self {
        let position = state.position();
        Self {
            prepended: position.prepended,
            removed: position.totals.removed,
            overwrites: position.overwrites,
            len,
        }
    }

    /// Returns the first position that was not searched.
    fn position(&self, state: &State) -> usize {
        let position = state.position();
        if (position.prepended, position.overwrites) != (self.prepended, self.overwrites) {
            return 0;
        }
        let removed = position.totals.removed.wrapping_sub(self.removed);
        self.len
            .saturating_sub(usize::try_from(removed).unwrap_or(usize::MAX))
    }
}

impl State {
    /// Returns why a taker can never get more bytes than there are now; `None` if it may.
    pub(super) fn why_no_more(&self) -> Option<WaitError> {
        if self.buffer.is_frozen_by_user(End::Front) {
            return Some(WaitError::Frozen(End::Front));
        }
        self.why_never(self.buffer.len().saturating_add(1))
    }
}
