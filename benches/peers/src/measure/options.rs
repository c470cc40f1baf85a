//! What options of a relay cost, and how a relay compares with joined BufferEvents.

use anyhow::Result;

use super::{Plan, in_rounds, proxy};
use crate::{
    candidates::{self, Candidate, Proxy},
    names::{CPU_BULK_16, RELAY, RELAY_NO_SPLICE},
    table::{Column, Id, Table},
};

const CANDIDATES: &[Candidate] = &[
    candidates::proxy(RELAY, Proxy::Relay),
    candidates::proxy(
        "tokio-evbuffer relay, limit that never applies",
        Proxy::RelayLimit,
    ),
    candidates::proxy(RELAY_NO_SPLICE, Proxy::RelayNoSplice),
    candidates::proxy(
        "tokio-evbuffer relay, splice off, memory budget",
        Proxy::RelayBudget,
    ),
    candidates::proxy("BufferEvents joined", Proxy::Join),
    candidates::proxy("BufferEvents joined, one with filters", Proxy::JoinFilter),
    candidates::proxy("tokio-evbuffer relay, 40 MiB/s", Proxy::RelayRate),
    candidates::proxy(
        "tokio-evbuffer relay, 40 MiB/s, splice off",
        Proxy::RelayRateNoSplice,
    ),
];

const CONNECTIONS: usize = 16;

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    let plan = &plan.for_close_ratios();
    plan.on_one_cpu()?;
    let candidates = plan.choose(CANDIDATES);
    let columns = vec![Column::new(CPU_BULK_16, 3)];
    let once = async |candidate: &Candidate| {
        let bytes = plan.amount(proxy::GIB / 2, proxy::GIB / 2, proxy::GIB / 16);
        let cost = proxy::bulk_cost(plan, candidate, CONNECTIONS, bytes).await?;
        Ok(vec![(CPU_BULK_16.into(), cost.cpu_per_gib)])
    };
    let samples = in_rounds(plan, "options", &candidates, columns, failures, once).await;
    let note = plan.note_for_one_cpu("One way bulk over 16 connections. The filters move all bytes on; the rate is for each connection.");
    Ok(vec![samples.into_table(
        Id::Options,
        "Options of a relay",
        "Proxy",
        RELAY_NO_SPLICE,
        note,
    )])
}
