//! What the proxy has done so far: connections and bytes, of connections that ended and of those that run.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount};
use tokio_evbuffer::relay::RelayCounters;

use crate::output;

/// Counts all connections. The bytes of running ones are read from the counters that their relays keep anyway, so that
/// counting costs nothing per byte.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: u64,
    /// How many connections ended in each way.
    ends: [u64; ENDS],
    running: HashMap<u64, Arc<RelayCounters>>,
    ended: Bytes,
    not_delivered: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Both sides ended it, or one of its time limits did.
    InOrder,
    /// The client left before it was connected to the upstream.
    Left,
    /// There was no connection to the upstream.
    Unreachable,
    /// Something failed: a side was reset, or a PROXY header was wrong.
    Broken,
    /// The proxy stopped before the connection ended.
    Cut,
}

const ENDS: usize = 5;

/// Bytes each way.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    to_upstream: u64,
    to_client: u64,
}

impl State {
    /// The bytes of ended and of running connections.
    fn bytes(&self) -> Bytes {
        let mut bytes = self.ended;
        for counters in self.running.values() {
            bytes.add(counters);
        }
        bytes
    }
}

impl Bytes {
    fn total(self) -> u64 {
        self.to_upstream + self.to_client
    }

    fn add(&mut self, counters: &RelayCounters) {
        self.to_upstream += counters.a_to_b();
        self.to_client += counters.b_to_a();
    }
}

impl Metrics {
    /// Counts a new connection. It counts as running until the result is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Connection {
        let mut state = self.lock();
        let (id, counters) = (state.accepted, Arc::default());
        state.accepted += 1;
        state.running.insert(id, Arc::clone(&counters));
        drop(state);
        Connection {
            id,
            counters,
            metrics: Arc::clone(self),
            end: End::Cut,
        }
    }

    /// Counts bytes that were read from one side and will not be written to the other, since the proxy stops.
    pub(crate) fn not_delivered(&self, bytes: usize) {
        self.lock().not_delivered += bytes as u64;
    }

    /// Says how many connections were cut by a stop, if there are any.
    pub(crate) fn cut(&self) -> Option<String> {
        let state = self.lock();
        let cut = state.ends[End::Cut as usize];
        let bytes = HumanBytes(state.not_delivered);
        (cut > 0).then(|| {
            format!("{cut} connections were cut before they ended; {bytes} that were held for them are lost")
        })
    }

    /// Returns the bytes moved so far, both ways together.
    pub(crate) fn bytes_moved(&self) -> u64 {
        self.lock().bytes().total()
    }

    /// Returns a line of figures. The rate is that since `before`, `elapsed` ago.
    pub(crate) fn line(&self, before: &mut Moved, elapsed: Duration) -> String {
        let state = self.lock();
        let bytes = state.bytes();
        let count = |end: End| HumanCount(state.ends[end as usize]);
        let moved = Moved(bytes.total());
        let rate = (moved.0 - before.0) as f64 / elapsed.as_secs_f64();
        *before = moved;
        format!(
            "{} running, {} accepted, {} left early, {} without upstream, {} broken; {} to upstream, {} to clients, {}/s; {} log lines dropped",
            HumanCount(state.running.len() as u64),
            HumanCount(state.accepted),
            count(End::Left),
            count(End::Unreachable),
            count(End::Broken),
            HumanBytes(bytes.to_upstream),
            HumanBytes(bytes.to_client),
            HumanBytes(rate as u64),
            HumanCount(output::dropped_lines() as u64),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each step leaves the counts complete, so a panic elsewhere does not make them wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes moved up to the last line of figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved(u64);

/// A running connection. When it is dropped, its bytes are added to those of the ended ones.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    counters: Arc<RelayCounters>,
    metrics: Arc<Metrics>,
    end: End,
}

impl Connection {
    pub(crate) fn counters(&self) -> Arc<RelayCounters> {
        Arc::clone(&self.counters)
    }

    /// Says how the connection ended. One that never says so was cut.
    pub(crate) fn ended(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.metrics.lock();
        state.running.remove(&self.id);
        state.ended.add(&self.counters);
        state.ends[self.end as usize] += 1;
    }
}
