//! How a direction ends: by its source, by a policy, or by an error.

use std::num::NonZeroU8;

use super::{Direction, NextStep, Phase, SinkEnd};
use crate::buffer::chain::EvBuffer;

/// The reads that have to find nothing before a source that is gone counts as empty. What the kernel has received is not
/// visible before the runtime has polled its I/O driver.
const EMPTY_READS: NonZeroU8 = NonZeroU8::new(3).unwrap();

impl Direction {
    /// Records that a read has found nothing. Returns whether to read again after the runtime has polled its I/O
    /// driver.
    #[inline]
    pub(crate) fn found_nothing(&mut self) -> bool {
        self.source_empty = true;
        let Some(left) = self.empty_reads_left else {
            return false;
        };
        let left = NonZeroU8::new(left.get() - 1);
        match left {
            Some(_) => self.empty_reads_left = left,
            None => self.source_has_failed(self.sink_end),
        }
        left.is_some()
    }

    /// Records that the source has ended in order.
    pub(crate) fn source_has_ended(&mut self) {
        self.source_ended = true;
        self.source_empty = true;
        self.phase = match self.phase {
            Phase::Open => Phase::Flushing,
            Phase::Discarding => Phase::Done,
            phase => phase,
        };
    }

    /// Records that reading from the source has failed: what is held goes out, and then the sink ends as `sink_end`
    /// says.
    pub(crate) fn source_has_failed(&mut self, sink_end: SinkEnd) {
        self.end(sink_end);
        self.source_ended = true;
        if self.phase == Phase::Discarding {
            self.phase = Phase::Done;
        }
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

    /// Records that writing to the source has failed, so it is gone. What it has sent before is still read, and then
    /// the sink ends as `sink_end` says.
    pub(crate) fn read_rest(&mut self, sink_end: SinkEnd) {
        if self.phase == Phase::Open {
            self.sink_end = sink_end;
            self.empty_reads_left = Some(EMPTY_READS);
        }
    }

    /// Reads no more of a source that is gone.
    pub(crate) fn leave_rest(&mut self) {
        if self.phase == Phase::Open {
            self.rest_has_failed();
        }
    }

    /// Records that a source that is gone cannot be read any more: the sink ends as it would have after the rest.
    pub(crate) fn rest_has_failed(&mut self) {
        self.source_has_failed(self.sink_end);
    }

    /// Drops what is held, and leaves the sink as it is. Returns the number of bytes dropped.
    #[must_use = "they count as read and not delivered"]
    pub(crate) fn abandon(&mut self) -> u64 {
        let dropped = self.held() as u64;
        self.sink_end = SinkEnd::Leave;
        self.chain = EvBuffer::new();
        self.pipe = None;
        self.finish();
        dropped
    }

    /// Records that the last step towards the sink was taken.
    pub(crate) fn finish(&mut self) {
        self.phase = match self.source_ended {
            true => Phase::Done,
            false => self.phase.max(Phase::Discarding),
        };
    }

    /// Returns whether everything that this direction does to its sink is done.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.phase >= Phase::Discarding
    }

    /// Returns whether bytes that the source still sends are discarded.
    pub(crate) fn discards(&self) -> bool {
        self.phase == Phase::Discarding
    }

    pub(crate) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Looks at the source again before the direction ends: while the sink has no room, or a limit applies, bytes arrive
    /// that no read was tried for. `unread` is what the socket of the source has received, if that is known.
    pub(crate) fn recheck_source(&mut self, unread: Option<u64>) {
        if unread.is_some_and(|unread| unread > 0) {
            self.source_empty = false;
        }
    }

    /// Returns whether every byte that the source has sent so far was read.
    pub(crate) fn source_is_empty(&self) -> bool {
        self.source_empty
    }

    /// Returns whether the sink gets less than the source has sent so far, if the relay ends now.
    pub(crate) fn is_cut_short(&self) -> bool {
        match self.phase {
            Phase::Open => self.held() > 0 || !self.source_empty,
            Phase::Flushing => self.held() > 0 || self.sink_end != SinkEnd::Fin,
            Phase::Discarding | Phase::Done => self.sink_end == SinkEnd::Reset,
        }
    }

    /// Returns whether the sink is to be reset when everything was delivered.
    pub(crate) fn resets_sink(&self) -> bool {
        self.sink_end == SinkEnd::Reset
    }

    /// Returns what to do once nothing is held and all is flushed.
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
    use crate::relay::{config::Limits, splice_mode::Mode};

    fn holding(len: usize) -> Direction {
        Direction::new(EvBuffer::from(vec![0; len]), Mode::START)
    }

    #[test]
    fn after_the_end_nothing_is_read_and_the_end_is_sent_once() {
        let mut direction = holding(0);
        direction.filled(2048, 0);
        assert_eq!(direction.offer(Limits::DEFAULT), None);
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
        for _ in 1..EMPTY_READS.get() {
            assert!(direction.found_nothing() && direction.is_open());
        }
        assert!(!direction.found_nothing());
        assert_eq!(direction.next_step(), NextStep::Finish);
        direction.finish();
        assert!(direction.is_done() && !direction.discards() && direction.resets_sink());
    }

    #[test]
    fn after_a_failed_read_of_the_rest_the_sink_ends_as_planned_and_nothing_is_discarded() {
        for sink_end in [SinkEnd::Reset, SinkEnd::Fin] {
            let mut direction = holding(3);
            direction.read_rest(sink_end);
            direction.rest_has_failed();
            assert!(!direction.is_open() && direction.source_ended());
            assert_eq!(direction.resets_sink(), sink_end == SinkEnd::Reset);
        }
        let mut direction = holding(0);
        direction.end(SinkEnd::Fin);
        direction.finish();
        assert!(direction.discards());
        direction.rest_has_failed();
        assert!(direction.is_done() && !direction.discards());
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
        direction.chain.add(&[0; 2]).unwrap();
        assert_eq!(direction.abandon(), 2);
        assert!(!direction.is_cut_short());
    }

    #[test]
    fn bytes_that_came_while_nothing_was_read_cut_a_direction_short() {
        for (unread, is_cut_short) in [(None, false), (Some(0), false), (Some(1), true)] {
            let mut direction = holding(0);
            direction.recheck_source(unread);
            assert_eq!(direction.is_cut_short(), is_cut_short);
        }
    }
}
