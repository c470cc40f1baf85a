//! The load of the candidates. It checks every byte that comes back; a wrong one fails the measurement.

pub mod background;
pub mod bulk;
pub mod digest;
pub mod download;
pub mod frames;
pub mod http;
pub mod idle;
pub mod lines;
pub mod paced;
pub mod ping_pong;
pub mod stalled;
pub mod upstream;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{net::TcpStream, time::timeout};

use upstream::Upstream;

/// No measurement takes this long, so one that does hangs.
const STUCK: Duration = Duration::from_secs(300);

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that has reached the upstream. One after the other, so that no queue of connections overflows.
async fn connect_through(proxy: SocketAddr, upstream: &Upstream) -> Result<TcpStream> {
    let before = upstream.totals().connections;
    let stream = connect(proxy).await?;
    upstream.until(|totals| totals.connections > before).await?;
    Ok(stream)
}

/// Runs one job for each item at the same time, and fails with the first that fails.
async fn together<I, F, T>(
    items: impl IntoIterator<Item = I>,
    job: impl Fn(I) -> F,
) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let local = tokio::task::LocalSet::new();
    let jobs: Vec<_> = items
        .into_iter()
        .map(|item| local.spawn_local(job(item)))
        .collect();
    let all = local.run_until(async {
        let mut results = Vec::with_capacity(jobs.len());
        for job in jobs {
            results.push(job.await??);
        }
        Ok(results)
    });
    timeout(STUCK, all).await.context("hangs")?
}
