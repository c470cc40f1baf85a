//! Measurements: each one runs all candidates in turn, in rounds, and returns tables of medians.

pub mod buffer;
pub mod fairness;
pub mod frames;
pub mod idle;
pub mod options;
pub mod paced;
pub mod proxy;
pub mod scale;
pub mod server;
pub mod stalled;
pub mod trace;
pub mod transfer;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    candidates::{Candidate, Starter, present},
    process::Running,
    sys,
    table::{Column, Id, Row, Table},
};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A few minutes for everything: shows that it works, not how fast.
    Quick,
    /// About ten minutes for everything.
    Short,
    /// About half an hour for everything.
    Full,
}

/// How much is measured, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    pub starter: Starter,
    pub rounds: usize,
    /// The rounds for candidates that are to differ by a few percent, not by a factor.
    pub close_rounds: usize,
    pub effort: Effort,
    /// The CPU on which candidate and load share their time.
    pub cpu: usize,
    pub all_cpus: Vec<usize>,
    /// Part of the names of the candidates to be measured.
    pub only: Option<String>,
}

impl Plan {
    /// Returns the amount for the effort of this plan.
    fn amount<T>(&self, full: T, short: T, quick: T) -> T {
        match self.effort {
            Effort::Full => full,
            Effort::Short => short,
            Effort::Quick => quick,
        }
    }

    /// The same plan with at most `most` rounds.
    fn with_rounds(&self, most: usize) -> Self {
        Self {
            rounds: self.rounds.min(most),
            ..self.clone()
        }
    }

    /// The same plan with the rounds of [`close_rounds`](Self::close_rounds).
    fn for_close_ratios(&self) -> Self {
        Self {
            rounds: self.close_rounds,
            ..self.clone()
        }
    }

    fn choose(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let mut chosen = present(candidates);
        if let Some(part) = &self.only {
            chosen.retain(|candidate| candidate.name.contains(part.as_str()));
        }
        chosen
    }

    fn on_one_cpu(&self) -> Result<()> {
        sys::run_on(&[self.cpu])
    }

    /// The CPUs that the measured process does not use, if there are others.
    fn on_other_cpus(&self) -> Result<()> {
        let others: Vec<_> = self
            .all_cpus
            .iter()
            .copied()
            .filter(|&cpu| cpu != self.cpu)
            .collect();
        match others[..] {
            [] => self.on_one_cpu(),
            _ => sys::run_on(&others),
        }
    }

    fn on_all_cpus(&self) -> Result<()> {
        sys::run_on(&self.all_cpus)
    }

    fn note_for_one_cpu(&self, what: &str) -> String {
        format!(
            "{what} Everything on one CPU; medians of {} rounds.",
            self.rounds
        )
    }

    fn note_for_all_cpus(&self, what: &str) -> String {
        let cpus = self.all_cpus.len();
        format!(
            "{what} Over {cpus} CPUs; medians of {} rounds.",
            self.rounds
        )
    }
}

/// The samples of a table: a list for each cell.
struct Samples {
    rows: Vec<(String, bool)>,
    columns: Vec<Column>,
    /// By row, then by column.
    cells: Vec<Vec<Vec<f64>>>,
}

impl Samples {
    fn new(rows: Vec<(String, bool)>, columns: Vec<Column>) -> Self {
        let cells = vec![vec![Vec::new(); columns.len()]; rows.len()];
        Self {
            rows,
            columns,
            cells,
        }
    }

    fn of(candidates: &[Candidate], columns: Vec<Column>) -> Self {
        Self::new(
            candidates
                .iter()
                .map(|c| (c.name.to_owned(), c.is_ours()))
                .collect(),
            columns,
        )
    }

    fn add(&mut self, row: usize, column: &str, sample: f64) {
        let is_it = |c: &Column| c.name == column;
        let column = self
            .columns
            .iter()
            .position(is_it)
            .expect("a column of this table");
        self.cells[row][column].push(sample);
    }

    /// Returns the medians.
    fn into_table(self, id: Id, title: &str, of: &str, peer: &str, note: String) -> Table {
        let rows = self
            .rows
            .into_iter()
            .zip(self.cells)
            .map(|((name, ours), cells)| Row {
                name,
                ours,
                cells: cells.into_iter().map(median).collect(),
            });
        let rows = rows.collect();
        Table {
            id,
            title: title.into(),
            note,
            of: of.into(),
            peer: Some(peer.into()),
            columns: self.columns,
            rows,
        }
    }
}

fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => None,
        n if n % 2 == 1 => Some(samples[middle]),
        _ => Some(f64::midpoint(samples[middle - 1], samples[middle])),
    }
}

/// The CPU time that some work cost a candidate, and the time it took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

async fn cost_of<T>(
    candidate: &Running,
    work: impl Future<Output = Result<T>>,
) -> Result<(Cost, T)> {
    let (cpu, began) = (candidate.cpu_time()?, Instant::now());
    let result = work.await?;
    let wall = began.elapsed();
    Ok((
        Cost {
            cpu: candidate.cpu_time()? - cpu,
            wall,
        },
        result,
    ))
}

/// A sample and the column that it belongs to.
type Sample = (String, f64);

/// Runs `once` for each candidate in turn, in rounds, and collects the samples that it returns.
async fn in_rounds(
    plan: &Plan,
    what: &str,
    candidates: &[Candidate],
    columns: Vec<Column>,
    failures: &mut Vec<String>,
    once: impl AsyncFn(&Candidate) -> Result<Vec<Sample>>,
) -> Samples {
    let mut samples = Samples::of(candidates, columns);
    for round in 0..plan.rounds {
        for row in in_turn(round, candidates.len()) {
            let candidate = &candidates[row];
            show_progress(what, round, plan.rounds, candidate.name);
            match once(candidate).await {
                Ok(cells) => cells
                    .iter()
                    .for_each(|(column, sample)| samples.add(row, column, *sample)),
                Err(error) => note_failure(failures, what, candidate.name, &error),
            }
        }
    }
    samples
}

/// The order of the candidates in a round. Every round starts with another one, so that none is always first.
fn in_turn(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (i + round) % count)
}

/// Prints the progress.
fn show_progress(what: &str, round: usize, rounds: usize, name: &str) {
    eprintln!("{what}: round {} of {rounds}, {name}", round + 1);
}

/// Records a failure. The cells of that candidate stay empty, and the program lists all failures at its end.
fn note_failure(failures: &mut Vec<String>, what: &str, candidate: &str, error: &anyhow::Error) {
    let failure = format!("{what}, {candidate}: {error:#}");
    eprintln!("FAILED {failure}");
    failures.push(failure);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn every_candidate_runs_once_in_every_round() {
        for round in 0..5 {
            let mut turn: Vec<_> = in_turn(round, 3).collect();
            assert_eq!(turn[0], round % 3);
            turn.sort_unstable();
            assert_eq!(turn, [0, 1, 2]);
        }
    }
}
