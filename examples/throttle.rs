//! Downloads that share one rate fairly.
//!
//! All connections are members of one [`RateLimitGroup`]. However many there are and however fast they read, together
//! they get the rate of the group, and each of them about the same share. A table shows the rates.
//!
//! ```sh
//! cargo run --release --example throttle                                            # ends by itself
//! cargo run --release --example throttle -- --listen 127.0.0.1:7000 --rate 1000000  # bytes per second, for all
//! curl telnet://127.0.0.1:7000 > /dev/null                                          # in other terminals
//! ```

mod support;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_evbuffer::{
    BufferEvent,
    limits::{RateLimit, RateLimitGroup},
};

/// Clients of the demonstration.
const CLIENTS: usize = 8;
/// The time of one row of the table.
const ROW: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<()> {
    let mut rate = 1_000_000;
    let listen = support::arguments(|name, value| {
        rate = value.parse().context("--rate takes bytes per second")?;
        Ok(name == "rate")
    })?;
    match listen {
        Some(addr) => {
            let group = RateLimitGroup::new(RateLimit::write(rate)?);
            support::listen(addr, |listener| accept(listener, group)).await
        }
        None => demonstrate().await,
    }
}

async fn accept(listener: TcpListener, group: RateLimitGroup) {
    let downloads = Arc::new(Downloads::default());
    let serve = |stream, peer: SocketAddr| {
        let (group, downloads) = (group.clone(), Arc::clone(&downloads));
        tokio::spawn(async move {
            let connection = BufferEvent::builder().rate_group(&group).spawn(stream);
            downloads.add(peer, &connection);
            if let Err(error) = send(connection).await {
                println!("{peer} has left: {error}");
            }
            downloads.remove(peer);
        });
    };
    tokio::join!(support::accept_all(listener, serve), downloads.print());
}

/// Sends bytes until the client leaves. The code that produces them does not know about the limit.
async fn send(mut connection: BufferEvent) -> Result<()> {
    let block = vec![b'.'; 16 * 1024];
    loop {
        connection.write_all(&block).await?;
    }
}

/// The running downloads, each with the bytes that it had sent at the last row.
#[derive(Default)]
struct Downloads(Mutex<BTreeMap<SocketAddr, (BufferEvent, u64)>>);

impl Downloads {
    fn add(&self, peer: SocketAddr, connection: &BufferEvent) {
        let mut downloads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        downloads.insert(peer, (connection.clone(), 0));
    }

    fn remove(&self, peer: SocketAddr) {
        let mut downloads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        downloads.remove(&peer);
    }

    /// Prints the rate of each download, while there are some; never returns.
    async fn print(&self) {
        loop {
            sleep(ROW).await;
            let mut downloads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if downloads.is_empty() {
                continue;
            }
            let (mut row, mut sum) = (String::new(), 0.0);
            for (connection, before) in downloads.values_mut() {
                let now = connection.metrics().bytes_out;
                let rate = (now - *before) as f64 / ROW.as_secs_f64() / 1000.0;
                row += &format!("{rate:7.0}");
                (*before, sum) = (now, sum + rate);
            }
            println!("KB/s: {sum:7.0} ={row}");
        }
    }
}

/// Runs clients that read as fast as they can, and checks that their shares are equal.
async fn demonstrate() -> Result<()> {
    const RATE: u64 = 4_000_000;
    /// What all clients together download, four seconds' worth.
    const TOTAL: u64 = 4 * RATE;

    let group = RateLimitGroup::new(RateLimit::write(RATE)?.and_burst(RATE / 10)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(accept(listener, group.clone()));

    let received: Arc<[AtomicU64; CLIENTS]> = Arc::default();
    let start = Instant::now();
    for client in 0..CLIENTS {
        tokio::spawn(download(addr, client, Arc::clone(&received)));
    }
    println!("{CLIENTS} clients share {} KB/s:", RATE / 1000);
    let (received, total) = loop {
        sleep(ROW / 10).await;
        let received = received.each_ref().map(|client| client.load(Relaxed));
        let total: u64 = received.iter().sum();
        if total >= TOTAL {
            break (received, total);
        }
    };
    let rate = total as f64 / start.elapsed().as_secs_f64() / RATE as f64;
    let of_mean = |share: Option<&u64>| {
        let share = share.context("there are no clients")?;
        anyhow::Ok(*share as f64 / (total as f64 / CLIENTS as f64))
    };
    let (least, most) = (
        of_mean(received.iter().min())?,
        of_mean(received.iter().max())?,
    );
    println!(
        "{:.0} % of the rate in all; the smallest share is {least:.2} of the mean, the largest {most:.2}",
        rate * 100.0
    );
    ensure!(rate < 1.1, "the limit was not kept");
    ensure!(least > 0.8 && most < 1.2, "the shares are not fair");
    Ok(())
}

/// Reads as fast as it can.
async fn download(
    addr: SocketAddr,
    client: usize,
    received: Arc<[AtomicU64; CLIENTS]>,
) -> Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut buf = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buf).await?;
        received[client].fetch_add(n as u64, Relaxed);
    }
}
