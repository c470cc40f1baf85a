//! Bulk transfer and small messages through every proxy.

use anyhow::Result;

use super::{Plan, Samples, cost_of, in_rounds};
use crate::{
    candidates::{Candidate, Flavour, Program, Proxy, proxy},
    load::{
        bulk::Bulk,
        ping_pong::PingPong,
        upstream::{Answer, Upstream},
    },
    names::{
        COPY_8, COPY_8_CURRENT_THREAD, COPY_256, CPU_BULK_1, CPU_BULK_16, CPU_MESSAGE,
        CPU_MESSAGE_1, HAPROXY, HAPROXY_SPLICE, LIBEVENT, NGINX, P99, RELAY, RELAY_CURRENT_THREAD,
        RELAY_NO_SPLICE, SPLICE_EPOLL, SPLICE_LOOP, THROUGHPUT_1, THROUGHPUT_16,
    },
    table::{Column, Id, Table},
};

/// All of them, in the order of the table.
pub const CANDIDATES: &[Candidate] = &[
    proxy(RELAY, Proxy::Relay),
    Candidate {
        name: RELAY_CURRENT_THREAD,
        program: Program::Proxy(Proxy::Relay, Flavour::CurrentThread),
    },
    proxy(RELAY_NO_SPLICE, Proxy::RelayNoSplice),
    proxy(
        "tokio-evbuffer copy_bidirectional",
        Proxy::CopyBidirectional,
    ),
    proxy(COPY_8, Proxy::Copy8),
    Candidate {
        name: COPY_8_CURRENT_THREAD,
        program: Program::Proxy(Proxy::Copy8, Flavour::CurrentThread),
    },
    proxy(COPY_256, Proxy::Copy256),
    proxy("BytesMut 16 KiB", Proxy::BytesMut),
    proxy(LIBEVENT, Proxy::Libevent),
    Candidate {
        name: NGINX,
        program: Program::Nginx,
    },
    Candidate {
        name: HAPROXY,
        program: Program::Haproxy { splice: false },
    },
    Candidate {
        name: HAPROXY_SPLICE,
        program: Program::Haproxy { splice: true },
    },
    proxy(SPLICE_LOOP, Proxy::Splice),
    proxy(SPLICE_EPOLL, Proxy::SpliceEpoll),
];

/// Those of tables with many columns.
const MAIN: [&str; 10] = [
    RELAY,
    RELAY_NO_SPLICE,
    COPY_8,
    COPY_256,
    LIBEVENT,
    NGINX,
    HAPROXY,
    HAPROXY_SPLICE,
    SPLICE_LOOP,
    SPLICE_EPOLL,
];

pub(super) fn main_candidates(plan: &Plan) -> Vec<Candidate> {
    let mut candidates = plan.choose(CANDIDATES);
    candidates.retain(|candidate| MAIN.contains(&candidate.name));
    candidates
}

/// Bulk: connections, column of CPU time, column of throughput.
const BULK: [(usize, &str, &str); 2] = [
    (1, CPU_BULK_1, THROUGHPUT_1),
    (16, CPU_BULK_16, THROUGHPUT_16),
];
const MESSAGE_CONNECTIONS: usize = 16;

pub(super) const GIB: u64 = 1 << 30;

const WHAT: &str =
    "One way bulk, and round trips of 64 B over 16 connections, unless the column says otherwise.";

/// One table: everything on one CPU.
pub async fn on_one_cpu(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let candidates = plan.choose(CANDIDATES);
    let samples = rounds(plan, &candidates, "proxy", failures).await;
    let note = plan.note_for_one_cpu(WHAT);
    Ok(vec![samples.into_table(
        Id::Proxy,
        "Proxy",
        "Proxy",
        COPY_8,
        note,
    )])
}

/// One table: over all CPUs.
pub async fn on_all_cpus(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_all_cpus()?;
    let candidates = plan.choose(CANDIDATES);
    let samples = rounds(plan, &candidates, "proxy, all CPUs", failures).await;
    let (title, note) = ("Proxy, over all CPUs", plan.note_for_all_cpus(WHAT));
    Ok(vec![samples.into_table(
        Id::ProxyAllCpus,
        title,
        "Proxy",
        COPY_8,
        note,
    )])
}

fn columns() -> Vec<Column> {
    vec![
        Column::new(CPU_BULK_1, 3),
        Column::new(CPU_BULK_16, 3),
        Column::new(THROUGHPUT_1, 2),
        Column::new(THROUGHPUT_16, 2),
        Column::new(CPU_MESSAGE, 2),
        Column::new(CPU_MESSAGE_1, 2),
        Column::new(P99, 0),
    ]
}

async fn rounds(
    plan: &Plan,
    candidates: &[Candidate],
    what: &str,
    failures: &mut Vec<String>,
) -> Samples {
    let once = async |candidate: &Candidate| {
        let mut samples = Vec::new();
        for (connections, cpu, throughput) in BULK {
            let bytes = plan.amount(GIB / 2, GIB / 4, GIB / 16);
            let bulk = bulk_cost(plan, candidate, connections, bytes).await?;
            samples.push((cpu.into(), bulk.cpu_per_gib));
            samples.push((throughput.into(), bulk.gib_per_second));
        }
        let messages = plan.amount(64_000, 24_000, 3_200);
        let message = message_cost(plan, candidate, MESSAGE_CONNECTIONS, messages).await?;
        samples.push((CPU_MESSAGE.into(), message.cpu_micros));
        samples.push((P99.into(), message.p99_micros));
        let message = message_cost(plan, candidate, 1, messages / 4).await?;
        samples.push((CPU_MESSAGE_1.into(), message.cpu_micros));
        Ok(samples)
    };
    in_rounds(plan, what, candidates, columns(), failures, once).await
}

pub(super) struct BulkCost {
    /// In seconds.
    pub(super) cpu_per_gib: f64,
    pub(super) gib_per_second: f64,
}

pub(super) struct MessageCost {
    pub(super) cpu_micros: f64,
    /// The 99th percentile of the round trips.
    pub(super) p99_micros: f64,
}

/// Measures the relaying of `bytes` over all connections together.
pub(super) async fn bulk_cost(
    plan: &Plan,
    candidate: &Candidate,
    connections: usize,
    bytes: u64,
) -> Result<BulkCost> {
    let upstream = Upstream::start(Answer::Digest).await?;
    let running = plan.starter.start(candidate, upstream.addr())?;
    let mut load = Bulk::start(running.addr(), &upstream, connections).await?;
    // Warms up code and memory.
    let each = bytes / connections as u64;
    load.send(each / 16).await?;
    let (cost, ()) = cost_of(&running, load.send(each)).await?;
    load.finish().await?;
    let gib = (each * connections as u64) as f64 / GIB as f64;
    Ok(BulkCost {
        cpu_per_gib: cost.cpu.as_secs_f64() / gib,
        gib_per_second: gib / cost.wall.as_secs_f64(),
    })
}

/// Measures `messages` round trips over all connections together.
pub(super) async fn message_cost(
    plan: &Plan,
    candidate: &Candidate,
    connections: usize,
    messages: usize,
) -> Result<MessageCost> {
    let upstream = Upstream::start(Answer::Echo).await?;
    let running = plan.starter.start(candidate, upstream.addr())?;
    let mut load = PingPong::start(running.addr(), connections).await?;
    let each = messages / connections;
    load.run(each / 16).await?;
    let (cost, mut latencies) = cost_of(&running, load.run(each)).await?;
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    Ok(MessageCost {
        cpu_micros: micros(cost.cpu) / latencies.len() as f64,
        p99_micros: micros(p99),
    })
}

fn micros(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
