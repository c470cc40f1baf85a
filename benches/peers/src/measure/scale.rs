//! CPU time and memory by the number of connections.

use anyhow::Result;

use super::{Plan, Sample, idle::possible_pairs, in_rounds, proxy};
use crate::{
    candidates::{Candidate, Starter},
    load::{
        idle::Idle,
        upstream::{Answer, Upstream},
    },
    names::{COPY_8, HAPROXY_SPLICE, SPLICE_EPOLL, SPLICE_LOOP},
    table::{Column, Id, Table},
};

const MIB: u64 = 1 << 20;
const CONNECTIONS: [usize; 4] = [1, 16, 256, 2_000];
const PAIRS: [usize; 6] = [10, 100, 1_000, 5_000, 10_000, 20_000];

/// Three tables: bulk, messages, memory.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let candidates = proxy::main_candidates(plan);
    let [bulk, messages] = cpu(plan, &candidates, failures).await?;
    Ok(vec![
        bulk,
        messages,
        memory(plan, &candidates, failures).await?,
    ])
}

async fn cpu(
    plan: &Plan,
    candidates: &[Candidate],
    failures: &mut Vec<String>,
) -> Result<[Table; 2]> {
    let counts = plan.amount(&CONNECTIONS[..], &CONNECTIONS[..], &CONNECTIONS[..3]);
    let most = *counts.last().expect("there are some");
    possible_pairs(most)?;
    let plan = Plan {
        starter: Starter {
            pairs: most,
            ..plan.starter.clone()
        },
        ..plan.clone()
    };
    let columns = |digits| {
        counts
            .iter()
            .map(|n| Column::new(n.to_string(), digits))
            .collect()
    };
    let plan = &plan.with_rounds(plan.amount(plan.rounds, 1, 1));
    let bulk = async |candidate: &Candidate| {
        let mut samples = Vec::new();
        for &connections in counts {
            let full = (connections as u64 * MIB).max(proxy::GIB / 2);
            let bytes = plan.amount(full, full / 2, proxy::GIB / 64);
            let cost = proxy::bulk_cost(plan, candidate, connections, bytes).await?;
            samples.push((connections.to_string(), cost.cpu_per_gib));
        }
        Ok(samples)
    };
    let messages = async |candidate: &Candidate| {
        let mut samples = Vec::new();
        for &connections in counts {
            let count = plan.amount(32_000, 16_000, 4_096);
            let cost = proxy::message_cost(plan, candidate, connections, count).await?;
            samples.push((connections.to_string(), cost.cpu_micros));
        }
        Ok(samples)
    };
    let bulk = in_rounds(
        plan,
        "scale of bulk",
        candidates,
        columns(3),
        failures,
        bulk,
    )
    .await;
    let messages = in_rounds(
        plan,
        "scale of messages",
        candidates,
        columns(2),
        failures,
        messages,
    )
    .await;
    let note = |what| {
        format!(
            "By the number of connections: {what}. Everything on one CPU; medians of {} rounds.",
            plan.rounds
        )
    };
    Ok([
        bulk.into_table(
            Id::ScaleBulk,
            "CPU seconds per GiB, by connections",
            "Proxy",
            COPY_8,
            note("CPU seconds for each GiB, one way, all connections at once"),
        ),
        messages.into_table(
            Id::ScaleMessages,
            "CPU microseconds per message, by connections",
            "Proxy",
            COPY_8,
            note(
                "CPU microseconds for each message of 64 B there and back, all connections at once",
            ),
        ),
    ])
}

async fn memory(
    plan: &Plan,
    candidates: &[Candidate],
    failures: &mut Vec<String>,
) -> Result<Table> {
    // Those that splice may need files for pipes, and run out of them long before the others.
    const SPLICING: [&str; 3] = [SPLICE_LOOP, SPLICE_EPOLL, HAPROXY_SPLICE];
    let is_frugal = |candidate: &&Candidate| !SPLICING.contains(&candidate.name);
    let candidates: Vec<_> = candidates.iter().filter(is_frugal).copied().collect();
    let steps = plan.amount(&PAIRS[..], &PAIRS[..], &PAIRS[..2]);
    let possible = possible_pairs(*steps.last().expect("there are some"))?;
    let mut steps: Vec<_> = steps.iter().map(|&pairs| pairs.min(possible)).collect();
    steps.dedup();
    let columns = steps
        .iter()
        .map(|n| Column::new(n.to_string(), 2))
        .collect();
    let plan = &plan.with_rounds(1);
    let once = async |candidate: &Candidate| growth(plan, candidate, &steps).await;
    let samples = in_rounds(
        plan,
        "scale of memory",
        &candidates,
        columns,
        failures,
        once,
    )
    .await;
    let note = "By the number of idle pairs of connections: resident memory of the proxy's process in MiB.".into();
    Ok(samples.into_table(
        Id::ScaleMemory,
        "Resident MiB, by idle pairs",
        "Proxy",
        COPY_8,
        note,
    ))
}

/// Resident MiB at each of `steps` pairs.
async fn growth(plan: &Plan, candidate: &Candidate, steps: &[usize]) -> Result<Vec<Sample>> {
    let upstream = Upstream::start(Answer::Echo).await?;
    let pairs = *steps.last().expect("there are some");
    let running = Starter {
        pairs,
        ..plan.starter.clone()
    }
    .start(candidate, upstream.addr())?;
    let mut idle = Idle::default();
    let mut resident = Vec::with_capacity(steps.len());
    for &pairs in steps {
        idle.open(running.addr(), &upstream, pairs).await?;
        resident.push((
            pairs.to_string(),
            running.resident_bytes()? as f64 / MIB as f64,
        ));
    }
    Ok(resident)
}
