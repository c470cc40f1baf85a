//! Shows figures: on the terminal, in `BENCHMARKS.md`, as plots, and in the README and `docs/DROP_IN.md`.

mod comparisons;
mod markdown;
mod pages;
mod plot;

use std::{fs, path::Path};

use anyhow::Result;

use crate::table::Figures;

pub use comparisons::check;
pub use markdown::print;
pub use pages::update as update_pages;

/// Where the plots are, from the root of the package. The package includes this folder.
const PLOTS: &str = "docs/plots";

/// Writes `BENCHMARKS.md` and the plots below `root`.
pub fn write(figures: &Figures, root: &Path) -> Result<()> {
    let plots = root.join(PLOTS);
    fs::create_dir_all(&plots)?;
    plot::all(figures, &plots)?;
    Ok(fs::write(
        root.join("BENCHMARKS.md"),
        markdown::benchmarks(figures)?,
    )?)
}
