//! One filter with its two buffers. It calls the filter, and does no I/O.

use std::io;

use super::traits::{Filter, FilterStatus, FlushMode};
use crate::{EvBuffer, panic::catch_panic};

/// Calls of a filter in one poll that consume bytes without any output, before the task yields.
const CALLS_PER_POLL: u32 = 64;

/// One filter, and the bytes on their way through it.
pub(super) struct Stage {
    /// `None` after it has failed.
    filter: Option<Box<dyn Filter>>,
    /// What the filter has not taken.
    pub(super) src: EvBuffer,
    /// What it has added, and is not passed on yet.
    pub(super) dst: EvBuffer,
    /// Whether another call may make progress.
    pub(super) is_ready: bool,
}

/// The outcome of running a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is output.
    Output,
    NeedsMore,
    /// It was called often enough for one poll.
    Yields,
}

impl Stage {
    pub(super) fn new(filter: Box<dyn Filter>) -> Self {
        Self {
            filter: Some(filter),
            src: EvBuffer::new(),
            dst: EvBuffer::new(),
            is_ready: false,
        }
    }

    /// Calls the filter until it has output or needs more.
    pub(super) fn run(&mut self, limit: Option<usize>, mode: FlushMode) -> io::Result<Outcome> {
        for _ in 0..CALLS_PER_POLL {
            if !self.is_ready {
                return Ok(Outcome::NeedsMore);
            }
            let (src_len, dst_len) = (self.src.len(), self.dst.len());
            let status = self.call(limit, mode)?;
            let has_output = self.dst.len() > dst_len;
            let progress = has_output || self.src.len() < src_len;
            self.is_ready = progress && status == FilterStatus::Ok;
            if has_output {
                return Ok(Outcome::Output);
            }
        }
        Ok(Outcome::Yields)
    }

    fn call(&mut self, limit: Option<usize>, mode: FlushMode) -> io::Result<FilterStatus> {
        let Self {
            filter, src, dst, ..
        } = self;
        let Some(running) = filter else {
            return Err(io::Error::other("the filter has failed before"));
        };
        let mut status = Err(io::Error::other("the filter panicked"));
        catch_panic("a filter", || {
            status = running.filter(src, dst, limit, mode);
        });
        if status.is_err() {
            self.is_ready = false;
            let failed = self.filter.take();
            catch_panic("the drop of a filter", || drop(failed));
        }
        status
    }

    /// Fails if the filter asks for more than it can ever get.
    pub(super) fn check_held(&self, high: Option<usize>) -> io::Result<()> {
        match high {
            Some(high) if self.src.len() >= high => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the filter needs more bytes at once than the high watermark of {high}"),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.src.len() + self.dst.len()
    }
}
