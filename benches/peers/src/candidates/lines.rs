//! Line servers of this program: each sends every line back, as a user of the crate in question would write it.

use std::io;

use anyhow::Result;
use bytes::{Buf, BytesMut};
use clap::ValueEnum;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};
use tokio_util::codec::{Framed, LinesCodec};

use super::Flavour;
use crate::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// `BufStream`, a flush for each line.
    BufStream,
    /// `Framed`, a `send` for each line.
    FramedSend,
    /// `Framed`, its stream forwarded into its sink.
    FramedForward,
    /// One `BytesMut` in, one out, written when the input has no further line: tuned by hand.
    BytesMut,
    /// bufferevents in C.
    Libevent,
}

impl Server {
    pub(super) fn is_ours(self) -> bool {
        false
    }
}

pub(super) fn run(server: Server, flavour: Flavour) -> Result<()> {
    if server == Server::Libevent {
        #[cfg(libevent)]
        return crate::libevent::run_lines();
        #[cfg(not(libevent))]
        anyhow::bail!("built without libevent");
    }
    flavour.runtime()?.block_on(serve(server))
}

async fn serve(server: Server) -> Result<()> {
    let listener = TcpListener::from_std(process::listen()?)?;
    process::obey(listener.local_addr()?);
    loop {
        let client = listener.accept().await?.0;
        client.set_nodelay(true)?;
        match server {
            Server::BufStream => drop(tokio::spawn(buf_stream(client))),
            Server::FramedSend => drop(tokio::spawn(framed_send(client))),
            Server::FramedForward => drop(tokio::spawn(framed_forward(client))),
            Server::BytesMut => drop(tokio::spawn(bytes_mut(client))),
            Server::Libevent => unreachable!("does not run on Tokio"),
        }
    }
}

async fn buf_stream(client: TcpStream) -> io::Result<()> {
    let mut stream = BufStream::new(client);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        stream.flush().await?;
        line.clear();
    }
    Ok(())
}

async fn framed_send(client: TcpStream) -> Result<(), tokio_util::codec::LinesCodecError> {
    let mut lines = Framed::new(client, LinesCodec::new());
    while let Some(line) = lines.next().await {
        lines.send(line?).await?;
    }
    Ok(())
}

async fn framed_forward(client: TcpStream) -> Result<(), tokio_util::codec::LinesCodecError> {
    let (sink, stream) = Framed::new(client, LinesCodec::new()).split::<String>();
    stream.forward(sink).await
}

async fn bytes_mut(mut client: TcpStream) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(16 * 1024);
    let mut output = BytesMut::with_capacity(16 * 1024);
    while client.read_buf(&mut input).await? > 0 {
        while let Some(end) = memchr::memchr(b'\n', &input) {
            output.extend_from_slice(&input[..=end]);
            input.advance(end + 1);
        }
        client.write_all(&output).await?;
        output.clear();
        // Takes back the room of what was advanced over, when nothing is left.
        input.reserve(4 * 1024);
    }
    Ok(())
}
