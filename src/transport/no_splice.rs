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

    pub(crate) fn poll_hang_up(self, _: &mut Context<'_>, _: &mut HangUp) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    pub(crate) fn unacknowledged(self) -> Option<usize> {
        None
    }
}

/// In place of the state of a socket that is not read for now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HangUp {}

impl HangUp {
    pub(crate) fn read_held(
        &mut self,
        _: Socket<'_>,
        _: &mut EvBuffer,
        _: usize,
    ) -> Option<io::Result<usize>> {
        None
    }
}
