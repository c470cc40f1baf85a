//! Times the operations of buffers and shared buffers with criterion, which keeps a history and shows the spread.
//!
//! ```text
//! cargo bench --bench operations              # each workload on each buffer
//! cargo bench --bench operations -- readln    # the workloads whose name contains this
//! ```
//!
//! `cargo run --release -p peers -- buffer` (and `-- shared`) runs the same workloads in turn, also on libevent.

#[path = "workloads/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod workloads;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    pin_to_one_cpu();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    for workload in workloads::all()
        .into_iter()
        .chain(workloads::sharing::workloads())
    {
        let mut group = criterion.benchmark_group(workload.name);
        for &(buffer, run) in &workload.runs {
            group.bench_function(buffer, |bencher| bencher.iter_custom(run));
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Waking a second CPU costs more than what is measured. Without the right to pin, the figures are only less exact.
fn pin_to_one_cpu() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(allowed) = sched_getaffinity(None) else {
            return;
        };
        if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)) {
            let mut one = CpuSet::new();
            one.set(last);
            let _ = sched_setaffinity(None, &one);
        }
    }
}
