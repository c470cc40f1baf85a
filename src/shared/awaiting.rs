//! Awaiting changes and conditions of a buffer.

use super::{Changed, Changes, Mark, SharedEvBuffer, WaitError, interest::Interest, wait::Until};
use crate::buffer::chain::EvBuffer;

impl SharedEvBuffer {
    /// Waits for a change.
    ///
    /// The position is taken by the call, not by the first poll: a change made between the two is told at once. Changes
    /// since then are told as one.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] or [`WaitError::Stream`] if the buffer is closed and nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but the position. To see every change, keep a [`changes`](Self::changes) stream.
    pub fn changed(&self) -> Changed<'_> {
        Changed::new(self)
    }

    /// Returns a stream of the changes from now on, which ends when the buffer is closed.
    ///
    /// It keeps one position and no queue: what happened between two items is merged into one. The sums over all items are
    /// what was added and removed in all.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future of its next item loses nothing: the position moves only with an item.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::StreamExt;
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio_evbuffer::BufferError> {
    /// let buffer = SharedEvBuffer::new();
    /// let mut changes = buffer.changes();
    /// buffer.add(b"12345")?;
    /// buffer.drain(2)?;
    /// buffer.close();
    ///
    /// let change = changes.next().await.unwrap();
    /// assert_eq!((change.added, change.removed, change.after), (5, 2, 3));
    /// assert_eq!(changes.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn changes(&self) -> Changes {
        Changes::new(self)
    }

    /// Waits until `pred` says so, which is asked now and after changes.
    ///
    /// `pred` runs with the buffer locked and must not use handles of this buffer.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] or [`WaitError::Stream`] if the buffer is closed and `pred` does not hold.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it only looks.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"GET / HTTP/1.1\r\n\r\n")?;
    /// buffer.wait_for(|b| b.search(b"\r\n\r\n", ..).is_some()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for(&self, mut pred: impl FnMut(&EvBuffer) -> bool) -> Result<(), WaitError> {
        Until::new(self, |guard| {
            if pred(guard) {
                Ok(Ok(()))
            } else {
                guard.state().end().map(Err).ok_or(Interest::Change)
            }
        })
        .await
    }

    /// Waits until the buffer holds at least `n` bytes.
    ///
    /// A parser that has looked at 100 bytes in vain waits for `readable(101)`: it is not woken for what it has seen.
    /// What fills the buffer and has stopped at the high mark goes on for that, before the length has fallen to the low one.
    ///
    /// # Errors
    ///
    /// [`WaitError::NeverFits`] at once if `n` is above the high mark or the hard cap, and there are not that many;
    /// [`WaitError::Closed`] or [`WaitError::Stream`] if the buffer is closed with fewer bytes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the bytes stay in the buffer.
    pub async fn readable(&self, n: usize) -> Result<(), WaitError> {
        Until::new(self, |guard| {
            let limit = guard.state().limit();
            if guard.len() >= n {
                Ok(Ok(()))
            } else if n > limit {
                Ok(Err(WaitError::NeverFits { limit }))
            } else {
                guard.state().end().map(Err).ok_or(Interest::Len(n))
            }
        })
        .await
    }

    /// Marks the end of what is in the buffer now, for [`drained_to`](Self::drained_to).
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.inner.state.lock().mark()
    }

    /// Waits until all that was in the buffer when `mark` was made has left it.
    ///
    /// Bytes that were prepended later are waited for as well, if they are still there when this looks.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] or [`WaitError::Stream`] if the buffer is closed before that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the mark can be waited for again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio_evbuffer::SharedEvBuffer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let buffer = SharedEvBuffer::new();
    /// buffer.add(b"first")?;
    /// let mark = buffer.mark();
    /// buffer.add(b"second")?;
    ///
    /// buffer.drain(5)?;
    /// buffer.drained_to(mark).await?;
    /// assert_eq!(buffer.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drained_to(&self, mark: Mark) -> Result<(), WaitError> {
        Until::new(self, |guard| {
            if mark.is_reached(guard.state().appended(), guard.len()) {
                Ok(Ok(()))
            } else {
                guard.state().end().map(Err).ok_or(Interest::Left(mark))
            }
        })
        .await
    }
}
