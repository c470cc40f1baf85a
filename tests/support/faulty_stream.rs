//! A fake stream with configurable faults: short reads and writes, `Pending`, interruptions, errors.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    data::leak,
    sim::{Sim, Source},
};

/// What a read returns after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Eof,
    Error(io::ErrorKind),
}

/// The faults of a stream. The default has none.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The maximum number of bytes of one read or write; the actual number is random.
    pub piece: usize,
    /// One operation in `pending` is `Pending` first; zero for none.
    pub pending: usize,
    /// One operation in `interrupted` fails with `Interrupted`; zero for none.
    pub interrupted: usize,
    /// What a read returns after the last byte.
    pub ending: Ending,
    /// Writes fail with this error after this many bytes; `Ok` makes them return zero.
    pub write_fails: Option<(usize, Result<(), io::ErrorKind>)>,
    /// Flush fails with this error.
    pub flush_fails: Option<io::ErrorKind>,
    /// Shutdown fails with this error.
    pub shutdown_fails: Option<io::ErrorKind>,
    /// Whether writes are vectored.
    pub vectored: bool,
    /// Reads wait until this many bytes were written.
    pub answers_after: usize,
}

impl Faults {
    pub const NONE: Self = Self {
        piece: usize::MAX,
        pending: 0,
        interrupted: 0,
        ending: Ending::Eof,
        write_fails: None,
        flush_fails: None,
        shutdown_fails: None,
        vectored: true,
        answers_after: 0,
    };
}

impl Default for Faults {
    fn default() -> Self {
        Self::NONE
    }
}

/// What a test can see of a stream.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub written: Vec<u8>,
    /// The length of `written` at the last flush.
    pub flushed: usize,
    pub shut_down: bool,
    /// How many bytes of the input were read.
    pub read: usize,
}

/// A stream that reads from `input` and records what is written to it.
#[derive(Debug)]
pub struct FaultyStream {
    sim: Sim,
    id: usize,
    input: Vec<u8>,
    faults: Faults,
    /// Set for an operation that returned `Pending`: it succeeds the next time.
    waited: [bool; 4],
    seen: Arc<Mutex<Observed>>,
}

/// The operations of a stream. Each waits for its own event.
#[derive(Clone, Copy)]
enum Op {
    Read,
    Write,
    Flush,
    Shutdown,
}

impl FaultyStream {
    /// Two streams of one simulation must have different `id`s.
    pub fn new(sim: &Sim, id: usize, input: &[u8], faults: Faults) -> Self {
        Self {
            sim: sim.clone(),
            id,
            input: input.to_vec(),
            faults,
            waited: [false; 4],
            seen: Arc::default(),
        }
    }

    /// Returns a function that reads the record, also after the stream was dropped.
    pub fn seen(&self) -> impl Fn() -> Observed + use<> {
        let seen = self.seen.clone();
        move || seen.lock().unwrap().clone()
    }

    /// Decides at random whether `op` waits or is interrupted.
    fn poll_chance(&mut self, cx: &Context<'_>, op: Op) -> Poll<io::Result<()>> {
        let happens = |one_in: usize| one_in > 0 && self.sim.random(one_in) == 0;
        if happens(self.faults.interrupted) {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        if !std::mem::take(&mut self.waited[op as usize]) && happens(self.faults.pending) {
            self.waited[op as usize] = true;
            return self.wait(cx, op);
        }
        Poll::Ready(Ok(()))
    }

    fn wait<T>(&self, cx: &Context<'_>, op: Op) -> Poll<T> {
        self.sim.wait(Source(self.id * 4 + op as usize), cx);
        Poll::Pending
    }

    fn piece(&self, available: usize) -> usize {
        match available.min(self.faults.piece) {
            0 => 0,
            max if self.faults.piece == usize::MAX => max,
            max => 1 + self.sim.random(max),
        }
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Read))?;
        let mut seen = this.seen.lock().unwrap();
        if seen.written.len() < this.faults.answers_after {
            drop(seen);
            return this.wait(cx, Op::Read);
        }
        let rest = &this.input[seen.read..];
        if rest.is_empty() {
            return Poll::Ready(match this.faults.ending {
                Ending::Eof => Ok(()),
                Ending::Error(kind) => Err(kind.into()),
            });
        }
        let n = this.piece(rest.len().min(buf.remaining()));
        buf.put_slice(&rest[..n]);
        seen.read += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FaultyStream {
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
        assert!(!seen.shut_down, "write after shutdown");
        let mut max: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(max > 0, "empty write");
        if let Some((after, failure)) = this.faults.write_fails {
            if seen.written.len() >= after {
                return Poll::Ready(failure.map(|()| 0).map_err(Into::into));
            }
            max = max.min(after - seen.written.len());
        }
        let n = this.piece(max);
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        seen.written.extend(bytes.take(n));
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.faults.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Flush))?;
        if let Some(kind) = this.faults.flush_fails {
            return Poll::Ready(Err(kind.into()));
        }
        let mut seen = this.seen.lock().unwrap();
        seen.flushed = seen.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chance(cx, Op::Shutdown))?;
        if let Some(kind) = this.faults.shutdown_fails {
            return Poll::Ready(Err(kind.into()));
        }
        this.seen.lock().unwrap().shut_down = true;
        Poll::Ready(Ok(()))
    }
}

/// A stream that puts another buffer in the place of the one it was given to read into.
pub struct Exchanging;

impl AsyncRead for Exchanging {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        *buf = ReadBuf::new(leak([7; 100]));
        buf.set_filled(100);
        Poll::Ready(Ok(()))
    }
}
