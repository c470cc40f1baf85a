//! Moves the bytes of one direction for one poll.

use std::{
    io,
    mem::MaybeUninit,
    ops::AddAssign,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::{self, RestoreOnPending},
};

use super::{
    Step,
    direction::{Direction, Most, Offer, Settle},
};
use crate::transport::{
    self, Finder, Spliced,
    poll::{BYTES_PER_POLL, Moved, PollWork, retry_interrupted, spend, yield_to_driver},
};

/// A read of so many bytes at most goes by the stack: what the other side takes at once needs no segment.
const SMALL_MAX: usize = 8 << 10;

/// A stream and where its socket is.
pub(super) struct End<'a, S> {
    pub(super) stream: &'a mut S,
    pub(super) finder: Finder<S>,
}

/// What one poll of a direction came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Bytes were read or written.
    pub(super) moved: bool,
    /// There may be more to do at once; the task was woken for it.
    pub(super) more: bool,
}

impl AddAssign for Turn {
    fn add_assign(&mut self, other: Self) {
        self.moved |= other.moved;
        self.more |= other.more;
    }
}

/// One direction at work.
pub(super) struct Pump<'a, R, W> {
    pub(super) direction: &'a mut Direction,
    pub(super) from: End<'a, R>,
    pub(super) to: End<'a, W>,
    pub(super) most: Most,
}

impl<R, W> Pump<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Reads and writes until both would wait, or others should have their turn.
    ///
    /// Reading goes on while a write waits. Every operation that the direction needs to go on has then
    /// been polled to `Pending`, so that it will be woken for each.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, (Step, io::Error)> {
        let mut turn = Turn::default();
        if self.direction.is_done() {
            return Ok(turn);
        }
        let Poll::Ready(budget) = self.budget(cx) else {
            turn.more = true;
            return Ok(turn);
        };
        let (mut work, mut write_waits) = (PollWork::default(), false);
        while !work.must_yield() {
            let (fill, drain) = self.round(cx, write_waits)?;
            write_waits = drain == Moved::Waits;
            work.add_round(fill, drain);
            if fill.is_stuck() && drain.is_stuck() {
                turn.moved = work.any();
                if turn.moved {
                    spend(budget);
                }
                if turn.moved || !self.direction.is_open() {
                    self.direction.rest();
                }
                self.settle(cx)?;
                return Ok(turn);
            }
        }
        spend(budget);
        turn.moved = work.any();
        turn.more = true;
        yield_to_driver(cx);
        Ok(turn)
    }

    /// A turn's share of the task's budget. The sockets of Tokio count each read themselves; other streams may be ready for
    /// ever and know of no budget.
    #[inline]
    fn budget(&self, cx: &mut Context<'_>) -> Poll<Option<RestoreOnPending>> {
        let End { stream, finder } = &self.from;
        match finder.socket(stream) {
            Some(_) => Poll::Ready(None),
            None => coop::poll_proceed(cx).map(Some),
        }
    }

    /// One attempt to read and one to write.
    fn round(
        &mut self,
        cx: &mut Context<'_>,
        write_waits: bool,
    ) -> Result<(Moved, Moved), (Step, io::Error)> {
        let fill = match self.direction.offer(self.most) {
            Some(Offer::Chain(offered)) if self.may_pass(offered) => {
                return self.pass(cx, offered);
            }
            Some(Offer::Chain(offered)) => self.fill_chain(cx, offered),
            Some(Offer::Pipe(limit)) => self.fill_pipe(cx, limit),
            None => Ok(Moved::Nothing),
        };
        let fill = fill.map_err(|error| (Step::Read, error))?;
        let drain = match write_waits {
            true => Moved::Waits,
            false => self.drain(cx).map_err(|error| (Step::Write, error))?,
        };
        Ok((fill, drain))
    }

    /// Whether a read of so many bytes may leave out the chain. It is a read from the stream itself.
    #[inline]
    fn may_pass(&self, offered: usize) -> bool {
        let End { stream, finder } = &self.from;
        offered <= SMALL_MAX && self.direction.chain.is_empty() && !finder.is_inside(stream)
    }

    /// Hands at most `offered` bytes on as they come. The chain, which is empty, gets what is not taken at once.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
    ) -> Result<(Moved, Moved), (Step, io::Error)> {
        let mut room = [const { MaybeUninit::uninit() }; SMALL_MAX];
        let mut message = ReadBuf::uninit(&mut room[..offered]);
        let read = Pin::new(&mut *self.from.stream).poll_read(cx, &mut message);
        let message = message.filled();
        let fill = Moved::from_poll(read.map_ok(|()| message.len()));
        let fill = fill.map_err(|error| (Step::Read, error))?;
        let Moved::Bytes(n) = fill else {
            return Ok((fill, Moved::Nothing));
        };
        self.direction.filled(offered, n);
        if n == 0 {
            return Ok((fill, Moved::Nothing));
        }
        let End { stream, finder } = &mut self.to;
        let written = Moved::from_poll(transport::poll_write(cx, *stream, *finder, message));
        let drain = written.map_err(|error| (Step::Write, error))?;
        self.direction.drained(drain.bytes());
        if drain.bytes() < n {
            let left = self.direction.chain.add(&message[drain.bytes()..]);
            left.map_err(|error| (Step::Read, error.into()))?;
        }
        Ok((fill, drain))
    }

    fn fill_chain(&mut self, cx: &mut Context<'_>, offered: usize) -> io::Result<Moved> {
        let End { stream, finder } = &mut self.from;
        let chain = &mut self.direction.chain;
        let read = if chain.is_empty() {
            transport::poll_fill_flat(cx, *stream, *finder, chain, offered)
        } else {
            // The other side is behind: what it takes shall leave its memory with it.
            transport::poll_fill(cx, *stream, *finder, chain, offered)
        };
        let moved = Moved::from_poll(read)?;
        if let Moved::Bytes(n) = moved {
            self.direction.filled(offered, n);
        }
        Ok(moved)
    }

    fn fill_pipe(&mut self, cx: &mut Context<'_>, limit: usize) -> io::Result<Moved> {
        let End { stream, finder } = &mut self.from;
        let pipe = &mut self.direction.pipe;
        let moved = match transport::poll_splice_in(cx, &**stream, *finder, pipe, limit) {
            Poll::Ready(Ok(Spliced::Bytes(n))) => Moved::Bytes(n),
            Poll::Ready(Ok(Spliced::Full)) => Moved::Nothing,
            Poll::Ready(Ok(Spliced::End)) => {
                self.direction.end();
                Moved::Again
            }
            Poll::Ready(Ok(Spliced::Refused)) => {
                self.direction.mode.refused();
                Moved::Again
            }
            Poll::Ready(Err(error)) => Moved::from_poll(Poll::Ready(Err(error)))?,
            Poll::Pending => Moved::Waits,
        };
        if let Moved::Bytes(n) = moved {
            self.direction.spliced(limit, n);
        }
        Ok(moved)
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> io::Result<Moved> {
        let moved = if !self.direction.chain.is_empty() {
            self.drain_chain(cx)?
        } else if self.direction.held() > 0 {
            self.drain_pipe(cx)?
        } else {
            Moved::Nothing
        };
        if let Moved::Bytes(n) = moved {
            self.direction.drained(n);
        }
        Ok(moved)
    }

    fn drain_chain(&mut self, cx: &mut Context<'_>) -> io::Result<Moved> {
        let End { stream, finder } = &mut self.to;
        let chain = &mut self.direction.chain;
        Moved::from_poll(transport::poll_drain(
            cx,
            *stream,
            *finder,
            chain,
            BYTES_PER_POLL,
        ))
    }

    fn drain_pipe(&mut self, cx: &mut Context<'_>) -> io::Result<Moved> {
        let End { stream, finder } = &mut self.to;
        let Some(pipe) = &mut self.direction.pipe else {
            return Ok(Moved::Nothing);
        };
        let spliced = match transport::poll_splice_out(cx, &**stream, *finder, pipe) {
            Poll::Ready(Ok(Some(n))) => Poll::Ready(Ok(n)),
            Poll::Ready(Ok(None)) => {
                pipe.rescue(&mut self.direction.chain)?;
                self.direction.mode.refused();
                return Ok(Moved::Again);
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        Moved::from_poll(spliced)
    }

    /// Flushes what was written before there was nothing to do, and ends the stream if it is time.
    fn settle(&mut self, cx: &mut Context<'_>) -> Result<(), (Step, io::Error)> {
        let direction = &mut *self.direction;
        if direction.held() > 0 {
            return Ok(());
        }
        let mut to = Pin::new(&mut *self.to.stream);
        if direction.needs_flush {
            match retry_interrupted(to.as_mut().poll_flush(cx), cx) {
                Poll::Ready(Ok(())) => direction.needs_flush = false,
                Poll::Ready(Err(error)) => return Err((Step::Flush, error)),
                Poll::Pending => return Ok(()),
            }
        }
        match direction.settle() {
            Settle::Wait | Settle::Done => {}
            Settle::Finish => direction.finish(),
            Settle::Shutdown => match retry_interrupted(to.poll_shutdown(cx), cx) {
                Poll::Ready(Ok(())) => direction.finish(),
                Poll::Ready(Err(error)) => return Err((Step::Shutdown, error)),
                Poll::Pending => {}
            },
        }
        Ok(())
    }
}
