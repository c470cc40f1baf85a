//! Memory of connections whose clients do not read.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Plan, Samples, idle::possible_pairs, note_failure, proxy, show_progress};
use crate::{
    candidates::{Candidate, Starter},
    load::{
        stalled::Stalled,
        upstream::{Answer, Upstream},
    },
    names::{COPY_8, NGINX, SPLICE_EPOLL, SPLICE_LOOP},
    sys,
    table::{Column, Id, Table},
};

const PAIRS: [usize; 4] = [100, 300, 1_000, 3_000];

/// Two tables: bytes for each pair, and the growth of the memory.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let mut candidates = proxy::main_candidates(plan);
    // These keep two pipes for each pair, and run out of files.
    candidates.retain(|candidate| ![SPLICE_LOOP, SPLICE_EPOLL].contains(&candidate.name));
    let steps = plan.amount(&PAIRS[..], &PAIRS[1..], &PAIRS[..1]);
    let possible = possible_pairs(*steps.last().expect("there are some"))?;
    let mut steps: Vec<_> = steps.iter().map(|&pairs| pairs.min(possible)).collect();
    steps.dedup();
    let shown: Vec<_> = steps
        .iter()
        .copied()
        .filter(|&pairs| pairs != 1_000 && pairs != 100 || plan.effort == super::Effort::Quick)
        .collect();
    let columns = shown
        .iter()
        .flat_map(|&pairs| [Column::new(user(pairs), 0), Column::new(kernel(pairs), 0)]);
    let mut each = Samples::of(&candidates, columns.collect());
    let columns = steps.iter().map(|pairs| Column::new(pairs.to_string(), 2));
    let mut growth = Samples::of(&candidates, columns.collect());
    for (row, candidate) in candidates.iter().enumerate() {
        show_progress("stalled", 0, 1, candidate.name);
        match grow(plan, candidate, &steps).await {
            Ok(held) => {
                let (one, rest) = held.split_first().expect("the first pair");
                for (&pairs, held) in steps.iter().zip(rest) {
                    const MIB: f64 = (1 << 20) as f64;
                    growth.add(row, &pairs.to_string(), held.user as f64 / MIB);
                    if shown.contains(&pairs) {
                        let per_pair =
                            |more: u64, less: u64| (more as f64 - less as f64) / (pairs - 1) as f64;
                        each.add(row, &user(pairs), per_pair(held.user, one.user));
                        each.add(row, &kernel(pairs), per_pair(held.kernel, one.kernel));
                    }
                }
            }
            Err(error) => note_failure(failures, "stalled", candidate.name, &error),
        }
    }
    let note = "Clients that never read a bulk answer: memory for each pair of connections above that of one pair. User memory is \
                resident memory of the proxy's process. Kernel memory is that of all sockets, those of client and upstream \
                included, and the bytes in the proxy's pipes. Packets are as small as those of Ethernet; \
                all the same, 3,000 pairs may reach the kernel's limit for TCP memory.";
    Ok(vec![
        each.into_table(Id::Stalled, "Memory per stalled pair", "Proxy", NGINX, note.into()),
        growth.into_table(
            Id::ScaleStalled,
            "Resident MiB, by stalled pairs",
            "Proxy",
            COPY_8,
            "By the number of pairs whose client never reads: resident memory of the proxy's process in MiB.".into(),
        ),
    ])
}

fn user(pairs: usize) -> String {
    format!("user B/pair, {pairs} pairs")
}

fn kernel(pairs: usize) -> String {
    format!("kernel B/pair, {pairs} pairs")
}

struct Held {
    user: u64,
    kernel: u64,
}

/// Waits until the sockets of earlier candidates have been closed.
async fn settled_tcp_bytes() -> Result<u64> {
    let mut before = u64::MAX;
    loop {
        let now = sys::tcp_bytes()?;
        if now >= before {
            return Ok(now);
        }
        before = now;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the memory with one pair, then at each of `steps`.
async fn grow(plan: &Plan, candidate: &Candidate, steps: &[usize]) -> Result<Vec<Held>> {
    let upstream = Upstream::start(Answer::Flood).await?;
    let pairs = *steps.last().expect("there are some");
    let running = Starter {
        pairs,
        ..plan.starter.clone()
    }
    .start(candidate, upstream.addr())?;
    let before = settled_tcp_bytes().await?;
    let mut stalled = Stalled::default();
    let mut held = Vec::with_capacity(steps.len() + 1);
    for &pairs in [1].iter().chain(steps) {
        stalled.open(running.addr(), &upstream, pairs).await?;
        held.push(Held {
            user: running.resident_bytes()?,
            kernel: sys::tcp_bytes()?.saturating_sub(before) + sys::pipe_bytes(running.pid())?,
        });
    }
    Ok(held)
}
