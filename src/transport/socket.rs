//! TCP and Unix sockets: many segments with one system call.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::io::Interest;

use super::{Layout, lookup::Socket};
use crate::{buffer::chain::EvBuffer, loading::Loading, stats};

/// Whether a transfer of fewer bytes than were offered shows that the socket would block now.
///
/// True where Tokio's own reads and writes assume it: with edge-triggered selectors, which report the next change.
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

/// The flag of a send that makes a broken pipe an error only, and no signal that ends the process.
///
/// Elsewhere the flag is unknown, and sockets made by the standard library have an option for it.
const MSG_NOSIGNAL: std::ffi::c_int = if cfg!(any(target_os = "linux", target_os = "android")) {
    0x4000
} else if cfg!(target_os = "freebsd") {
    0x2_0000
} else if cfg!(any(target_os = "openbsd", target_os = "dragonfly")) {
    0x400
} else if cfg!(target_os = "netbsd") {
    0x800
} else {
    0
};

impl Layout {
    /// Receives at most `max` bytes to the back of `chain`. Returns how many came, and how many were asked for.
    #[inline]
    pub(super) fn recv(
        self,
        chain: &mut EvBuffer,
        socket: &socket2::Socket,
        max: usize,
    ) -> io::Result<(usize, usize)> {
        match self {
            Self::Segments => chain.recv_from(socket, max),
            Self::Blocks(len) if max > len => chain.recv_blocks_from(socket, max, len),
            Self::Blocks(_) | Self::OneBlock => chain.recv_flat_from(socket, max),
        }
    }
}

impl Socket<'_> {
    /// Receives at most `max` bytes to the back of `chain` with one system call; 0 is the end of the stream.
    #[inline]
    pub(crate) fn poll_recv(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        layout: Layout,
    ) -> Poll<io::Result<usize>> {
        loop {
            // No memory is taken before there is something to read. This counts against the task's budget.
            ready!(self.poll_ready(cx, Interest::READABLE))?;
            let received = self.transfer(Interest::READABLE, |socket| {
                let (n, offered) = layout.recv(chain, socket, max)?;
                // A read from a Unix socket stops at passed descriptors, with more bytes behind them.
                Ok((n, if self.is_tcp() { offered } else { n }))
            });
            if let Some(received) = received {
                return Poll::Ready(received);
            }
            // The readiness was out of date, and the reserved memory may stay unused for long.
            if chain.is_empty() {
                chain.shrink_to_fit();
            }
        }
    }

    /// Sends at most `max` bytes from the front of `chain` with one system call, and removes what was sent.
    pub(crate) fn poll_send(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        loading: &mut Loading,
    ) -> Poll<io::Result<usize>> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(sent) = ready!(self.poll_send_file(cx, chain, max, loading)) {
            return Poll::Ready(sent);
        }
        ready!(loading.poll_loaded(cx, chain, 1))?;
        let max = max.min(chain.len());
        let (sent, _) = chain.with_slices(max, |slices| self.poll_send_slices(cx, slices));
        let sent = ready!(sent)?;
        chain.drain(sent)?;
        Poll::Ready(Ok(sent))
    }

    /// Sends a prefix of the bytes of `slices` with one system call.
    ///
    /// It tries to send without checking the readiness first, so only a send that would block counts against the task's budget.
    /// A caller that sends without end has to yield by itself.
    pub(crate) fn poll_send_slices(
        self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let sent = self.transfer(Interest::WRITABLE, |socket| match slices {
                [one] => Ok((socket.send_with_flags(one, MSG_NOSIGNAL)?, one.len())),
                many => {
                    let offered = many.iter().map(|slice| slice.len()).sum();
                    Ok((
                        socket.send_vectored_with_flags(many, MSG_NOSIGNAL)?,
                        offered,
                    ))
                }
            });
            if let Some(sent) = sent {
                return Poll::Ready(sent.inspect(|&n| stats::copied(n)));
            }
            ready!(self.poll_ready(cx, Interest::WRITABLE))?;
        }
    }

    /// Makes one attempt at `call`, which returns the bytes moved and offered; `None` if the socket would block.
    ///
    /// A short transfer ends the readiness, so that the next attempt waits and costs no system call. The `try_io` that
    /// made the call has to end it: it clears the readiness seen before the call, not what arrived since. After a transfer
    /// of nothing, the end of the stream, the socket stays ready.
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
            (Ok(()), None) => unreachable!("a successful call sets the number of bytes"),
        }
    }

    /// Returns whether Tokio knows of bytes to read, or of an end.
    #[inline]
    pub(crate) fn seems_readable(self) -> bool {
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    /// Waits until there are bytes to read, or an end. Counts against the task's budget.
    #[inline]
    pub(crate) fn poll_readable(self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(cx, Interest::READABLE)
    }

    #[inline]
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

    #[inline]
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
    async fn the_layout_decides_between_one_block_and_several() {
        let (from, mut source) = UnixStream::pair().unwrap();
        let mut chain = EvBuffer::new();
        source.write_all(&[1; 50_000]).await.unwrap();
        let read =
            poll_fn(|cx| Socket::Unix(&from).poll_recv(cx, &mut chain, 100_000, Layout::OneBlock));
        assert_eq!(read.await.unwrap(), 50_000);
        assert_eq!((chain.len(), chain.segments()), (50_000, 1));

        source.write_all(&[2; 50_000]).await.unwrap();
        let mut chain = EvBuffer::new();
        let read =
            poll_fn(|cx| Socket::Unix(&from).poll_recv(cx, &mut chain, 100_000, Layout::Segments));
        assert_eq!(read.await.unwrap(), 50_000);
        assert_eq!((chain.len(), chain.segments()), (50_000, 4));

        source.write_all(&[3; 50_000]).await.unwrap();
        let mut chain = EvBuffer::new();
        let blocks = Layout::Blocks(20_000);
        let read = poll_fn(|cx| Socket::Unix(&from).poll_recv(cx, &mut chain, 55_000, blocks));
        assert_eq!(read.await.unwrap(), 50_000);
        let lens: Vec<_> = chain.chunks().map(<[u8]>::len).collect();
        assert_eq!(lens, [15_000, 20_000, 15_000]);
    }

    #[tokio::test]
    async fn a_pending_read_leaves_a_chain_without_memory() {
        let (from, _source) = UnixStream::pair().unwrap();
        let mut chain = EvBuffer::new();
        let mut cx = Context::from_waker(Waker::noop());
        for layout in [Layout::Segments, Layout::OneBlock, Layout::Blocks(30_000)] {
            let read = Socket::Unix(&from).poll_recv(&mut cx, &mut chain, 100_000, layout);
            assert!(read.is_pending());
            assert_eq!(chain.capacity(), 0);
        }
    }
}
