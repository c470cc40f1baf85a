//! The table of results.

use std::{fmt, time::Duration};

use indicatif::{HumanBytes, HumanCount};

const TITLES: [&str; 7] = [
    "bytes",
    "GiB/s",
    "requests/s",
    "p50",
    "p99",
    "CPU s/GiB",
    "CPU/request",
];
const GIB: f64 = (1_u64 << 30) as f64;

/// The results of all measurements.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    /// Bytes of the proxy's memory for one idle pair of connections.
    pub(super) idle_pair: Option<u64>,
    /// Peak of the proxy's memory in bytes.
    pub(super) peak_memory: Option<u64>,
}

/// One measurement: what went through the proxy, and what that cost.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) has_bulk: bool,
    pub(super) elapsed: Duration,
    /// Both ways together.
    pub(super) bytes: u64,
    pub(super) requests: u64,
    pub(super) latency: Option<Latency>,
    /// Of the proxy alone.
    pub(super) cpu: Option<Duration>,
}

/// Times from a request to its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    p50: Duration,
    p99: Duration,
}

impl Latency {
    /// `None` if there were no requests.
    pub(super) fn of(mut requests: Vec<Duration>) -> Option<Self> {
        let last = requests.len().checked_sub(1)?;
        requests.sort_unstable();
        let at = |percent| requests[last * percent / 100];
        Some(Self {
            p50: at(50),
            p99: at(99),
        })
    }
}

impl Row {
    fn gib(&self) -> f64 {
        self.bytes as f64 / GIB
    }

    /// Returns the cells of the row; `None` where there is no figure. CPU time is given per GiB for loads with bulk
    /// transfers, which cost by far the most, and per request for the others.
    fn cells(&self) -> [Option<String>; TITLES.len()] {
        let seconds = self.elapsed.as_secs_f64();
        let requests = self.requests as f64;
        let cpu = self.cpu.map(|cpu| cpu.as_secs_f64());
        let micros = |time: Duration| format!("{:.0} us", time.as_secs_f64() * 1e6);
        let rate = || HumanCount((requests / seconds) as u64).to_string();
        let per_gib = |cpu| format!("{:.3}", cpu / self.gib());
        let per_request = |cpu| format!("{:.2} us", cpu / requests * 1e6);
        [
            Some(HumanBytes(self.bytes).to_string()),
            Some(format!("{:.3}", self.gib() / seconds)),
            self.latency.map(|_| rate()),
            self.latency.map(|latency| micros(latency.p50)),
            self.latency.map(|latency| micros(latency.p99)),
            cpu.filter(|_| self.has_bulk).map(per_gib),
            cpu.filter(|_| !self.has_bulk).map(per_request),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:>12}", "")?;
        for title in TITLES {
            write!(f, "{title:>12}")?;
        }
        for row in &self.rows {
            write!(f, "\n{:>12}", row.name)?;
            for cell in row.cells() {
                write!(f, "{:>12}", cell.as_deref().unwrap_or("-"))?;
            }
        }
        write!(
            f,
            "\n\nCPU time and memory are those of the proxy's process alone."
        )?;
        if let Some(bytes) = self.idle_pair {
            write!(
                f,
                "\nMemory: {} for an idle pair of connections",
                HumanBytes(bytes)
            )?;
        }
        if let Some(bytes) = self.peak_memory {
            write!(f, ", {} at its peak", HumanBytes(bytes))?;
        }
        Ok(())
    }
}
