//! The demonstration: an upstream, the proxy as a process of its own, and clients that check every byte.

mod child;
mod load;
mod payload;
mod progress;
mod report;
mod upstream;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::time::timeout;

use self::{
    child::{Memory, ProxyProcess},
    load::{Load, Tally},
    progress::Progress,
    report::{Latency, Report, Row},
    upstream::Upstream,
};
use crate::{cli::DemoConfig, output::say, shutdown::StopRequests};

/// What runs in turn, and how many clients of each kind it has.
const PHASES: [Load; 3] = [
    Load {
        name: "bulk",
        bulk: 4,
        requests: 0,
    },
    Load {
        name: "requests",
        bulk: 0,
        requests: 8,
    },
    Load {
        name: "both at once",
        bulk: 2,
        requests: 8,
    },
];
/// Pairs that stand idle for the measurement of memory; with both their ends here, few enough for 1,024 descriptors.
const IDLE_PAIRS: usize = 320;
/// The first of them, which pay for what the process needs once, whoever comes.
const FIRST_PAIRS: usize = 64;
/// Nothing here takes long; what does not end by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the demonstration. An error is what went wrong first, a wrong byte above all.
pub(crate) async fn run(config: DemoConfig) -> anyhow::Result<()> {
    let mut stop = StopRequests::listen(false)?;
    tokio::select! {
        outcome = demonstrate(config) => outcome,
        () = stop.next() => anyhow::bail!("stopped before the end"),
    }
}

async fn demonstrate(config: DemoConfig) -> anyhow::Result<()> {
    let corrupt = Arc::new(AtomicBool::new(config.corrupt));
    let upstream = Upstream::start(corrupt)
        .await
        .context("cannot start the upstream")?;
    let proxy = timeout(
        PATIENCE,
        ProxyProcess::start(upstream.address(), config.splice),
    )
    .await
    .context("the proxy did not start in time")??;
    say(format_args!(
        "clients -> proxy {} -> upstream {}, every byte checked",
        proxy.address(),
        upstream.address()
    ));

    let idle_pair = idle_pair_memory(&proxy).await.context("idle pairs")?;
    let length = config.duration / PHASES.len() as u32;
    let mut rows = Vec::with_capacity(PHASES.len());
    for load in PHASES {
        rows.push(measure(load, length, &proxy).await.context(load.name)?);
    }
    let report = Report {
        rows,
        idle_pair,
        peak_memory: proxy.memory().map(|memory| memory.peak),
    };
    timeout(PATIENCE, proxy.stop())
        .await
        .context("the proxy did not stop in time")??;
    say(format_args!("{report}"));
    Ok(())
}

/// Puts the load on the proxy for about `length` and says what came of it.
async fn measure(load: Load, length: Duration, proxy: &ProxyProcess) -> anyhow::Result<Row> {
    let tally = Arc::new(Tally::default());
    let cpu_before = proxy.cpu_time();
    let began = Instant::now();
    let progress = Progress::start(load.name, length, Arc::clone(&tally));
    let outcome = timeout(
        length + PATIENCE,
        load.run(proxy.address(), began + length, &tally),
    );
    let latencies = outcome.await.context("not done in time")??;
    progress.finish().await;
    let cpu = proxy
        .cpu_time()
        .zip(cpu_before)
        .map(|(after, before)| after - before);
    Ok(Row {
        name: load.name,
        has_bulk: load.bulk > 0,
        elapsed: began.elapsed(),
        bytes: tally.bytes(),
        requests: tally.requests(),
        latency: Latency::of(latencies),
        cpu,
    })
}

/// What an idle pair of connections adds to the memory of the proxy, in bytes, where that can be seen.
async fn idle_pair_memory(proxy: &ProxyProcess) -> anyhow::Result<Option<u64>> {
    if proxy.memory().is_none() {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(IDLE_PAIRS);
    let mut before = None;
    while pairs.len() < IDLE_PAIRS {
        if pairs.len() == FIRST_PAIRS {
            before = proxy.memory();
        }
        pairs.push(timeout(PATIENCE, load::idle(proxy.address())).await??);
    }
    let grown = |(before, now): (Memory, Memory)| now.current.saturating_sub(before.current);
    let grown = before.zip(proxy.memory()).map(grown);
    Ok(grown.map(|grown| grown / (IDLE_PAIRS - FIRST_PAIRS) as u64))
}
