//! Line servers.

use anyhow::Result;

use super::{Plan, Samples, cost_of, in_turn, note_failure, tell};
use crate::{
    candidates::{Candidate, Flavour, Program, Server, names, server},
    load::lines,
    report::{Column, Id, Table},
};

/// Everybody, in the order of the table.
pub const CANDIDATES: &[Candidate] = &[
    server(names::BATCH, Server::Batch),
    Candidate {
        name: names::BATCH_CURRENT_THREAD,
        program: Program::Server(Server::Batch, Flavour::CurrentThread),
    },
    server(names::CALLBACK, Server::Callback),
    server(names::PLAIN, Server::Plain),
    server(names::STREAM, Server::Stream),
    server("BufStream, a flush per line", Server::BufStream),
    server("Framed, send", Server::FramedSend),
    server("Framed, forward", Server::FramedForward),
    server("BytesMut by hand", Server::BytesMut),
    Candidate {
        name: "BytesMut by hand, current-thread",
        program: Program::Server(Server::BytesMut, Flavour::CurrentThread),
    },
    server("libevent bufferevent", Server::Libevent),
];

pub const DEEP: &str = "CPU µs/request, 32 at a time";
pub const SINGLE: &str = "CPU µs/request, one at a time";

const CONNECTIONS: usize = 64;
const DEPTHS: [(usize, &str); 2] = [(32, DEEP), (1, SINGLE)];

/// One table: everything on one CPU.
pub async fn on_one_cpu(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let samples = rounds(plan, "server", failures).await?;
    let note = plan.note_for_one_cpu(&what());
    Ok(vec![samples.into_table(
        Id::Server,
        "Line server",
        "Server",
        note,
    )])
}

/// One table: over all CPUs.
pub async fn on_all_cpus(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_all_cpus()?;
    let samples = rounds(plan, "server, all CPUs", failures).await?;
    let (title, note) = (
        "Line server, over all CPUs",
        plan.note_for_all_cpus(&what()),
    );
    Ok(vec![samples.into_table(
        Id::ServerAllCpus,
        title,
        "Server",
        note,
    )])
}

fn what() -> String {
    format!(
        "Lines of {} B sent back, {CONNECTIONS} connections.",
        lines::LINE
    )
}

async fn rounds(plan: &Plan, what: &str, failures: &mut Vec<String>) -> Result<Samples> {
    let candidates = plan.choose(CANDIDATES);
    let mut samples = Samples::of(
        &candidates,
        vec![Column::new(DEEP, 3), Column::new(SINGLE, 2)],
    );
    for round in 0..plan.rounds {
        for row in in_turn(round, candidates.len()) {
            let candidate = &candidates[row];
            tell(what, round, plan.rounds, candidate.name);
            for (depth, column) in DEPTHS {
                match once(plan, candidate, depth).await {
                    Ok(cost) => samples.add(row, column, cost),
                    Err(error) => note_failure(failures, what, candidate.name, &error),
                }
            }
        }
    }
    Ok(samples)
}

/// CPU microseconds for each request.
async fn once(plan: &Plan, candidate: &Candidate, depth: usize) -> Result<f64> {
    let each = match depth {
        1 => plan.amount(1_000, 50),
        _ => plan.amount(12_800, 640),
    };
    let nowhere = ([127, 0, 0, 1], 0).into();
    let running = plan.starter.start(candidate, nowhere)?;
    lines::run(running.addr(), CONNECTIONS, depth, depth).await?;
    let (cost, ()) = cost_of(
        &running,
        lines::run(running.addr(), CONNECTIONS, depth, each),
    )
    .await?;
    Ok(cost.cpu.as_secs_f64() * 1e6 / (each * CONNECTIONS) as f64)
}
