//! Figures, and the forms they are shown in.

mod plot;
mod readme;
mod targets;
mod text;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::sys;

pub use readme::update as update_readme;
pub use text::print;

/// Everything that was measured. Tables come from runs of their own, and keep until they are measured again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine that the last of them was measured on.
    #[serde(default)]
    pub machine: String,
    pub tables: Vec<Table>,
}

/// The figures of one run: only figures of the same table may be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub id: Id,
    pub title: String,
    /// How it was measured.
    pub note: String,
    /// What the names in the first column are.
    pub of: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    Proxy,
    ProxyAllCpus,
    Idle,
    Server,
    ServerAllCpus,
    Buffer,
    Sharing,
    ScaleBulk,
    ScaleMessages,
    ScaleMemory,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// Digits behind the point.
    pub digits: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// Whether it is this crate's.
    pub ours: bool,
    /// By column; nothing where it was not measured.
    pub cells: Vec<Option<f64>>,
}

impl Report {
    const FILE: &str = "peers.json";

    /// What earlier runs left in `dir`.
    pub fn load(dir: &Path) -> Result<Self> {
        let file = dir.join(Self::FILE);
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not of this version", file.display()))
    }

    /// Puts `table`, measured on this machine, in the place of the one with the same id.
    pub fn put(&mut self, table: Table) {
        self.machine = sys::machine();
        self.tables.retain(|other| other.id != table.id);
        self.tables.push(table);
        self.tables.sort_by_key(|table| table.id);
    }

    pub fn table(&self, id: Id) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// Writes the figures as JSON, as plots, and as text.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(
            dir.join(Self::FILE),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        fs::write(dir.join("README.md"), text::markdown(self))?;
        plot::all(self, dir)
    }
}

impl Table {
    /// The figure of `row` in the column called `column`.
    pub fn get(&self, row: &str, column: &str) -> Option<f64> {
        let column = self.columns.iter().position(|c| c.name == column)?;
        self.rows.iter().find(|r| r.name == row)?.cells[column]
    }
}

impl Column {
    pub fn new(name: impl Into<String>, digits: usize) -> Self {
        Self {
            name: name.into(),
            digits,
        }
    }
}
