//! Writes figures between two marks of the README and of `docs/DROP_IN.md`.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use super::{
    PLOTS,
    comparisons::{self, Comparison, Shown},
    markdown,
};
use crate::table::Figures;

const BEGIN: &str = "<!-- figures:begin -->";
const END: &str = "<!-- figures:end -->";

/// Writes the comparisons that `comparisons.txt` marks for them into the README and the page about drop-ins below `root`.
pub fn update(figures: &Figures, root: &Path) -> Result<()> {
    for (page, block) in [
        ("README.md", readme(figures)?),
        ("docs/DROP_IN.md", drop_ins(figures)?),
    ] {
        let path = root.join(page);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(path, between_marks(&text, &block)?)?;
    }
    Ok(())
}

fn between_marks(page: &str, block: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .with_context(|| format!("no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no {END}"))?;
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

fn readme(figures: &Figures) -> Result<String> {
    // A smaller difference is within the spread of the measurement.
    const SPREAD: f64 = 1.03;
    let mut rows = String::from(HEAD);
    let mut losses = Vec::new();
    for c in comparisons::all(figures)? {
        for shown in &c.shown {
            match shown {
                Shown::Row(text) => rows += &row(text, &c),
                Shown::Loss(part) if c.ratio() > SPREAD => {
                    losses.push(format!("{part} ({:.2})", c.ratio()))
                }
                _ => {}
            }
        }
    }
    if !losses.is_empty() {
        write!(rows, "\nWe lose to {}.\n", losses.join(", "))?;
    }
    write!(rows, "\n![CPU seconds per GiB]({PLOTS}/cpu-per-gib.svg)\n")?;
    Ok(rows)
}

fn drop_ins(figures: &Figures) -> Result<String> {
    let mut rows = String::from(HEAD);
    for c in comparisons::all(figures)? {
        for shown in &c.shown {
            if let Shown::DropIn(text) = shown {
                rows += &row(text, &c);
            }
        }
    }
    Ok(rows)
}

const HEAD: &str = "| Measure | Ours | Theirs | Ratio |\n| --- | ---: | ---: | ---: |\n";

fn row(text: &str, c: &Comparison) -> String {
    let figure = |value| markdown::figure(value, c.digits);
    let (ours, theirs) = (figure(c.ours), figure(c.theirs));
    format!("| {text} | {ours} | {theirs} | **{:.2}** |\n", c.ratio())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(
            between_marks(&page, "new\n").unwrap(),
            format!("before\n{BEGIN}\nnew\n{END}\nafter\n")
        );
    }

    #[test]
    fn a_page_without_marks_is_left_alone() {
        assert!(between_marks("no marks", "new").is_err());
        assert!(between_marks(BEGIN, "new").is_err());
    }
}
