//! In place of `splice` where the kernel or the build does not have it.

use std::{
    convert::Infallible,
    io,
    task::{Context, Poll},
};

use super::{Spliced, lookup::Socket};
use crate::buffer::chain::EvBuffer;

/// A pipe, which is never to be had.
#[derive(Debug)]
pub(crate) struct Pipe(Infallible);

impl Pipe {
    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn rescue(&mut self, _: &mut EvBuffer) -> io::Result<()> {
        match self.0 {}
    }
}

impl Socket<'_> {
    pub(super) fn poll_splice_in(
        self,
        _: &mut Context<'_>,
        _: &mut Option<Pipe>,
        _: usize,
    ) -> Poll<io::Result<Spliced>> {
        Poll::Ready(Ok(Spliced::Refused))
    }

    pub(super) fn poll_splice_out(
        self,
        _: &mut Context<'_>,
        _: &mut Pipe,
    ) -> Poll<io::Result<Option<usize>>> {
        Poll::Ready(Ok(None))
    }
}
