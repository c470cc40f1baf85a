//! `cargo run --release -p peers -- all`

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use peers::{
    candidates::{self, Starter},
    cli::{Cli, Command},
    measure::{Plan, buffer, idle, proxy, scale, server},
    report::{self, Report, Table},
    sys,
};
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Command::Candidate { role } = cli.command {
        candidates::run(role)?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = plan(&cli)?;
    let failures = measure(&cli, &plan)?;
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Makes the experiments that are asked for, and keeps the tables of each as soon as they are there. Returns what failed.
fn measure(cli: &Cli, plan: &Plan) -> Result<Vec<String>> {
    let is = |command| cli.command == Command::All || cli.command == command;
    let mut failures = Vec::new();
    if cli.command == Command::Render {
        keep(cli, Vec::new())?;
    }
    // Outside the runtime, since workloads with callbacks bring one of their own.
    if is(Command::Buffer) {
        keep(cli, vec![buffer::run(plan)?])?;
    }
    if is(Command::Shared) {
        keep(cli, vec![buffer::run_shared(plan)?])?;
    }
    if is(Command::Proxy) {
        keep(cli, wait(proxy::on_one_cpu(plan, &mut failures))?)?;
    }
    if is(Command::Server) {
        keep(cli, wait(server::on_one_cpu(plan, &mut failures))?)?;
    }
    if is(Command::Idle) {
        keep(cli, wait(idle::run(plan, &mut failures))?)?;
    }
    if is(Command::Scale) {
        keep(cli, wait(scale::run(plan, &mut failures))?)?;
    }
    // Last, as what most depends on what else the machine does.
    if is(Command::Proxy) {
        keep(cli, wait(proxy::on_all_cpus(plan, &mut failures))?)?;
    }
    if is(Command::Server) {
        keep(cli, wait(server::on_all_cpus(plan, &mut failures))?)?;
    }
    Ok(failures)
}

/// Runs an experiment. An interruption drops it, and with it the candidate that is running.
fn wait(experiment: impl Future<Output = Result<Vec<Table>>>) -> Result<Vec<Table>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            tables = experiment => tables,
            _ = ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("told to end"),
        }
    })
}

fn plan(cli: &Cli) -> Result<Plan> {
    let all_cpus = sys::cpus()?;
    let last = *all_cpus.last().context("no CPU")?;
    Ok(Plan {
        starter: Starter::new()?,
        rounds: cli
            .rounds
            .map_or(if cli.quick { 1 } else { 5 }, usize::from),
        quick: cli.quick,
        cpu: cli.cpu.unwrap_or(last),
        all_cpus,
        only: cli.only.clone(),
    })
}

/// Prints the tables and puts them with those of earlier runs; shows them in the README if they are the ones that it shows.
fn keep(cli: &Cli, tables: Vec<Table>) -> Result<()> {
    tables.iter().for_each(report::print);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let partial = cli.quick || cli.only.is_some();
    let shown = here.join("results");
    let dir = match &cli.out {
        Some(dir) => dir,
        None if partial => return Ok(()),
        None => &shown,
    };
    let mut report = Report::load(dir)?;
    tables.into_iter().for_each(|table| report.put(table));
    report.save(dir)?;
    if cli.out.is_none() {
        report::update_readme(&report, &here.join("../../README.md"))?;
    }
    Ok(())
}
