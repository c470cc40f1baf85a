//! Tables as text: for the terminal, and as Markdown.

use std::fmt::Write;

use super::{Report, Row, Table, targets};

/// Prints a table to standard output.
pub fn print(table: &Table) {
    let widths = widths(table);
    println!("\n{}\n", table.title);
    let line = |cells: Vec<String>| {
        let first = format!("{:<width$}", cells[0], width = widths[0]);
        let rest = cells
            .iter()
            .zip(&widths)
            .skip(1)
            .map(|(cell, width)| format!("  {cell:>width$}"));
        println!("{first}{}", rest.collect::<String>());
    };
    line(head(table));
    table.rows.iter().for_each(|row| line(cells(table, row)));
    println!("\n{}", table.note);
}

/// All tables, with the targets before them.
pub(super) fn markdown(report: &Report) -> String {
    let mut out = format!(
        "# Measured\n\nWritten by `cargo run --release -p peers`. Absolute figures are those of one machine ({}); only \
         ratios within a table mean anything.\n",
        report.machine,
    );
    write_targets(&mut out, report);
    for table in &report.tables {
        write!(out, "\n## {}\n\n{}\n\n", table.title, table.note)
            .expect("a String takes everything");
        write_table(&mut out, table);
    }
    out
}

/// What was to be reached, and what was.
pub(super) fn write_targets(out: &mut String, report: &Report) {
    let reached: Vec<_> = targets::all(report).collect();
    if reached.is_empty() {
        return;
    }
    out.push_str("\n| Target | at most | measured | |\n|---|---:|---:|---|\n");
    for target in reached {
        let verdict = if target.ratio <= target.limit {
            "reached"
        } else {
            "**missed**"
        };
        writeln!(
            out,
            "| {} | {:.2} | {:.2} | {verdict} |",
            escaped(&target.what),
            target.limit,
            target.ratio
        )
        .expect("a String takes everything");
    }
}

pub(super) fn write_table(out: &mut String, table: &Table) {
    let mut line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
        writeln!(out, "| {} |", cells.join(" | ")).expect("a String takes everything");
    };
    line(&head(table));
    let rule: Vec<_> = (0..=table.columns.len())
        .map(|i| if i == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    line(&rule);
    for row in &table.rows {
        let mut cells = cells(table, row);
        if row.ours {
            cells
                .iter_mut()
                .filter(|cell| !cell.is_empty())
                .for_each(|cell| *cell = format!("**{cell}**"));
        }
        line(&cells);
    }
}

/// What looks like a tag would be taken for one.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;")
}

fn head(table: &Table) -> Vec<String> {
    [&table.of]
        .into_iter()
        .chain(table.columns.iter().map(|column| &column.name))
        .cloned()
        .collect()
}

fn cells(table: &Table, row: &Row) -> Vec<String> {
    let figures = row
        .cells
        .iter()
        .zip(&table.columns)
        .map(|(cell, column)| match cell {
            // Four digits before the point say enough, and a small ratio needs two behind it.
            Some(figure) if *figure >= 1000.0 => format!("{figure:.0}"),
            Some(figure) if *figure < 1.0 && column.digits > 0 => {
                format!("{figure:.digits$}", digits = column.digits.max(2))
            }
            Some(figure) => format!("{figure:.digits$}", digits = column.digits),
            None => String::new(),
        });
    [row.name.clone()].into_iter().chain(figures).collect()
}

fn widths(table: &Table) -> Vec<usize> {
    let mut widths: Vec<_> = head(table)
        .iter()
        .map(|cell| cell.chars().count())
        .collect();
    for row in &table.rows {
        for (width, cell) in widths.iter_mut().zip(cells(table, row)) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Column, Id};

    #[test]
    fn what_was_not_measured_is_an_empty_cell() {
        let table = Table {
            id: Id::Proxy,
            title: "Proxy".into(),
            note: String::new(),
            of: "Proxy".into(),
            columns: vec![Column::new("a", 1), Column::new("b", 0)],
            rows: vec![
                Row {
                    name: "x".into(),
                    ours: false,
                    cells: vec![Some(1.25), None],
                },
                Row {
                    name: "y".into(),
                    ours: true,
                    cells: vec![None, Some(12_345.6)],
                },
            ],
        };
        let mut out = String::new();
        write_table(&mut out, &table);
        assert_eq!(
            out,
            "| Proxy | a | b |\n| --- | ---: | ---: |\n| x | 1.2 |  |\n| **y** |  | **12346** |\n"
        );
    }
}
