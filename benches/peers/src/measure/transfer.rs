//! One direction, and a limit of bytes.

use anyhow::Result;

use super::{Plan, cost_of, in_rounds, proxy::GIB};
use crate::{
    candidates::{Candidate, Program, Source},
    load::{
        download,
        upstream::{Answer, Upstream},
    },
    table::{Column, Id, Table},
};

const CPU: &str = "CPU s/GiB";

const fn candidates(bytes: u64) -> [Candidate; 8] {
    const fn of(name: &'static str, source: Source, bytes: u64) -> Candidate {
        Candidate {
            name,
            program: Program::Transfer(source, bytes),
        }
    }
    [
        of("copy_exact between sockets", Source::CopyExact, bytes),
        of("tokio copy of take", Source::TokioTake, bytes),
        of("copy between sockets", Source::Copy, bytes),
        of("tokio copy between sockets", Source::TokioCopy, bytes),
        of("bare splice loop with a limit", Source::SpliceLoop, bytes),
        of("Transfer of a file", Source::FileTransfer, bytes),
        of("tokio copy of a file", Source::TokioFile, bytes),
        of("bare sendfile loop", Source::SendfileLoop, bytes),
    ]
}

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    let plan = &plan.for_close_ratios();
    plan.on_one_cpu()?;
    let bytes = plan.amount(GIB, GIB / 2, GIB / 64);
    let candidates = plan.choose(&candidates(bytes));
    let once = async |candidate: &Candidate| {
        let upstream = Upstream::start(Answer::Send(bytes)).await?;
        let running = plan.starter.start(candidate, upstream.addr())?;
        let (cost, ()) = cost_of(&running, download::run(running.addr(), bytes)).await?;
        let cpu = cost.cpu.as_secs_f64() * GIB as f64 / bytes as f64;
        Ok(vec![(CPU.into(), cpu)])
    };
    let columns = vec![Column::new(CPU, 3)];
    let samples = in_rounds(plan, "transfer", &candidates, columns, failures, once).await;
    let what = format!(
        "{} MiB to one client, from an upstream socket or from a file in the page cache.",
        bytes >> 20
    );
    let note = plan.note_for_one_cpu(&what);
    let title = "One direction with a limit";
    Ok(vec![samples.into_table(
        Id::Transfer,
        title,
        "Server",
        "tokio copy of take",
        note,
    )])
}
