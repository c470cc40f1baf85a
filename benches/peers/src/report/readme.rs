//! The part of the README between two marks.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use super::{
    PLOTS,
    comparisons::{self, Shown},
    markdown,
};
use crate::table::Figures;

const BEGIN: &str = "<!-- figures:begin -->";
const END: &str = "<!-- figures:end -->";

/// Writes the comparisons that `comparisons.txt` marks for it into the README at `path`.
pub fn update(figures: &Figures, path: &Path) -> Result<()> {
    let readme = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    fs::write(path, between_marks(&readme, &block(figures)?)?)?;
    Ok(())
}

fn between_marks(readme: &str, block: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no {END}"))?;
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

fn block(figures: &Figures) -> Result<String> {
    // A smaller difference is within the spread of the measurement.
    const SPREAD: f64 = 1.03;
    let mut rows =
        String::from("| Measure | Ours | Theirs | Ratio |\n| --- | ---: | ---: | ---: |\n");
    let mut losses = Vec::new();
    for c in comparisons::all(figures)? {
        match &c.shown {
            Shown::Row(text) => writeln!(
                rows,
                "| {text} | {} | {} | **{:.2}** |",
                markdown::figure(c.ours, c.digits),
                markdown::figure(c.theirs, c.digits),
                c.ratio(),
            )?,
            Shown::Loss(part) if c.ratio() > SPREAD => {
                losses.push(format!("{part} ({:.2})", c.ratio()))
            }
            _ => {}
        }
    }
    if !losses.is_empty() {
        write!(rows, "\nWe lose to {}.\n", losses.join(", "))?;
    }
    write!(rows, "\n![CPU seconds per GiB]({PLOTS}/cpu-per-gib.svg)\n")?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
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
