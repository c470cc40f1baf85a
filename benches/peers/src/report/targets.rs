//! What the crate is to reach: ratios to a named peer, within one table.

use super::{Id, Report};
use crate::{
    buffer::OURS,
    candidates::names::{RELAY, RELAY_CURRENT_THREAD, RELAY_NO_SPLICE},
    measure::{
        buffer::MEAN,
        idle::{FRESH, USED},
        proxy::{CPU_BULK_1, CPU_BULK_16, CPU_MESSAGE, P99, SYSTEM_CALLS},
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
            (RELAY, "libevent bufferevent", 0.30),
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
            (RELAY, "libevent bufferevent", 0.30),
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
    (Id::Proxy, SYSTEM_CALLS, &[(RELAY, "tokio copy 8 KiB", 1.0)]),
];

/// Those whose figures are there.
pub(super) fn all(report: &Report) -> impl Iterator<Item = Target> {
    ratios(report)
        .chain(memory(report))
        .chain(buffer_mean(report))
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
