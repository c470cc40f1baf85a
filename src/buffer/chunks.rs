//! The data as slices.

use std::{io::IoSlice, iter::FusedIterator, mem, slice};

use crate::segment::{BlockSlice, Ring, Segment};

/// The data of a buffer, one slice a segment, from [`EvBuffer::chunks`](crate::EvBuffer::chunks).
///
/// A file range is loaded when its turn comes, and ends the iteration if that fails.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    /// What is left of a segment that was entered in the middle.
    first: &'a [u8],
    body: slice::Iter<'a, Segment>,
    /// What of the body follows that.
    rest: &'a [Segment],
    tail: &'a [u8],
}

impl<'a> Chunks<'a> {
    #[inline]
    pub(super) fn new(body: &'a Ring<Segment>, tail: &'a BlockSlice) -> Self {
        let (body, rest) = body.as_slices();
        Self {
            first: &[],
            body: body.iter(),
            rest,
            tail: tail.as_slice(),
        }
    }

    /// Leaves the first `n` bytes out.
    pub(super) fn skip_bytes(&mut self, mut n: usize) {
        while let Some(chunk) = self.next() {
            if n < chunk.len() {
                self.first = &chunk[n..];
                return;
            }
            n -= chunk.len();
        }
    }

    /// Lists the next ones in `out`, as many as there are or as fit, and returns how many those were.
    pub(super) fn list(mut self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = self.list_segments(out);
        for (slot, chunk) in out[filled..].iter_mut().zip(self) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// The same for those that simply are the next segments, without a look at each at what else may come.
    fn list_segments(&mut self, out: &mut [IoSlice<'a>]) -> usize {
        if !self.first.is_empty() {
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

    /// The next one, where that is not simply the next segment.
    #[inline(never)]
    fn next_elsewhere(&mut self) -> Option<&'a [u8]> {
        if !self.rest.is_empty() {
            self.body = mem::take(&mut self.rest).iter();
            return self.next();
        }
        let tail = mem::take(&mut self.tail);
        (!tail.is_empty()).then_some(tail)
    }

    /// Nothing more: what lies behind bytes that cannot be had must not be taken for them.
    #[cold]
    fn end(&mut self) {
        self.body = [].iter();
        self.rest = &[];
        self.tail = &[];
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if !self.first.is_empty() {
            return Some(mem::take(&mut self.first));
        }
        let Some(segment) = self.body.next() else {
            return self.next_elsewhere();
        };
        match segment.load() {
            Ok(chunk) => Some(chunk),
            Err(_) => {
                self.end();
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(!self.first.is_empty())
            + self.body.len()
            + self.rest.len()
            + usize::from(!self.tail.is_empty());
        (0, Some(left))
    }
}

impl FusedIterator for Chunks<'_> {}
