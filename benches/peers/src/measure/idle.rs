//! Memory of connections that do nothing.

use anyhow::{Result, ensure};

use super::{Plan, Sample, in_rounds, proxy, server};
use crate::{
    candidates::{Candidate, Starter},
    load::{
        idle::Idle,
        lines,
        upstream::{Answer, Upstream},
    },
    names::{FRESH, LIBEVENT, USED},
    process::Running,
    sys,
    table::{Column, Id, Table},
};

const HEAP_FRESH: &str = "of it live heap, nothing sent yet";
const HEAP_USED: &str = "of it live heap, after 256 KiB each way";

const RESIDENT: &str = "B/connection";
const HEAP: &str = "of it live heap";

const CARRIED: u64 = 256 * 1024;

/// Two tables: pairs of connections through proxies, and connections to servers.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    Ok(vec![
        proxies(plan, failures).await?,
        servers(plan, failures).await?,
    ])
}

async fn proxies(plan: &Plan, failures: &mut Vec<String>) -> Result<Table> {
    let pairs = possible_pairs(plan.amount(2_000, 2_000, 200))?;
    plan.on_one_cpu()?;
    let candidates = plan.choose(proxy::CANDIDATES);
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
         {} rounds. nginx allocates its connection structs at its start.",
        plan.rounds,
    );
    Ok(samples.into_table(Id::Idle, "Memory per idle pair", "Proxy", LIBEVENT, note))
}

async fn servers(plan: &Plan, failures: &mut Vec<String>) -> Result<Table> {
    let connections = possible_pairs(plan.amount(2_000, 2_000, 200))?;
    let candidates = plan.choose(server::CANDIDATES);
    let columns = [RESIDENT, HEAP].map(|name| Column::new(name, 0)).to_vec();
    let plan = &plan.with_rounds(plan.amount(3, 1, 1));
    let once = async |candidate: &Candidate| {
        let mut running = plan.starter.start(candidate, ([127, 0, 0, 1], 0).into())?;
        let _first = lines::idle(running.addr(), 1).await?;
        let one = Held::by(&mut running)?;
        let _others = lines::idle(running.addr(), connections).await?;
        let all = Held::by(&mut running)?;
        let each = |more: u64, less: u64| (more as f64 - less as f64) / connections as f64;
        let mut samples = vec![(RESIDENT.into(), each(all.resident, one.resident))];
        if let (Some(one), Some(all)) = (one.heap, all.heap) {
            samples.push((HEAP.into(), each(all, one)));
        }
        Ok(samples)
    };
    let samples = in_rounds(plan, "idle servers", &candidates, columns, failures, once).await;
    let note = format!(
        "Resident memory of the server's process for each of {connections} connections that have exchanged one line. Medians of {} \
         rounds.",
        plan.rounds,
    );
    Ok(samples.into_table(
        Id::IdleServer,
        "Memory per idle connection",
        "Server",
        LIBEVENT,
        note,
    ))
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
