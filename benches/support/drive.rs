//! Runs workloads: with criterion, or all in turn for one table.

use std::{env, io, time::Duration};

use criterion::Criterion;

use crate::{
    buffer::{Run, Workload},
    pin,
};

/// What the command line asks for. Everything on one CPU, if that can be had.
pub(crate) fn main(workloads: &[Workload], columns: &[&str]) -> io::Result<()> {
    pin::pin_to_one_cpu()?;
    if env::args().any(|argument| argument == "--table") {
        print_table(workloads, columns);
    } else {
        with_criterion(workloads);
    }
    Ok(())
}

fn with_criterion(workloads: &[Workload]) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    for workload in workloads {
        let mut group = criterion.benchmark_group(workload.name);
        for &(candidate, run) in &workload.runs {
            group.bench_function(candidate, |bencher| bencher.iter_custom(run));
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Many short ones: the most of them fit between two interruptions.
const ROUNDS: usize = 101;

/// The first column is ours; the others show their time, and ours over it.
fn print_table(workloads: &[Workload], columns: &[&str]) {
    print!("{:<60}", "ns for an operation, and ours over the other's");
    columns.iter().for_each(|name| print!("{name:>17}"));
    println!();
    for workload in workloads {
        let medians = in_turn(&workload.runs);
        let of = |column: &str| medians.iter().find(|(name, _)| *name == column);
        let (_, ours) = of(columns[0]).expect("every workload is ours");
        print!("{:<60}{ours:>17.1}", workload.name);
        for column in &columns[1..] {
            match of(column) {
                Some((_, ns)) => print!("{:>17}", format!("{ns:.1} {:>5.2}", ours / ns)),
                None => print!("{:>17}", "-"),
            }
        }
        println!();
    }
}

/// The median time of one operation, in ns, by candidate.
fn in_turn(runs: &[(&'static str, Run)]) -> Vec<(&'static str, f64)> {
    let counts: Vec<u64> = runs.iter().map(|&(_, run)| enough(run)).collect();
    let mut samples = vec![Vec::with_capacity(ROUNDS); runs.len()];
    for _ in 0..ROUNDS {
        for ((&(_, run), &n), samples) in runs.iter().zip(&counts).zip(&mut samples) {
            samples.push(run(n).as_secs_f64() * 1e9 / n as f64);
        }
    }
    let medians = samples.into_iter().map(median);
    runs.iter().map(|&(name, _)| name).zip(medians).collect()
}

/// How many operations take a millisecond. Warms up as well.
fn enough(run: Run) -> u64 {
    let mut n = 16;
    while run(n) < Duration::from_millis(1) {
        n *= 2;
    }
    n
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
