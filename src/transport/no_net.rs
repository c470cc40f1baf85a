//! In place of `detect` in a build without sockets: there is nothing to find.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    marker::PhantomData,
    net::SocketAddr,
    task::{Context, Poll},
};

use crate::buffer::chain::EvBuffer;

/// The socket of a stream, which no stream has.
pub(crate) struct Socket<'a>(Infallible, PhantomData<&'a ()>);

impl Socket<'_> {
    pub(crate) fn poll_recv(
        self,
        _: &mut Context<'_>,
        _: &mut EvBuffer,
        _: usize,
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(crate) fn poll_recv_flat(
        self,
        _: &mut Context<'_>,
        _: &mut EvBuffer,
        _: usize,
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(crate) fn poll_send(
        self,
        _: &mut Context<'_>,
        _: &mut EvBuffer,
        _: usize,
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(crate) fn poll_send_slices(
        self,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }
}

/// Finds no socket.
#[derive(Debug)]
pub(crate) struct Finder<S>(PhantomData<fn(&S)>);

impl<S> Finder<S> {
    pub(crate) const fn by_type() -> Self {
        Self(PhantomData)
    }

    #[inline]
    pub(crate) fn socket(&self, _: &S) -> Option<Socket<'_>> {
        None
    }

    #[inline]
    pub(crate) fn is_inside(&self, _: &S) -> bool {
        false
    }

    pub(crate) fn is_tcp(&self, _: &S) -> bool {
        false
    }

    pub(crate) fn peer(&self, _: &S) -> Option<SocketAddr> {
        None
    }

    pub(crate) fn reset_on_close(&self, _: &S) {}

    pub(crate) fn local(&self, _: &S) -> Option<SocketAddr> {
        None
    }

    pub(crate) fn set_nodelay(&self, _: &S) {}
}

impl<S> Clone for Finder<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Finder<S> {}

/// Takes the prefix of a [`Prefixed`](super::Prefixed) socket, which no stream is.
pub(crate) fn take_prefix<S>(_: &mut S) -> EvBuffer {
    EvBuffer::new()
}
