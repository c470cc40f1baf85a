//! Servers that send a fixed number of bytes to each client: from an upstream, or from a file.

use std::{fs::File, io, net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use nix::sys::sendfile::sendfile64;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{EvBuffer, Transfer, buffer::FileSegment, relay::copy_exact};

use super::{
    Flavour,
    splice::{PIPE_SIZE, pipe, shift},
};
use crate::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// `copy_exact` from the upstream.
    CopyExact,
    /// `tokio::io::copy` of `take` from the upstream.
    TokioTake,
    /// `copy` of the whole stream, this crate's and Tokio's.
    Copy,
    TokioCopy,
    /// Splice through a pipe of 1 MiB, and nothing else.
    SpliceLoop,
    /// A `Transfer` of a range of a file.
    FileTransfer,
    /// `tokio::io::copy` of a file.
    TokioFile,
    /// `sendfile`, and nothing else.
    SendfileLoop,
}

impl Source {
    /// Whether the bytes come from the upstream, and not from a file.
    pub(super) fn reads_upstream(self) -> bool {
        !matches!(
            self,
            Self::FileTransfer | Self::TokioFile | Self::SendfileLoop
        )
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::CopyExact | Self::Copy | Self::FileTransfer)
    }
}

pub(super) fn run(source: Source, upstream: SocketAddr, file: PathBuf, bytes: u64) -> Result<()> {
    Flavour::MultiThread.runtime()?.block_on(async {
        let listener = TcpListener::from_std(process::listen()?)?;
        process::serve_parent(listener.local_addr()?);
        loop {
            let client = listener.accept().await?.0;
            let file = file.clone();
            tokio::spawn(async move {
                if source.reads_upstream() {
                    let upstream = TcpStream::connect(upstream).await?;
                    from_upstream(source, upstream, client, bytes).await
                } else {
                    from_file(source, file, client, bytes).await
                }
            });
        }
    })
}

async fn from_upstream(
    source: Source,
    mut upstream: TcpStream,
    mut client: TcpStream,
    bytes: u64,
) -> io::Result<()> {
    match source {
        Source::CopyExact => copy_exact(&mut upstream, &mut client, bytes).await?,
        Source::TokioTake => {
            tokio::io::copy(&mut (&mut upstream).take(bytes), &mut client).await?;
        }
        Source::Copy => {
            tokio_evbuffer::copy(&mut upstream, &mut client).await?;
        }
        Source::TokioCopy => {
            tokio::io::copy(&mut upstream, &mut client).await?;
        }
        _ => splice_loop(&upstream, &client, bytes as usize).await?,
    }
    client.shutdown().await
}

async fn from_file(
    source: Source,
    path: PathBuf,
    mut client: TcpStream,
    bytes: u64,
) -> io::Result<()> {
    match source {
        Source::FileTransfer => {
            let mut buffer = EvBuffer::new();
            buffer.add_file(FileSegment::new(File::open(path)?, ..bytes)?)?;
            Transfer::new(tokio::io::empty(), &mut client)
                .initial(buffer)
                .run()
                .await?;
        }
        Source::TokioFile => {
            let mut file = tokio::fs::File::open(path).await?;
            tokio::io::copy(&mut file, &mut client).await?;
        }
        _ => sendfile_loop(&File::open(path)?, &client, bytes).await?,
    }
    client.shutdown().await
}

async fn splice_loop(from: &TcpStream, to: &TcpStream, bytes: usize) -> io::Result<()> {
    let (pipe_out, pipe_in) = pipe()?;
    let mut left = bytes;
    while left > 0 {
        let most = left.min(PIPE_SIZE);
        let mut held = from
            .async_io(Interest::READABLE, || shift(from, &pipe_in, most))
            .await?;
        if held == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= held;
        while held > 0 {
            held -= to
                .async_io(Interest::WRITABLE, || shift(&pipe_out, to, held))
                .await?;
        }
    }
    Ok(())
}

async fn sendfile_loop(file: &File, to: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut at = 0;
    while (at as u64) < bytes {
        let left = (bytes - at as u64) as usize;
        to.async_io(Interest::WRITABLE, || {
            sendfile64(to, file, Some(&mut at), left).map_err(io::Error::from)
        })
        .await?;
    }
    Ok(())
}
