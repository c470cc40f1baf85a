//! What the kernel knows about the peer of a socket: whether it is gone, and whether it has acknowledged everything.

use std::{
    io,
    task::{Context, Poll, ready},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    ioctl::{Getter, Opcode, ioctl},
};
use tokio::{io::Interest, net::TcpStream};

use crate::{
    buffer::chain::EvBuffer,
    transport::{Layout, lookup::Socket},
};

/// `SIOCOUTQ`, which is `TIOCOUTQ`: the bytes in the send queue, from `asm/ioctls.h`.
const SIOCOUTQ: Opcode = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    0x7472
} else if cfg!(any(
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "sparc",
    target_arch = "sparc64"
)) {
    0x4004_7473
} else {
    0x5411
};

/// The state of a socket whose bytes are not read for now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HangUp {
    /// Tokio's read readiness was cleared, though the socket may hold bytes. The next read asks the kernel first.
    cleared: bool,
}

impl HangUp {
    /// Returns whether the socket may hold bytes whose readiness Tokio has not seen.
    #[inline]
    pub(crate) fn is_cleared(self) -> bool {
        self.cleared
    }

    /// Makes the next read ask the kernel first.
    pub(crate) fn clear(&mut self) {
        self.cleared = true;
    }

    /// Records that the kernel has just found the socket empty, so it will report what arrives.
    pub(super) fn found_empty(&mut self) {
        self.cleared = false;
    }

    /// Reads what the kernel holds although Tokio has not seen that the socket is readable. `None` if there is nothing.
    pub(crate) fn read_held(
        &mut self,
        socket: Socket<'_>,
        chain: &mut EvBuffer,
        max: usize,
        layout: Layout,
    ) -> Option<io::Result<usize>> {
        debug_assert!(self.cleared);
        match layout.recv(chain, &socket.sock_ref(), max) {
            Ok((n, offered)) => {
                // A short read has emptied the socket: from now on the kernel reports changes.
                self.cleared = n == offered;
                Some(Ok(n))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.found_empty();
                chain.shrink_to_fit();
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Socket<'_> {
    /// Waits until the peer has ended its stream, or until the connection was reset, which is an error. Reads nothing.
    ///
    /// The kernel reports changes of a socket, and bytes that are not read keep Tokio's readiness set. So this clears the
    /// readiness, and asks the kernel after each change.
    pub(crate) fn poll_hang_up(
        self,
        cx: &mut Context<'_>,
        hang_up: &mut HangUp,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_ready(cx, Interest::READABLE))?;
            let mut state = PollFlags::empty();
            // Within `try_io`: it clears the readiness only if nothing has happened since before the question.
            let asked = self.try_io(Interest::READABLE, || {
                state = self.poll_state()?;
                match state.is_empty() {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            if state.contains(PollFlags::ERR) {
                let error = self.sock_ref().take_error()?;
                return Poll::Ready(Err(
                    error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
                ));
            }
            match asked {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => hang_up.cleared = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Returns about how many bytes the send queue takes; `None` where that is unknown.
    pub(crate) fn send_room(self) -> Option<usize> {
        let Self::Tcp(tcp) = self else { return None };
        let len = queue_len(tcp)?;
        let size = self.sock_ref().send_buffer_size().ok()?;
        // The kernel also counts its own structures around the bytes, those that are queued and those to come.
        Some((size - size / 8).saturating_sub(len))
    }

    /// Returns the ends and errors that the kernel has recorded.
    fn poll_state(self) -> io::Result<PollFlags> {
        let socket = self.sock_ref();
        let mut fds = [PollFd::new(&*socket, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default()))?;
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        Ok(fds[0].revents() & ends)
    }

    /// Returns the number of bytes that the kernel of the peer has not acknowledged. The end of the stream counts as
    /// one. Zero on a connection that is over: the kernel still counts what a reset has discarded, and nothing will
    /// acknowledge it.
    pub(crate) fn unacknowledged(self) -> Option<usize> {
        let Self::Tcp(tcp) = self else { return None };
        let queued = queue_len(tcp)?;
        // The kernel knows a peer in each state but the closed one.
        let is_over = tcp.peer_addr().is_err();
        Some(if is_over { 0 } else { queued })
    }

    /// Returns the number of bytes that the socket has received and that were not read.
    pub(crate) fn unread(self) -> Option<u64> {
        match self {
            Self::Tcp(tcp) => rustix::io::ioctl_fionread(tcp),
            Self::Unix(unix) => rustix::io::ioctl_fionread(unix),
        }
        .ok()
    }
}

/// Returns the bytes in the send queue of a socket.
#[allow(unsafe_code)]
fn queue_len(tcp: &TcpStream) -> Option<usize> {
    // SAFETY: `SIOCOUTQ` on a socket writes one `int` to its argument and nothing else, and `Getter` provides room for
    // exactly that. `tcp` is a socket that stays open during the call.
    let queued = unsafe { ioctl(tcp, Getter::<SIOCOUTQ, std::ffi::c_int>::new()) };
    usize::try_from(queued.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{io::AsyncWriteExt, time::timeout};

    use super::*;
    use crate::{test_net::tcp_pair, transport::Layout};

    /// Only what hangs takes longer, also on a slow and busy machine.
    const HANG: Duration = Duration::from_secs(120);

    async fn hang_up(socket: &TcpStream, state: &mut HangUp) -> io::Result<()> {
        poll_fn(|cx| Socket::Tcp(socket).poll_hang_up(cx, state)).await
    }

    #[tokio::test]
    async fn an_end_and_a_reset_are_noticed_behind_unread_bytes() {
        for reset in [false, true] {
            let (mut far, near) = tcp_pair().await;
            let mut state = HangUp::default();
            far.write_all(&[1; 5000]).await.unwrap();
            let waiting = timeout(Duration::from_millis(50), hang_up(&near, &mut state)).await;
            assert!(waiting.is_err(), "bytes are not an end");
            if reset {
                socket2::SockRef::from(&far)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            drop(far);
            let end = timeout(HANG, hang_up(&near, &mut state)).await;
            match (end.unwrap(), reset) {
                (Ok(()), false) => {}
                (Err(error), true) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
                (end, _) => panic!("{end:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_arrived_while_waiting_for_the_end_is_read_afterwards() {
        let (mut far, near) = tcp_pair().await;
        let mut state = HangUp::default();
        far.write_all(&[1; 5000]).await.unwrap();
        let waiting = timeout(Duration::from_millis(50), hang_up(&near, &mut state)).await;
        assert!(waiting.is_err() && state.cleared);

        let mut chain = EvBuffer::new();
        while chain.len() < 5000 {
            let n = match state.read_held(Socket::Tcp(&near), &mut chain, 1000, Layout::Segments) {
                Some(read) => read.unwrap(),
                None => {
                    let read = poll_fn(|cx| {
                        Socket::Tcp(&near).poll_recv(cx, &mut chain, 1000, Layout::Segments)
                    });
                    timeout(HANG, read).await.unwrap().unwrap()
                }
            };
            assert!(n > 0);
        }
        far.write_all(&[2; 10]).await.unwrap();
        while chain.len() < 5010 {
            if state
                .read_held(Socket::Tcp(&near), &mut chain, 1000, Layout::Segments)
                .is_none()
            {
                let read = poll_fn(|cx| {
                    Socket::Tcp(&near).poll_recv(cx, &mut chain, 1000, Layout::Segments)
                });
                timeout(HANG, read).await.unwrap().unwrap();
            }
        }
        assert!(!state.cleared);
    }

    #[tokio::test]
    async fn the_send_queue_shrinks_to_nothing_when_the_peer_has_everything() {
        let (mut far, _near) = tcp_pair().await;
        far.write_all(&[1; 1000]).await.unwrap();
        far.shutdown().await.unwrap();
        let empty = async {
            while Socket::Tcp(&far).unacknowledged() != Some(0) {
                tokio::task::yield_now().await;
            }
        };
        timeout(HANG, empty).await.unwrap();
    }

    /// The kernel does not forget the length of a send queue that a reset has discarded.
    #[tokio::test]
    async fn after_a_reset_nothing_waits_for_an_acknowledgement() {
        let (near, far) = tcp_pair().await;
        // Neither is read, so the sender stays behind.
        while near.try_write(&[1; 64 * 1024]).is_ok() {}
        assert!(Socket::Tcp(&near).unacknowledged() > Some(0));
        socket2::SockRef::from(&far)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(far);
        let mut state = HangUp::default();
        let end = timeout(HANG, hang_up(&near, &mut state)).await;
        assert!(end.unwrap().is_err());
        assert_eq!(Socket::Tcp(&near).unacknowledged(), Some(0));
    }
}
