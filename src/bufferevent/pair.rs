//! Two ends that are joined in memory. Segments move from one to the other; nothing is copied.

use std::{
    any::{Any, TypeId},
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::endpoint::Endpoint;
use crate::{EvBuffer, sync::Lock};

/// The most bytes in transit from one end to the other.
const IN_TRANSIT_MAX: usize = 64 * 1024;

/// One end of a pair.
pub(super) struct PairEnd {
    incoming: Arc<Channel>,
    outgoing: Arc<Channel>,
}

/// One direction of a pair.
struct Channel(Lock<State>);

#[derive(Default)]
struct State {
    chain: EvBuffer,
    end: Option<WriterEnd>,
    /// The reader was dropped.
    canceled: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How the writer of a channel ended it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterEnd {
    InOrder,
    /// The reader gets an error after the bytes that are in transit.
    Reset,
}

impl State {
    /// Returns how the writer has ended, as the reader sees it.
    fn end(&self) -> Option<io::Result<()>> {
        Some(match self.end? {
            WriterEnd::InOrder => Ok(()),
            WriterEnd::Reset => Err(io::ErrorKind::ConnectionReset.into()),
        })
    }
}

/// Makes both ends.
pub(super) fn ends() -> (PairEnd, PairEnd) {
    let channel = || Arc::new(Channel(Lock::new(State::default())));
    let (forth, back) = (channel(), channel());
    let near = PairEnd {
        incoming: Arc::clone(&back),
        outgoing: Arc::clone(&forth),
    };
    let far = PairEnd {
        incoming: forth,
        outgoing: back,
    };
    (near, far)
}

impl Channel {
    /// Ends the channel, after the bytes that are in transit. The first end counts.
    fn end(&self, end: WriterEnd) {
        let mut state = self.0.lock();
        state.end.get_or_insert(end);
        let waker = state.reader.take();
        drop(state);
        wake(waker);
    }

    /// Drops what is in transit, and makes writing fail.
    fn cancel(&self) {
        let mut state = self.0.lock();
        state.canceled = true;
        let unread = std::mem::take(&mut state.chain);
        let waker = state.writer.take();
        drop(state);
        wake(waker);
        drop(unread); // user code, which may panic: last
    }
}

impl Endpoint for PairEnd {
    fn runs_user_code() -> bool {
        false
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        _block: usize,
    ) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let mut state = self.incoming.0.lock();
        if state.chain.is_empty() {
            if let Some(end) = state.end() {
                return Poll::Ready(end.map(|()| 0));
            }
            state.chain.shrink_to_fit();
            let replaced = state.reader.replace(waker);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        let n = state.chain.remove_buffer(chain, max)?;
        let writer = state.writer.take();
        drop(state);
        wake(writer);
        Poll::Ready(Ok(n))
    }

    fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let mut state = self.outgoing.0.lock();
        if state.canceled {
            drop(state);
            // As on a socket, a write returns the reset, too.
            let is_reset = matches!(self.incoming.0.lock().end, Some(WriterEnd::Reset));
            return Poll::Ready(Err(match is_reset {
                true => io::ErrorKind::ConnectionReset.into(),
                false => io::ErrorKind::BrokenPipe.into(),
            }));
        }
        let room = IN_TRANSIT_MAX.saturating_sub(state.chain.len());
        if room == 0 {
            let replaced = state.writer.replace(waker);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        let n = chain.remove_buffer(&mut state.chain, room.min(max))?;
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.end(WriterEnd::InOrder);
        Poll::Ready(Ok(()))
    }

    fn needs_flush(&self) -> bool {
        false
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = cx.waker().clone();
        let mut state = self.incoming.0.lock();
        if let Some(end) = state.end() {
            return Poll::Ready(end);
        }
        let replaced = state.reader.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    fn has_unread(&self) -> bool {
        !self.incoming.0.lock().chain.is_empty()
    }

    fn unacknowledged(&self) -> Option<usize> {
        None
    }

    fn reset_on_drop(&mut self) {
        self.outgoing.end(WriterEnd::Reset);
    }

    fn stream_type(&self) -> TypeId {
        TypeId::of::<Self>()
    }

    fn into_any(self) -> Box<dyn Any + Send> {
        Box::new(self)
    }
}

impl Drop for PairEnd {
    fn drop(&mut self) {
        self.outgoing.end(WriterEnd::InOrder);
        self.incoming.cancel();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
