//! What buffer operations cost: ours beside `BytesMut`, `VecDeque<u8>` and `VecDeque<Bytes>`, where they can do it.
//!
//! ```text
//! cargo bench --bench buffer                       # criterion: each workload in turn, with spread and history
//! cargo bench --bench buffer -- readln             # those whose name contains this
//! cargo bench --bench buffer -- --table            # one table, all buffers taking turns, about half a minute
//! ```
//!
//! In the table the buffers take turns in rounds, so that what disturbs the machine disturbs all of them; it shows
//! medians in ns for an operation. On Linux all is pinned to one CPU. Only the ratios mean something. The comparison
//! with libevent's own evbuffer, same workloads, is `cargo run --release -p peers -- buffer`.

#[path = "support/buffer/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod buffer;
#[path = "support/pin.rs"]
mod pin;

use std::{env, io, time::Duration};

use criterion::Criterion;

use buffer::{BYTES_MUT, DEQUE, DEQUE_OF_BYTES, OURS, Run, Workload, workloads};

fn main() -> io::Result<()> {
    pin::pin_to_one_cpu()?;
    if env::args().any(|argument| argument == "--table") {
        print_table(&workloads());
    } else {
        with_criterion(&workloads());
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
        for &(buffer, run) in &workload.runs {
            group.bench_function(buffer, |bencher| bencher.iter_custom(run));
        }
        group.finish();
    }
    criterion.final_summary();
}

const COLUMNS: [&str; 4] = [OURS, BYTES_MUT, DEQUE, DEQUE_OF_BYTES];
/// Many short ones: the most of them fit between two interruptions.
const ROUNDS: usize = 101;

fn print_table(workloads: &[Workload]) {
    print!("{:<48}", "ns for an operation, and ours over the other's");
    COLUMNS.iter().for_each(|buffer| print!("{buffer:>17}"));
    println!();
    for workload in workloads {
        let medians = in_turn(&workload.runs);
        let of = |buffer| medians.iter().find(|(name, _)| *name == buffer);
        let (_, ours) = of(OURS).expect("every workload is ours");
        print!("{:<48}{ours:>17.1}", workload.name);
        for buffer in &COLUMNS[1..] {
            match of(buffer) {
                Some((_, ns)) => print!("{:>17}", format!("{ns:.1} {:>5.2}", ours / ns)),
                None => print!("{:>17}", "-"),
            }
        }
        println!();
    }
}

/// The median time of one operation, in ns, by buffer.
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
