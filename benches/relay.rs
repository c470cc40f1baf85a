//! What a relay costs: CPU time per GiB and per message, and memory per idle pair; ours beside Tokio's.
//!
//! ```text
//! cargo bench --bench relay                         # everything, about three minutes
//! cargo bench --bench relay -- --quick bulk         # fewer rounds, only what is named: bulk, ping-pong, memory
//! ```
//!
//! Each measurement runs the relay in a process of its own: this program started anew. The candidates take turns, in
//! rounds, and the table shows medians. On Linux all is pinned to one CPU, since the wake-up of a second one costs more
//! than what is measured. CPU times are those of the relaying process, without the load. Every byte that arrives is
//! compared. Only the ratios mean something: they are against the row marked `=1`.

mod support;

use std::{env, io, net::SocketAddr};

use support::{
    Flavour, Result, check, pin,
    process::{self, Process},
    rounds,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_evbuffer::{Relay, relay::Splice};

/// What relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Relay,
    Copying,
    Copy,
    Tokio8,
    Tokio256,
}

impl Candidate {
    const ALL: [Self; 5] = [
        Self::Relay,
        Self::Copying,
        Self::Copy,
        Self::Tokio8,
        Self::Tokio256,
    ];

    const NAMES: [&str; 5] = [
        "relay",
        "relay, splice off",
        "copy_bidirectional",
        "tokio copy 8 KiB",
        "tokio copy 256 KiB",
    ];

    fn named(name: &str) -> Result<Self> {
        let named = Self::ALL
            .into_iter()
            .find(|candidate| format!("{candidate:?}") == name);
        named.ok_or_else(|| format!("no such candidate: {name}").into())
    }

    async fn run(self, mut a: TcpStream, mut b: TcpStream) {
        // That a connection ends in an error is for its two ends to notice, which compare what arrives.
        let _ = match self {
            Self::Relay => {
                let _ = tokio_evbuffer::relay(a, b).await;
                return;
            }
            Self::Copying => {
                let _ = Relay::new(a, b).splice(Splice::Never).run().await;
                return;
            }
            Self::Copy => tokio_evbuffer::copy_bidirectional(&mut a, &mut b).await,
            Self::Tokio8 => tokio::io::copy_bidirectional(&mut a, &mut b).await,
            Self::Tokio256 => {
                copy_bidirectional_with_sizes(&mut a, &mut b, 256 << 10, 256 << 10).await
            }
        };
    }
}

/// How much is done.
#[derive(Clone, Copy)]
struct Scale {
    rounds: usize,
    bulk: usize,
    messages: usize,
    pairs: usize,
}

const FULL: Scale = Scale {
    rounds: 5,
    bulk: 2 << 30,
    messages: 200_000,
    pairs: 2_000,
};
const QUICK: Scale = Scale {
    rounds: 3,
    bulk: 1 << 30,
    messages: 60_000,
    pairs: 500,
};
/// Only that it runs: for `cargo test --benches`.
const SMOKE: Scale = Scale {
    rounds: 1,
    bulk: 4 << 20,
    messages: 200,
    pairs: 4,
};

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    pin::pin_to_one_cpu()?;
    process::allow_many_files();
    if args.first().is_some_and(|arg| arg == "--relay-for") {
        return child(&args[1..]);
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let scale = match (has("--bench"), has("--quick")) {
        (false, _) => SMOKE,
        (true, true) => QUICK,
        (true, false) => FULL,
    };
    let none_named = !["bulk", "ping-pong", "memory"].into_iter().any(has);
    let load = Builder::new_current_thread().enable_all().build()?;
    for flavour in Flavour::ALL {
        if none_named || has("bulk") {
            for connections in [1, 16] {
                bulk(&load, flavour, scale, connections)?;
            }
        }
        if none_named || has("ping-pong") {
            for connections in [1, 16] {
                ping_pong(&load, flavour, scale, connections)?;
            }
        }
    }
    if none_named || has("memory") {
        memory(&load, scale)?;
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------------ measurements

fn bulk(load: &Runtime, flavour: Flavour, scale: Scale, connections: usize) -> Result<()> {
    let each = scale.bulk / connections;
    let gib = (each * connections) as f64 / (1u64 << 30) as f64;
    let title = format!("bulk one way, {connections} connection(s), {flavour:?}: CPU s/GiB");
    table(&title, Candidate::Tokio256, scale.rounds, |candidate| {
        let mut relay = Relaying::start(load, candidate, flavour)?;
        load.block_on(send_bulk(&relay, 1, 1 << 20))?;
        let before = relay.process.cpu()?;
        load.block_on(send_bulk(&relay, connections, each))?;
        Ok((relay.process.cpu()? - before).as_secs_f64() / gib)
    })
}

fn ping_pong(load: &Runtime, flavour: Flavour, scale: Scale, connections: usize) -> Result<()> {
    let each = scale.messages / connections;
    let messages = (each * connections * 2) as f64;
    let title =
        format!("64-byte ping-pong, {connections} connection(s), {flavour:?}: CPU us/message");
    table(&title, Candidate::Tokio8, scale.rounds, |candidate| {
        let mut relay = Relaying::start(load, candidate, flavour)?;
        load.block_on(send_messages(&relay, connections, 10))?;
        let before = relay.process.cpu()?;
        load.block_on(send_messages(&relay, connections, each))?;
        Ok((relay.process.cpu()? - before).as_secs_f64() * 1e6 / messages)
    })
}

/// Memory is not a matter of chance: one round, and all figures of it.
fn memory(load: &Runtime, scale: Scale) -> Result<()> {
    println!(
        "\nmemory per idle pair, {} pairs: bytes of RSS (bytes of live heap)",
        scale.pairs
    );
    println!("  {:<22}{:>20}{:>28}", "", "new", "after 256 KiB each way");
    for candidate in Candidate::ALL {
        let mut relay = Relaying::start(load, candidate, Flavour::MultiThread)?;
        let per_pair = |(rss, heap): (i64, i64), since: (i64, i64)| {
            let pairs = scale.pairs as i64;
            format!("{} ({})", (rss - since.0) / pairs, (heap - since.1) / pairs)
        };
        // What the first pairs leave behind is the process's: buffers of the runtime, caches of the allocator.
        load.block_on(async {
            let mut pairs = connect(&relay, 8).await?;
            carry_each(&mut pairs, 256 << 10).await
        })?;
        let start = relay.process.memory()?;
        let mut pairs = load.block_on(connect(&relay, scale.pairs))?;
        load.block_on(carry_each(&mut pairs, 1))?;
        let new = per_pair(relay.process.memory()?, start);
        load.block_on(carry_each(&mut pairs, 256 << 10))?;
        let used = per_pair(relay.process.memory()?, start);
        println!(
            "  {:<22}{new:>20}{used:>28}",
            Candidate::NAMES[candidate as usize]
        );
    }
    Ok(())
}

/// Lets the candidates take turns and prints the median of each, absolute and over that of `one`.
fn table(
    title: &str,
    one: Candidate,
    rounds: usize,
    mut measure: impl FnMut(Candidate) -> Result<f64>,
) -> Result<()> {
    rounds::table(
        title,
        &Candidate::NAMES,
        one as usize,
        rounds,
        |candidate| measure(Candidate::ALL[candidate]),
    )
}

// ------------------------------------------------------------------------------------------------ load

/// What is sent, over and over; its length is no multiple of any buffer's.
fn pattern() -> Vec<u8> {
    (0..65_537u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Connections through the relay, both ends of each.
async fn connect(relay: &Relaying, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let (client, server) =
            tokio::join!(TcpStream::connect(relay.address), relay.upstream.accept());
        let (client, server) = (client?, server?.0);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        pairs.push((client, server));
    }
    Ok(pairs)
}

async fn join_all(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn send_bulk(relay: &Relaying, connections: usize, each: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for (mut client, mut server) in connect(relay, connections).await? {
        tasks.spawn(async move {
            let (pattern, mut left) = (pattern(), each);
            while left > 0 {
                let piece = &pattern[..left.min(pattern.len())];
                client.write_all(piece).await?;
                left -= piece.len();
            }
            Ok(client.shutdown().await?)
        });
        tasks.spawn(async move {
            let (pattern, mut received, mut piece) = (pattern(), 0, vec![0; 65_537]);
            loop {
                let at = received % pattern.len();
                let room = pattern.len() - at;
                let n = server.read(&mut piece[..room]).await?;
                if n == 0 {
                    break;
                }
                check(piece[..n] == pattern[at..at + n])?;
                received += n;
            }
            check(received == each)
        });
    }
    join_all(tasks).await
}

async fn send_messages(relay: &Relaying, connections: usize, each: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for (mut client, mut server) in connect(relay, connections).await? {
        tasks.spawn(async move {
            let mut answer = [0; 64];
            for i in 0..each {
                let message = [i as u8; 64];
                client.write_all(&message).await?;
                client.read_exact(&mut answer).await?;
                check(answer == message)?;
            }
            Ok(())
        });
        tasks.spawn(async move {
            let mut message = [0; 64];
            while server.read_exact(&mut message).await.is_ok() {
                server.write_all(&message).await?;
            }
            Ok(())
        });
    }
    join_all(tasks).await
}

/// Sends `n` bytes each way through one pair after the other.
async fn carry_each(pairs: &mut [(TcpStream, TcpStream)], n: usize) -> Result<()> {
    let (data, mut received) = (vec![7; n], vec![0; n]);
    for (client, server) in pairs {
        let (mut from, mut to) = (client, server);
        for _ in 0..2 {
            let (sent, got) = tokio::join!(from.write_all(&data), to.read_exact(&mut received));
            sent?;
            got?;
            check(received == data)?;
            (from, to) = (to, from);
        }
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------------ the relay's process

/// The process that relays, and where it can be reached.
struct Relaying {
    process: Process,
    address: SocketAddr,
    upstream: TcpListener,
}

impl Relaying {
    fn start(load: &Runtime, candidate: Candidate, flavour: Flavour) -> Result<Self> {
        let upstream = load.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let mut process = Process::start(&[
            "--relay-for",
            &format!("{candidate:?}"),
            &format!("{flavour:?}"),
            &upstream.local_addr()?.to_string(),
        ])?;
        let address = process.line()?.parse()?;
        Ok(Self {
            process,
            address,
            upstream,
        })
    }
}

/// Relays each connection to `upstream`, and answers each line on stdin with its figures.
fn child(args: &[String]) -> Result<()> {
    let [candidate, flavour, upstream] = args else {
        return Err("usage: --relay-for CANDIDATE FLAVOUR UPSTREAM".into());
    };
    let (candidate, upstream) = (Candidate::named(candidate)?, upstream.parse()?);
    process::answer_with_figures();
    // On a worker, where the relays are.
    let runtime = Flavour::named(flavour)?.runtime()?;
    runtime.block_on(async move { tokio::spawn(accept(candidate, upstream)).await? })
}

async fn accept(candidate: Candidate, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (a, _) = listener.accept().await?;
        tokio::spawn(async move {
            let b = TcpStream::connect(upstream).await?;
            a.set_nodelay(true)?;
            b.set_nodelay(true)?;
            candidate.run(a, b).await;
            io::Result::Ok(())
        });
    }
}
