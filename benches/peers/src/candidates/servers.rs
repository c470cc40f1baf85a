//! Servers of this program, each written as a user of its crate would write it. All echo lines, apart from those whose
//! comment says otherwise.

use std::{convert::Infallible, io};

use anyhow::Result;
use bytes::{Buf, BytesMut};
use clap::ValueEnum;
use futures::{SinkExt, StreamExt};
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{BufferEvent, EolStyle, EvBuffer, Watermarks, shared::LengthDecoder};
use tokio_util::codec::{Framed, LengthDelimitedCodec, LinesCodec};

use super::Flavour;
use crate::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// `BufferEvent`: all complete lines under one guard of the input and one of the output.
    Batch,
    /// `BufferEvent`: the same in its read callback.
    Callback,
    /// `BufferEvent`: `readln` and `add` for each line, without a guard and without a flush.
    Plain,
    /// `BufferEvent`: `read_lines` under one guard of the input, and one guard of the output.
    ReadLines,
    /// `BufferEvent`: `next_line` for each line, and `add`.
    NextLine,
    /// `BufferEvent` as `AsyncBufRead` and `AsyncWrite`, without a flush.
    Stream,
    /// `BufStream`, a flush for each line.
    BufStream,
    /// `Framed`, a `send` for each line.
    FramedSend,
    /// `Framed`, its stream forwarded into its sink.
    FramedForward,
    /// One `BytesMut` in, one out, written when the input has no complete line: tuned by hand.
    BytesMut,
    /// The same over a `BufferEvent` instead of the socket, as a library with its own buffers would use one.
    BytesMutOver,
    /// An HTTP server of hyper, over the socket.
    Hyper,
    /// The same over a `BufferEvent`.
    HyperOver,
    /// `BufferEvent`: `frames` with a `LengthDecoder`; answers with the number of bytes at the end of the stream.
    Frames,
    /// `Framed` with `LengthDelimitedCodec`; the same answer.
    FramedLength,
    /// bufferevents in C.
    Libevent,
}

impl Server {
    pub(super) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Batch
                | Self::NextLine
                | Self::ReadLines
                | Self::Callback
                | Self::Plain
                | Self::Stream
                | Self::BytesMutOver
                | Self::Frames
                | Self::HyperOver
        )
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
    process::serve_parent(listener.local_addr()?);
    loop {
        let client = listener.accept().await?.0;
        client.set_nodelay(true)?;
        match server {
            Server::Batch => drop(tokio::spawn(batch(client))),
            Server::Callback => callback(client),
            Server::Plain => drop(tokio::spawn(plain(client))),
            Server::ReadLines => drop(tokio::spawn(read_lines(client))),
            Server::NextLine => drop(tokio::spawn(next_line(client))),
            Server::Stream => drop(tokio::spawn(stream(client))),
            Server::BufStream => drop(tokio::spawn(buf_stream(client))),
            Server::FramedSend => drop(tokio::spawn(framed_send(client))),
            Server::FramedForward => drop(tokio::spawn(framed_forward(client))),
            Server::BytesMut => drop(tokio::spawn(bytes_mut(client))),
            Server::BytesMutOver => drop(tokio::spawn(bytes_mut(BufferEvent::new(client)))),
            Server::Hyper => drop(tokio::spawn(hyper(client))),
            Server::HyperOver => drop(tokio::spawn(hyper(BufferEvent::new(client)))),
            Server::Frames => drop(tokio::spawn(frames(client))),
            Server::FramedLength => drop(tokio::spawn(framed_length(client))),
            Server::Libevent => unreachable!("does not run on Tokio"),
        }
    }
}

async fn batch(client: TcpStream) -> io::Result<()> {
    let event = BufferEvent::new(client);
    while event.input().wait_for(has_line).await.is_ok() {
        send_lines_back(&event)?;
    }
    Ok(())
}

fn callback(client: TcpStream) {
    BufferEvent::builder()
        .on_read(|event| {
            if send_lines_back(event).is_err() {
                event.abort();
            }
        })
        .spawn(client)
        .detach();
}

fn send_lines_back(event: &BufferEvent) -> io::Result<()> {
    let (mut input, mut output) = (event.input().lock(), event.output().lock());
    while let Some(eol) = input.search_eol(0, EolStyle::Lf) {
        let len = eol.at + eol.len;
        let line = input.pullup(len).ok_or(io::ErrorKind::OutOfMemory)?;
        output.add(line)?;
        input.drain(len)?;
    }
    Ok(())
}

async fn plain(client: TcpStream) -> io::Result<()> {
    let event = BufferEvent::new(client);
    while event.input().wait_for(has_line).await.is_ok() {
        while let Some(line) = event.input().readln(EolStyle::Lf)? {
            event.output().add(&line)?;
            event.output().add(b"\n")?;
        }
    }
    Ok(())
}

async fn read_lines(client: TcpStream) -> io::Result<()> {
    let event = BufferEvent::new(client);
    while event.input().wait_for(has_line).await.is_ok() {
        let (mut input, mut output) = (event.input().lock(), event.output().lock());
        let mut added = Ok(());
        input.read_lines(EolStyle::Lf, |line| {
            if added.is_ok() {
                added = output.add(line).and_then(|()| output.add(b"\n"));
            }
        })?;
        added?;
    }
    Ok(())
}

/// The most that a line may have.
const LINE_MAX: usize = 8 * 1024;

async fn next_line(client: TcpStream) -> io::Result<()> {
    let event = BufferEvent::new(client);
    while let Some(line) = event
        .input()
        .next_line(EolStyle::Lf, LINE_MAX)
        .await
        .map_err(io::Error::from)?
    {
        event.output().add(&line)?;
        event.output().add(b"\n")?;
    }
    Ok(())
}

async fn stream(client: TcpStream) -> io::Result<()> {
    let mut event = BufferEvent::new(client);
    let mut line = Vec::new();
    while event.read_until(b'\n', &mut line).await? > 0 {
        event.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

fn has_line(input: &EvBuffer) -> bool {
    input.search_eol(0, EolStyle::Lf).is_some()
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

/// Answers each request with a body of two bytes.
async fn hyper(client: impl AsyncRead + AsyncWrite + Unpin + 'static) -> hyper::Result<()> {
    let answer = service_fn(async |_| Ok::<_, Infallible>(Response::new("ok".to_owned())));
    http1::Builder::new()
        .serve_connection(TokioIo::new(client), answer)
        .await
}

/// The most that a frame may have.
const FRAME_MAX: usize = 1 << 20;

async fn frames(client: TcpStream) -> io::Result<()> {
    let event = BufferEvent::builder()
        .read_watermarks(Watermarks::with_high(2 * FRAME_MAX)?)
        .spawn(client);
    let mut frames = event.input().frames(LengthDecoder::new(FRAME_MAX));
    let mut total = 0_u64;
    while let Some(frame) = frames.next().await {
        total += frame?.len() as u64;
    }
    event.output().add(&total.to_be_bytes())?;
    event.close().await.map(drop)
}

async fn framed_length(client: TcpStream) -> io::Result<()> {
    let mut frames = LengthDelimitedCodec::builder()
        .max_frame_length(FRAME_MAX)
        .new_framed(client);
    let mut total = 0_u64;
    while let Some(frame) = frames.next().await {
        total += frame?.len() as u64;
    }
    frames.get_mut().write_all(&total.to_be_bytes()).await
}

async fn bytes_mut(mut client: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(16 * 1024);
    let mut output = BytesMut::with_capacity(16 * 1024);
    while client.read_buf(&mut input).await? > 0 {
        while let Some(end) = memchr::memchr(b'\n', &input) {
            output.extend_from_slice(&input[..=end]);
            input.advance(end + 1);
        }
        client.write_all(&output).await?;
        output.clear();
        // Reuses the memory of the consumed bytes if none are left.
        input.reserve(4 * 1024);
    }
    Ok(())
}
