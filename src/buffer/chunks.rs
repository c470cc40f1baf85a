//! The data as slices.

use std::{collections::VecDeque, io::IoSlice, iter::FusedIterator, mem, slice};

use super::steps;
use crate::{
    error::Result,
    segment::{BlockSlice, Segment},
};

/// The data of a buffer as slices, in order; none is empty. See [`EvBuffer::chunks`](crate::EvBuffer::chunks).
///
/// A range of a file is loaded piece by piece when the iterator comes to it. If that fails, the iterator ends.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    /// A segment that was entered, and the position in it of the next chunk.
    entered: Option<(&'a Segment, usize)>,
    body: slice::Iter<'a, Segment>,
    /// The rest of the body, behind `body`.
    wrapped: &'a [Segment],
    tail: &'a [u8],
}

impl<'a> Chunks<'a> {
    #[inline]
    pub(super) fn new(body: &'a VecDeque<Segment>, tail: &'a BlockSlice) -> Self {
        let (body, wrapped) = body.as_slices();
        Self {
            entered: None,
            body: body.iter(),
            wrapped,
            tail: tail.as_slice(),
        }
    }

    /// Returns the chunks of segments that are not in a buffer.
    pub(super) fn of_segments(segments: &'a [Segment]) -> Self {
        Self {
            entered: None,
            body: segments.iter(),
            wrapped: &[],
            tail: &[],
        }
    }

    /// Returns the chunks from position `pos` on of a buffer of `len` bytes. Loads nothing that lies before.
    ///
    /// Walks the segments from both ends at once, so it takes as many steps as there are segments before `pos` or behind
    /// it, whichever is less.
    pub(super) fn starting_at(
        body: &'a VecDeque<Segment>,
        tail: &'a BlockSlice,
        len: usize,
        pos: usize,
    ) -> Self {
        let mut chunks = Self::new(body, tail);
        let body_len = len - tail.len();
        if pos >= body_len {
            let behind = (pos - body_len).min(tail.len());
            chunks.tail = &chunks.tail[behind..];
            (chunks.body, chunks.wrapped) = ([].iter(), &[]);
            return chunks;
        }
        let (mut front, mut back) = (0, body.len() - 1);
        let (mut before, mut until) = (0, body_len);
        let at = loop {
            steps::count(1);
            let len = body[front].len();
            if pos < before + len {
                break front;
            }
            before += len;
            front += 1;
            until -= body[back].len();
            if pos >= until {
                before = until;
                break back;
            }
            back -= 1;
        };
        let (first, second) = body.as_slices();
        (chunks.body, chunks.wrapped) = match at.checked_sub(first.len()) {
            Some(at) => (second[at + 1..].iter(), &[][..]),
            None => (first[at + 1..].iter(), second),
        };
        chunks.entered = Some((&body[at], pos - before));
        chunks
    }

    /// Returns the next chunk, or the error of loading it; then the iterator is where it was.
    #[inline]
    pub(super) fn try_next(&mut self) -> Option<Result<&'a [u8]>> {
        if self.entered.is_none() {
            match self.body.next() {
                Some(Segment::Block(block)) => return Some(Ok(block.as_slice())),
                Some(Segment::Foreign(bytes)) => return Some(Ok(bytes)),
                Some(file) => self.entered = Some((file, 0)),
                None => return self.next_elsewhere(),
            }
        }
        self.next_of_entered()
    }

    #[inline(never)]
    fn next_of_entered(&mut self) -> Option<Result<&'a [u8]>> {
        let (segment, at) = self.entered?;
        let loaded = segment.load(at);
        if let Ok(chunk) = loaded {
            let next = at + chunk.len();
            self.entered = (next < segment.len()).then_some((segment, next));
        }
        Some(loaded)
    }

    /// Returns the next chunk where it is not simply the next segment of `body`.
    #[inline(never)]
    fn next_elsewhere(&mut self) -> Option<Result<&'a [u8]>> {
        if !self.wrapped.is_empty() {
            self.body = mem::take(&mut self.wrapped).iter();
            return self.try_next();
        }
        let tail = mem::take(&mut self.tail);
        (!tail.is_empty()).then_some(Ok(tail))
    }

    /// Lists the next chunks in `out`, as many as there are or as fit, and returns their number.
    pub(super) fn list(mut self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = self.list_segments(out);
        for (slot, chunk) in out[filled..].iter_mut().zip(self) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// Does the same while the chunks are whole segments, as most are: each segment is visited once.
    fn list_segments(&mut self, out: &mut [IoSlice<'a>]) -> usize {
        if self.entered.is_some() {
            return 0;
        }
        let segments = self.body.as_slice();
        let mut filled = 0;
        for (slot, segment) in out.iter_mut().zip(segments) {
            let Some(chunk) = segment.in_memory() else {
                break;
            };
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        self.body = segments[filled..].iter();
        filled
    }

    /// Ends the iteration: bytes behind those that cannot be loaded must not be taken for them.
    #[cold]
    fn end(&mut self) {
        self.entered = None;
        self.body = [].iter();
        self.wrapped = &[];
        self.tail = &[];
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self.try_next()? {
            Ok(chunk) => Some(chunk),
            Err(_) => {
                self.end();
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let files = |segments: &[Segment]| segments.iter().map(Segment::chunks).sum::<usize>();
        let entered = self.entered.map_or(0, |(segment, _)| segment.chunks());
        let most = entered
            + files(self.body.as_slice())
            + files(self.wrapped)
            + usize::from(!self.tail.is_empty());
        (0, Some(most))
    }
}

impl FusedIterator for Chunks<'_> {}
