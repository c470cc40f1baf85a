//! Counts system calls with strace, and instructions with callgrind.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Plan, in_rounds, proxy};
use crate::{
    candidates::{Candidate, Starter, has_tool},
    load::{
        ping_pong::PingPong,
        upstream::{Answer, Upstream},
    },
    names::COPY_8,
    process::Running,
    sys,
    table::{Column, Id, Table},
};

const SYSTEM_CALLS: &str = "system calls/message";
const INSTRUCTIONS: &str = "instructions/message";
const CONNECTIONS: usize = 16;

/// One table.
pub async fn run(plan: &Plan, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    plan.on_one_cpu()?;
    let candidates = proxy::main_candidates(plan);
    let columns = vec![Column::new(SYSTEM_CALLS, 1), Column::new(INSTRUCTIONS, 0)];
    let (strace, valgrind) = (has_tool("strace"), has_tool("valgrind"));
    let once = async |candidate: &Candidate| {
        let mut samples = Vec::new();
        if strace {
            let calls = system_calls(&plan.starter, candidate).await?;
            samples.push((SYSTEM_CALLS.into(), calls));
        }
        if valgrind {
            let count = instructions(&plan.starter, candidate).await?;
            samples.push((INSTRUCTIONS.into(), count));
        }
        Ok(samples)
    };
    let plan = &plan.with_rounds(1);
    let samples = in_rounds(plan, "trace", &candidates, columns, failures, once).await;
    let note = format!(
        "Round trips of 64 B over {CONNECTIONS} connections: system calls as strace counts them, and instructions in user mode as \
         callgrind counts them.",
    );
    let title = "System calls and instructions";
    Ok(vec![samples.into_table(
        Id::Trace,
        title,
        "Proxy",
        COPY_8,
        note,
    )])
}

/// Returns the system calls of all threads of `candidate` for each round trip.
async fn system_calls(starter: &Starter, candidate: &Candidate) -> Result<f64> {
    const MESSAGES: usize = 200;
    let upstream = Upstream::start(Answer::Echo).await?;
    let running = starter.start(candidate, upstream.addr())?;
    let mut load = PingPong::start(running.addr(), CONNECTIONS).await?;
    load.run(10).await?;

    let dir = tempfile::tempdir()?;
    let log = dir.path().join("strace");
    let strace = Strace::attach(&running, &log)?;
    load.run(MESSAGES).await?;
    strace.detach()?;
    let total =
        total_calls(&std::fs::read_to_string(log)?).context("strace's summary has no total")?;
    Ok(total as f64 / (MESSAGES * CONNECTIONS) as f64)
}

/// Returns the user instructions of `candidate` for each round trip: the difference of two runs.
async fn instructions(starter: &Starter, candidate: &Candidate) -> Result<f64> {
    const FEW: usize = 20;
    const MANY: usize = 120;
    let wrap = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let starter = Starter {
        wrap: wrap.map(str::to_owned).to_vec(),
        ..starter.clone()
    };
    let few = collected(&starter, candidate, FEW).await?;
    let many = collected(&starter, candidate, MANY).await?;
    Ok((many - few) / ((MANY - FEW) * CONNECTIONS) as f64)
}

async fn collected(starter: &Starter, candidate: &Candidate, messages: usize) -> Result<f64> {
    let upstream = Upstream::start(Answer::Echo).await?;
    let running = starter.start(candidate, upstream.addr())?;
    PingPong::start(running.addr(), CONNECTIONS)
        .await?
        .run(messages)
        .await?;
    let said = running.stop()?;
    let line = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .context("callgrind collected nothing")?;
    Ok(line.1.trim().parse()?)
}

struct Strace(Child);

impl Strace {
    fn attach(to: &Running, log: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command
            .args(["-c", "-f", "-qq", "-o"])
            .arg(log)
            .arg("-p")
            .arg(to.pid().to_string());
        let strace = Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let began = Instant::now();
        while !sys::is_traced(to.pid()) {
            ensure!(
                began.elapsed() < Duration::from_secs(10),
                "strace does not attach"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(strace)
    }

    /// Ends strace, which then writes its summary.
    fn detach(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id().try_into()?), Signal::SIGINT)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the last line of the summary: `100.00 0.012345 3 4000 total`, with a column for errors if there were any.
fn total_calls(summary: &str) -> Option<u64> {
    let line = summary
        .lines()
        .rev()
        .find(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_with_and_without_errors() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        let plain = format!("{head}100.00    0.000100           1      1234           total\n");
        let errors = format!("{head}100.00    0.000100           1      1234        56 total\n");
        assert_eq!(total_calls(&plain), Some(1234));
        assert_eq!(total_calls(&errors), Some(1234));
        assert_eq!(total_calls(head), None);
    }
}
