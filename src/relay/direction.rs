//! One direction of a relay: what it holds and what it wants next. No I/O.

use super::splice_mode::Mode;
use crate::{
    EvBuffer,
    transport::{Pipe, ReadSizer},
};

/// From one stream through a chain into the other.
#[derive(Debug)]
pub(super) struct Direction {
    /// What was read and not yet written, unless it is in the pipe.
    pub(super) chain: EvBuffer,
    /// There while the flow is spliced and has bytes under way. It and the chain never hold bytes at once.
    pub(super) pipe: Option<Pipe>,
    pub(super) mode: Mode,
    /// Bytes the other side has taken.
    pub(super) written: u64,
    phase: Phase,
    sizer: ReadSizer,
    /// The chain reached its limit, and has not fallen to half of it since.
    full: bool,
    /// Something was written since the last flush.
    pub(super) needs_flush: bool,
}

/// How far a direction has come. Only ever moves down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Reads and writes.
    Open,
    /// Nothing more is read: write what there is, flush, and leave the stream open.
    Cut,
    /// Nothing more is read: write what there is, flush, and send the end of stream.
    Ending,
    /// Has done so.
    Done,
}

/// The most bytes to hold, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) chain: usize,
    pub(super) pipe: usize,
}

/// What to read next, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// At most so many bytes into the chain.
    Chain(usize),
    /// Into the pipe, until it holds so many bytes.
    Pipe(usize),
}

/// What is left to do for a direction that holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// Wait for bytes to read.
    Wait,
    /// Nothing but to say so with [`Direction::finish`].
    Finish,
    /// Shut the stream down.
    Shutdown,
    /// Nothing ever again.
    Done,
}

impl Direction {
    /// A direction that begins with the bytes of `chain`.
    pub(super) fn new(mut chain: EvBuffer, mode: Mode) -> Self {
        // The chain is ours from here on, whatever its former owner forbade.
        chain.unfreeze(crate::buffer::End::Front);
        chain.unfreeze(crate::buffer::End::Back);
        chain.set_max_len(None);
        if chain.is_empty() {
            // It may have room left from what it held before.
            chain.shrink_to_fit();
        }
        Self {
            chain,
            pipe: None,
            mode,
            written: 0,
            phase: Phase::Open,
            sizer: ReadSizer::default(),
            full: false,
            needs_flush: false,
        }
    }

    /// Puts `bytes` behind what is in the chain already.
    pub(super) fn followed_by(mut self, mut bytes: EvBuffer) -> Self {
        let added = self.chain.add_buffer(&mut bytes);
        debug_assert!(added.is_ok(), "neither buffer is frozen or limited");
        self
    }

    /// What was read and not yet written, in bytes.
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.chain.len() + self.pipe.as_ref().map_or(0, Pipe::len)
    }

    /// What to read next; `None` while nothing is to be read.
    #[inline]
    pub(super) fn offer(&mut self, most: Most) -> Option<Offer> {
        if self.is_idle() {
            self.full = false;
            return Some(Offer::Chain(self.sizer.offer().min(most.chain)));
        }
        let in_pipe = self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty());
        let splices = in_pipe || self.mode.is_splicing();
        let held = self.held();
        let high = if splices { most.pipe } else { most.chain };
        self.full = if self.full {
            held > high / 2
        } else {
            held >= high
        };
        if self.full || self.phase != Phase::Open {
            return None;
        }
        if splices {
            // What is in the chain has to leave it first, and the other way round: a chain that was read into whenever
            // it had room would never become empty where the other side is the slower one.
            return self.chain.is_empty().then_some(Offer::Pipe(high));
        }
        Some(Offer::Chain(self.sizer.offer().min(high - held)))
    }

    /// Nothing is held, and what comes next is copied. With small messages this is the whole of it.
    #[inline]
    fn is_idle(&self) -> bool {
        self.phase == Phase::Open
            && self.chain.is_empty()
            && self.pipe.is_none()
            && !self.mode.is_splicing()
    }

    /// A read that was offered `offered` bytes has put `n` into the chain; none is the end of stream.
    #[inline]
    pub(super) fn filled(&mut self, offered: usize, n: usize) {
        if n == 0 {
            self.end();
        } else {
            self.sizer.record(offered, n);
            self.mode.copied(n);
        }
    }

    /// A move has put `n` bytes into the pipe, which may hold `limit`.
    pub(super) fn spliced(&mut self, limit: usize, n: usize) {
        if self.held() < limit {
            // One that was cut short by the limit says nothing about the flow.
            self.mode.spliced(n);
        }
    }

    /// Lets go of what is held for bytes while there are none.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.chain.is_empty() {
            self.chain.shrink_to_fit();
        }
        if self.pipe.as_ref().is_some_and(Pipe::is_empty) {
            self.pipe = None;
        }
    }

    /// The other side has taken the first `n` bytes, which are no longer held.
    #[inline]
    pub(super) fn drained(&mut self, n: usize) {
        self.written += n as u64;
        self.needs_flush = true;
    }

    /// Reads no more: what there is goes out, and then the end of stream.
    pub(super) fn end(&mut self) {
        self.phase = self.phase.max(Phase::Ending);
    }

    /// Reads no more: what there is goes out, and nothing says that it is all.
    pub(super) fn cut(&mut self) {
        self.phase = self.phase.max(Phase::Cut);
    }

    /// Gives up what has not been written.
    pub(super) fn abandon(&mut self) {
        self.phase = Phase::Done;
        self.chain = EvBuffer::new();
        self.pipe = None;
    }

    /// The last step was taken.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Done;
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// What to do once nothing is held and all is flushed.
    #[inline]
    pub(super) fn settle(&self) -> Settle {
        match self.phase {
            Phase::Open => Settle::Wait,
            Phase::Cut => Settle::Finish,
            Phase::Ending => Settle::Shutdown,
            Phase::Done => Settle::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(high: usize) -> Most {
        Most {
            chain: high,
            pipe: high,
        }
    }

    fn copy(offer: Option<Offer>) -> Option<usize> {
        offer.map(|offer| match offer {
            Offer::Chain(n) => n,
            Offer::Pipe(_) => panic!("nothing is spliced here"),
        })
    }

    fn holding(len: usize) -> Direction {
        Direction::new(EvBuffer::from(vec![0; len]), Mode::START)
    }

    #[test]
    fn reading_stops_at_the_limit_and_goes_on_at_half_of_it() {
        let mut direction = holding(7);
        assert_eq!(
            copy(direction.offer(both(8))),
            Some(1),
            "never more than fits"
        );
        direction.chain.add(&[0]).unwrap();
        for (drain, offer) in [(0, None), (3, None), (1, Some(4)), (2, Some(6))] {
            direction.chain.drain(drain).unwrap();
            assert_eq!(
                copy(direction.offer(both(8))),
                offer,
                "{} bytes",
                direction.chain.len()
            );
        }
    }

    #[test]
    fn a_limit_of_one_byte_reads_byte_by_byte() {
        let mut direction = holding(0);
        assert_eq!(copy(direction.offer(both(1))), Some(1));
        direction.chain.add(&[0]).unwrap();
        assert_eq!(copy(direction.offer(both(1))), None);
        direction.chain.drain(1).unwrap();
        assert_eq!(copy(direction.offer(both(1))), Some(1));
    }

    #[test]
    fn initial_bytes_beyond_the_limit_are_written_before_anything_is_read() {
        let mut direction = holding(100);
        assert_eq!(copy(direction.offer(both(8))), None);
        direction.chain.drain(95).unwrap();
        assert_eq!(copy(direction.offer(both(8))), None);
        direction.chain.drain(1).unwrap();
        assert_eq!(copy(direction.offer(both(8))), Some(4));
    }

    #[test]
    fn after_the_end_nothing_is_read_and_the_end_is_sent_once() {
        let mut direction = holding(0);
        direction.filled(2048, 0);
        assert_eq!(copy(direction.offer(both(8))), None);
        assert_eq!(direction.settle(), Settle::Shutdown);
        direction.finish();
        direction.end();
        direction.cut();
        assert_eq!(direction.settle(), Settle::Done);
    }

    #[test]
    fn a_direction_that_has_ended_is_not_cut_any_more() {
        let mut direction = holding(3);
        direction.end();
        direction.cut();
        assert_eq!(direction.settle(), Settle::Shutdown);
        let mut direction = holding(3);
        direction.cut();
        assert_eq!(direction.settle(), Settle::Finish);
    }

    #[test]
    fn frozen_and_capped_initial_bytes_still_move() {
        let mut chain = EvBuffer::from(vec![1; 3]);
        chain.set_max_len(Some(3));
        chain.freeze(crate::buffer::End::Front);
        chain.freeze(crate::buffer::End::Back);
        let mut direction = Direction::new(chain, Mode::Never);
        assert_eq!(direction.chain.drain(2), Ok(2));
        assert_eq!(direction.chain.add(&[0; 9]), Ok(()));
    }

    #[test]
    fn a_spliced_flow_reads_into_the_pipe_once_the_chain_is_empty() {
        let mut direction = holding(3);
        direction.mode = Mode::Splicing(0);
        assert_eq!(direction.offer(both(8)), None);
        direction.chain.drain(3).unwrap();
        assert_eq!(direction.offer(both(8)), Some(Offer::Pipe(8)));
        direction.mode.refused();
        assert_eq!(copy(direction.offer(both(8))), Some(8));
    }

    #[test]
    fn the_pipe_has_a_limit_of_its_own() {
        let most = Most {
            chain: 8,
            pipe: 100,
        };
        let mut direction = holding(0);
        assert_eq!(direction.offer(most), Some(Offer::Chain(8)));
        direction.mode = Mode::Splicing(0);
        assert_eq!(direction.offer(most), Some(Offer::Pipe(100)));
    }
}
