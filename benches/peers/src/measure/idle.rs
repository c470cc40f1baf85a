//! Memory of connections that do nothing.

use anyhow::{Result, ensure};

use super::{Plan, Sample, in_rounds, proxy};
use crate::{
    candidates::{Candidate, Program, Starter},
    load::{
        idle::Idle,
        upstream::{Answer, Upstream},
    },
    names::{FRESH, LIBEVENT, USED},
    process::Running,
    sys,
    table::{Column, Id, Table},
};

const HEAP_FRESH: &str = "of it live heap, nothing sent yet";
const HEAP_USED: &str = "of it live heap, after 256 KiB each way";

const CARRIED: u64 = 256 * 1024;

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    let pairs = possible_pairs(plan.amount(2_000, 2_000, 200))?;
    plan.on_one_cpu()?;
    let candidates = plan.choose(proxy::CANDIDATES);
    let candidates: Vec<_> = candidates
        .into_iter()
        .filter(|c| c.program != Program::Socat)
        .collect();
    let columns = [FRESH, USED, HEAP_FRESH, HEAP_USED]
        .map(|name| Column::new(name, 0))
        .to_vec();
    // Memory varies less than time.
    let plan = &plan.with_rounds(plan.amount(3, 1, 1));
    let once = async |candidate: &Candidate| once(plan, candidate, pairs).await;
    let samples = in_rounds(plan, "idle", &candidates, columns, failures, once).await;
    let note = format!(
        "Resident memory of the proxy's process for each of {pairs} idle pairs of connections, above that of one pair: \
         before anything was sent, and after every pair carried 256 KiB each way, one pair after the other. Medians of \
         {} rounds. socat runs a process for each pair and is left out. nginx allocates its connection structs at its start.",
        plan.rounds,
    );
    Ok(vec![samples.into_table(
        Id::Idle,
        "Memory per idle pair",
        "Proxy",
        LIBEVENT,
        note,
    )])
}

/// Returns `wanted`, or as many pairs as the limit of open files allows. This process and the proxy each need two files
/// for a pair.
pub(super) fn possible_pairs(wanted: usize) -> Result<usize> {
    // haproxy does not start without some hundred spare files.
    const OTHER_FILES: usize = 1_000;
    let files = sys::raise_file_limit((2 * wanted + OTHER_FILES) as u64)? as usize;
    let pairs = wanted.min(files.saturating_sub(OTHER_FILES) / 2);
    ensure!(pairs > 0, "the limit of open files is too low: {files}");
    if pairs < wanted {
        eprintln!("the limit of open files, {files}, allows {pairs} pairs instead of {wanted}");
    }
    Ok(pairs)
}

/// Returns the bytes for each pair, by column.
async fn once(plan: &Plan, candidate: &Candidate, pairs: usize) -> Result<Vec<Sample>> {
    let upstream = Upstream::start(Answer::Echo).await?;
    let starter = Starter {
        pairs,
        ..plan.starter.clone()
    };
    let mut running = starter.start(candidate, upstream.addr())?;
    let mut idle = Idle::default();
    // The first pair loads code and makes the allocations that happen once.
    idle.open(running.addr(), &upstream, 1).await?;
    idle.carry(CARRIED).await?;
    let one = Held::by(&mut running)?;
    idle.open(running.addr(), &upstream, 1 + pairs).await?;
    let fresh = Held::by(&mut running)?;
    idle.carry(CARRIED).await?;
    let used = Held::by(&mut running)?;

    let each = |more: u64, less: u64| (more as f64 - less as f64) / pairs as f64;
    let mut cells = vec![
        (FRESH.into(), each(fresh.resident, one.resident)),
        (USED.into(), each(used.resident, one.resident)),
    ];
    if let (Some(one), Some(fresh), Some(used)) = (one.heap, fresh.heap, used.heap) {
        cells.extend([
            (HEAP_FRESH.into(), each(fresh, one)),
            (HEAP_USED.into(), each(used, one)),
        ]);
    }
    Ok(cells)
}

struct Held {
    resident: u64,
    /// Only of our own candidates.
    heap: Option<u64>,
}

impl Held {
    fn by(running: &mut Running) -> Result<Self> {
        Ok(Self {
            heap: running.heap_bytes()?,
            resident: running.resident_bytes()?,
        })
    }
}
