//! The data as slices.

use std::{
    collections::{VecDeque, vec_deque},
    iter::FusedIterator,
};

use crate::segment::{Owned, Segment};

/// The data of a buffer, one slice a segment, from [`EvBuffer::chunks`](crate::EvBuffer::chunks).
///
/// A file range is loaded when its turn comes, and ends the iteration if that fails.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    /// What is left of a segment that was entered in the middle.
    first: &'a [u8],
    body: vec_deque::Iter<'a, Segment>,
    tail: &'a [u8],
}

impl<'a> Chunks<'a> {
    pub(super) fn new(body: &'a VecDeque<Segment>, tail: &'a Owned) -> Self {
        Self {
            first: &[],
            body: body.iter(),
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
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        if let Some(segment) = self.body.next() {
            let chunk = segment.load();
            if chunk.is_err() {
                // What lies behind bytes that cannot be had must not be taken for them.
                self.body = Default::default();
                self.tail = &[];
            }
            return chunk.ok();
        }
        let tail = std::mem::take(&mut self.tail);
        (!tail.is_empty()).then_some(tail)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(!self.first.is_empty())
            + self.body.len()
            + usize::from(!self.tail.is_empty());
        (0, Some(left))
    }
}

impl FusedIterator for Chunks<'_> {}
