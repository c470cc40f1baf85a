//! Socket to socket through a pipe: the kernel hands its pages on, and the bytes never come into this process.

use std::{
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with},
};
use tokio::io::Interest;

use crate::{
    EvBuffer,
    sync::Global,
    transport::{Spliced, lookup::Socket},
};

/// The pipes of this process, at most. They may hold half of what Linux grants a user without privilege.
const PIPES_MAX: usize = 32;

/// Asked of the kernel for each pipe, in bytes. A smaller one costs more calls than copying saves.
const PIPE_LEN: usize = 1 << 20;

/// Below this many bytes a pipe is not worth having. To a user who holds many the kernel gives small ones.
const PIPE_LEN_MIN: usize = 256 << 10;

/// Leases that make no pipe after the kernel has refused one. A flow asks about once a mebibyte, and to be refused each
/// time made it 5 % dearer than one that only copies.
const LEASES_AFTER_REFUSAL: u32 = 64;

static POOL: Global<Pool> = Global::new();

/// The empty pipes, and how many there are in all.
#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Ends>,
    made: usize,
    /// So many leases are not to make a pipe.
    refused: u32,
}

impl Pool {
    /// Counts in one more pipe, if another may be made.
    fn count_in(&mut self) -> bool {
        if self.made >= PIPES_MAX {
            return false;
        }
        let tries = self.refused == 0;
        self.refused = self.refused.saturating_sub(1);
        self.made += usize::from(tries);
        tries
    }
}

#[derive(Debug)]
struct Ends {
    take: OwnedFd,
    put: OwnedFd,
    size: u32,
}

/// A pipe leased from the pool of the process.
///
/// Dropped when empty it goes back; dropped with bytes in it, it is closed with them. So a leased pipe is always empty
/// at first, and nobody gets the bytes of another.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Some until it is dropped.
    ends: Option<Ends>,
    /// Bytes in the pipe.
    len: u32,
}

impl Pipe {
    /// An empty pipe; `None` if all are in use, or no descriptor or memory is to be had.
    pub(crate) fn lease() -> Option<Self> {
        let mut pool = POOL.lock();
        if let Some(ends) = pool.idle.pop() {
            return Some(Self {
                ends: Some(ends),
                len: 0,
            });
        }
        if !pool.count_in() {
            return None;
        }
        drop(pool);
        // Counted from here on, since dropping it counts it out again.
        let mut pipe = Self { ends: None, len: 0 };
        let Ok(ends) = Ends::new(PIPE_LEN) else {
            POOL.lock().refused = LEASES_AFTER_REFUSAL;
            return None;
        };
        pipe.ends = Some(ends);
        Some(pipe)
    }

    /// Bytes in the pipe.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves all bytes of the pipe to the back of `chain`, for a target that cannot be spliced to.
    pub(crate) fn rescue(&mut self, chain: &mut EvBuffer) -> io::Result<()> {
        struct Taker<'a>(&'a OwnedFd);
        impl io::Read for Taker<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                Ok(rustix::io::read(self.0, buf)?)
            }
        }
        let Some(ends) = &self.ends else {
            return Ok(());
        };
        while self.len > 0 {
            match chain.read_from(&mut Taker(&ends.take), self.len as usize) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.len -= n as u32,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ends(&self) -> io::Result<&Ends> {
        self.ends
            .as_ref()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Fills the pipe up to `limit` bytes.
    fn fill(&mut self, from: &socket2::Socket, limit: usize) -> io::Result<Spliced> {
        let ends = self.ends()?;
        let room = limit.min(ends.size as usize).saturating_sub(self.len());
        if room == 0 {
            return Ok(Spliced::Full);
        }
        match splice(from, &ends.put, room) {
            Ok(n) if n > 0 => {
                self.len += n as u32;
                Ok(Spliced::Bytes(n))
            }
            // The socket is empty or at its end, or the pipe is full: it counts pieces, not bytes, and small ones fill it
            // early. Or there is an urgent mark, which only a read gets past.
            Ok(_) | Err(Errno::AGAIN) if self.len > 0 => match peek(from)? {
                0 => Ok(Spliced::End),
                _ => Ok(Spliced::Full),
            },
            Ok(_) => Ok(Spliced::Refused),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(self.refusal()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing more comes by splicing; what is there has to go on first.
    fn refusal(&self) -> Spliced {
        match self.len {
            0 => Spliced::Refused,
            _ => Spliced::Full,
        }
    }

    /// Empties the pipe as far as `to` takes it; `None` if that cannot be spliced to.
    fn drain(&mut self, to: &socket2::Socket) -> io::Result<Option<usize>> {
        match splice(&self.ends()?.take, to, self.len()) {
            Ok(n) => {
                self.len -= n as u32;
                Ok(Some(n))
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Never with `SPLICE_F_MORE`, for which the kernel would hold back the end of what is sent.
fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    len: usize,
) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, len, SpliceFlags::NONBLOCK)
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// How many bytes a read of one would bring.
fn peek(socket: &socket2::Socket) -> io::Result<usize> {
    socket.peek(&mut [std::mem::MaybeUninit::uninit()])
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.len == 0);
        let mut pool = POOL.lock();
        match ends {
            Some(ends) => pool.idle.push(ends),
            None => pool.made -= 1,
        }
    }
}

impl Ends {
    /// A pipe for `len` bytes, or for more or fewer of them as the kernel likes.
    fn new(len: usize) -> io::Result<Self> {
        let (take, put) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = fcntl_setpipe_size(&put, len)?;
        if size < PIPE_LEN_MIN {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self {
            take,
            put,
            size: size as u32,
        })
    }
}

impl Socket<'_> {
    /// Moves what has come to the pipe in `slot`, which is leased now if there was none, up to `limit` bytes in it.
    pub(crate) fn poll_splice_in(
        self,
        cx: &mut Context<'_>,
        slot: &mut Option<Pipe>,
        limit: usize,
    ) -> Poll<io::Result<Spliced>> {
        loop {
            ready!(self.poll_ready(cx, Interest::READABLE))?;
            let first = slot.is_none();
            if first {
                *slot = Pipe::lease();
            }
            let Some(pipe) = slot else {
                return Poll::Ready(Ok(Spliced::Refused));
            };
            let mut outcome = Spliced::Full;
            let moved = self.transfer(Interest::READABLE, |socket| {
                outcome = match pipe.fill(socket, limit) {
                    // It was said to be readable: at an urgent mark it is, and yet there is nothing to splice.
                    Err(error) if first && would_block(&error) && matches!(peek(socket), Ok(1)) => {
                        Spliced::Refused
                    }
                    filled => filled?,
                };
                // That less came than there was room for does not say that the socket is empty.
                Ok((0, 0))
            });
            if let Some(moved) = moved {
                return Poll::Ready(moved.map(|_| outcome));
            }
            if pipe.is_empty() {
                *slot = None;
            }
        }
    }

    /// Moves what `pipe`, which is not empty, holds to this socket; `None` if the kernel does not do that.
    pub(crate) fn poll_splice_out(
        self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            let mut outcome = None;
            let moved = self.transfer(Interest::WRITABLE, |socket| {
                outcome = pipe.drain(socket)?;
                Ok((0, 0))
            });
            match moved {
                Some(Ok(_)) => return Poll::Ready(Ok(outcome)),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => ready!(self.poll_ready(cx, Interest::WRITABLE))?,
            }
        }
    }
}

/// For tests that count on pipes, or on none: they share those of the process.
#[cfg(test)]
pub(crate) fn one_at_a_time() -> impl Drop {
    static TURN: Global<()> = Global::new();
    TURN.lock()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn pair() -> (socket2::Socket, socket2::Socket) {
        let (one, other) =
            socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        one.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
        (one, other)
    }

    #[test]
    fn bytes_pass_through_a_pipe_in_order() {
        let _all = one_at_a_time();
        let ((mut source, from), (to, mut sink)) = (pair(), pair());
        let mut pipe = Pipe::lease().unwrap();
        source.write_all(b"through the pipe").unwrap();
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::Bytes(16));
        assert_eq!(pipe.fill(&from, 16).unwrap(), Spliced::Full, "at the limit");
        assert_eq!(pipe.drain(&to).unwrap(), Some(16));
        let mut received = [0; 16];
        sink.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"through the pipe");
    }

    #[test]
    fn an_empty_socket_is_told_from_a_full_pipe() {
        let _all = one_at_a_time();
        let (mut source, from) = pair();
        let mut pipe = Pipe::lease().unwrap();
        let error = pipe.fill(&from, usize::MAX).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::WouldBlock,
            "empty pipe: the socket has nothing"
        );
        // One piece a write: the pipe has no slot left long before it has all the bytes it may hold.
        let mut filled = 0;
        loop {
            source.write_all(b"x").unwrap();
            match pipe.fill(&from, usize::MAX).unwrap() {
                Spliced::Bytes(n) => filled += n,
                Spliced::Full => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(filled < PIPE_LEN / 2, "{filled} bytes");
        drop(source);
        assert_eq!(pipe.len(), filled);
        let mut chain = EvBuffer::new();
        pipe.rescue(&mut chain).unwrap();
        assert!(pipe.is_empty() && chain == vec![b'x'; filled]);
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::Bytes(1));
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::End);
        pipe.rescue(&mut chain).unwrap();
        let end = pipe.fill(&from, usize::MAX).unwrap();
        assert_eq!(end, Spliced::Refused, "the end is for a read to see");
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_lent_again() {
        let _all = one_at_a_time();
        let (mut source, from) = pair();
        for _ in 0..2 * PIPES_MAX {
            let mut pipe = Pipe::lease().unwrap();
            source.write_all(b"secret").unwrap();
            assert_eq!(
                pipe.fill(&from, usize::MAX).unwrap(),
                Spliced::Bytes(6),
                "empty at first"
            );
        }
    }

    #[test]
    fn what_a_socket_does_not_take_is_kept() {
        let _all = one_at_a_time();
        let (mut source, from) = pair();
        source.write_all(b"kept").unwrap();
        let mut pipe = Pipe::lease().unwrap();
        pipe.fill(&from, usize::MAX).unwrap();
        let deaf =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        // Not connected: an error, and the bytes stay in the pipe.
        assert!(pipe.drain(&deaf).is_err());
        let mut chain = EvBuffer::new();
        pipe.rescue(&mut chain).unwrap();
        assert_eq!(chain, b"kept"[..]);
    }

    #[test]
    fn a_refused_pipe_is_asked_for_again_after_a_while() {
        let mut pool = Pool::default();
        assert!(pool.count_in());
        pool.refused = LEASES_AFTER_REFUSAL;
        for _ in 0..LEASES_AFTER_REFUSAL {
            assert!(!pool.count_in());
        }
        while pool.count_in() {}
        assert_eq!(pool.made, PIPES_MAX);
    }

    #[test]
    fn a_size_that_is_refused_or_not_worth_it_gives_no_pipe() {
        assert!(Ends::new(usize::MAX / 4).is_err());
        let small = Ends::new(PIPE_LEN_MIN / 2).unwrap_err();
        assert_eq!(small.kind(), io::ErrorKind::QuotaExceeded);
        assert!(Ends::new(PIPE_LEN_MIN).is_ok());
    }

    #[test]
    fn what_cannot_be_spliced_from_or_to_is_told_from_an_error() {
        let _all = one_at_a_time();
        let mut pipe = Pipe::lease().unwrap();
        let directory = std::fs::File::open("/").unwrap();
        let from = socket2::Socket::from(OwnedFd::from(directory));
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::Refused);

        let (mut source, from) = pair();
        source.write_all(b"kept").unwrap();
        pipe.fill(&from, usize::MAX).unwrap();
        let file = tempfile::tempdir().unwrap();
        let appending = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file.path().join("log"))
            .unwrap();
        let to = socket2::Socket::from(OwnedFd::from(appending));
        assert_eq!(pipe.drain(&to).unwrap(), None);
        assert_eq!(pipe.len(), 4);
    }
}
