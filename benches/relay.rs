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

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicIsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Relay,
    Copy,
    Tokio8,
    Tokio256,
}

impl Candidate {
    const ALL: [Self; 4] = [Self::Relay, Self::Copy, Self::Tokio8, Self::Tokio256];

    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Copy => "copy_bidirectional",
            Self::Tokio8 => "tokio copy 8 KiB",
            Self::Tokio256 => "tokio copy 256 KiB",
        }
    }

    async fn run(self, mut a: TcpStream, mut b: TcpStream) {
        // That a connection ends in an error is for its two ends to notice, which compare what arrives.
        let _ = match self {
            Self::Relay => {
                let _ = tokio_evbuffer::relay(a, b).await;
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
    pin_to_one_cpu()?;
    allow_many_files();
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
    for flavour in [Flavour::CurrentThread, Flavour::MultiThread] {
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
        let before = relay.cpu()?;
        load.block_on(send_bulk(&relay, connections, each))?;
        Ok((relay.cpu()? - before).as_secs_f64() / gib)
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
        let before = relay.cpu()?;
        load.block_on(send_messages(&relay, connections, each))?;
        Ok((relay.cpu()? - before).as_secs_f64() * 1e6 / messages)
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
        let start = relay.memory()?;
        let mut pairs = load.block_on(connect(&relay, scale.pairs))?;
        load.block_on(carry_each(&mut pairs, 1))?;
        let new = per_pair(relay.memory()?, start);
        load.block_on(carry_each(&mut pairs, 256 << 10))?;
        let used = per_pair(relay.memory()?, start);
        println!("  {:<22}{new:>20}{used:>28}", candidate.name());
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
    let mut measured = [const { Vec::new() }; Candidate::ALL.len()];
    for _ in 0..rounds {
        for (candidate, values) in Candidate::ALL.into_iter().zip(&mut measured) {
            values.push(measure(candidate)?);
        }
    }
    let medians = measured.map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    });
    let place = Candidate::ALL
        .iter()
        .position(|&candidate| candidate == one);
    let unit = medians[place.expect("one of the candidates")];
    println!("\n{title}");
    for (candidate, median) in Candidate::ALL.into_iter().zip(medians) {
        let mark = if candidate == one { "=1" } else { "" };
        println!(
            "  {:<22}{median:>9.3}{:>8.2} {mark}",
            candidate.name(),
            median / unit
        );
    }
    Ok(())
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

fn check(right: bool) -> Result<()> {
    if right {
        Ok(())
    } else {
        Err("other bytes came out than went in".into())
    }
}

// ------------------------------------------------------------------------------------------------ the relay's process

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    CurrentThread,
    MultiThread,
}

/// The process that relays, and where it can be reached.
struct Relaying {
    process: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    address: SocketAddr,
    upstream: TcpListener,
}

impl Relaying {
    fn start(load: &Runtime, candidate: Candidate, flavour: Flavour) -> Result<Self> {
        let upstream = std::net::TcpListener::bind("127.0.0.1:0")?;
        upstream.set_nonblocking(true)?;
        let mut process = Command::new(env::current_exe()?)
            .arg("--relay-for")
            .arg(format!("{candidate:?}"))
            .arg(format!("{flavour:?}"))
            .arg(upstream.local_addr()?.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = process.stdin.take().expect("piped");
        let answer = BufReader::new(process.stdout.take().expect("piped"));
        let upstream = {
            let _entered = load.enter();
            TcpListener::from_std(upstream)?
        };
        let mut relaying = Self {
            process,
            ask,
            answer,
            address: ([0; 4], 0).into(),
            upstream,
        };
        relaying.address = relaying.line()?.parse()?;
        Ok(relaying)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn numbers(&mut self) -> Result<[i64; 3]> {
        writeln!(self.ask)?;
        let line = self.line()?;
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next().ok_or("too few numbers");
        Ok([next()??, next()??, next()??])
    }

    /// CPU time of the process so far.
    fn cpu(&mut self) -> Result<Duration> {
        Ok(Duration::from_nanos(self.numbers()?[0] as u64))
    }

    /// Bytes of RSS and of live heap.
    fn memory(&mut self) -> Result<(i64, i64)> {
        let [_, rss, heap] = self.numbers()?;
        Ok((rss, heap))
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        // It may have gone already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Relays each connection to `upstream`, and answers each line on stdin with its figures.
fn child(args: &[String]) -> Result<()> {
    let [candidate, flavour, upstream] = args else {
        return Err("usage: --relay-for CANDIDATE FLAVOUR UPSTREAM".into());
    };
    let upstream: SocketAddr = upstream.parse()?;
    let candidate = Candidate::ALL
        .into_iter()
        .find(|one| format!("{one:?}") == *candidate);
    let candidate = candidate.ok_or("no such candidate")?;
    let mut runtime = match flavour.as_str() {
        "CurrentThread" => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    std::thread::spawn(|| {
        for line in io::stdin().lines() {
            let figures = line.map_err(Into::into).and_then(|_| figures());
            println!("{}", figures.unwrap_or_else(|error| error.to_string()));
        }
        std::process::exit(0);
    });
    // On a worker, where the relays are.
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

/// CPU time in ns, RSS and live heap in bytes.
#[cfg(target_os = "linux")]
fn figures() -> Result<String> {
    use rustix::{
        param::page_size,
        time::{ClockId, clock_gettime},
    };
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .ok_or("no resident pages")?
        .parse()?;
    Ok(format!(
        "{cpu} {} {}",
        pages * page_size(),
        LIVE.load(Relaxed)
    ))
}

#[cfg(not(target_os = "linux"))]
fn figures() -> Result<String> {
    Err("the figures of a process are known on Linux only".into())
}

#[cfg(target_os = "linux")]
fn pin_to_one_cpu() -> Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(last.ok_or("no CPU to run on")?);
    Ok(sched_setaffinity(None, &one)?)
}

#[cfg(not(target_os = "linux"))]
fn pin_to_one_cpu() -> Result<()> {
    Ok(())
}

/// Two descriptors a connection, in both processes.
fn allow_many_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If it cannot be had, connecting will say so.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Counts the bytes of memory in use.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code)]
// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}
