//! The low-water mark of the socket of a source: raised, lowered, and backed by a timer.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::low_water::{Change, LowWater};
use crate::{timer::Timer, transport::Finder};

/// Lets the source of a spliced flow gather bytes before it wakes the task.
///
/// A flow that is slower than this machine wakes the task for each piece that arrives. With a low-water mark on the socket
/// (`SO_RCVLOWAT`) the kernel wakes it for many pieces at once. It reports an end or an error in any case. What stays below
/// the mark is found by a timer.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    low_water: LowWater,
    /// What the mark was before it was raised, in bytes.
    before: u32,
    timer: Timer,
    /// The turn reads what is below the mark.
    looks: bool,
}

impl Gather {
    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        self.low_water.is_raised()
    }

    /// Begins a turn. Returns whether it is time to read what is below the mark.
    pub(crate) fn begin_turn(&mut self) -> bool {
        let look_at = self.low_water.look_at();
        self.looks = look_at.is_some_and(|at| at <= Instant::now());
        self.looks
    }

    /// Ends a turn that has read `read` bytes and left none: raises or lowers the mark of the socket, and waits until it is
    /// time to look at it.
    pub(crate) fn poll_end_turn<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &S,
        finder: Finder<'_, S>,
        read: usize,
    ) -> Poll<()> {
        let looked = std::mem::take(&mut self.looks);
        match self.low_water.drained(read, looked, Instant::now()) {
            Some(Change::Raise(mark)) if !self.raise(stream, finder, mark) => {
                self.low_water.stop();
            }
            Some(Change::Lower) => self.lower(stream, finder),
            _ => {}
        }
        let Some(look_at) = self.low_water.look_at() else {
            return Poll::Pending;
        };
        let polled = self.timer.poll_moved(cx, look_at);
        if self.timer.is_unavailable() {
            self.stop(stream, finder);
        }
        polled
    }

    /// Gives the socket the mark that it had before. Returns whether it had another one.
    pub(crate) fn stop<S>(&mut self, stream: &S, finder: Finder<'_, S>) -> bool {
        let lowers = self.low_water.stop().is_some();
        if lowers {
            self.lower(stream, finder);
        }
        lowers
    }

    fn raise<S>(&mut self, stream: &S, finder: Finder<'_, S>, mark: u32) -> bool {
        let Some(socket) = finder.socket(stream) else {
            return false;
        };
        let Some(before) = socket.low_water() else {
            return false;
        };
        self.before = before;
        before < mark && socket.set_low_water(mark)
    }

    fn lower<S>(&self, stream: &S, finder: Finder<'_, S>) {
        if let Some(socket) = finder.socket(stream) {
            // Fails for a connection that is gone, which the next read reports.
            socket.set_low_water(self.before);
        }
    }
}
