//! The proxy as a separate process, so that its CPU time and memory can be measured alone.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tokio_evbuffer::relay::Splice;

/// Killed when it is dropped.
pub(super) struct ProxyProcess {
    child: Child,
    /// The proxy stops when this is closed, also by the end of this process.
    stdin: ChildStdin,
    /// Kept open: the proxy may print more.
    _stdout: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) current: u64,
    pub(super) peak: u64,
}

impl ProxyProcess {
    /// Starts this program as a proxy in front of `upstream` and waits until it accepts.
    pub(super) async fn start(upstream: SocketAddr, splice: Splice) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--connect",
                &upstream.to_string(),
            ])
            .args(["--until-eof", "--grace", "1s"])
            .args((splice == Splice::Never).then_some("--no-splice"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the proxy")?;
        let stdin = child.stdin.take().context("the proxy has no stdin")?;
        let stdout = child.stdout.take().context("the proxy has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = lines
            .next_line()
            .await?
            .context("the proxy ended before it listened")?;
        let address = first
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("unexpected first line `{first}`"))?;
        Ok(Self {
            child,
            stdin,
            _stdout: lines,
            address,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it gracefully.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Self {
            mut child, stdin, ..
        } = self;
        drop(stdin);
        let status = child.wait().await?;
        ensure!(status.success(), "the proxy ended with {status}");
        Ok(())
    }

    /// Returns user and system time so far, on systems that show it.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        cpu_time(self.child.id()?)
    }

    /// Returns the memory now and its peak, on systems that show it.
    pub(super) fn memory(&self) -> Option<Memory> {
        memory(self.child.id()?)
    }
}

#[cfg(target_os = "linux")]
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything. utime and stime are fields 14 and 15.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let times = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

#[cfg(target_os = "linux")]
fn memory(pid: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib_of = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some(Memory {
        current: kib_of("VmRSS:")? << 10,
        peak: kib_of("VmHWM:")? << 10,
    })
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(_pid: u32) -> Option<Duration> {
    None
}

#[cfg(not(target_os = "linux"))]
fn memory(_pid: u32) -> Option<Memory> {
    None
}
