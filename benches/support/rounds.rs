//! Candidates in turn, so that what disturbs the machine disturbs all of them.

use super::Result;

/// Measures each candidate once a round and prints the medians, absolute and over that of the candidate at `unit`.
pub(crate) fn table(
    title: &str,
    candidates: &[&str],
    unit: usize,
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<f64>,
) -> Result<()> {
    let mut measured = vec![Vec::with_capacity(rounds); candidates.len()];
    for round in 0..rounds {
        for step in 0..candidates.len() {
            // There and back, since what runs before leaves its mark on what runs after: up to a tenth.
            let candidate = if round % 2 == 0 {
                step
            } else {
                candidates.len() - 1 - step
            };
            measured[candidate].push(measure(candidate)?);
        }
    }
    let medians: Vec<f64> = measured.into_iter().map(median).collect();
    println!("\n{title}");
    for (candidate, name) in candidates.iter().enumerate() {
        let mark = if candidate == unit { "=1" } else { "" };
        let ratio = medians[candidate] / medians[unit];
        println!("  {name:<28}{:>9.3}{ratio:>8.2} {mark}", medians[candidate]);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
