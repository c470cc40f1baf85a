//! What the proxy has done so far: connections and bytes, of those that ended and of those that run.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount};
use tokio::sync::OwnedSemaphorePermit;
use tokio_evbuffer::relay::RelayCounters;

/// Counts all connections. Bytes of running ones are read from the counters that their relays keep anyway,
/// so that nothing is paid per byte.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    unreachable: u64,
    broken: u64,
    running: HashMap<u64, Arc<RelayCounters>>,
    of_ended: Totals,
}

/// Bytes each way.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    to_upstream: u64,
    to_client: u64,
}

impl Totals {
    fn add(&mut self, counters: &RelayCounters) {
        self.to_upstream += counters.a_to_b();
        self.to_client += counters.b_to_a();
    }
}

impl Ledger {
    /// Enters a new connection, which runs, and keeps its permit, until the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Entry {
        let mut counts = self.counts();
        let (id, counters) = (counts.accepted, Arc::default());
        counts.accepted += 1;
        counts.running.insert(id, Arc::clone(&counters));
        drop(counts);
        Entry {
            id,
            counters,
            ledger: Arc::clone(self),
            _permit: permit,
        }
    }

    /// One line of figures; the rates are those since `before`, `elapsed` ago.
    pub(crate) fn line(&self, before: &mut Moved, elapsed: Duration) -> String {
        let counts = self.counts();
        let mut totals = counts.of_ended;
        counts
            .running
            .values()
            .for_each(|counters| totals.add(counters));
        let moved = Moved(totals.to_upstream + totals.to_client);
        let rate = (moved.0 - before.0) as f64 / elapsed.as_secs_f64();
        *before = moved;
        format!(
            "{} running, {} accepted, {} without upstream, {} broken; {} to upstream, {} to clients, {}/s",
            HumanCount(counts.running.len() as u64),
            HumanCount(counts.accepted),
            HumanCount(counts.unreachable),
            HumanCount(counts.broken),
            HumanBytes(totals.to_upstream),
            HumanBytes(totals.to_client),
            HumanBytes(rate as u64),
        )
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole after every step; a panic elsewhere does not make them wrong.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes moved up to the last line of figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved(u64);

/// A connection that runs. From its drop on its bytes are among those of the ended ones, however it ended.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    counters: Arc<RelayCounters>,
    ledger: Arc<Ledger>,
    _permit: OwnedSemaphorePermit,
}

impl Entry {
    pub(crate) fn counters(&self) -> Arc<RelayCounters> {
        Arc::clone(&self.counters)
    }

    pub(crate) fn upstream_unreachable(&self) {
        self.ledger.counts().unreachable += 1;
    }

    pub(crate) fn broken(&self) {
        self.ledger.counts().broken += 1;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut counts = self.ledger.counts();
        counts.running.remove(&self.id);
        counts.of_ended.add(&self.counters);
    }
}
