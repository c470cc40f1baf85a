//! Two ends that are joined in memory: segments change hands, nothing is copied.

use std::{
    any::{Any, TypeId},
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::endpoint::Wire;
use crate::{EvBuffer, sync::Lock};

/// The most bytes on their way from one end to the other.
const UNDERWAY: usize = 64 * 1024;

/// One end of a pair.
pub(super) struct PairEnd {
    from: Arc<Way>,
    to: Arc<Way>,
}

/// What is underway in one direction.
struct Way(Lock<State>);

#[derive(Default)]
struct State {
    chain: EvBuffer,
    /// Nothing comes after it.
    ended: bool,
    /// Nobody takes it.
    forsaken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Makes both ends.
pub(super) fn ends() -> (PairEnd, PairEnd) {
    let way = || Arc::new(Way(Lock::new(State::default())));
    let (there, back) = (way(), way());
    let near = PairEnd {
        from: Arc::clone(&back),
        to: Arc::clone(&there),
    };
    (
        near,
        PairEnd {
            from: there,
            to: back,
        },
    )
}

impl Way {
    /// Nothing more is written.
    fn end(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        let waker = state.reader.take();
        drop(state);
        wake(waker);
    }

    /// Nothing more is read.
    fn forsake(&self) {
        let mut state = self.0.lock();
        state.forsaken = true;
        let left = std::mem::take(&mut state.chain);
        let waker = state.writer.take();
        drop(state);
        drop(left);
        wake(waker);
    }
}

impl Wire for PairEnd {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.from.0.lock();
        if state.chain.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(0));
            }
            state.chain.shrink_to_fit();
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = state.chain.remove_buffer(chain, max)?;
        let waker = state.writer.take();
        drop(state);
        wake(waker);
        Poll::Ready(Ok(n))
    }

    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.to.0.lock();
        if state.forsaken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = UNDERWAY.saturating_sub(state.chain.len());
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = chain.remove_buffer(&mut state.chain, room.min(max))?;
        let waker = state.reader.take();
        drop(state);
        wake(waker);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.end();
        Poll::Ready(Ok(()))
    }

    fn needs_flush(&self) -> bool {
        false
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
        self.to.end();
        self.from.forsake();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
