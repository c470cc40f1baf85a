//! The marked block of the README.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{Id, Report, text};

const BEGIN: &str = "<!-- figures:begin -->";
const END: &str = "<!-- figures:end -->";

/// Tables and plots that a reader of the README sees; the others are one click away.
const SHOWN: [(Id, &[&str]); 5] = [
    (Id::Proxy, &["cpu-per-gib.svg", "cpu-per-message.svg"]),
    (Id::Idle, &["memory-per-pair.svg"]),
    (Id::Server, &["cpu-per-request.svg"]),
    (Id::Buffer, &["buffer.svg"]),
    (Id::Sharing, &[]),
];

const SCALE: [(Id, &str); 3] = [
    (Id::ScaleBulk, "scale-bulk.svg"),
    (Id::ScaleMessages, "scale-messages.svg"),
    (Id::ScaleMemory, "scale-memory.svg"),
];

/// Writes the figures into the README at `path`, between the marks.
pub fn update(report: &Report, path: &Path) -> Result<()> {
    let readme = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    fs::write(path, between_marks(&readme, &block(report))?)?;
    Ok(())
}

fn between_marks(readme: &str, block: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no {END}"))?;
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

fn block(report: &Report) -> String {
    let mut out = format!(
        "`cargo run --release -p peers -- all` measures this crate and its peers side by side and writes this section. It \
         names what is not installed, and shows every row, also where we lose. Figures are of one machine ({}); only \
         ratios within a table mean anything. [All tables](benches/peers/results/README.md), also over all CPUs; [as \
         JSON](benches/peers/results/peers.json).\n",
        report.machine,
    );
    text::write_targets(&mut out, report);
    for (id, plots) in SHOWN {
        let Some(table) = report.table(id) else {
            continue;
        };
        out.push_str(&format!("\n### {}\n\n{}\n\n", table.title, table.note));
        plots
            .iter()
            .for_each(|plot| out.push_str(&image(&table.title, plot)));
        if !plots.is_empty() {
            out.push('\n');
        }
        text::write_table(&mut out, table);
    }
    if SCALE.iter().any(|(id, _)| report.table(*id).is_some()) {
        out.push_str("\n### Scale\n\n");
    }
    for (id, plot) in SCALE {
        if let Some(table) = report.table(id) {
            out.push_str(&image(&table.title, plot));
        }
    }
    out
}

fn image(title: &str, file: &str) -> String {
    format!("![{title}](benches/peers/results/{file})\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(
            between_marks(&readme, "new\n").unwrap(),
            format!("before\n{BEGIN}\nnew\n{END}\nafter\n")
        );
    }

    #[test]
    fn a_readme_without_marks_is_left_alone() {
        assert!(between_marks("no marks", "new").is_err());
        assert!(between_marks(BEGIN, "new").is_err());
    }
}
