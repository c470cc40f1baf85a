//! Whether bulk lets other connections of the same thread have their turn.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use super::{Plan, Sample, in_rounds};
use crate::{
    candidates::{Candidate, Flavour, Program, Proxy},
    load::{background::Background, ping_pong::PingPong},
    names::{
        COPY_8_CURRENT_THREAD, LONGEST_TURN, P99_BESIDE_BULK, RELAY_CURRENT_THREAD,
        RELAY_NO_SPLICE_CURRENT_THREAD,
    },
    table::{Column, Id, Table},
};

const fn on_one_thread(name: &'static str, proxy: Proxy) -> Candidate {
    Candidate {
        name,
        program: Program::Proxy(proxy, Flavour::CurrentThread),
    }
}

const CANDIDATES: &[Candidate] = &[
    on_one_thread(RELAY_CURRENT_THREAD, Proxy::Relay),
    on_one_thread(RELAY_NO_SPLICE_CURRENT_THREAD, Proxy::RelayNoSplice),
    on_one_thread("BufferEvents joined, current-thread", Proxy::Join),
    on_one_thread(COPY_8_CURRENT_THREAD, Proxy::Copy8),
    on_one_thread("tokio copy 256 KiB, current-thread", Proxy::Copy256),
    on_one_thread("bare splice loop, current-thread", Proxy::Splice),
];

const BULK: usize = 4;

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    let candidates = plan.choose(CANDIDATES);
    let columns = vec![
        Column::new(LONGEST_TURN, 2),
        Column::new(P99_BESIDE_BULK, 0),
    ];
    let once = async |candidate: &Candidate| once(plan, candidate).await;
    let samples = in_rounds(plan, "fairness", &candidates, columns, failures, once).await;
    plan.on_all_cpus()?;
    let note = format!(
        "{BULK} connections with bulk on a current-thread runtime that has a CPU to itself. The longest CPU time between two turns \
         of the runtime's I/O driver within a second, and the round trips of messages of 64 B over another connection. Medians of {} \
         rounds.",
        plan.rounds,
    );
    let title = "Fairness beside bulk";
    Ok(vec![samples.into_table(
        Id::Fairness,
        title,
        "Proxy",
        COPY_8_CURRENT_THREAD,
        note,
    )])
}

/// The longest CPU time between two turns of the driver, and the 99th percentile of the messages.
async fn once(plan: &Plan, candidate: &Candidate) -> Result<Vec<Sample>> {
    plan.on_other_cpus()?;
    let mut bulk = Background::new()?;
    plan.on_one_cpu()?;
    let mut running = plan.starter.start(candidate, bulk.upstream())?;
    plan.on_other_cpus()?;
    bulk.send(running.addr(), BULK)?;
    let mut messages = PingPong::start(running.addr(), 1).await?;
    let until = Instant::now() + Duration::from_millis(plan.amount(3_000, 2_000, 200));
    let mut latencies = messages.run(1).await?;
    while Instant::now() < until {
        latencies.extend(messages.run(5).await?);
    }
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    // The task that watches the driver never sleeps, so it runs only now.
    running.longest_between_turns()?;
    sleep(Duration::from_millis(plan.amount(1_000, 500, 100))).await;
    let longest = running.longest_between_turns()?;
    Ok(vec![
        (LONGEST_TURN.into(), longest.as_secs_f64() * 1e3),
        (P99_BESIDE_BULK.into(), p99.as_secs_f64() * 1e6),
    ])
}
