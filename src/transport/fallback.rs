//! Replacements for sockets and pipes where the build or the system has none.

#[cfg(not(all(feature = "net", any(target_os = "linux", target_os = "android"))))]
pub(crate) use no_pipes::{HangUp, Pipe};
#[cfg(not(feature = "net"))]
pub(crate) use no_sockets::{Finder, Hook, Socket, take_prefix};

/// Replaces `lookup` and `socket`: no stream has a socket.
#[cfg(not(feature = "net"))]
mod no_sockets {
    use std::{
        convert::Infallible,
        io::{self, IoSlice},
        marker::PhantomData,
        net::SocketAddr,
        task::{Context, Poll},
    };

    use crate::{buffer::chain::EvBuffer, loading::Loading, transport::Layout};

    /// The socket of a stream; there is none.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Socket<'a>(Infallible, PhantomData<&'a ()>);

    impl Socket<'_> {
        pub(crate) fn poll_recv(
            self,
            _: &mut Context<'_>,
            _: &mut EvBuffer,
            _: usize,
            _: Layout,
        ) -> Poll<io::Result<usize>> {
            match self.0 {}
        }

        pub(crate) fn poll_send(
            self,
            _: &mut Context<'_>,
            _: &mut EvBuffer,
            _: usize,
            _: &mut Loading,
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

        pub(crate) fn is_tcp(self) -> bool {
            match self.0 {}
        }

        pub(crate) fn seems_readable(self) -> bool {
            match self.0 {}
        }

        pub(crate) fn poll_readable(self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.0 {}
        }
    }

    pub(crate) type Hook<S> = dyn Fn(&S) -> Option<Socket<'_>> + Send;

    /// Finds no socket.
    #[derive(Debug)]
    pub(crate) struct Finder<'h, S>(PhantomData<&'h ()>, PhantomData<fn(&S)>);

    impl<S> Finder<'_, S> {
        pub(crate) const fn by_type() -> Self {
            Self(PhantomData, PhantomData)
        }

        pub(crate) fn with_hook(_: Option<&Hook<S>>) -> Self {
            Self::by_type()
        }

        #[inline]
        pub(crate) fn socket<'a>(&self, _: &'a S) -> Option<Socket<'a>> {
            None
        }

        #[inline]
        pub(crate) fn is_socket_type() -> bool {
            false
        }

        #[inline]
        pub(crate) fn is_inside(&self, _: &S) -> bool {
            false
        }

        pub(crate) fn owns(&self, _: &S) -> bool {
            std::mem::needs_drop::<S>()
        }

        pub(crate) fn peer(&self, _: &S) -> Option<SocketAddr> {
            None
        }

        pub(crate) fn local(&self, _: &S) -> Option<SocketAddr> {
            None
        }

        pub(crate) fn set_nodelay(&self, _: &S) {}

        pub(crate) fn unacknowledged(&self, _: &S) -> Option<usize> {
            None
        }

        pub(crate) fn unread(&self, _: &S) -> Option<u64> {
            None
        }

        pub(crate) fn reset_on_close(&self, _: &S) {}
    }

    impl<S> Clone for Finder<'_, S> {
        fn clone(&self) -> Self {
            *self
        }
    }

    impl<S> Copy for Finder<'_, S> {}

    /// Takes the prefix of a [`Prefixed`](crate::Prefixed) socket; no stream is one.
    pub(crate) fn take_prefix<S>(_: &mut S, _: usize) -> EvBuffer {
        EvBuffer::new()
    }
}

/// Replaces `linux`: no pipe can be leased, every attempt to splice is refused, and nothing is known about the peer.
#[cfg(not(all(feature = "net", any(target_os = "linux", target_os = "android"))))]
mod no_pipes {
    use std::{
        convert::Infallible,
        io,
        task::{Context, Poll},
    };

    use crate::{
        buffer::chain::EvBuffer,
        transport::{Forwarded, Socket, Spliced},
    };

    /// A pipe; there is none.
    #[derive(Debug)]
    pub(crate) struct Pipe(Infallible);

    impl Pipe {
        pub(crate) fn len(&self) -> usize {
            match self.0 {}
        }

        pub(crate) fn is_empty(&self) -> bool {
            match self.0 {}
        }

        pub(crate) fn keep_stalled(&mut self) -> bool {
            match self.0 {}
        }

        pub(crate) fn move_to_chain(&mut self, _: &mut EvBuffer) -> io::Result<()> {
            match self.0 {}
        }
    }

    impl Socket<'_> {
        pub(crate) fn poll_splice_in(
            self,
            _: &mut Context<'_>,
            _: &mut Option<Pipe>,
            _: usize,
            _: &mut HangUp,
            _: bool,
        ) -> Poll<io::Result<Spliced>> {
            Poll::Ready(Ok(Spliced::Refused))
        }

        pub(crate) fn poll_splice_out(
            self,
            _: &mut Context<'_>,
            _: &mut Pipe,
        ) -> Poll<io::Result<Option<usize>>> {
            Poll::Ready(Ok(None))
        }

        pub(crate) fn poll_hang_up(
            self,
            _: &mut Context<'_>,
            _: &mut HangUp,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        pub(crate) fn send_room(self) -> Option<usize> {
            None
        }

        pub(crate) fn forward(
            self,
            _: &mut Context<'_>,
            _: Socket<'_>,
            _: usize,
        ) -> io::Result<Forwarded> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn low_water(self) -> Option<u32> {
            None
        }

        pub(crate) fn set_low_water(self, _: u32) -> bool {
            false
        }

        #[cfg(feature = "net")]
        pub(crate) fn unacknowledged(self) -> Option<usize> {
            None
        }

        #[cfg(feature = "net")]
        pub(crate) fn unread(self) -> Option<u64> {
            None
        }
    }

    /// The state of a socket whose bytes are not read for now.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct HangUp {}

    impl HangUp {
        pub(crate) fn is_cleared(self) -> bool {
            false
        }

        pub(crate) fn clear(&mut self) {}

        pub(crate) fn read_held(
            &mut self,
            _: Socket<'_>,
            _: &mut EvBuffer,
            _: usize,
            _: crate::transport::Layout,
        ) -> Option<io::Result<usize>> {
            None
        }
    }
}
