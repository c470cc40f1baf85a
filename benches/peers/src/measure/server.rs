//! Line servers.

use anyhow::Result;

use super::{Plan, Samples, cost_of, in_rounds};
use crate::{
    candidates::{Candidate, Flavour, Program, Server, server},
    load::{self, lines},
    names::{
        BATCH, BATCH_CURRENT_THREAD, BY_HAND, CALLBACK, DEEP, LIBEVENT, NEXT_LINE, OVER, PLAIN,
        READ_LINES, SINGLE, STREAM,
    },
    table::{Column, Id, Table},
};

/// All of them, in the order of the table.
pub const CANDIDATES: &[Candidate] = &[
    server(BATCH, Server::Batch),
    Candidate {
        name: BATCH_CURRENT_THREAD,
        program: Program::Server(Server::Batch, Flavour::CurrentThread),
    },
    server(CALLBACK, Server::Callback),
    server(READ_LINES, Server::ReadLines),
    server(NEXT_LINE, Server::NextLine),
    server(PLAIN, Server::Plain),
    server(STREAM, Server::Stream),
    server(OVER, Server::BytesMutOver),
    server("BufStream, a flush per line", Server::BufStream),
    server("Framed, send", Server::FramedSend),
    server("Framed, forward", Server::FramedForward),
    server(BY_HAND, Server::BytesMut),
    Candidate {
        name: "BytesMut by hand, current-thread",
        program: Program::Server(Server::BytesMut, Flavour::CurrentThread),
    },
    server(LIBEVENT, Server::Libevent),
];

const CONNECTIONS: usize = 64;
const DEPTHS: [(usize, &str); 2] = [(32, DEEP), (1, SINGLE)];

/// One table: everything on one CPU.
pub async fn on_one_cpu(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let samples = rounds(plan, "server", failures).await;
    let note = plan.note_for_one_cpu(&what());
    Ok(vec![samples.into_table(
        Id::Server,
        "Line server",
        "Server",
        BY_HAND,
        note,
    )])
}

/// One table: over all CPUs.
pub async fn on_all_cpus(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_all_cpus()?;
    let samples = rounds(plan, "server, all CPUs", failures).await;
    let (title, note) = (
        "Line server, over all CPUs",
        plan.note_for_all_cpus(&what()),
    );
    Ok(vec![samples.into_table(
        Id::ServerAllCpus,
        title,
        "Server",
        BY_HAND,
        note,
    )])
}

/// One table: an HTTP library over a socket and over a `BufferEvent`.
pub async fn http(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    const CANDIDATES: &[Candidate] = &[
        server("hyper over a BufferEvent", Server::HyperOver),
        server("hyper over the socket", Server::Hyper),
    ];
    plan.on_one_cpu()?;
    let candidates = plan.choose(CANDIDATES);
    let requests = plan.amount(1_000, 500, 50);
    let once = async |candidate: &Candidate| {
        let running = plan.starter.start(candidate, ([127, 0, 0, 1], 0).into())?;
        load::http::run(running.addr(), CONNECTIONS, 2).await?;
        let work = load::http::run(running.addr(), CONNECTIONS, requests);
        let (cost, ()) = cost_of(&running, work).await?;
        let each = cost.cpu.as_secs_f64() * 1e6 / (requests * CONNECTIONS) as f64;
        Ok(vec![(SINGLE.into(), each)])
    };
    let columns = vec![Column::new(SINGLE, 2)];
    let samples = in_rounds(plan, "http", &candidates, columns, failures, once).await;
    let note =
        plan.note_for_one_cpu("A library with its own buffers: HTTP requests, 64 connections.");
    let (title, peer) = ("HTTP server", CANDIDATES[1].name);
    Ok(vec![samples.into_table(
        Id::Http,
        title,
        "Server",
        peer,
        note,
    )])
}

fn what() -> String {
    format!(
        "Lines of {} B sent back, {CONNECTIONS} connections.",
        lines::LINE
    )
}

async fn rounds(plan: &Plan, what: &str, failures: &mut Vec<String>) -> Samples {
    let columns = vec![Column::new(DEEP, 3), Column::new(SINGLE, 2)];
    let once = async |candidate: &Candidate| {
        let mut samples = Vec::new();
        for (depth, column) in DEPTHS {
            samples.push((column.into(), once(plan, candidate, depth).await?));
        }
        Ok(samples)
    };
    let candidates = plan.choose(CANDIDATES);
    in_rounds(plan, what, &candidates, columns, failures, once).await
}

/// CPU microseconds for each request.
async fn once(plan: &Plan, candidate: &Candidate, depth: usize) -> Result<f64> {
    let each = match depth {
        1 => plan.amount(1_000, 500, 50),
        _ => plan.amount(12_800, 6_400, 640),
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
