//! The demonstration: an upstream, the proxy as a separate process, and clients that check every byte.

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
use crate::{cli::DemoConfig, output::print, shutdown::StopRequests};

/// The loads, one after the other, and how many clients of each kind they have.
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
/// Idle connections for the measurement of memory. Both their ends are in this process: few enough for 1,024
/// descriptors.
const IDLE_PAIRS: usize = 320;
/// The first of them are not measured: they pay for what the process allocates once.
const FIRST_PAIRS: usize = 64;
/// A step that takes longer than this has failed.
const STEP_MAX: Duration = Duration::from_secs(10);

/// Runs the demonstration.
///
/// # Errors
///
/// The first thing that went wrong, such as a wrong byte.
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
        STEP_MAX,
        ProxyProcess::start(upstream.address(), config.splice),
    )
    .await
    .context("the proxy did not start in time")??;
    print(format_args!(
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
    timeout(STEP_MAX, proxy.stop())
        .await
        .context("the proxy did not stop in time")??;
    print(format_args!("{report}"));
    Ok(())
}

/// Runs `load` against the proxy for about `length`.
async fn measure(load: Load, length: Duration, proxy: &ProxyProcess) -> anyhow::Result<Row> {
    let tally = Arc::new(Tally::default());
    let cpu_before = proxy.cpu_time();
    let began = Instant::now();
    let progress = Progress::start(load.name, length, Arc::clone(&tally));
    let outcome = timeout(
        length + STEP_MAX,
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

/// Returns the bytes that an idle pair of connections adds to the memory of the proxy, on systems that show it.
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
        pairs.push(timeout(STEP_MAX, load::idle(proxy.address())).await??);
    }
    let grown = |(before, now): (Memory, Memory)| now.current.saturating_sub(before.current);
    let grown = before.zip(proxy.memory()).map(grown);
    Ok(grown.map(|grown| grown / (IDLE_PAIRS - FIRST_PAIRS) as u64))
}
