//! A tunnel that compresses what goes through it.
//!
//! The two ends of the tunnel are two runs of this program. Each joins two BufferEvents, a plain one and one with
//! filters for gzip, so that everything between the two ends is compressed:
//!
//! ```text
//! client <-> [entry: plain | gzip] <-- compressed --> [exit: gzip | plain] <-> server
//! ```
//!
//! ```sh
//! cargo run --release --example gzip_tunnel         # a demonstration that ends by itself
//! cargo run --release --example gzip_tunnel -- --listen 127.0.0.1:7001 --connect 127.0.0.1:80 --end exit
//! cargo run --release --example gzip_tunnel -- --listen 127.0.0.1:7000 --connect 127.0.0.1:7001 --end entry
//! ```

mod support;

use std::{
    io::{self, Write},
    iter, mem,
    net::SocketAddr,
};

use anyhow::{Context, Result, bail, ensure};
use flate2::{
    Compression,
    write::{GzDecoder, GzEncoder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_evbuffer::{
    BufferEvent, EvBuffer,
    bufferevent::{Filter, FilterStatus, FlushMode},
    relay,
    relay::RelaySummary,
};

/// Compressed bytes that are decompressed in one step. They may become a thousand times as many.
const STEP: usize = 1024;

/// Where this program is in the tunnel.
#[derive(Clone, Copy)]
enum End {
    /// Clients are plain, the upstream is the other end.
    Entry,
    /// Clients are the other end, the upstream is plain.
    Exit,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (mut connect, mut end) = (None, None);
    let listen = support::arguments(|name, value| {
        match (name, value.as_str()) {
            ("connect", addr) => connect = Some(addr.parse().context("--connect takes IP:PORT")?),
            ("end", "entry") => end = Some(End::Entry),
            ("end", "exit") => end = Some(End::Exit),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match (listen, connect, end) {
        (Some(addr), Some(connect), Some(end)) => {
            support::listen(addr, |listener| accept(listener, connect, end)).await
        }
        (None, None, None) => demonstrate().await,
        _ => bail!("--listen, --connect and --end entry|exit need each other"),
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, end: End) {
    let serve = |stream, peer| {
        tokio::spawn(async move {
            match serve(stream, upstream, end).await {
                Ok(done) => println!("{peer}: {} bytes in, {} out", done.a_to_b, done.b_to_a),
                Err(error) => eprintln!("{peer}: {error:#}"),
            }
        });
    };
    support::accept_all(listener, serve).await
}

async fn serve(client: TcpStream, upstream: SocketAddr, end: End) -> Result<RelaySummary> {
    let upstream = TcpStream::connect(upstream)
        .await
        .with_context(|| format!("cannot connect to {upstream}"))?;
    let (client, upstream) = (BufferEvent::new(client), BufferEvent::new(upstream));
    Ok(match end {
        End::Entry => BufferEvent::join(client, compressed(upstream)).await?,
        End::Exit => BufferEvent::join(compressed(client), upstream).await?,
    })
}

/// Returns a connection whose bytes are plain here and compressed on the wire.
fn compressed(connection: BufferEvent) -> BufferEvent {
    let decompress = Decompress(GzDecoder::new(Vec::new()));
    let compress = Compress(GzEncoder::new(Vec::new(), Compression::fast()));
    connection.filter(decompress, compress)
}

struct Compress(GzEncoder<Vec<u8>>);

impl Filter for Compress {
    fn filter(
        &mut self,
        src: &mut EvBuffer,
        dst: &mut EvBuffer,
        _limit: Option<usize>,
        mode: FlushMode,
    ) -> io::Result<FilterStatus> {
        for chunk in src.chunks() {
            self.0.write_all(chunk)?;
        }
        let is_new = src.drain(usize::MAX)? > 0;
        match mode {
            FlushMode::Finished => self.0.try_finish()?,
            // The other side may wait for these bytes: leave none of them in the compressor.
            _ if is_new => self.0.flush()?,
            _ => {}
        }
        dst.add_reference(mem::take(self.0.get_mut()))?;
        Ok(FilterStatus::NeedMore)
    }
}

struct Decompress(GzDecoder<Vec<u8>>);

impl Filter for Decompress {
    fn filter(
        &mut self,
        src: &mut EvBuffer,
        dst: &mut EvBuffer,
        limit: Option<usize>,
        mode: FlushMode,
    ) -> io::Result<FilterStatus> {
        let limit = limit.unwrap_or(usize::MAX);
        while !src.is_empty() && dst.len() < limit {
            let step = src.take_bytes(src.len().min(STEP))?;
            self.0.write_all(&step)?;
            self.0.flush()?;
            dst.add_reference(mem::take(self.0.get_mut()))?;
        }
        if mode == FlushMode::Finished && src.is_empty() {
            // An error if the other end was cut off.
            self.0.try_finish()?;
            dst.add_reference(mem::take(self.0.get_mut()))?;
        }
        Ok(FilterStatus::Ok)
    }
}

/// Runs both ends and a server, and sends a text through the tunnel and back.
async fn demonstrate() -> Result<()> {
    const LINES: usize = 100_000;

    let server = TcpListener::bind("127.0.0.1:0").await?;
    let exit = TcpListener::bind("127.0.0.1:0").await?;
    let wire = TcpListener::bind("127.0.0.1:0").await?;
    let entry = TcpListener::bind("127.0.0.1:0").await?;
    let (entry_addr, wire_addr) = (entry.local_addr()?, wire.local_addr()?);
    let (exit_addr, server_addr) = (exit.local_addr()?, server.local_addr()?);
    tokio::spawn(accept(entry, wire_addr, End::Entry));
    tokio::spawn(accept(exit, server_addr, End::Exit));
    tokio::spawn(send_back(server));
    // The wire counts the bytes between the two ends.
    let on_the_wire = tokio::spawn(async move {
        let (entry, _) = wire.accept().await?;
        let exit = TcpStream::connect(exit_addr).await?;
        anyhow::Ok(relay(entry, exit).await?)
    });

    let text: String = (0..LINES)
        .map(|i| format!("line {i}: hello, hello\n"))
        .collect();
    let (mut read, mut write) = TcpStream::connect(entry_addr).await?.into_split();
    // Each message arrives whole, although the compressor would like to wait for more.
    let messages = [5, 61_100, 117_655, 119_588, 236_123];
    for len in messages {
        let message = noise(len);
        let (written, answer) = tokio::join!(write.write_all(&message), async {
            let mut answer = vec![0; len];
            read.read_exact(&mut answer).await.map(|_| answer)
        });
        written?;
        ensure!(answer? == message, "a wrong answer");
    }

    let sent = text.clone();
    let sender = tokio::spawn(async move {
        write.write_all(sent.as_bytes()).await?;
        write.shutdown().await
    });
    let mut received = String::new();
    read.read_to_string(&mut received).await?;
    sender.await??;
    ensure!(received == text, "the text arrived changed");
    let wire = on_the_wire.await??;
    let plain = text.len() + messages.iter().sum::<usize>();
    println!(
        "{plain} bytes each way were {} and {} bytes on the wire",
        wire.a_to_b, wire.b_to_a
    );
    ensure!(
        wire.a_to_b.max(wire.b_to_a) < plain as u64 / 2,
        "the wire was not compressed"
    );
    Ok(())
}

/// Bytes that compression does not make fewer.
fn noise(len: usize) -> Vec<u8> {
    let mut state: u64 = 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    iter::repeat_with(step).take(len).collect()
}

/// A server that sends everything back.
async fn send_back(listener: TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        });
    }
}
