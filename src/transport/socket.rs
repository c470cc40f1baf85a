//! TCP and Unix sockets: many segments with one system call.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::io::Interest;

use super::lookup::Socket;
use crate::buffer::chain::EvBuffer;

/// Whether a transfer that fell short of what was offered shows that the socket would block now.
///
/// True where Tokio's own reads and writes take it so: with edge-triggered selectors, which report the next change.
const SHORT_MEANS_BLOCKED: bool = cfg!(all(
    not(mio_unsupported_force_poll_poll),
    any(
        target_os = "android",
        target_os = "illumos",
        target_os = "linux",
        target_os = "redox",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "ios",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "tvos",
        target_os = "visionos",
        target_os = "watchos",
    )
));

/// One system call that receives to the back of a chain: the bytes that came, and those that were asked for.
type Receive = fn(&mut EvBuffer, &socket2::Socket, usize) -> io::Result<(usize, usize)>;

impl Socket<'_> {
    /// Receives at most `max` bytes to the back of `chain` with one system call; 0 is the end of stream.
    #[inline]
    pub(crate) fn poll_recv(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_recv_by(EvBuffer::recv_from, cx, chain, max)
    }

    /// The same into one block.
    #[inline]
    pub(crate) fn poll_recv_flat(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_recv_by(EvBuffer::recv_flat_from, cx, chain, max)
    }

    fn poll_recv_by(
        self,
        receive: Receive,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            // Before there is anything to read no memory is taken. This counts against the task's budget.
            ready!(self.poll_ready(cx, Interest::READABLE))?;
            let received = self.transfer(Interest::READABLE, |socket| receive(chain, socket, max));
            if let Some(received) = received {
                return Poll::Ready(received);
            }
            // It was not ready after all, and the room made for it may never be filled.
            if chain.is_empty() {
                chain.shrink_to_fit();
            }
        }
    }

    /// Sends at most `max` bytes from the front of `chain` with one system call, and drains what was taken.
    pub(crate) fn poll_send(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(sent) = ready!(self.poll_send_file(cx, chain, max)) {
            return Poll::Ready(sent);
        }
        chain.load_first(1)?;
        let max = max.min(chain.len());
        let sent = ready!(chain.with_slices(max, |slices| self.poll_send_slices(cx, slices)))?;
        chain.drain(sent)?;
        Poll::Ready(Ok(sent))
    }

    /// Sends what `slices` show, or the beginning of it, with one system call.
    ///
    /// Only where that would block, or was short before, the readiness is asked for: it counts against the task's
    /// budget then, while whoever sends without end has to take care of that himself.
    pub(crate) fn poll_send_slices(
        self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let sent = self.transfer(Interest::WRITABLE, |socket| match slices {
                [one] => Ok((socket.send(one)?, one.len())),
                many => {
                    let offered = many.iter().map(|slice| slice.len()).sum();
                    Ok((socket.send_vectored(many)?, offered))
                }
            });
            if let Some(sent) = sent {
                return Poll::Ready(sent);
            }
            ready!(self.poll_ready(cx, Interest::WRITABLE))?;
        }
    }

    /// One attempt at `call`, which returns the bytes moved and offered; `None` if the socket would block.
    ///
    /// A short transfer ends the readiness, so that the next attempt waits and costs no system call. That must be said
    /// from inside the same `try_io` that made the call: it clears the readiness seen before the call, not what has
    /// come since. After a transfer of nothing, the end of stream, the socket stays ready.
    pub(super) fn transfer(
        self,
        interest: Interest,
        call: impl FnOnce(&SockRef<'_>) -> io::Result<(usize, usize)>,
    ) -> Option<io::Result<usize>> {
        let mut moved = None;
        let outcome = self.try_io(interest, || {
            let (n, offered) = call(&self.sock_ref())?;
            moved = Some(n);
            if SHORT_MEANS_BLOCKED && 0 < n && n < offered {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (outcome, moved) {
            (_, Some(n)) => Some(Ok(n)),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => None,
            (Err(error), None) => Some(Err(error)),
            (Ok(()), None) => unreachable!("a call that succeeds has said how much it moved"),
        }
    }

    pub(super) fn poll_ready(
        self,
        cx: &mut Context<'_>,
        interest: Interest,
    ) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Self::Tcp(tcp), true) => tcp.poll_read_ready(cx),
            (Self::Tcp(tcp), false) => tcp.poll_write_ready(cx),
            #[cfg(unix)]
            (Self::Unix(unix), true) => unix.poll_read_ready(cx),
            #[cfg(unix)]
            (Self::Unix(unix), false) => unix.poll_write_ready(cx),
        }
    }

    pub(super) fn try_io(
        self,
        interest: Interest,
        f: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.try_io(interest, f),
            #[cfg(unix)]
            Self::Unix(unix) => unix.try_io(interest, f),
        }
    }

    pub(super) fn sock_ref(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(tcp) => SockRef::from(*tcp),
            #[cfg(unix)]
            Self::Unix(unix) => SockRef::from(*unix),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use tokio::{io::AsyncWriteExt, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn a_flat_read_goes_into_one_block_and_another_into_several() {
        let (from, mut source) = UnixStream::pair().unwrap();
        let mut chain = EvBuffer::new();
        source.write_all(&[1; 50_000]).await.unwrap();
        let read = poll_fn(|cx| Socket::Unix(&from).poll_recv_flat(cx, &mut chain, 100_000));
        assert_eq!(read.await.unwrap(), 50_000);
        assert_eq!((chain.len(), chain.segments()), (50_000, 1));

        source.write_all(&[2; 50_000]).await.unwrap();
        let mut chain = EvBuffer::new();
        let read = poll_fn(|cx| Socket::Unix(&from).poll_recv(cx, &mut chain, 100_000));
        assert_eq!(read.await.unwrap(), 50_000);
        assert_eq!((chain.len(), chain.segments()), (50_000, 4));
    }

    #[tokio::test]
    async fn a_pending_read_leaves_a_chain_without_memory() {
        let (from, _source) = UnixStream::pair().unwrap();
        let mut chain = EvBuffer::new();
        let mut cx = Context::from_waker(Waker::noop());
        for receive in [EvBuffer::recv_from, EvBuffer::recv_flat_from as Receive] {
            let read = Socket::Unix(&from).poll_recv_by(receive, &mut cx, &mut chain, 100_000);
            assert!(read.is_pending());
            assert_eq!(chain.capacity(), 0);
        }
    }
}
