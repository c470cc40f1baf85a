//! Moves bytes from socket to socket through a pipe inside the kernel, without a copy through this process.

use std::{
    io,
    task::{Context, Poll, ready},
};

use tokio::io::Interest;

use super::pipe::{Pipe, peek};
use crate::transport::{HangUp, Spliced, lookup::Socket};

impl Socket<'_> {
    /// Moves what has arrived to the pipe in `slot`, up to `limit` bytes in it. Leases a pipe if there is none.
    ///
    /// With `short_is_all`, a splice of less than the limit ends the readiness of the socket, and saves the attempt that
    /// finds nothing. The caller comes back soon in any case: what a pipe full of small pieces has left waits for that.
    pub(crate) fn poll_splice_in(
        self,
        cx: &mut Context<'_>,
        slot: &mut Option<Pipe>,
        limit: usize,
        hang_up: &mut HangUp,
        short_is_all: bool,
    ) -> Poll<io::Result<Spliced>> {
        let is_all = |filled: Spliced, room: usize| matches!(filled, Spliced::Bytes(n) if short_is_all && n < room);
        loop {
            let asks_kernel = hang_up.is_cleared();
            if !asks_kernel {
                ready!(self.poll_ready(cx, Interest::READABLE))?;
            }
            let first = slot.is_none();
            if first {
                *slot = Pipe::lease();
            }
            let Some(pipe) = slot else {
                return Poll::Ready(Ok(Spliced::Refused));
            };
            let room = limit.saturating_sub(pipe.len());
            let mut fill = |socket: &socket2::Socket| match pipe.fill(socket, limit) {
                // The socket is readable, but there is nothing to splice: that is an urgent mark.
                Err(error) if first && would_block(&error) && matches!(peek(socket), Ok(1)) => {
                    Ok(Spliced::Refused)
                }
                filled => filled,
            };
            if asks_kernel {
                match fill(&self.sock_ref()) {
                    // The socket is empty: from now on the kernel reports changes.
                    Err(error) if would_block(&error) => hang_up.found_empty(),
                    Ok(filled) => {
                        if is_all(filled, room) {
                            hang_up.found_empty();
                        }
                        return Poll::Ready(Ok(filled));
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            } else {
                let mut outcome = Spliced::Full;
                let moved = self.transfer(Interest::READABLE, |socket| {
                    outcome = fill(socket)?;
                    // A short splice alone does not show that the socket is empty.
                    Ok(match outcome {
                        Spliced::Bytes(n) if is_all(outcome, room) => (n, room),
                        _ => (0, 0),
                    })
                });
                if let Some(moved) = moved {
                    return Poll::Ready(moved.map(|_| outcome));
                }
            }
            if pipe.is_empty() {
                *slot = None;
            }
        }
    }

    /// Moves what `pipe`, which is not empty, holds to this socket; `None` if the kernel refuses.
    pub(crate) fn poll_splice_out(
        self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            let mut outcome = None;
            let moved = self.transfer(Interest::WRITABLE, |socket| {
                outcome = pipe.write_to(socket)?;
                Ok((0, 0))
            });
            match moved {
                Some(Ok(_)) => return Poll::Ready(Ok(outcome)),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => ready!(self.poll_ready(cx, Interest::WRITABLE))?,
            }
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
