//! Operations of buffers and of shared buffers.

use std::time::Duration;

use anyhow::Result;

use super::{Plan, Samples, in_turn, show_progress};
use crate::{
    names::{HEAP, MEAN, WORST},
    sys,
    table::{Column, Id, Row, Table},
    workloads::{self, BUFFERS, LIBEVENT, OURS, Run, Workload, operations, sharing},
};

/// One table: nanoseconds for each operation, by workload and buffer.
pub fn run(plan: &Plan) -> Result<Table> {
    if !cfg!(libevent) {
        eprintln!(
            "{LIBEVENT} was not found and is left out; to include it: apt-get install libevent-dev pkg-config"
        );
    }
    let note = "Nanoseconds for each operation; each workload is written once and runs on every buffer that supports it. \
                A buffer with callbacks is a `SharedEvBuffer`, which has a lock; it is compared with an evbuffer after \
                `evbuffer_enable_locking`. Rows with \"not locked\" show evbuffer without it.";
    let samples = samples(plan, "buffer", &workloads::all(), &BUFFERS)?;
    let mut table = samples.into_table(
        Id::Buffer,
        "Buffer operations",
        "Workload",
        LIBEVENT,
        noted(plan, note),
    );
    let summary = summary(&table);
    table.rows.extend(summary);
    table.rows.push(heap());
    Ok(table)
}

/// One table: nanoseconds for each operation on a shared buffer, and on what you would build by hand.
pub fn run_shared(plan: &Plan) -> Result<Table> {
    let samples = samples(plan, "shared", &sharing::workloads(), &sharing::COLUMNS)?;
    let note = "Nanoseconds for each operation on a shared buffer, and on what you would build by hand instead. Tasks run on \
                one current-thread runtime.";
    let (title, peer) = ("Cost of sharing", sharing::BY_HAND);
    let mut table = samples.into_table(Id::Sharing, title, "Workload", peer, noted(plan, note));
    let heap = sharing::heap_while_idle(sys::heap_bytes).map(|(name, bytes)| Row {
        name: name.into(),
        ours: false,
        cells: bytes.map(Some).to_vec(),
    });
    table.rows.extend(heap);
    Ok(table)
}

fn noted(plan: &Plan, what: &str) -> String {
    format!("{what} On one CPU; medians of {} rounds.", rounds(plan))
}

fn samples(plan: &Plan, what: &str, workloads: &[Workload], columns: &[&str]) -> Result<Samples> {
    plan.on_one_cpu()?;
    let rows = workloads
        .iter()
        .map(|workload| (workload.name.to_owned(), false))
        .collect();
    let columns = columns.iter().map(|&name| Column::new(name, 1)).collect();
    let mut samples = Samples::new(rows, columns);
    for (row, workload) in workloads.iter().enumerate() {
        show_progress(what, 0, 1, workload.name);
        measure(plan, workload, |buffer, ns| samples.add(row, buffer, ns));
    }
    Ok(samples)
}

fn rounds(plan: &Plan) -> usize {
    3 * plan.rounds
}

fn measure(plan: &Plan, workload: &Workload, mut sample: impl FnMut(&str, f64)) {
    let runs: Vec<(&str, Run, u64)> = workload
        .runs
        .iter()
        .map(|&(name, run)| (name, run, enough(run, plan.amount(10, 5, 1))))
        .collect();
    for round in 0..rounds(plan) {
        for (buffer, run, n) in in_turn(round, runs.len()).map(|i| runs[i]) {
            sample(buffer, run(n).as_secs_f64() * 1e9 / n as f64);
        }
    }
}

/// Returns a number of operations that takes at least `millis`. Also warms up.
fn enough(run: Run, millis: u64) -> u64 {
    let mut n = 16;
    while run(n) < Duration::from_millis(millis) {
        n *= 2;
    }
    n
}

fn column_of(buffer: &str) -> usize {
    BUFFERS
        .iter()
        .position(|&name| name == buffer)
        .expect("every buffer has a column")
}

/// Two rows: the mean and the highest of the ratios to libevent.
fn summary(table: &Table) -> Vec<Row> {
    let (ours, c) = (column_of(OURS), column_of(LIBEVENT));
    let ratios: Vec<f64> = table
        .rows
        .iter()
        .filter_map(|row| Some(row.cells[ours]? / row.cells[c]?))
        .collect();
    if ratios.is_empty() {
        return Vec::new();
    }
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let worst = ratios.into_iter().fold(0.0, f64::max);
    let row = |(name, ratio): (&str, f64)| {
        let mut cells = vec![None; BUFFERS.len()];
        cells[ours] = Some(ratio);
        cells[c] = Some(1.0);
        Row {
            name: name.into(),
            ours: false,
            cells,
        }
    };
    [(MEAN, mean), (WORST, worst)].map(row).to_vec()
}

fn heap() -> Row {
    let mut cells = vec![None; BUFFERS.len()];
    for (buffer, bytes) in operations::heap_of_100_bytes(sys::heap_bytes) {
        cells[column_of(buffer)] = Some(bytes);
    }
    Row {
        name: HEAP.into(),
        ours: false,
        cells,
    }
}
