//! The clients: they send requests through the proxy and check every byte of the answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    payload::{self, scrambled},
    upstream::{MESSAGE, Request, VERDICT_GOOD},
};

/// Bytes of one transfer. Each transfer has a new connection.
const TRANSFER: u64 = 32 << 20;

/// How many clients of each kind run at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) name: &'static str,
    /// Clients that transfer much: half of them send, half of them receive.
    pub(super) bulk: u64,
    /// Clients that send short requests.
    pub(super) requests: u64,
}

impl Load {
    /// Runs the clients until `deadline`, after which each finishes its transfer or request. Returns how long requests took.
    pub(super) async fn run(
        self,
        proxy: SocketAddr,
        deadline: Instant,
        tally: &Arc<Tally>,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut clients = JoinSet::new();
        for number in 0..self.bulk {
            clients.spawn(bulk(number, proxy, deadline, Arc::clone(tally)));
        }
        for number in 0..self.requests {
            clients.spawn(requests(number, proxy, deadline, Arc::clone(tally)));
        }
        let mut latencies = Vec::new();
        while let Some(client) = clients.join_next().await {
            latencies.append(&mut client.context("a client failed")??);
        }
        Ok(latencies)
    }
}

/// What went through the proxy so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Tally {
    /// Returns the bytes that were relayed, both ways together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Returns the requests that were answered.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

/// Opens a connection through the proxy, uses it once in both directions, and leaves it idle.
pub(super) async fn idle(proxy: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = ask(proxy, Request::Echo).await?;
    let message = [0x55; MESSAGE];
    stream.write_all(&message).await?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == message, "an answer is not what was sent");
    Ok(stream)
}

async fn ask(proxy: SocketAddr, request: Request) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy)
        .await
        .context("cannot connect to the proxy")?;
    stream.set_nodelay(true)?;
    stream.write_all(&request.encode()).await?;
    Ok(stream)
}

/// One transfer after the other, each on a new connection.
async fn bulk(
    number: u64,
    proxy: SocketAddr,
    deadline: Instant,
    tally: Arc<Tally>,
) -> anyhow::Result<Vec<Duration>> {
    let mut transfer = 0;
    while transfer == 0 || Instant::now() < deadline {
        let seed = scrambled(number << 32 | transfer);
        let what = || format!("client {number}, transfer {transfer}");
        if number % 2 == 0 {
            download(proxy, seed, &tally).await.with_context(what)?;
        } else {
            upload(proxy, seed, &tally).await.with_context(what)?;
        }
        transfer += 1;
    }
    Ok(Vec::new())
}

async fn download(proxy: SocketAddr, seed: u64, tally: &Tally) -> anyhow::Result<()> {
    let len = TRANSFER;
    let mut stream = ask(proxy, Request::Download { len, seed }).await?;
    let good = payload::receive(&mut stream, len, |n| tally.moved(n)).await?;
    ensure!(
        good,
        "the hash of {len} bytes received is not that of the bytes sent"
    );
    ensure!(
        stream.read(&mut [0]).await? == 0,
        "more bytes than were sent"
    );
    Ok(())
}

async fn upload(proxy: SocketAddr, seed: u64, tally: &Tally) -> anyhow::Result<()> {
    let len = TRANSFER;
    let mut stream = ask(proxy, Request::Upload { len }).await?;
    payload::send(&mut stream, len, seed, false, |n| tally.moved(n)).await?;
    // Half of the connection ends here; the verdict still has to come back over the other.
    stream.shutdown().await?;
    let verdict = stream.read_u8().await?;
    ensure!(
        verdict == VERDICT_GOOD,
        "the hash of {len} bytes sent is not that of the bytes received"
    );
    ensure!(
        stream.read(&mut [0]).await? == 0,
        "more bytes than were sent"
    );
    Ok(())
}

/// One request after the other on one connection.
async fn requests(
    number: u64,
    proxy: SocketAddr,
    deadline: Instant,
    tally: Arc<Tally>,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = ask(proxy, Request::Echo).await?;
    let mut latencies = Vec::new();
    let (mut message, mut answer) = ([0; MESSAGE], [0; MESSAGE]);
    while latencies.is_empty() || Instant::now() < deadline {
        let stamp = scrambled(number << 32 | latencies.len() as u64).to_ne_bytes();
        message
            .chunks_exact_mut(stamp.len())
            .for_each(|part| part.copy_from_slice(&stamp));
        let began = Instant::now();
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        latencies.push(began.elapsed());
        ensure!(
            answer == message,
            "client {number}, request {}: a wrong answer",
            latencies.len()
        );
        tally.requests.fetch_add(1, Relaxed);
        tally.moved(2 * MESSAGE);
    }
    stream.shutdown().await?;
    ensure!(
        stream.read(&mut [0]).await? == 0,
        "more bytes than were sent"
    );
    Ok(latencies)
}
