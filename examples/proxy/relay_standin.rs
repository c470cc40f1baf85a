#![allow(dead_code)]
//! Stands in until the relay is there.
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::net::TcpStream;

#[derive(Debug, Default)]
pub(crate) struct RelayCounters {
    a: AtomicU64,
    b: AtomicU64,
}
impl RelayCounters {
    pub(crate) fn a_to_b(&self) -> u64 {
        self.a.load(Relaxed)
    }
    pub(crate) fn b_to_a(&self) -> u64 {
        self.b.load(Relaxed)
    }
}
pub(crate) enum HalfClose {
    Linger(Duration),
}
pub(crate) struct Relay {
    a: TcpStream,
    b: TcpStream,
    size: usize,
    idle: Option<Duration>,
    counters: Arc<RelayCounters>,
}
impl Relay {
    pub(crate) fn new(a: TcpStream, b: TcpStream) -> Self {
        Self {
            a,
            b,
            size: 65536,
            idle: None,
            counters: Arc::default(),
        }
    }
    pub(crate) fn buffer(mut self, high: usize) -> Self {
        self.size = high;
        self
    }
    pub(crate) fn half_close(self, policy: HalfClose) -> Self {
        let HalfClose::Linger(_) = policy;
        self
    }
    pub(crate) fn idle_timeout(mut self, d: Duration) -> Self {
        self.idle = Some(d);
        self
    }
    pub(crate) fn counters(mut self, counters: Arc<RelayCounters>) -> Self {
        self.counters = counters;
        self
    }
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let (a, b) = tokio::io::copy_bidirectional_with_sizes(
            &mut self.a,
            &mut self.b,
            self.size,
            self.size,
        )
        .await?;
        self.counters.a.store(a, Relaxed);
        self.counters.b.store(b, Relaxed);
        Ok(())
    }
}
