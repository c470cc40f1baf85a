//! The limit of what a user process can do: splice through 1 MiB pipes, with no fallback and no policy.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::pipe2,
};
use tokio::{
    io::Interest,
    net::{TcpStream, tcp::WriteHalf},
};

pub(super) const PIPE_SIZE: usize = 1 << 20;

pub(super) async fn relay(mut a: TcpStream, mut b: TcpStream) -> io::Result<()> {
    let (a_in, a_out) = a.split();
    let (b_in, b_out) = b.split();
    tokio::try_join!(one_way(a_in.as_ref(), b_out), one_way(b_in.as_ref(), a_out))?;
    Ok(())
}

async fn one_way(from: &TcpStream, mut to: WriteHalf<'_>) -> io::Result<()> {
    let (pipe_out, pipe_in) = pipe()?;
    loop {
        let mut held = from
            .async_io(Interest::READABLE, || shift(from, &pipe_in, PIPE_SIZE))
            .await?;
        if held == 0 {
            break;
        }
        while held > 0 {
            let out: &TcpStream = to.as_ref();
            held -= out
                .async_io(Interest::WRITABLE, || shift(&pipe_out, out, held))
                .await?;
        }
    }
    tokio::io::AsyncWriteExt::shutdown(&mut to).await
}

/// Returns the ends of a new pipe of [`PIPE_SIZE`] bytes: the one to read from, then the one to write to.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (pipe_out, pipe_in) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    fcntl(&pipe_in, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE as i32))?;
    Ok((pipe_out, pipe_in))
}

/// Moves at most `len` bytes without waiting, and returns how many.
pub(super) fn shift(from: &impl AsFd, to: &impl AsFd, len: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    splice(from, None, to, None, len, flags).map_err(Errno::into)
}
