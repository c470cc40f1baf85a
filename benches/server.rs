//! What a line server costs: CPU time per request with 64 connections, and memory per idle connection.
//!
//! ```text
//! cargo bench --bench server                        # everything, about four minutes
//! cargo bench --bench server -- --quick             # fewer rounds
//! ```
//!
//! Each measurement runs the server in a process of its own. The candidates take turns, in rounds, and the tables show
//! medians; all is pinned to one CPU. CPU times are those of the server alone, and every answer is compared. Only the
//! ratios mean something: they are against the row marked `=1`.

mod support;

use std::{env, net::SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use support::{
    Flavour, Result, check, pin,
    process::{self, Process},
    rounds,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_evbuffer::{BufferEvent, EolStyle, Event, SharedEvBuffer};
use tokio_util::codec::{Framed, LinesCodec};

/// A request and its answer, of 40 bytes each.
const LINE: &[u8; 40] = b"a line of forty bytes, its LF included.\n";

/// Echoes lines, each in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// A loop over one `BytesMut` for input and one for output, tuned by hand.
    HandTuned,
    /// `BufStream`, flushed after each line: what is written first.
    BufStreamFlushed,
    FramedSend,
    FramedForward,
    /// One guard of input and one of output for all lines that are there.
    Guards,
    /// `AsyncBufRead` and `AsyncWrite` of the handle.
    AsyncBufRead,
    /// `readln` and `add` for each line.
    Readln,
    Callbacks,
}

impl Candidate {
    const ALL: [Self; 8] = [
        Self::HandTuned,
        Self::BufStreamFlushed,
        Self::FramedSend,
        Self::FramedForward,
        Self::Guards,
        Self::AsyncBufRead,
        Self::Readln,
        Self::Callbacks,
    ];
    const NAMES: [&str; 8] = [
        "BytesMut, tuned by hand",
        "BufStream, flush per line",
        "Framed, send",
        "Framed, forward",
        "BufferEvent, guards",
        "BufferEvent, AsyncBufRead",
        "BufferEvent, readln + add",
        "BufferEvent, callbacks",
    ];

    fn named(name: &str) -> Result<Self> {
        let named = Self::ALL
            .into_iter()
            .find(|candidate| format!("{candidate:?}") == name);
        named.ok_or_else(|| format!("no such candidate: {name}").into())
    }

    async fn serve(self, stream: TcpStream) -> Result<()> {
        match self {
            Self::HandTuned => hand_tuned(stream).await,
            Self::BufStreamFlushed => buf_stream_flushed(stream).await,
            Self::FramedSend => framed_send(stream).await,
            Self::FramedForward => framed_forward(stream).await,
            Self::Guards => guards(BufferEvent::new(stream)).await,
            Self::AsyncBufRead => async_buf_read(BufferEvent::new(stream)).await,
            Self::Readln => readln(BufferEvent::new(stream)).await,
            Self::Callbacks => {
                callbacks(stream);
                Ok(())
            }
        }
    }
}

async fn hand_tuned(mut stream: TcpStream) -> Result<()> {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    loop {
        input.reserve(16 * 1024);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some(end) = memchr::memchr(b'\n', &input) {
            output.extend_from_slice(&input[..=end]);
            input.advance(end + 1);
        }
        stream.write_all_buf(&mut output).await?;
    }
}

async fn buf_stream_flushed(stream: TcpStream) -> Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        stream.flush().await?;
        line.clear();
    }
    Ok(())
}

async fn framed_send(stream: TcpStream) -> Result<()> {
    let mut lines = Framed::new(stream, LinesCodec::new());
    while let Some(line) = lines.next().await {
        lines.send(line?).await?;
    }
    Ok(())
}

async fn framed_forward(stream: TcpStream) -> Result<()> {
    let (sink, lines) = Framed::new(stream, LinesCodec::new()).split();
    Ok(lines.forward(sink).await?)
}

async fn guards(connection: BufferEvent) -> Result<()> {
    let mut seen = 0;
    while connection.input().readable(seen + 1).await.is_ok() {
        let (mut input, mut output) = (connection.input().lock(), connection.output().lock());
        echo_lines(&mut input, &mut output)?;
        seen = input.len();
    }
    Ok(())
}

/// Adds each whole line of `input` to `output`.
fn echo_lines(
    input: &mut tokio_evbuffer::EvBuffer,
    output: &mut tokio_evbuffer::EvBuffer,
) -> Result<()> {
    while let Some(line) = input.search_eol(0, EolStyle::Lf) {
        let len = line.at + line.len;
        let line = input.pullup(len).ok_or("no memory for a line")?;
        output.add(line)?;
        input.drain(len)?;
    }
    Ok(())
}

async fn async_buf_read(mut connection: BufferEvent) -> Result<()> {
    let mut line = Vec::new();
    while connection.read_until(b'\n', &mut line).await? > 0 {
        connection.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

async fn readln(connection: BufferEvent) -> Result<()> {
    let (input, output) = (connection.input(), connection.output());
    let mut seen = 0;
    while input.readable(seen + 1).await.is_ok() {
        while let Some(line) = line_or_seen(input, &mut seen)? {
            let mut output = output.lock();
            output.add(&line)?;
            output.add(b"\n")?;
        }
    }
    Ok(())
}

/// The next line; if there is none, `seen` is among how many bytes.
fn line_or_seen(input: &SharedEvBuffer, seen: &mut usize) -> Result<Option<Bytes>> {
    let mut input = input.lock();
    let line = input.readln(EolStyle::Lf)?;
    *seen = input.len();
    Ok(line)
}

fn callbacks(stream: TcpStream) {
    BufferEvent::builder()
        .on_read(|connection| {
            let (mut input, mut output) = (connection.input().lock(), connection.output().lock());
            if echo_lines(&mut input, &mut output).is_err() {
                connection.abort();
            }
        })
        .on_event(|connection, event| {
            if !matches!(event, Event::Closed) {
                connection.abort();
            }
        })
        .spawn(stream)
        .detach();
}

/// How much is done.
#[derive(Clone, Copy)]
struct Scale {
    rounds: usize,
    connections: usize,
    /// Requests at depth 1; at depth 32 eight times as many.
    requests: usize,
    idle: usize,
}

const FULL: Scale = Scale {
    rounds: 5,
    connections: 64,
    requests: 200_000,
    idle: 10_000,
};
const QUICK: Scale = Scale {
    rounds: 3,
    requests: 64_000,
    idle: 2_000,
    ..FULL
};
/// Only that it runs: for `cargo test --benches`.
const SMOKE: Scale = Scale {
    rounds: 1,
    connections: 4,
    requests: 400,
    idle: 8,
};

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    pin::pin_to_one_cpu()?;
    process::allow_many_files();
    if let [first, candidate, flavour] = &args[..] {
        if first == "--serve" {
            return serve(Candidate::named(candidate)?, Flavour::named(flavour)?);
        }
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let scale = match (has("--bench"), has("--quick")) {
        (false, _) => SMOKE,
        (true, true) => QUICK,
        (true, false) => FULL,
    };
    let load = Builder::new_current_thread().enable_all().build()?;
    for depth in [32, 1] {
        for flavour in Flavour::ALL {
            requests(&load, flavour, scale, depth)?;
        }
    }
    idle(&load, scale)
}

/// The server of one measurement. Prints its address.
fn serve(candidate: Candidate, flavour: Flavour) -> Result<()> {
    process::answer_with_figures();
    // On a worker, where the connections are.
    flavour.runtime()?.block_on(async move {
        tokio::spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    // That a connection ends in an error is for the client to notice, which compares the answers.
                    let _ = candidate.serve(stream).await;
                });
            }
        })
        .await?
    })
}

fn start(candidate: Candidate, flavour: Flavour) -> Result<(Process, SocketAddr)> {
    let mut server = Process::start(&[
        "--serve",
        &format!("{candidate:?}"),
        &format!("{flavour:?}"),
    ])?;
    let addr = server.line()?.parse()?;
    Ok((server, addr))
}

fn requests(load: &Runtime, flavour: Flavour, scale: Scale, depth: usize) -> Result<()> {
    let all = if depth == 1 {
        scale.requests
    } else {
        scale.requests * 8
    };
    let batches = all / depth / scale.connections;
    let count = (batches * depth * scale.connections) as f64;
    let title = format!(
        "{} connections, {depth} request(s) at a time, {flavour:?}: CPU us/request",
        scale.connections
    );
    rounds::table(&title, &Candidate::NAMES, 0, scale.rounds, |candidate| {
        let (mut server, addr) = start(Candidate::ALL[candidate], flavour)?;
        load.block_on(ask(addr, scale.connections, depth, 2))?;
        let before = server.cpu()?;
        load.block_on(ask(addr, scale.connections, depth, batches))?;
        Ok((server.cpu()? - before).as_secs_f64() * 1e6 / count)
    })
}

/// Sends `batches` of `depth` requests over each connection, and waits for the answers of one before the next.
async fn ask(addr: SocketAddr, connections: usize, depth: usize, batches: usize) -> Result<()> {
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        tasks.spawn(async move {
            let questions = LINE.repeat(depth);
            let mut answers = vec![0; questions.len()];
            for _ in 0..batches {
                stream.write_all(&questions).await?;
                stream.read_exact(&mut answers).await?;
                check(answers == questions)?;
            }
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

/// Memory is not a matter of chance: one round.
fn idle(load: &Runtime, scale: Scale) -> Result<()> {
    println!(
        "\nmemory per idle connection, {}: bytes of RSS (bytes of live heap)",
        scale.idle
    );
    println!("  {:<28}{:>20}{:>20}", "", "new", "after a request");
    for candidate in [
        Candidate::HandTuned,
        Candidate::Readln,
        Candidate::Callbacks,
    ] {
        let (mut server, addr) = start(candidate, Flavour::MultiThread)?;
        // What the first connections leave behind is the process's: buffers of the runtime, caches of the allocator.
        load.block_on(ask(addr, 8, 32, 2))?;
        let start = server.memory()?;
        let per_connection = |(rss, heap): (i64, i64)| {
            let count = scale.idle as i64;
            format!("{} ({})", (rss - start.0) / count, (heap - start.1) / count)
        };
        let mut streams = Vec::with_capacity(scale.idle);
        for _ in 0..scale.idle {
            streams.push(load.block_on(TcpStream::connect(addr))?);
        }
        // The last one is served when it has its answer.
        load.block_on(one_request(streams.last_mut().ok_or("no connection")?))?;
        let new = per_connection(server.memory()?);
        for stream in &mut streams {
            load.block_on(one_request(stream))?;
        }
        let used = per_connection(server.memory()?);
        println!(
            "  {:<28}{new:>20}{used:>20}",
            Candidate::NAMES[candidate as usize]
        );
    }
    Ok(())
}

async fn one_request(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; LINE.len()];
    stream.write_all(LINE).await?;
    stream.read_exact(&mut answer).await?;
    check(answer == *LINE)
}
