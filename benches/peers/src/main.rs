//! `cargo run --release -p peers -- all`

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use peers::{
    candidates::{self, Starter},
    cli::{Cli, Command},
    measure::{self, Plan},
    report::{self, Report, Table},
    sys,
};

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Command::Candidate { role } = cli.command {
        candidates::run(role)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failures = Vec::new();
    let tables = measure(&cli, &mut failures)?;
    tables.iter().for_each(report::print);
    keep(&cli, tables)?;
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure(cli: &Cli, failures: &mut Vec<String>) -> Result<Vec<Table>> {
    let plan = plan(cli)?;
    let is = |command| cli.command == Command::All || cli.command == command;
    let mut tables = Vec::new();
    // Outside the runtime, since workloads with callbacks bring one of their own.
    if is(Command::Buffer) {
        tables.push(measure::buffer::run(&plan)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if is(Command::Proxy) {
            tables.extend(measure::proxy::run(&plan, failures).await?);
        }
        if is(Command::Server) {
            tables.extend(measure::server::run(&plan, failures).await?);
        }
        if is(Command::Idle) {
            tables.push(measure::idle::run(&plan, failures).await?);
        }
        if is(Command::Scale) {
            tables.extend(measure::scale::run(&plan, failures).await?);
        }
        Ok(tables)
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

/// Puts the tables with those of earlier runs, and shows them in the README if they are the ones that it shows.
fn keep(cli: &Cli, tables: Vec<Table>) -> Result<()> {
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
