//! What the crate is to reach: ratios to a named peer, within one table.

use super::{Id, Report};
use crate::{
    buffer::{
        BYTES_MUT, DEQUE_OF_BYTES, LIBEVENT as LIBEVENT_BUFFER, OURS, Workload,
        sharing::{self, BY_HAND as OTHERWISE, SHARED},
        workloads,
    },
    candidates::names::{
        BATCH, BATCH_CURRENT_THREAD, CALLBACK, PLAIN, RELAY, RELAY_CURRENT_THREAD, RELAY_NO_SPLICE,
        STREAM,
    },
    measure::{
        buffer::MEAN,
        idle::{FRESH, USED},
        proxy::{
            CPU_BULK_1, CPU_BULK_16, CPU_MESSAGE, INSTRUCTIONS, P99, SYSTEM_CALLS, THROUGHPUT_1,
            THROUGHPUT_16,
        },
        server::{DEEP, SINGLE},
    },
};

/// A target that can be checked with what was measured.
pub(super) struct Target {
    pub(super) what: String,
    pub(super) limit: f64,
    pub(super) ratio: f64,
}

/// Our row, the peer's, the most that the first may be of the second.
type Bound = (&'static str, &'static str, f64);

const LIMIT: &str = "bare splice 1 MiB (the limit)";
const LIBEVENT: &str = "libevent bufferevent";
const BY_HAND: &str = "BytesMut by hand";
const BYTES_PER_PAIR: f64 = 2_048.0;

/// By table and column.
const BOUNDS: &[(Id, &str, &[Bound])] = &[
    (
        Id::Proxy,
        CPU_BULK_1,
        &[
            (RELAY, LIMIT, 1.05),
            (RELAY, "haproxy, splice forced", 0.93),
            (RELAY, "nginx stream", 0.70),
            (RELAY, "haproxy", 0.70),
            (RELAY, LIBEVENT, 0.30),
            (RELAY_NO_SPLICE, "tokio copy 256 KiB", 1.0),
        ],
    ),
    (
        Id::Proxy,
        CPU_BULK_16,
        &[
            (RELAY, LIMIT, 1.05),
            (RELAY, "haproxy, splice forced", 0.93),
            (RELAY, "nginx stream", 0.45),
            (RELAY, "haproxy", 0.45),
            (RELAY, LIBEVENT, 0.30),
            (RELAY_NO_SPLICE, "tokio copy 256 KiB", 1.0),
        ],
    ),
    (
        Id::Proxy,
        CPU_MESSAGE,
        &[
            (RELAY, "tokio copy 8 KiB", 1.0),
            (RELAY, "nginx stream", 1.0),
            (
                RELAY_CURRENT_THREAD,
                "tokio copy 8 KiB, current-thread",
                1.0,
            ),
        ],
    ),
    (
        Id::Proxy,
        P99,
        &[
            (RELAY, "tokio copy 8 KiB", 1.0),
            (RELAY, "nginx stream", 1.0),
        ],
    ),
    (
        Id::Server,
        DEEP,
        &[
            (BATCH, BY_HAND, 1.10),
            (CALLBACK, BY_HAND, 1.15),
            (STREAM, BY_HAND, 1.30),
            (PLAIN, BY_HAND, 1.40),
            (BATCH, LIBEVENT, 0.75),
            (CALLBACK, LIBEVENT, 0.75),
            (STREAM, LIBEVENT, 0.75),
            (PLAIN, LIBEVENT, 0.75),
        ],
    ),
    (
        Id::Server,
        SINGLE,
        &[
            (
                BATCH_CURRENT_THREAD,
                "BytesMut by hand, current-thread",
                1.15,
            ),
            (BATCH, BY_HAND, 1.35),
            (BATCH, LIBEVENT, 0.75),
        ],
    ),
    (Id::Proxy, SYSTEM_CALLS, &[(RELAY, "tokio copy 8 KiB", 1.0)]),
    (Id::Proxy, INSTRUCTIONS, &[(RELAY, "tokio copy 8 KiB", 1.0)]),
    // More is better: the peer's over ours.
    (
        Id::Proxy,
        THROUGHPUT_1,
        &[("tokio copy 256 KiB", RELAY, 1.0)],
    ),
    (
        Id::Proxy,
        THROUGHPUT_16,
        &[("tokio copy 256 KiB", RELAY, 1.0)],
    ),
];

/// Those whose figures are there.
pub(super) fn all(report: &Report) -> impl Iterator<Item = Target> {
    ratios(report)
        .chain(memory(report))
        .chain(buffer_mean(report))
        .chain(worst_workloads(report))
        .chain(sharing_ratios(report))
        .chain(merged(report))
}

fn ratios(report: &Report) -> impl Iterator<Item = Target> {
    BOUNDS.iter().flat_map(move |&(id, column, bounds)| {
        bounds.iter().filter_map(move |&(ours, peer, limit)| {
            let table = report.table(id)?;
            let ratio = table.get(ours, column)? / table.get(peer, column)?;
            Some(Target {
                what: format!("{column}: {ours} / {peer}"),
                limit,
                ratio,
            })
        })
    })
}

fn memory(report: &Report) -> impl Iterator<Item = Target> {
    [FRESH, USED].into_iter().filter_map(move |column| {
        let ratio = report.table(Id::Idle)?.get(RELAY, column)? / BYTES_PER_PAIR;
        Some(Target {
            what: format!("{column}: {RELAY} / {BYTES_PER_PAIR} bytes"),
            limit: 1.0,
            ratio,
        })
    })
}

fn buffer_mean(report: &Report) -> Option<Target> {
    let ratio = report.table(Id::Buffer)?.get(MEAN, OURS)?;
    Some(Target {
        what: format!("buffer operations: {MEAN}"),
        limit: 0.5,
        ratio,
    })
}

/// A bound of every workload is kept if the worst keeps it.
fn worst_workloads(report: &Report) -> impl Iterator<Item = Target> {
    let all = |_: &Workload| true;
    let contiguous = |workload: &Workload| workload.contiguous;
    [
        worst(report, LIBEVENT_BUFFER, 1.0, all),
        worst(report, DEQUE_OF_BYTES, 1.0, all),
        worst(report, BYTES_MUT, 1.25, contiguous),
    ]
    .into_iter()
    .flatten()
}

/// By workload, the most that a shared buffer may take of what is built by hand.
const SHARING: [(&str, f64); 5] = [
    (sharing::GUARD, 1.2),
    (sharing::MARKS, 1.1),
    (sharing::ONE_BY_ONE, 1.2),
    (sharing::PIPE_OF_BYTES, 0.5),
    (sharing::PIPE_WRITTEN, 1.0),
];

fn sharing_ratios(report: &Report) -> impl Iterator<Item = Target> {
    SHARING.into_iter().filter_map(move |(workload, limit)| {
        let table = report.table(Id::Sharing)?;
        Some(Target {
            what: format!("ns: {workload}"),
            limit,
            ratio: table.get(workload, SHARED)? / table.get(workload, OTHERWISE)?,
        })
    })
}

fn merged(report: &Report) -> Option<Target> {
    const NANOS: f64 = 20.0;
    let nanos = report.table(Id::Sharing)?.get(sharing::MERGED, SHARED)?;
    Some(Target {
        what: format!("{} / {NANOS} ns", sharing::MERGED),
        limit: 1.0,
        ratio: nanos / NANOS,
    })
}

fn worst(
    report: &Report,
    peer: &str,
    limit: f64,
    counts: impl Fn(&Workload) -> bool,
) -> Option<Target> {
    let table = report.table(Id::Buffer)?;
    let workloads = workloads();
    let ratios = workloads.iter().filter(|&workload| counts(workload));
    let (name, ratio) = ratios
        .filter_map(|w| Some((w.name, table.get(w.name, OURS)? / table.get(w.name, peer)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Target {
        what: format!("buffer operations, the worst: {OURS} / {peer}: {name}"),
        limit,
        ratio,
    })
}
