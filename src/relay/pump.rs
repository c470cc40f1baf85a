//! Moves the bytes of one direction during one poll.

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
    config::Limits,
    direction::{Direction, NextStep, Offer},
};
use crate::{
    buffer::chain::EvBuffer,
    segment,
    transport::{
        self, Finder, Layout, Spliced,
        poll::{Moved, PollWork, retry_interrupted, spend, yield_to_driver},
    },
};

/// Reads of at most this many bytes go through the stack: what the sink takes at once needs no segment.
const STACK_READ_MAX: usize = 8 << 10;

/// The most bytes of one write: more than a chain in memory holds. A range of a file costs no copy, and a task that sends one
/// yields after each write.
const WRITE_MAX: usize = 1 << 20;

/// The size of a read whose bytes are discarded.
const DISCARD_LEN: usize = 64 << 10;

/// How much of a read the sink takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room {
    /// All of this many bytes.
    For(usize),
    /// All of these, or a part, or nothing.
    Perhaps(usize),
}

/// A stream and how to find its socket.
pub(crate) struct Endpoint<'a, S> {
    pub(crate) stream: &'a mut S,
    pub(crate) finder: Finder<'a, S>,
}

/// The outcome of one poll of a direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    /// Bytes on their way to the sink have moved.
    pub(crate) moved: bool,
    /// There may be more to do at once; the task was woken for it.
    pub(crate) more: bool,
}

impl AddAssign for Turn {
    fn add_assign(&mut self, other: Self) {
        self.moved |= other.moved;
        self.more |= other.more;
    }
}

/// An operation that failed, and its error.
pub(crate) type Failed = (Step, io::Error);

/// Reads and writes until both would wait, or until the task has to yield.
///
/// Reading continues while a write waits. Every operation that the direction needs was then polled to `Pending`, so each of
/// them wakes the task.
pub(super) fn poll_turn<R, W>(
    cx: &mut Context<'_>,
    direction: &mut Direction,
    from: Endpoint<'_, R>,
    to: Endpoint<'_, W>,
    limits: Limits,
) -> Result<Turn, Failed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut pump = Pump {
        direction,
        from,
        to,
        limits,
        is_drained: false,
    };
    pump.poll_turn(cx)
}

/// One direction and its two streams during one turn.
pub(super) struct Pump<'a, R, W> {
    pub(super) direction: &'a mut Direction,
    pub(super) from: Endpoint<'a, R>,
    pub(super) to: Endpoint<'a, W>,
    pub(super) limits: Limits,
    /// The last read has emptied the source, which is a socket, and the sink has taken everything.
    is_drained: bool,
}

impl<R, W> Pump<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Failed> {
        self.direction.waits_for_source = false;
        let Endpoint { stream, finder } = &self.from;
        self.direction.look_at_source(&**stream, *finder);
        if self.direction.is_done() {
            return self.discard(cx);
        }
        let mut turn = Turn::default();
        let Poll::Ready(budget) = self.poll_budget(cx) else {
            turn.more = true;
            return Ok(turn);
        };
        let (mut work, mut write_waits) = (PollWork::default(), false);
        while !work.must_yield() {
            let (mut read, written) = self.round(cx, write_waits)?;
            write_waits = written == Moved::Waits;
            work.add_round(read, written);
            let mut is_stuck = read.is_stuck() && written.is_stuck();
            if self.is_drained {
                self.is_drained = false;
                let Endpoint { stream, finder } = &self.from;
                if transport::poll_readable(cx, &**stream, *finder).is_pending() {
                    (read, is_stuck) = (Moved::Waits, true);
                }
            }
            if is_stuck {
                if read == Moved::Waits && self.direction.found_nothing() {
                    turn.more = true;
                    yield_to_driver(cx);
                }
                turn.moved = work.any();
                if turn.moved {
                    spend(budget);
                }
                if turn.moved || !self.direction.is_open() {
                    self.direction.release_idle();
                }
                if read == Moved::Nothing && self.direction.watches_source {
                    self.watch_source(cx)?;
                }
                self.flush_and_shutdown(cx)?;
                let Endpoint { stream, finder } = &self.from;
                if read == Moved::Waits && self.direction.gather(cx, &**stream, *finder, work.read)
                {
                    turn.more = true;
                    yield_to_driver(cx);
                }
                // Without budget, the read was not tried.
                self.direction.waits_for_source = read == Moved::Waits
                    && !turn.more
                    && self.direction.is_quiet()
                    && !self.direction.gathers()
                    && coop::has_budget_remaining();
                return Ok(turn);
            }
        }
        spend(budget);
        turn.moved = work.any();
        turn.more = true;
        yield_to_driver(cx);
        Ok(turn)
    }

    /// Takes a unit of the task's budget. Tokio's sockets count each read themselves; other streams may always be ready
    /// and ignore the budget.
    #[inline]
    fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<Option<RestoreOnPending>> {
        let Endpoint { stream, finder } = &self.from;
        match finder.socket(stream) {
            Some(_) => Poll::Ready(None),
            None => coop::poll_proceed(cx).map(Some),
        }
    }

    /// Makes one attempt to read and one to write.
    fn round(&mut self, cx: &mut Context<'_>, write_waits: bool) -> Result<(Moved, Moved), Failed> {
        let read = match self.direction.offer(self.limits) {
            Some(Offer::Chain(offered)) if self.fits_the_stack(offered) => {
                return self.copy_via_stack(cx, offered);
            }
            Some(Offer::Chain(offered)) => match self.sink_room(offered) {
                Room::For(n) => self.fill_chain(cx, n),
                Room::Perhaps(n) => return self.forward(cx, n),
            },
            Some(Offer::Pipe(limit)) => self.fill_pipe(cx, limit),
            None => Ok(Moved::Nothing),
        };
        let read = read.map_err(|error| (Step::Read, error))?;
        let written = match write_waits {
            true => Moved::Waits,
            false => self.write_held(cx).map_err(|error| (Step::Write, error))?,
        };
        // A write that was cut short shows, too, that the sink takes no more.
        if written == Moved::Waits || (written.bytes() > 0 && self.direction.held() > 0) {
            self.direction.sink_waits(self.stall_allowance());
        }
        Ok((read, written))
    }

    /// Returns whether a read of this many bytes may bypass the chain. It is a read from the stream itself.
    #[inline]
    fn fits_the_stack(&self, offered: usize) -> bool {
        let Endpoint { stream, finder } = &self.from;
        offered <= STACK_READ_MAX
            && self.direction.chain.is_empty()
            && !self.direction.hang_up.is_cleared()
            && transport::reads_plainly(&**stream, *finder)
    }

    /// Reads at most `offered` bytes and writes them at once. The chain, which is empty, gets what the sink does not take.
    fn copy_via_stack(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
    ) -> Result<(Moved, Moved), Failed> {
        let mut room = [const { MaybeUninit::uninit() }; STACK_READ_MAX];
        let mut message = ReadBuf::uninit(&mut room[..offered]);
        let start = message.filled().as_ptr();
        let polled = Pin::new(&mut *self.from.stream).poll_read(cx, &mut message);
        let read = Moved::from_poll(polled.map_ok(|()| message.filled().len()));
        let read = read.map_err(|error| (Step::Read, error))?;
        let Moved::Bytes(n) = read else {
            return Ok((read, Moved::Nothing));
        };
        let message =
            segment::filled_in_place(&message, start).map_err(|error| (Step::Read, error))?;
        self.direction.filled(offered, n);
        if n == 0 {
            return Ok((read, Moved::Nothing));
        }
        let Endpoint { stream, finder } = &mut self.to;
        let polled = transport::poll_write(cx, *stream, *finder, message);
        let written = Moved::from_poll(polled);
        let rest = match &written {
            Ok(written) => &message[written.bytes()..],
            Err(_) => message,
        };
        // Also after an error, so that the count of what was read and not delivered is right.
        let kept = match rest.is_empty() {
            true => Ok(()),
            false => self.direction.chain.add(rest),
        };
        let written = written.map_err(|error| (Step::Write, error))?;
        kept.map_err(|error| (Step::Read, error.into()))?;
        if written.bytes() > 0 {
            self.direction.count_written(written.bytes());
        }
        if !self.direction.chain.is_empty() {
            self.direction.sink_waits(self.stall_allowance());
        } else {
            // After a short read Tokio knows that the socket is empty.
            let Endpoint { stream, finder } = &self.from;
            self.is_drained = n < offered && finder.socket(stream).is_some();
        }
        Ok((read, written))
    }

    fn fill_chain(&mut self, cx: &mut Context<'_>, offered: usize) -> io::Result<Moved> {
        let Endpoint { stream, finder } = &mut self.from;
        let Direction { chain, hang_up, .. } = &mut *self.direction;
        // While the sink is behind, each segment that it takes releases its memory.
        let layout = match chain.is_empty() {
            true => Layout::OneBlock,
            false => Layout::Segments,
        };
        let polled = transport::poll_fill(cx, *stream, *finder, chain, offered, layout, hang_up);
        let moved = Moved::from_poll(polled)?;
        if let Moved::Bytes(n) = moved {
            self.direction.filled(offered, n);
        }
        Ok(moved)
    }

    fn fill_pipe(&mut self, cx: &mut Context<'_>, limit: usize) -> io::Result<Moved> {
        let Endpoint { stream, finder } = &mut self.from;
        let gathers = self.direction.gathers();
        let Direction { pipe, hang_up, .. } = &mut *self.direction;
        let polled =
            transport::poll_splice_in(cx, &**stream, *finder, pipe, limit, hang_up, gathers);
        let moved = match polled {
            Poll::Ready(Ok(Spliced::Bytes(n))) => Moved::Bytes(n),
            Poll::Ready(Ok(Spliced::Full)) => Moved::Nothing,
            Poll::Ready(Ok(Spliced::End)) => {
                self.direction.source_has_ended();
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

    fn write_held(&mut self, cx: &mut Context<'_>) -> io::Result<Moved> {
        let moved = if !self.direction.chain.is_empty() {
            self.write_chain(cx)?
        } else if self.direction.held() > 0 {
            self.write_pipe(cx)?
        } else {
            Moved::Nothing
        };
        if let Moved::Bytes(n) = moved {
            self.direction.count_written(n);
        }
        Ok(moved)
    }

    fn write_chain(&mut self, cx: &mut Context<'_>) -> io::Result<Moved> {
        let Endpoint { stream, finder } = &mut self.to;
        let Direction { chain, loading, .. } = &mut *self.direction;
        let polled = transport::poll_write_from(cx, *stream, *finder, chain, WRITE_MAX, loading);
        Moved::from_poll(polled)
    }

    fn write_pipe(&mut self, cx: &mut Context<'_>) -> io::Result<Moved> {
        let Endpoint { stream, finder } = &mut self.to;
        let Some(pipe) = &mut self.direction.pipe else {
            return Ok(Moved::Nothing);
        };
        match transport::poll_splice_out(cx, &**stream, *finder, pipe) {
            Poll::Ready(Ok(Some(n))) => Ok(Moved::Bytes(n)),
            Poll::Ready(Ok(None)) => {
                // This sink does not take a splice: copy what the pipe holds.
                self.direction.return_pipe()?;
                Ok(Moved::Again)
            }
            Poll::Ready(Err(error)) => Moved::from_poll(Poll::Ready(Err(error))),
            Poll::Pending => Ok(Moved::Waits),
        }
    }

    /// Notices a reset of the source while it is not read.
    fn watch_source(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let Endpoint { stream, finder } = &self.from;
        let hang_up = &mut self.direction.hang_up;
        match transport::poll_hang_up(cx, &**stream, *finder, hang_up) {
            Poll::Ready(Err(error)) => return Err((Step::Read, error)),
            Poll::Ready(Ok(())) => self.direction.end_is_near = true,
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Reads what an owned source still sends, and drops it: a source that is blocked on its output would not read either.
    fn discard(&mut self, cx: &mut Context<'_>) -> Result<Turn, Failed> {
        let Endpoint { stream, finder } = &mut self.from;
        let mut turn = Turn::default();
        if !self.direction.discards() || !finder.owns(stream) {
            return Ok(turn);
        }
        let mut work = PollWork::default();
        while !work.must_yield() {
            let mut chain = EvBuffer::new();
            let polled = transport::poll_fill(
                cx,
                *stream,
                *finder,
                &mut chain,
                DISCARD_LEN,
                Layout::OneBlock,
                &mut self.direction.hang_up,
            );
            let read = Moved::from_poll(polled).map_err(|error| (Step::Read, error))?;
            match read {
                Moved::Bytes(0) => {
                    self.direction.source_has_ended();
                    return Ok(turn);
                }
                Moved::Waits => return Ok(turn),
                read => work.add_round(read, Moved::Nothing),
            }
        }
        turn.more = true;
        yield_to_driver(cx);
        Ok(turn)
    }

    /// Flushes what was written once nothing is held, and then ends the sink if it is time.
    fn flush_and_shutdown(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
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
        match direction.next_step() {
            NextStep::Read | NextStep::None => {}
            NextStep::Finish => direction.finish(),
            NextStep::Shutdown => match retry_interrupted(to.poll_shutdown(cx), cx) {
                Poll::Ready(Ok(())) => direction.finish(),
                Poll::Ready(Err(error)) => return Err((Step::Shutdown, error)),
                Poll::Pending => {}
            },
        }
        Ok(())
    }
}
