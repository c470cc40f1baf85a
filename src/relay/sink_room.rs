//! How much a direction reads for a sink that may be full.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Step,
    direction::Direction,
    pump::{Endpoint, Failed, Pump, Room},
};
use crate::transport::{self, Forwarded, Layout, poll::Moved};

/// After one question about the room in a sink at most this much is read without another one.
const ROOM_TRUSTED: usize = 1 << 20;

/// The kernel counts a packet in the send queue until all of it is acknowledged: up to this much is full although it counts
/// as room.
const PARTLY_ACKNOWLEDGED: usize = 64 << 10;

/// A read of at least this many bytes is made shorter if a sink has no room for more. What it would leave in the source costs
/// more calls then: looking at it, and discarding it there.
const SHORTENED_READ: usize = 64 << 10;

/// Reads of at most this many bytes need no room in a sink.
const UNCHECKED_READ: usize = 16 << 10;

/// What is read ahead of a sink that is full.
const HELD_BEFORE_FULL_SINK: usize = 1 << 10;

impl<R, W> Pump<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Returns how much of a read of `want` bytes the sink takes.
    pub(super) fn sink_room(&mut self, want: usize) -> Room {
        let Endpoint { stream, finder } = &self.to;
        if self.direction.sink_room as usize >= want || self.stall_allowance() > 0 {
            return Room::For(want);
        }
        let Some(room) = transport::send_room(&**stream, *finder) else {
            return Room::For(want);
        };
        let sure = room.saturating_sub(PARTLY_ACKNOWLEDGED).min(ROOM_TRUSTED);
        self.direction.sink_room = sure as u32;
        let Endpoint { stream, finder } = &self.from;
        let leaves_the_rest = transport::has_send_queue(&**stream, *finder)
            && self.direction.held() == 0
            && !self.direction.hang_up.is_cleared();
        match () {
            () if sure >= want.min(SHORTENED_READ) => Room::For(want.min(sure)),
            () if leaves_the_rest => Room::Perhaps(want),
            () => Room::For(want.min(room.max(UNCHECKED_READ))),
        }
    }

    /// Returns the bytes to read while the sink takes nothing. The send queue of a socket holds enough for the time
    /// until the task has its turn, so what is read ahead of it only costs memory.
    pub(super) fn stall_allowance(&self) -> usize {
        let Endpoint { stream, finder } = &self.to;
        match !self.limits.reads_ahead() && transport::has_send_queue(&**stream, *finder) {
            true => 0,
            false => self.limits.stall(),
        }
    }

    /// Sends at most `max` of the bytes that the source has received, and reads only what the sink has taken of them. The rest
    /// stays in the kernel of the source, where it holds up the peer and costs no memory here.
    ///
    /// If the sink takes nothing, a few bytes are read, so that they count as held for it.
    pub(super) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Result<(Moved, Moved), Failed> {
        let (from, to) = (&mut self.from, &self.to);
        let forwarded = transport::forward(
            cx,
            (&*from.stream, from.finder),
            (&*to.stream, to.finder),
            max,
        );
        match forwarded {
            Ok(Forwarded::Bytes { seen, taken }) => {
                self.direction.forwarded(max, seen, taken);
                Ok((Moved::Bytes(taken), Moved::Bytes(taken)))
            }
            Ok(Forwarded::End) => {
                self.direction.source_has_ended();
                Ok((Moved::Again, Moved::Nothing))
            }
            Ok(Forwarded::SourceWaits) => Ok((Moved::Waits, Moved::Nothing)),
            Ok(Forwarded::SinkWaits) => {
                let Direction { chain, hang_up, .. } = &mut *self.direction;
                let (n, layout) = (HELD_BEFORE_FULL_SINK.min(max), Layout::OneBlock);
                let read =
                    transport::poll_fill(cx, from.stream, from.finder, chain, n, layout, hang_up);
                let read = Moved::from_poll(read).map_err(|error| (Step::Read, error))?;
                if let Moved::Bytes(n) = read {
                    self.direction.read_ahead(n);
                }
                self.direction.sink_waits(0);
                Ok((read, Moved::Waits))
            }
            Ok(Forwarded::WriteFailed(error)) => {
                let written = Moved::from_poll(Poll::Ready(Err(error)));
                let written = written.map_err(|error| (Step::Write, error))?;
                Ok((Moved::Nothing, written))
            }
            Err(error) => {
                let read = Moved::from_poll(Poll::Ready(Err(error)));
                let read = read.map_err(|error| (Step::Read, error))?;
                Ok((read, Moved::Nothing))
            }
        }
    }
}
