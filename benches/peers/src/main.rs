//! `cargo run --release -p peers -- all`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use peers::{
    candidates::{self, Starter},
    cli::{Cli, Command},
    measure::{
        Effort, Plan, buffer, fairness, frames, idle, options, paced, proxy, scale, server,
        stalled, trace, transfer,
    },
    report, sys,
    table::{Figures, Table},
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
    let failures = match cli.command {
        Command::Check => report::check(&Figures::load(&places(&cli).figures)?)?,
        _ => measure(&cli, &plan(&cli)?)?,
    };
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures what the command asks for, and writes the tables of each measurement when it ends. Returns the failures.
fn measure(cli: &Cli, plan: &Plan) -> Result<Vec<String>> {
    let is = |command| cli.command == Command::All || cli.command == command;
    let mut failures = Vec::new();
    if cli.command == Command::Render {
        keep(cli, Vec::new())?;
    }
    // Outside the runtime, since workloads with callbacks start their own.
    if is(Command::Buffer) {
        keep(cli, vec![buffer::run(plan)?])?;
    }
    if is(Command::Shared) {
        keep(cli, vec![buffer::run_shared(plan)?])?;
    }
    if is(Command::Proxy) {
        keep(cli, wait(proxy::on_one_cpu(plan, &mut failures))?)?;
    }
    if is(Command::Trace) {
        keep(cli, wait(trace::run(plan, &mut failures))?)?;
    }
    if is(Command::Server) {
        keep(cli, wait(server::on_one_cpu(plan, &mut failures))?)?;
        keep(cli, wait(server::http(plan, &mut failures))?)?;
    }
    if is(Command::Options) {
        keep(cli, wait(options::run(plan, &mut failures))?)?;
    }
    if is(Command::Paced) {
        keep(cli, wait(paced::run(plan, &mut failures))?)?;
    }
    if is(Command::Transfer) {
        keep(cli, wait(transfer::run(plan, &mut failures))?)?;
    }
    if is(Command::Fairness) {
        keep(cli, wait(fairness::run(plan, &mut failures))?)?;
    }
    if is(Command::Frames) {
        keep(cli, wait(frames::run(plan, &mut failures))?)?;
    }
    if is(Command::Stalled) {
        keep(cli, wait(stalled::run(plan, &mut failures))?)?;
    }
    if is(Command::Idle) {
        keep(cli, wait(idle::run(plan, &mut failures))?)?;
    }
    if is(Command::Scale) {
        keep(cli, wait(scale::run(plan, &mut failures))?)?;
    }
    if plan.effort == Effort::Short {
        return Ok(failures);
    }
    // Last, since these depend most on the rest of the machine.
    if is(Command::Proxy) {
        keep(cli, wait(proxy::on_all_cpus(plan, &mut failures))?)?;
    }
    if is(Command::Server) {
        keep(cli, wait(server::on_all_cpus(plan, &mut failures))?)?;
    }
    Ok(failures)
}

/// Runs a measurement. An interruption drops it, which also ends the running candidate.
fn wait(experiment: impl Future<Output = Result<Vec<Table>>>) -> Result<Vec<Table>> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tables = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            tables = experiment => tables,
            _ = ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    });
    eprintln!("took {:.0?}", began.elapsed());
    tables
}

fn plan(cli: &Cli) -> Result<Plan> {
    let all_cpus = sys::cpus()?;
    let last = *all_cpus.last().context("no CPU")?;
    let (effort, rounds, close_rounds) = match cli {
        Cli { quick: true, .. } => (Effort::Quick, 1, 1),
        Cli { short: true, .. } => (Effort::Short, 3, 7),
        _ => (Effort::Full, 5, 9),
    };
    Ok(Plan {
        starter: Starter::new(cli.exe.clone())?,
        rounds: cli.rounds.map_or(rounds, usize::from),
        close_rounds: cli.rounds.map_or(close_rounds, usize::from),
        effort,
        cpu: cli.cpu.unwrap_or(last),
        all_cpus,
        only: cli.only.clone(),
    })
}

/// Prints the tables, and writes them with those of earlier runs.
fn keep(cli: &Cli, tables: Vec<Table>) -> Result<()> {
    tables.iter().for_each(report::print);
    let partial = cli.quick || cli.only.is_some();
    if partial && cli.out.is_none() {
        return Ok(());
    }
    let places = places(cli);
    let mut figures = Figures::load(&places.figures)?;
    tables.into_iter().for_each(|table| figures.put(table));
    figures.save(&places.figures)?;
    report::write(&figures, &places.root)?;
    if cli.out.is_none() {
        report::update_pages(&figures, &places.root)?;
    }
    Ok(())
}

struct Places {
    /// The stored figures.
    figures: PathBuf,
    /// Where `BENCHMARKS.md` and the folder of the plots are.
    root: PathBuf,
}

fn places(cli: &Cli) -> Places {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match &cli.out {
        Some(dir) => Places {
            figures: dir.join("figures.json"),
            root: dir.clone(),
        },
        None => Places {
            figures: here.join("figures.json"),
            root: here.join("../.."),
        },
    }
}
