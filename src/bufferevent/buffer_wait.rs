//! Waits for a shared buffer that a poll function owns.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{SharedEvBuffer, shared::WaitError};

type Wait = Pin<Box<dyn Future<Output = Result<(), WaitError>> + Send>>;

/// A wait for bytes in a buffer or for room, which is polled repeatedly.
pub(crate) struct BufferWait {
    buffer: SharedEvBuffer,
    wait: Option<Wait>,
}

impl BufferWait {
    pub(crate) fn new(buffer: SharedEvBuffer) -> Self {
        Self { buffer, wait: None }
    }

    /// Waits until there is a byte. Fails if there is none and will be none.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WaitError>> {
        let buffer = &self.buffer;
        if self.wait.is_none() && !buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let wait = self.wait.get_or_insert_with(|| {
            let buffer = buffer.clone();
            Box::pin(async move { buffer.readable(1).await })
        });
        let waited = ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(waited)
    }

    /// Waits until the buffer is not above its watermarks. Fails if it was closed.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WaitError>> {
        let buffer = &self.buffer;
        if self.wait.is_none() && !buffer.is_high() && !buffer.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let wait = self.wait.get_or_insert_with(|| {
            let buffer = buffer.clone();
            Box::pin(async move {
                loop {
                    let changed = buffer.changed();
                    if buffer.is_closed() {
                        return Err(WaitError::Closed);
                    }
                    if !buffer.is_high() {
                        return Ok(());
                    }
                    changed.await?;
                }
            })
        });
        let waited = ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(waited)
    }
}
