//! A stream that misbehaves in every way that a stream may.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::world::{Source, World};

/// How a stream ends what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Eof,
    Error(io::ErrorKind),
}

/// How a stream treats those who use it. The default behaves well.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// The most bytes given or taken at once; the real number is random.
    pub piece: usize,
    /// One operation in so many is `Pending` first; zero for none.
    pub pending: usize,
    /// One operation in so many is interrupted; zero for none.
    pub interrupted: usize,
    /// What comes after the last byte to read.
    pub ending: Ending,
    /// Writing fails with this after so many bytes; `Ok` is a write of nothing.
    pub write_fails: Option<(usize, Result<(), io::ErrorKind>)>,
    /// What flushing and shutting down return.
    pub flush_fails: Option<io::ErrorKind>,
    pub shutdown_fails: Option<io::ErrorKind>,
    /// Takes several slices at once.
    pub vectored: bool,
    /// Reads nothing before so many bytes were written to it.
    pub answers_after: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            piece: usize::MAX,
            pending: 0,
            interrupted: 0,
            ending: Ending::Eof,
            write_fails: None,
            flush_fails: None,
            shutdown_fails: None,
            vectored: true,
            answers_after: 0,
        }
    }
}

/// What was done to a stream.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub written: Vec<u8>,
    /// How much of it was flushed.
    pub flushed: usize,
    pub shut_down: bool,
    pub given: usize,
}

/// A stream that gives `input`, and keeps what is written to it where the test can see it.
#[derive(Debug)]
pub struct Fake {
    world: World,
    id: usize,
    input: Vec<u8>,
    manners: Manners,
    /// An operation that was `Pending` once goes through the next time.
    waited: [bool; 4],
    seen: Arc<Mutex<Seen>>,
}

/// The operations of a stream, each of which is waited for apart.
#[derive(Clone, Copy)]
enum Op {
    Read,
    Write,
    Flush,
    Shutdown,
}

impl Fake {
    /// Two fakes of one world must have different `id`s.
    pub fn new(world: &World, id: usize, input: &[u8], manners: Manners) -> Self {
        Self {
            world: world.clone(),
            id,
            input: input.to_vec(),
            manners,
            waited: [false; 4],
            seen: Arc::default(),
        }
    }

    /// Sees what was done, also when the stream itself is gone.
    pub fn seen(&self) -> impl Fn() -> Seen + use<> {
        let seen = self.seen.clone();
        move || seen.lock().unwrap().clone()
    }

    /// Lets chance decide whether `op` has to wait or is interrupted.
    fn poll_chance(&mut self, cx: &Context<'_>, op: Op) -> Poll<io::Result<()>> {
        let happens = |one_in: usize| one_in > 0 && self.world.random(one_in) == 0;
        if happens(self.manners.interrupted) {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        if !std::mem::take(&mut self.waited[op as usize]) && happens(self.manners.pending) {
            self.waited[op as usize] = true;
            return self.wait(cx, op);
        }
        Poll::Ready(Ok(()))
    }

    fn wait<T>(&self, cx: &Context<'_>, op: Op) -> Poll<T> {
        self.world.wait(Source(self.id * 4 + op as usize), cx);
        Poll::Pending
    }

    fn piece(&self, available: usize) -> usize {
        match available.min(self.manners.piece) {
            0 => 0,
            most if self.manners.piece == usize::MAX => most,
            most => 1 + self.world.random(most),
        }
    }
}

impl AsyncRead for Fake {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Read))?;
        let mut seen = this.seen.lock().unwrap();
        if seen.written.len() < this.manners.answers_after {
            drop(seen);
            return this.wait(cx, Op::Read);
        }
        let rest = &this.input[seen.given..];
        if rest.is_empty() {
            return Poll::Ready(match this.manners.ending {
                Ending::Eof => Ok(()),
                Ending::Error(kind) => Err(kind.into()),
            });
        }
        let n = this.piece(rest.len().min(buf.remaining()));
        buf.put_slice(&rest[..n]);
        seen.given += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Fake {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Write))?;
        let mut seen = this.seen.lock().unwrap();
        assert!(!seen.shut_down, "a write after the end of stream");
        let mut most: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(most > 0, "a write of nothing");
        if let Some((after, failure)) = this.manners.write_fails {
            if seen.written.len() >= after {
                return Poll::Ready(failure.map(|()| 0).map_err(Into::into));
            }
            most = most.min(after - seen.written.len());
        }
        let n = this.piece(most);
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        seen.written.extend(bytes.take(n));
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.manners.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Flush))?;
        if let Some(kind) = this.manners.flush_fails {
            return Poll::Ready(Err(kind.into()));
        }
        let mut seen = this.seen.lock().unwrap();
        seen.flushed = seen.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Shutdown))?;
        if let Some(kind) = this.manners.shutdown_fails {
            return Poll::Ready(Err(kind.into()));
        }
        this.seen.lock().unwrap().shut_down = true;
        Poll::Ready(Ok(()))
    }
}
