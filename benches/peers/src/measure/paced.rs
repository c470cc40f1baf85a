//! Bulk that is slower than the machine.

use std::time::Duration;

use anyhow::Result;

use super::{Plan, cost_of, in_rounds, proxy};
use crate::{
    candidates::Candidate,
    load::{
        paced::Paced,
        upstream::{Answer, Upstream},
    },
    names::SPLICE_LOOP,
    table::{Column, Id, Table},
};

struct Pace {
    column: &'static str,
    piece: usize,
    gap: Duration,
}

const PACES: [Pace; 2] = [
    Pace {
        column: "CPU s/GiB, 16 KiB each 25 µs",
        piece: 16 * 1024,
        gap: Duration::from_micros(25),
    },
    Pace {
        column: "CPU s/GiB, 64 KiB each 400 µs",
        piece: 64 * 1024,
        gap: Duration::from_micros(400),
    },
];

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let candidates = proxy::main_candidates(plan);
    let columns = PACES.iter().map(|pace| Column::new(pace.column, 3));
    let once = async |candidate: &Candidate| {
        let mut samples = Vec::new();
        for pace in &PACES {
            samples.push((pace.column.into(), once(plan, candidate, pace).await?));
        }
        Ok(samples)
    };
    let samples = in_rounds(
        plan,
        "paced bulk",
        &candidates,
        columns.collect(),
        failures,
        once,
    )
    .await;
    let note = plan.note_for_one_cpu(
        "One connection that gets a piece at each tick of a clock, as from a network that is slower than the machine.",
    );
    let title = "Paced bulk";
    Ok(vec![samples.into_table(
        Id::Paced,
        title,
        "Proxy",
        SPLICE_LOOP,
        note,
    )])
}

/// CPU seconds for each GiB.
async fn once(plan: &Plan, candidate: &Candidate, pace: &Pace) -> Result<f64> {
    let upstream = Upstream::start(Answer::Digest).await?;
    let running = plan.starter.start(candidate, upstream.addr())?;
    let load = Paced::start(running.addr(), &upstream).await?;
    let bytes = plan.amount(256 << 20, 128 << 20, 16 << 20);
    let count = bytes / pace.piece;
    let load = load.send(count / 16, pace.piece, pace.gap).await?;
    let (cost, load) = cost_of(&running, load.send(count, pace.piece, pace.gap)).await?;
    load.finish().await?;
    Ok(cost.cpu.as_secs_f64() * proxy::GIB as f64 / (count * pace.piece) as f64)
}
