//! Frames of 64 KiB.

use anyhow::Result;

use super::{Plan, cost_of, in_rounds, proxy::GIB};
use crate::{
    candidates::{Candidate, Server, server},
    load::frames::{self, FRAME},
    table::{Column, Id, Table},
};

const CANDIDATES: &[Candidate] = &[
    server("BufferEvent, frames(LengthDecoder)", Server::Frames),
    server("Framed, LengthDelimitedCodec", Server::FramedLength),
];
const CPU: &str = "CPU s/GiB";
const CONNECTIONS: usize = 4;

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let candidates = plan.choose(CANDIDATES);
    let count = plan.amount(4_096, 2_048, 128);
    let once = async |candidate: &Candidate| {
        let running = plan.starter.start(candidate, ([127, 0, 0, 1], 0).into())?;
        frames::run(running.addr(), CONNECTIONS, 16).await?;
        let (cost, ()) = cost_of(&running, frames::run(running.addr(), CONNECTIONS, count)).await?;
        let bytes = CONNECTIONS * count * FRAME;
        let cpu = cost.cpu.as_secs_f64() * GIB as f64 / bytes as f64;
        Ok(vec![(CPU.into(), cpu)])
    };
    let columns = vec![Column::new(CPU, 3)];
    let samples = in_rounds(plan, "frames", &candidates, columns, failures, once).await;
    let note = plan.note_for_one_cpu("Frames of 64 KiB with their length in front, over 4 connections; the server counts their bytes.");
    let peer = CANDIDATES[1].name;
    Ok(vec![samples.into_table(
        Id::Frames,
        "Frames",
        "Server",
        peer,
        note,
    )])
}
