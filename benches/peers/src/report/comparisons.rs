//! The comparisons of `comparisons.txt`: two figures of one table, and the ratio that CI accepts at most.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::table::{Figures, Id};

const FILE: &str = include_str!("../../comparisons.txt");

/// A line of the file.
#[derive(Debug)]
struct Line {
    id: Id,
    row: String,
    column: String,
    /// A row or a column of the same table.
    peer: String,
    limit: Option<f64>,
    shown: Vec<Shown>,
}

/// Where a comparison is shown, apart from `BENCHMARKS.md`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shown {
    /// In the README, as a row with this text.
    Row(String),
    /// In the README, as this part of the sentence about losses, if it is one.
    Loss(String),
    /// On the page about drop-ins, as a row with this text.
    DropIn(String),
}

impl Shown {
    fn new(label: &str) -> Self {
        if let Some(part) = label.strip_prefix("lose: ") {
            Self::Loss(part.to_owned())
        } else if let Some(row) = label.strip_prefix("drop-in: ") {
            Self::DropIn(row.to_owned())
        } else {
            Self::Row(label.to_owned())
        }
    }
}

/// A comparison whose figures were measured.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The title of the table.
    pub(super) table: String,
    pub(super) measure: String,
    pub(super) name: String,
    pub(super) peer: String,
    pub(super) ours: f64,
    pub(super) theirs: f64,
    pub(super) digits: usize,
    limit: Option<f64>,
    pub(super) shown: Vec<Shown>,
}

impl Comparison {
    pub(super) fn ratio(&self) -> f64 {
        self.ours / self.theirs
    }
}

/// Returns those whose figures exist, in the order of the file.
pub(super) fn all(figures: &Figures) -> Result<Vec<Comparison>> {
    let lines = FILE.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<Line> = lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.parse().with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    Ok(lines
        .into_iter()
        .filter_map(|line| line.compare(figures))
        .collect())
}

/// Returns each comparison that is above its limit.
pub fn check(figures: &Figures) -> Result<Vec<String>> {
    let above = |c: &Comparison| Some((c.limit?, c.ratio())).filter(|(limit, ratio)| ratio > limit);
    Ok(all(figures)?
        .iter()
        .filter_map(|c| {
            let (limit, ratio) = above(c)?;
            let (measure, name, peer) = (&c.measure, &c.name, &c.peer);
            Some(format!(
                "{measure}: {name} / {peer} is {ratio:.2}, at most {limit:.2}"
            ))
        })
        .collect())
}

impl Line {
    fn compare(self, figures: &Figures) -> Option<Comparison> {
        let table = figures.table(self.id)?;
        let ours = table.get(&self.row, &self.column)?;
        let theirs = table.get_peer(&self.row, &self.column, &self.peer)?;
        let digits = table.columns[table.column(&self.column)?].digits;
        // Where the peer is a column, so are we, and the row is what was measured.
        let (measure, name) = match table.column(&self.peer) {
            Some(_) => (self.row, self.column),
            None => (self.column, self.row),
        };
        Some(Comparison {
            table: table.title.clone(),
            measure,
            name,
            peer: self.peer,
            ours,
            theirs,
            digits,
            limit: self.limit,
            shown: self.shown,
        })
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [id, column, row, peer, limit, ref labels @ ..] = fields[..] else {
            bail!("fewer than five fields");
        };
        let limit = match limit {
            "-" => None,
            number => Some(number.parse()?),
        };
        let id: serde::de::value::StrDeserializer<'_, serde_json::Error> =
            serde::de::IntoDeserializer::into_deserializer(id);
        Ok(Self {
            id: Id::deserialize(id)?,
            row: row.to_owned(),
            column: column.to_owned(),
            peer: peer.to_owned(),
            limit,
            shown: labels.iter().map(|label| Shown::new(label)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, Row, Table};

    fn figures() -> Figures {
        let row = |name: &str, cells: [f64; 2]| Row {
            name: name.into(),
            ours: false,
            cells: cells.map(Some).to_vec(),
        };
        let table = Table {
            id: Id::Proxy,
            title: String::new(),
            note: String::new(),
            of: String::new(),
            peer: None,
            columns: vec![Column::new("a", 1), Column::new("b", 1)],
            rows: vec![row("x", [1.0, 2.0]), row("y", [4.0, 5.0])],
        };
        Figures {
            machine: String::new(),
            tables: vec![table],
        }
    }

    fn ratio(line: &str) -> Option<f64> {
        let line: Line = line.parse().unwrap();
        line.compare(&figures()).map(|c| c.ratio())
    }

    #[test]
    fn a_peer_is_a_row_or_a_column() {
        assert_eq!(ratio("proxy | a | x | y | 1.0"), Some(0.25));
        assert_eq!(ratio("proxy | a | x | b | -"), Some(0.5));
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        assert_eq!(ratio("proxy | a | x | z | -"), None);
        assert_eq!(ratio("idle | a | x | y | -"), None);
    }

    #[test]
    fn the_file_is_well_formed() {
        assert!(all(&figures()).unwrap().is_empty());
    }
}
