//! One direction of a relay: what it holds and what it does next. No I/O.

use super::{config::Limits, splice_mode::Mode};
use crate::{
    buffer::{End, chain::EvBuffer},
    loading::Loading,
    transport::{HangUp, Pipe, ReadSizer},
};

/// The reads that may find nothing before a source that is gone counts as empty. What the kernel has received is not
/// visible before the runtime has polled its I/O driver.
const EMPTY_READS: u8 = 2;

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
    /// Nothing is read, since the socket of the sink has no room.
    pub(crate) sink_is_full: bool,
    /// Bytes that the socket of the sink has room for, if that is known.
    pub(crate) sink_room: u32,
    /// The low bits of the number of bytes that the sink's peer had acknowledged when that was last asked.
    acknowledged: u32,
    /// The low bits of `written` when the direction was last checked for progress.
    checked: u32,
    /// Something was written since the last flush.
    pub(crate) needs_flush: bool,
    /// Nothing more comes from the source: its stream has ended or failed.
    source_ended: bool,
    /// The last read found nothing: every byte that the source has sent so far was read.
    source_empty: bool,
    /// Nothing is held, and the source will wake the task when there is something to read: until then, a poll does nothing.
    pub(crate) waits_for_source: bool,
    /// Set when the source is gone: the number of reads that have to find nothing until the direction ends.
    empty_reads_left: Option<u8>,
    /// The source is watched for a reset while it is not read.
    pub(crate) watches_source: bool,
    pub(crate) hang_up: HangUp,
    /// The source has ended its stream behind bytes that were not read yet.
    pub(crate) end_is_near: bool,
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
    /// A direction that begins with the bytes of `chain`.
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
            sink_is_full: false,
            sink_room: 0,
            acknowledged: 0,
            checked: 0,
            needs_flush: false,
            source_ended: false,
            source_empty: true,
            waits_for_source: false,
            empty_reads_left: None,
            watches_source: false,
            hang_up: HangUp::default(),
            end_is_near: false,
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

    /// What was read and not yet written, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.chain.len() + self.pipe.as_ref().map_or(0, Pipe::len)
    }

    /// What was read, in bytes, including initial bytes.
    pub(crate) fn read(&self) -> u64 {
        self.written + self.held() as u64
    }

    /// What to read next; `None` while nothing may be read.
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
            // Writes the chain before it reads more: otherwise a chain whose sink is slower than its source would
            // never be empty.
            return self
                .chain
                .is_empty()
                .then_some(Offer::Pipe(held + room.min(allowance)));
        }
        Some(Offer::Chain(self.sizer.offer().min(room).min(allowance)))
    }

    /// Nothing is held, and all that was written was flushed.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open && self.held() == 0 && !self.needs_flush
    }

    /// Nothing is held, and what comes next is copied. Small messages need no more than this.
    #[inline]
    fn is_idle(&self) -> bool {
        self.phase == Phase::Open
            && self.chain.is_empty()
            && self.pipe.is_none()
            && !self.mode.is_splicing()
    }

    /// A read that was offered `offered` bytes has brought `n` to the chain; 0 is the end of the stream.
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

    /// A splice has brought `n` bytes to the pipe, which may hold `limit`.
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

    /// A read has found nothing. Returns whether to read again after the runtime has polled its I/O driver.
    #[inline]
    pub(crate) fn found_nothing(&mut self) -> bool {
        self.source_empty = true;
        match self.empty_reads_left {
            None => false,
            Some(0) => {
                self.source_has_failed(self.sink_end);
                false
            }
            Some(left) => {
                self.empty_reads_left = Some(left - 1);
                true
            }
        }
    }

    /// The source has ended in order.
    pub(crate) fn source_has_ended(&mut self) {
        self.source_ended = true;
        self.source_empty = true;
        self.phase = match self.phase {
            Phase::Open => Phase::Flushing,
            Phase::Discarding => Phase::Done,
            phase => phase,
        };
    }

    /// Reading from the source has failed: what is held goes out, and then the sink ends as `sink_end` says.
    pub(crate) fn source_has_failed(&mut self, sink_end: SinkEnd) {
        self.end(sink_end);
        self.source_ended = true;
        if self.phase == Phase::Discarding {
            self.phase = Phase::Done;
        }
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

    /// The sink has taken `n` bytes, which are no longer held.
    #[inline]
    pub(crate) fn count_written(&mut self, n: usize) {
        self.written += n as u64;
        self.needs_flush = true;
        self.stall_limit = u32::MAX;
        self.watches_source = false;
    }

    /// The sink takes nothing now: while that lasts, hold at most `stall` bytes more.
    #[inline]
    pub(crate) fn sink_waits(&mut self, stall: usize) {
        if self.stall_limit == u32::MAX {
            let limit = self.held().saturating_add(stall);
            self.stall_limit = u32::try_from(limit).unwrap_or(u32::MAX);
        }
    }

    /// Whether bytes wait for the sink, here or at the source.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.held() > 0 || self.sink_is_full
    }

    /// Whether the sink has taken nothing since the last call.
    pub(crate) fn made_no_progress(&mut self) -> bool {
        let written = self.written as u32;
        std::mem::replace(&mut self.checked, written) == written
    }

    /// How many bytes the peer of the sink has acknowledged since the last call, now that `queued` bytes wait for that.
    pub(crate) fn newly_acknowledged(&mut self, queued: usize) -> usize {
        let acknowledged = (self.written as u32).wrapping_sub(queued as u32);
        let before = std::mem::replace(&mut self.acknowledged, acknowledged);
        acknowledged.wrapping_sub(before) as usize
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

    /// Reads no more. What is held goes out, and then the sink ends as `sink_end` says.
    ///
    /// Has no effect if the source has ended, since the sink then ends in order.
    pub(crate) fn end(&mut self, sink_end: SinkEnd) {
        if self.phase == Phase::Open {
            self.sink_end = sink_end;
            self.phase = Phase::Flushing;
        }
    }

    /// Writing to the source has failed, so it is gone. What it has sent before is still read, and then the sink ends as
    /// `sink_end` says.
    pub(crate) fn read_rest(&mut self, sink_end: SinkEnd) {
        if self.phase == Phase::Open {
            self.sink_end = sink_end;
            self.empty_reads_left = Some(EMPTY_READS);
        }
    }

    /// Drops what is held, and leaves the sink as it is.
    pub(crate) fn abandon(&mut self) {
        self.sink_end = SinkEnd::Leave;
        self.chain = EvBuffer::new();
        self.pipe = None;
        self.finish();
    }

    /// The last step towards the sink was taken.
    pub(crate) fn finish(&mut self) {
        self.phase = match self.source_ended {
            true => Phase::Done,
            false => self.phase.max(Phase::Discarding),
        };
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether everything that this direction does to its sink is done.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.phase >= Phase::Discarding
    }

    /// Whether bytes that the source still sends are discarded.
    pub(crate) fn discards(&self) -> bool {
        self.phase == Phase::Discarding
    }

    pub(crate) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Looks at the source again before the direction ends: while the sink has no room, or a limit applies, bytes arrive
    /// that no read was tried for. `unread` is what the socket of the source has received, if that is known.
    pub(crate) fn recheck_source(&mut self, unread: Option<u64>) {
        if unread.map_or(self.sink_is_full, |unread| unread > 0) {
            self.source_empty = false;
        }
    }

    /// Whether every byte that the source has sent so far was read.
    pub(crate) fn source_is_empty(&self) -> bool {
        self.source_empty
    }

    /// Whether the sink gets less than the source has sent so far, if the relay ends now.
    pub(crate) fn is_cut_short(&self) -> bool {
        match self.phase {
            Phase::Open => self.held() > 0 || !self.source_empty,
            Phase::Flushing => self.held() > 0 || self.sink_end != SinkEnd::Fin,
            Phase::Discarding | Phase::Done => self.sink_end == SinkEnd::Reset,
        }
    }

    /// Whether the sink is to be reset when everything was delivered.
    pub(crate) fn resets_sink(&self) -> bool {
        self.sink_end == SinkEnd::Reset
    }

    /// What to do once nothing is held and all is flushed.
    #[inline]
    pub(crate) fn next_step(&self) -> NextStep {
        match (self.phase, self.sink_end) {
            (Phase::Open, _) => NextStep::Read,
            (Phase::Flushing, SinkEnd::Fin) => NextStep::Shutdown,
            (Phase::Flushing, SinkEnd::Leave | SinkEnd::Reset) => NextStep::Finish,
            (Phase::Discarding | Phase::Done, _) => NextStep::None,
        }
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
    fn what_is_acknowledged_counts_once() {
        let mut direction = holding(0);
        for (written, queued, acknowledged) in [
            (1000, 400, 600),
            (1000, 1400, 0),
            (0, 1399, 1),
            (u32::MAX as usize, 10, u32::MAX as usize + 1389),
            (5, 15, 0),
        ] {
            direction.count_written(written);
            let new = direction.newly_acknowledged(queued);
            assert_eq!(new as u32, acknowledged as u32);
        }
    }

    #[test]
    fn after_the_end_nothing_is_read_and_the_end_is_sent_once() {
        let mut direction = holding(0);
        direction.filled(2048, 0);
        assert_eq!(copy(direction.offer(both(8))), None);
        assert_eq!(direction.next_step(), NextStep::Shutdown);
        direction.finish();
        direction.end(SinkEnd::Leave);
        assert_eq!(direction.next_step(), NextStep::None);
        assert!(direction.is_done() && !direction.discards());
    }

    #[test]
    fn a_source_that_has_ended_ends_the_sink_in_order_even_after_an_error() {
        let mut direction = holding(3);
        direction.filled(2048, 0);
        direction.end(SinkEnd::Reset);
        direction.read_rest(SinkEnd::Reset);
        assert_eq!(direction.next_step(), NextStep::Shutdown);
        let mut direction = holding(3);
        direction.end(SinkEnd::Reset);
        assert_eq!(direction.next_step(), NextStep::Finish);
    }

    #[test]
    fn the_rest_of_a_source_that_is_gone_is_read_until_there_is_nothing() {
        let mut direction = holding(0);
        direction.read_rest(SinkEnd::Reset);
        direction.filled(2048, 3);
        for _ in 0..EMPTY_READS {
            assert!(direction.found_nothing() && direction.is_open());
        }
        assert!(!direction.found_nothing());
        assert_eq!(direction.next_step(), NextStep::Finish);
        direction.finish();
        assert!(direction.is_done() && !direction.discards() && direction.resets_sink());
    }

    #[test]
    fn a_direction_that_ends_before_its_source_discards_the_rest() {
        let mut direction = holding(3);
        direction.end(SinkEnd::Fin);
        direction.finish();
        assert!(direction.is_done() && direction.discards());
        direction.filled(2048, 0);
        assert!(direction.is_done() && !direction.discards());
    }

    #[test]
    fn a_direction_is_cut_short_while_it_holds_bytes_or_has_not_read_them() {
        let mut direction = holding(0);
        assert!(!direction.is_cut_short(), "nothing has come");
        direction.chain.add(&[0; 3]).unwrap();
        direction.filled(2048, 3);
        assert!(direction.is_cut_short());
        direction.chain.drain(3).unwrap();
        assert!(direction.is_cut_short(), "there may be more to read");
        direction.found_nothing();
        assert!(!direction.is_cut_short());
        direction.end(SinkEnd::Reset);
        direction.finish();
        assert!(direction.is_cut_short());
        direction.abandon();
        assert!(!direction.is_cut_short());
    }

    #[test]
    fn bytes_that_came_while_nothing_was_read_cut_a_direction_short() {
        for (sink_is_full, unread, is_cut_short) in [
            (false, None, false),
            (true, None, true),
            (true, Some(0), false),
            (false, Some(1), true),
        ] {
            let mut direction = holding(0);
            direction.sink_is_full = sink_is_full;
            direction.recheck_source(unread);
            assert_eq!(direction.is_cut_short(), is_cut_short);
        }
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
