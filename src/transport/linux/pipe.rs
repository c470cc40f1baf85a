//! The pipes that bytes pass on their way from socket to socket, and the pool of them.

use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with},
};

use crate::{buffer::chain::EvBuffer, stats, sync::Global, transport::Spliced};

/// The default for the most pipes of this process. They may hold half of what Linux grants a user without privilege.
const PIPES_MAX: usize = 32;

/// The requested size of a pipe, in bytes. A smaller one costs more calls than copying saves.
const PIPE_LEN: usize = 1 << 20;

/// The smallest useful size of a pipe, in bytes. The kernel gives small pipes to a user that holds many.
const PIPE_LEN_MIN: usize = 256 << 10;

/// The number of leases that do not try to make a pipe after the kernel has refused one. A flow asks about once per
/// mebibyte, and a refusal each time made it 5 % slower than one that only copies.
const LEASES_AFTER_REFUSAL: u32 = 64;

static POOL: Global<Pool> = Global::new();

static MAX_PIPES: AtomicUsize = AtomicUsize::new(PIPES_MAX);

/// Returns the most pipes that the process uses.
pub(crate) fn max_pipes() -> usize {
    MAX_PIPES.load(Relaxed)
}

/// Sets the most pipes that the process uses, and closes idle ones beyond it.
pub(crate) fn set_max_pipes(n: usize) {
    MAX_PIPES.store(n, Relaxed);
    let mut pool = POOL.lock();
    let surplus = pool.made.saturating_sub(n).min(pool.idle.len());
    let keep = pool.idle.len() - surplus;
    let closed = pool.idle.split_off(keep);
    pool.made -= surplus;
    drop(pool);
    drop(closed);
}

/// The empty pipes, and the number of all pipes.
#[derive(Debug, Default)]
struct Pool {
    idle: Vec<PipeFds>,
    made: usize,
    /// The number of pipes of stalled flows.
    stalled: usize,
    /// The number of leases that do not try to make a pipe.
    refused: u32,
}

impl Pool {
    /// Counts one more pipe, if another may be made.
    fn try_count(&mut self) -> bool {
        if self.made >= max_pipes() {
            return false;
        }
        let tries = self.refused == 0;
        self.refused = self.refused.saturating_sub(1);
        self.made += usize::from(tries);
        tries
    }
}

#[derive(Debug)]
struct PipeFds {
    output: OwnedFd,
    input: OwnedFd,
    size: u32,
}

/// A pipe leased from the pool of the process.
///
/// Dropping an empty pipe returns it to the pool; dropping one that holds bytes closes it. So a leased pipe is always
/// empty, and no flow sees the bytes of another.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// `None` while the pipe is made or dropped.
    fds: Option<PipeFds>,
    /// Bytes in the pipe.
    len: u32,
    /// The pipe counts as one of a stalled flow.
    is_stalled: bool,
}

impl Pipe {
    /// Returns an empty pipe; `None` if all are in use, or if the kernel gives no descriptor or memory.
    pub(crate) fn lease() -> Option<Self> {
        let leased = Self::lease_or_make();
        match leased {
            Some(_) => stats::pipe_leased(),
            None => stats::pipe_refused(),
        }
        leased
    }

    fn lease_or_make() -> Option<Self> {
        let mut pool = POOL.lock();
        if let Some(fds) = pool.idle.pop() {
            return Some(Self {
                fds: Some(fds),
                len: 0,
                is_stalled: false,
            });
        }
        if !pool.try_count() {
            return None;
        }
        drop(pool);
        // The pipe is counted now, so that dropping it gives the place back.
        let mut pipe = Self {
            fds: None,
            len: 0,
            is_stalled: false,
        };
        let Ok(fds) = PipeFds::new(PIPE_LEN) else {
            POOL.lock().refused = LEASES_AFTER_REFUSAL;
            return None;
        };
        pipe.fds = Some(fds);
        Some(pipe)
    }

    /// Returns the number of bytes in the pipe.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves all bytes of the pipe to the back of `chain`.
    pub(crate) fn move_to_chain(&mut self, chain: &mut EvBuffer) -> io::Result<()> {
        struct Output<'a>(&'a OwnedFd);
        impl io::Read for Output<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                Ok(rustix::io::read(self.0, buf)?)
            }
        }
        let Some(fds) = &self.fds else {
            return Ok(());
        };
        while self.len > 0 {
            match chain.read_from(&mut Output(&fds.output), self.len as usize) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.len -= n as u32,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns whether the pipe of a stalled flow may keep its bytes. At most half of the pipes may, so that stalled
    /// flows do not keep all others from being spliced.
    pub(crate) fn keep_stalled(&mut self) -> bool {
        if !self.is_stalled {
            let mut pool = POOL.lock();
            self.is_stalled = pool.stalled < max_pipes() / 2;
            pool.stalled += usize::from(self.is_stalled);
        }
        self.is_stalled
    }

    fn fds(&self) -> io::Result<&PipeFds> {
        self.fds
            .as_ref()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Fills the pipe up to `limit` bytes.
    pub(super) fn fill(&mut self, from: &socket2::Socket, limit: usize) -> io::Result<Spliced> {
        let fds = self.fds()?;
        let room = limit.min(fds.size as usize).saturating_sub(self.len());
        if room == 0 {
            return Ok(Spliced::Full);
        }
        match splice(from, &fds.input, room) {
            Ok(n) if n > 0 => {
                self.len += n as u32;
                Ok(Spliced::Bytes(n))
            }
            // The socket is empty or at its end; or the pipe is full, since it counts pieces and small ones fill it
            // early; or there is an urgent mark, which only a read passes.
            Ok(_) | Err(Errno::AGAIN) if self.len > 0 => match peek(from)? {
                0 => Ok(Spliced::End),
                _ => Ok(Spliced::Full),
            },
            Ok(_) => Ok(Spliced::Refused),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(self.refusal()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the outcome for a source that cannot be spliced from: what the pipe holds has to leave it before a read.
    fn refusal(&self) -> Spliced {
        match self.len {
            0 => Spliced::Refused,
            _ => Spliced::Full,
        }
    }

    /// Moves to `to` what that takes; `None` if it does not take a splice.
    pub(super) fn write_to(&mut self, to: &socket2::Socket) -> io::Result<Option<usize>> {
        match splice(&self.fds()?.output, to, self.len()) {
            Ok(n) => {
                self.len -= n as u32;
                if std::mem::take(&mut self.is_stalled) {
                    POOL.lock().stalled -= 1;
                }
                stats::spliced(n);
                Ok(Some(n))
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Splices without `SPLICE_F_MORE`, which makes the kernel delay the last bytes.
fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    len: usize,
) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, len, SpliceFlags::NONBLOCK)
}

/// Returns the number of bytes that a read of one byte would bring.
pub(super) fn peek(socket: &socket2::Socket) -> io::Result<usize> {
    socket.peek(&mut [std::mem::MaybeUninit::uninit()])
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let fds = self.fds.take();
        if fds.is_some() {
            stats::pipe_returned();
        }
        let fds = fds.filter(|_| self.len == 0);
        let mut pool = POOL.lock();
        pool.stalled -= usize::from(self.is_stalled);
        match fds {
            Some(fds) if pool.made <= max_pipes() => pool.idle.push(fds),
            closed => {
                pool.made -= 1;
                drop(pool);
                drop(closed);
            }
        }
    }
}

impl PipeFds {
    /// Makes a pipe for about `len` bytes; the kernel decides.
    fn new(len: usize) -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = fcntl_setpipe_size(&input, len)?;
        if size < PIPE_LEN_MIN {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self {
            output,
            input,
            size: size as u32,
        })
    }
}

/// Serialises the tests that need a pipe, or the lack of one: they share the pipes of the process.
#[cfg(test)]
pub(crate) fn pipe_test_lock() -> impl Drop {
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
        let _all = pipe_test_lock();
        let ((mut source, from), (to, mut sink)) = (pair(), pair());
        let mut pipe = Pipe::lease().unwrap();
        source.write_all(b"through the pipe").unwrap();
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::Bytes(16));
        assert_eq!(pipe.fill(&from, 16).unwrap(), Spliced::Full, "at the limit");
        assert_eq!(pipe.write_to(&to).unwrap(), Some(16));
        let mut received = [0; 16];
        sink.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"through the pipe");
    }

    #[test]
    fn an_empty_socket_and_a_full_pipe_differ() {
        let _all = pipe_test_lock();
        let (mut source, from) = pair();
        let mut pipe = Pipe::lease().unwrap();
        let error = pipe.fill(&from, usize::MAX).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::WouldBlock,
            "empty pipe: the socket has nothing"
        );
        // Each write takes a slot: the pipe has no slot left long before it holds all its bytes.
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
        pipe.move_to_chain(&mut chain).unwrap();
        assert!(pipe.is_empty() && chain == vec![b'x'; filled]);
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::Bytes(1));
        assert_eq!(pipe.fill(&from, usize::MAX).unwrap(), Spliced::End);
        pipe.move_to_chain(&mut chain).unwrap();
        let end = pipe.fill(&from, usize::MAX).unwrap();
        assert_eq!(end, Spliced::Refused, "a read sees the end");
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_never_leased_again() {
        let _all = pipe_test_lock();
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
    fn bytes_that_a_socket_refuses_stay_in_the_pipe() {
        let _all = pipe_test_lock();
        let (mut source, from) = pair();
        source.write_all(b"kept").unwrap();
        let mut pipe = Pipe::lease().unwrap();
        pipe.fill(&from, usize::MAX).unwrap();
        let unconnected =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        assert!(pipe.write_to(&unconnected).is_err());
        let mut chain = EvBuffer::new();
        pipe.move_to_chain(&mut chain).unwrap();
        assert_eq!(chain, b"kept"[..]);
    }

    #[test]
    fn a_lease_tries_again_a_while_after_a_refusal() {
        let mut pool = Pool::default();
        assert!(pool.try_count());
        pool.refused = LEASES_AFTER_REFUSAL;
        for _ in 0..LEASES_AFTER_REFUSAL {
            assert!(!pool.try_count());
        }
        while pool.try_count() {}
        assert_eq!(pool.made, PIPES_MAX);
    }

    #[test]
    fn the_number_of_pipes_is_a_setting() {
        let _all = pipe_test_lock();
        drop((Pipe::lease().unwrap(), Pipe::lease().unwrap()));
        set_max_pipes(1);
        let one = Pipe::lease().unwrap();
        assert!(Pipe::lease().is_none());
        set_max_pipes(0);
        drop(one);
        assert_eq!(POOL.lock().idle.len(), 0);
        assert!(Pipe::lease().is_none());
        set_max_pipes(PIPES_MAX);
        assert!(Pipe::lease().is_some());
    }

    #[test]
    fn half_of_the_pipes_may_keep_the_bytes_of_stalled_flows() {
        let _all = pipe_test_lock();
        let mut pipes: Vec<Pipe> = std::iter::from_fn(Pipe::lease).take(4).collect();
        set_max_pipes(4);
        let kept = |pipes: &mut Vec<Pipe>| {
            let kept = pipes.iter_mut().map(|pipe| pipe.keep_stalled());
            kept.collect::<Vec<_>>()
        };
        assert_eq!(kept(&mut pipes), [true, true, false, false]);
        assert_eq!(kept(&mut pipes), [true, true, false, false], "counted once");
        pipes.remove(0);
        assert_eq!(kept(&mut pipes), [true, true, false]);
        let ((mut source, from), (to, _sink)) = (pair(), pair());
        source.write_all(b"moves").unwrap();
        pipes[0].fill(&from, usize::MAX).unwrap();
        pipes[0].write_to(&to).unwrap();
        assert!(pipes[2].keep_stalled(), "a flow that moves is not stalled");
        drop(pipes);
        assert_eq!(POOL.lock().stalled, 0);
        set_max_pipes(PIPES_MAX);
    }

    #[test]
    fn a_refused_or_too_small_pipe_is_an_error() {
        assert!(PipeFds::new(usize::MAX / 4).is_err());
        let small = PipeFds::new(PIPE_LEN_MIN / 2).unwrap_err();
        assert_eq!(small.kind(), io::ErrorKind::QuotaExceeded);
        assert!(PipeFds::new(PIPE_LEN_MIN).is_ok());
    }

    #[test]
    fn a_source_or_sink_that_does_not_splice_is_no_error() {
        let _all = pipe_test_lock();
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
        assert_eq!(pipe.write_to(&to).unwrap(), None);
        assert_eq!(pipe.len(), 4);
    }
}
