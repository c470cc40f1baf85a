//! One direction of a relay: what it holds and what it does next. No I/O.

mod ends;
mod gathering;

use std::num::NonZeroU8;

use super::{config::Limits, gather::Gather, splice_mode::Mode};
use crate::{
    buffer::{End, chain::EvBuffer},
    loading::Loading,
    transport::{HangUp, Pipe, ReadSizer},
};

/// The path from one stream, the source, through a chain or a pipe into the other, the sink.
///
/// The chain and the pipe never hold bytes at the same time.
#[derive(Debug)]
pub(crate) struct Direction {
    /// What was read and not yet written, unless it is in the pipe.
    pub(crate) chain: EvBuffer,
    /// Reads ranges of files in the chain.
    pub(crate) loading: Loading,
    /// Present while the flow is spliced and bytes are in transit.
    pub(crate) pipe: Option<Pipe>,
    pub(crate) mode: Mode,
    /// Bytes that the sink has taken.
    pub(crate) written: u64,
    /// Bytes that may still be read from the source; `u64::MAX` for no limit.
    pub(crate) allowance: u64,
    phase: Phase,
    /// How the sink ends, or will end.
    sink_end: SinkEnd,
    sizer: ReadSizer,
    /// The direction reached its limit, and has not fallen to half of it since.
    full: bool,
    /// The most bytes to hold while the sink takes nothing; `u32::MAX` while it takes some.
    stall_limit: u32,
    /// Bytes that the socket of the sink has room for, if that is known.
    pub(crate) sink_room: u32,
    /// Something was written since the last flush.
    pub(crate) needs_flush: bool,
    /// Nothing more comes from the source: its stream has ended or failed.
    source_ended: bool,
    /// The last read found nothing: every byte that the source has sent so far was read.
    source_empty: bool,
    /// Nothing is held, and the source will wake the task when there is something to read: until then, a poll does nothing.
    pub(crate) waits_for_source: bool,
    /// Set when the source is gone: the number of reads that have to find nothing until the direction ends.
    empty_reads_left: Option<NonZeroU8>,
    /// The source is watched for a reset while it is not read.
    pub(crate) watches_source: bool,
    pub(crate) hang_up: HangUp,
    /// The source has ended its stream behind bytes that were not read yet.
    pub(crate) end_is_near: bool,
    /// Whether the source gathers bytes before it wakes the task. `None` until a flow is spliced that is slower than this
    /// machine.
    pub(crate) gather: Option<Box<Gather>>,
}

/// How far a direction has come. It only moves forward:
///
/// ```text
/// Open --- end of the source, or end() ---> Flushing --- flushed, sink ended ---> Discarding ---> Done
///   '------------------------- abandon() ------------------------------------------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Reads and writes.
    Open,
    /// Reads no more. Writes what it holds, flushes, and ends the sink.
    Flushing,
    /// Writes no more. What the source still sends is read and discarded, so that the source is not blocked.
    Discarding,
    /// The source has ended, too.
    Done,
}

/// How a direction ends its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkEnd {
    /// With an orderly end of stream.
    Fin,
    /// Not at all.
    Leave,
    /// With a reset, if the sink is a TCP socket; otherwise not at all.
    Reset,
}

/// What to read next, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// At most this many bytes into the chain.
    Chain(usize),
    /// Into the pipe, until it holds this many bytes.
    Pipe(usize),
}

/// What a direction that holds nothing does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// It waits for bytes to read.
    Read,
    /// It shuts the sink down.
    Shutdown,
    /// It calls [`Direction::finish`].
    Finish,
    /// Nothing.
    None,
}

impl Direction {
    /// Makes a direction that begins with the bytes of `chain`.
    pub(crate) fn new(mut chain: EvBuffer, mode: Mode) -> Self {
        // The direction owns the chain now: limits set by the previous owner do not apply.
        chain.unfreeze(End::Front);
        chain.unfreeze(End::Back);
        chain.set_max_len(None);
        if chain.is_empty() {
            chain.shrink_to_fit();
        }
        Self {
            chain,
            loading: Loading::default(),
            pipe: None,
            mode,
            written: 0,
            allowance: u64::MAX,
            phase: Phase::Open,
            sink_end: SinkEnd::Fin,
            sizer: ReadSizer::default(),
            full: false,
            stall_limit: u32::MAX,
            sink_room: 0,
            needs_flush: false,
            source_ended: false,
            source_empty: true,
            waits_for_source: false,
            empty_reads_left: None,
            watches_source: false,
            hang_up: HangUp::default(),
            end_is_near: false,
            gather: None,
        }
    }

    /// Sets how the sink ends when the source ends in order.
    pub(crate) fn set_sink_end(&mut self, sink_end: SinkEnd) {
        self.sink_end = sink_end;
    }

    /// Puts `bytes` behind what is in the chain already.
    pub(crate) fn followed_by(mut self, mut bytes: EvBuffer) -> Self {
        let added = self.chain.add_buffer(&mut bytes);
        debug_assert!(added.is_ok(), "neither buffer is frozen or limited");
        self
    }

    /// Returns the bytes that were read and not yet written.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.chain.len() + self.pipe.as_ref().map_or(0, Pipe::len)
    }

    /// Returns the bytes that were read, including initial bytes, without what was dropped since.
    pub(crate) fn read(&self) -> u64 {
        self.written + self.held() as u64
    }

    /// Returns what to read next; `None` while nothing may be read.
    #[inline]
    pub(crate) fn offer(&mut self, limits: Limits) -> Option<Offer> {
        let allowance = usize::try_from(self.allowance).unwrap_or(usize::MAX);
        if allowance == 0 {
            return None;
        }
        if self.is_idle() {
            self.full = false;
            let offered = self.sizer.offer().min(limits.chain());
            return Some(Offer::Chain(offered.min(allowance)));
        }
        let in_pipe = self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty());
        let splices = in_pipe || self.mode.is_splicing();
        let held = self.held();
        let high = if splices {
            limits.pipe()
        } else {
            limits.chain()
        };
        self.full = if self.full {
            held > high / 2
        } else {
            held >= high
        };
        let room = high.min(self.stall_limit as usize).saturating_sub(held);
        if self.full || room == 0 || self.phase != Phase::Open {
            return None;
        }
        if splices {
            // Writes what it holds before it reads more. A chain whose sink is slower than its source would never be empty
            // otherwise; and with 16 connections, to fill a pipe that still held bytes took 1.2 to 1.3 times the CPU time.
            let reads = held == 0 || (in_pipe && limits.reads_ahead());
            return reads.then_some(Offer::Pipe(held + room.min(allowance)));
        }
        Some(Offer::Chain(self.sizer.offer().min(room).min(allowance)))
    }

    /// Returns whether nothing is held, and all that was written was flushed.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open && self.held() == 0 && !self.needs_flush
    }

    /// Returns whether nothing is held, and what comes next is copied. Small messages need no more than this.
    #[inline]
    fn is_idle(&self) -> bool {
        self.phase == Phase::Open
            && self.chain.is_empty()
            && self.pipe.is_none()
            && !self.mode.is_splicing()
    }

    /// Records that a read that was offered `offered` bytes has brought `n` to the chain; 0 is the end of the stream.
    #[inline]
    pub(crate) fn filled(&mut self, offered: usize, n: usize) {
        if n == 0 {
            self.source_has_ended();
            return;
        }
        self.count_read(n);
        self.sizer.record(offered, n);
        if n < offered || self.allowance > 0 {
            self.mode.copied(n);
        } else {
            self.mode.copied_cut(n);
        }
    }

    /// Records that of `seen` bytes, at most `offered`, the sink has taken some, and no others were read.
    pub(crate) fn forwarded(&mut self, offered: usize, seen: usize, taken: usize) {
        self.count_read(taken);
        self.sizer.record(offered, seen);
        if taken == seen && (seen < offered || self.allowance > 0) {
            self.mode.copied(taken);
        } else {
            self.mode.copied_cut(taken);
        }
        self.count_written(taken);
    }

    /// Records that a few bytes were read ahead of a sink that is full. They tell nothing about the flow.
    pub(crate) fn read_ahead(&mut self, n: usize) {
        match n {
            0 => self.source_has_ended(),
            _ => self.count_read(n),
        }
    }

    /// Records that a splice has brought `n` bytes to the pipe, which may hold `limit`.
    pub(crate) fn spliced(&mut self, limit: usize, n: usize) {
        self.count_read(n);
        if self.held() < limit {
            // A read that the limit made short says nothing about the flow.
            self.mode.spliced(n);
        }
    }

    #[inline]
    fn count_read(&mut self, n: usize) {
        if self.allowance != u64::MAX {
            self.allowance -= (n as u64).min(self.allowance);
        }
        self.sink_room = self.sink_room.saturating_sub(n as u32);
        self.source_empty = false;
    }

    /// Releases memory and pipe if they hold no bytes.
    #[inline]
    pub(crate) fn release_idle(&mut self) {
        if self.chain.is_empty() {
            self.chain.shrink_to_fit();
        }
        if self.pipe.as_ref().is_some_and(Pipe::is_empty) {
            self.pipe = None;
        }
    }

    /// Records that the sink has taken `n` bytes, which are no longer held.
    #[inline]
    pub(crate) fn count_written(&mut self, n: usize) {
        self.written += n as u64;
        self.needs_flush = true;
        self.stall_limit = u32::MAX;
        self.watches_source = false;
    }

    /// Records that the sink takes nothing now: while that lasts, hold at most `stall` bytes more.
    #[inline]
    pub(crate) fn sink_waits(&mut self, stall: usize) {
        if self.stall_limit == u32::MAX {
            let limit = self.held().saturating_add(stall);
            self.stall_limit = u32::try_from(limit).unwrap_or(u32::MAX);
        }
    }

    /// Returns whether bytes wait for the sink.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.held() > 0
    }

    /// Leaves the bytes of a flow that makes no progress in their pipe, where they cost no memory of the process. If too
    /// many flows do so, the pipe goes back instead.
    pub(crate) fn keep_stalled_pipe(&mut self) -> std::io::Result<()> {
        let pipe = self.pipe.as_mut();
        match pipe.is_some_and(|pipe| !pipe.is_empty() && pipe.keep_stalled()) {
            true => Ok(()),
            false => self.return_pipe(),
        }
    }

    /// Moves the bytes of a pipe to memory, and gives the pipe back.
    pub(crate) fn return_pipe(&mut self) -> std::io::Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.move_to_chain(&mut self.chain)?;
            self.mode.refused();
        }
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(high: usize, stall: usize) -> Limits {
        let mut limits = Limits::DEFAULT;
        limits.set_buffer(high);
        limits.set_stall(stall);
        limits
    }

    fn both(high: usize) -> Limits {
        limits(high, 1 << 20)
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
    fn reading_stops_at_the_limit_and_resumes_at_half_of_it() {
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
    fn no_more_is_read_than_the_allowance() {
        let mut direction = holding(0);
        direction.allowance = 5;
        assert_eq!(copy(direction.offer(both(8))), Some(5));
        direction.chain.add(&[0; 3]).unwrap();
        direction.filled(5, 3);
        assert_eq!(copy(direction.offer(both(8))), Some(2));
        direction.filled(2, 2);
        assert_eq!(direction.offer(both(8)), None);

        let mut direction = holding(0);
        (direction.allowance, direction.mode) = (5, Mode::Splicing(0));
        assert_eq!(direction.offer(both(8)), Some(Offer::Pipe(5)));
    }

    #[test]
    fn a_sink_that_takes_nothing_stops_the_reading_early() {
        let limits = limits(1000, 16);
        let mut direction = holding(100);
        assert_eq!(copy(direction.offer(limits)), Some(900));
        direction.sink_waits(limits.stall());
        assert_eq!(copy(direction.offer(limits)), Some(16));
        direction.chain.add(&[0; 16]).unwrap();
        direction.sink_waits(limits.stall());
        assert_eq!(direction.offer(limits), None);
        direction.chain.drain(1).unwrap();
        direction.count_written(1);
        assert_eq!(copy(direction.offer(limits)), Some(885));
    }

    #[test]
    fn frozen_and_capped_initial_bytes_still_move() {
        let mut chain = EvBuffer::from(vec![1; 3]);
        chain.set_max_len(Some(3));
        chain.freeze(End::Front);
        chain.freeze(End::Back);
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
    fn the_default_pipe_holds_more_than_the_chain() {
        let mut direction = holding(0);
        for _ in 0..5 {
            let offer = direction.offer(Limits::DEFAULT);
            direction.filled(copy(offer).unwrap(), copy(offer).unwrap());
        }
        assert_eq!(
            direction.offer(Limits::DEFAULT),
            Some(Offer::Chain(256 << 10))
        );
        direction.mode = Mode::Splicing(0);
        assert_eq!(direction.offer(Limits::DEFAULT), Some(Offer::Pipe(1 << 20)));
    }
}
