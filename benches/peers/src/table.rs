//! Figures as they are measured, stored and shown.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::sys;

/// All tables. Each one stays until it is measured again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The machine of the last measurement.
    #[serde(default)]
    pub machine: String,
    pub tables: Vec<Table>,
}

/// The figures of one run. Only figures of the same table are comparable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub id: Id,
    pub title: String,
    /// How it was measured.
    pub note: String,
    /// What the names in the first column are.
    pub of: String,
    /// The row or the column that the others are shown as a ratio to.
    #[serde(default)]
    pub peer: Option<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    Proxy,
    ProxyAllCpus,
    Trace,
    Options,
    Paced,
    Fairness,
    Transfer,
    Idle,
    IdleServer,
    Stalled,
    Server,
    ServerAllCpus,
    Http,
    Frames,
    Buffer,
    Sharing,
    ScaleBulk,
    ScaleMessages,
    ScaleMemory,
    ScaleStalled,
}

impl Id {
    /// Returns the command of this program that measures the table.
    pub fn command(self) -> &'static str {
        match self {
            Self::Proxy | Self::ProxyAllCpus => "proxy",
            Self::Trace => "trace",
            Self::Options => "options",
            Self::Paced => "paced",
            Self::Fairness => "fairness",
            Self::Transfer => "transfer",
            Self::Idle | Self::IdleServer => "idle",
            Self::Stalled | Self::ScaleStalled => "stalled",
            Self::Server | Self::ServerAllCpus | Self::Http => "server",
            Self::Frames => "frames",
            Self::Buffer => "buffer",
            Self::Sharing => "shared",
            Self::ScaleBulk | Self::ScaleMessages | Self::ScaleMemory => "scale",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// Digits after the decimal point.
    pub digits: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// Whether it is this crate's.
    pub ours: bool,
    /// One cell for each column; `None` where nothing was measured.
    pub cells: Vec<Option<f64>>,
}

impl Figures {
    /// Reads the figures of earlier runs. A file that does not exist holds none.
    pub fn load(file: &Path) -> Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        serde_json::from_str(&fs::read_to_string(file)?)
            .with_context(|| format!("{} is not of this version", file.display()))
    }

    pub fn save(&self, file: &Path) -> Result<()> {
        Ok(fs::write(file, serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// Replaces the table with the same id by one that was measured on this machine. Tables of another machine go.
    pub fn put(&mut self, table: Table) {
        let machine = sys::machine();
        if self.machine != machine {
            self.machine = machine;
            self.tables.clear();
        }
        self.tables.retain(|other| other.id != table.id);
        self.tables.push(table);
        self.tables.sort_by_key(|table| table.id);
    }

    pub fn table(&self, id: Id) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }
}

impl Table {
    /// Returns the figure of `row` in the column called `column`.
    pub fn get(&self, row: &str, column: &str) -> Option<f64> {
        self.row(row)?.cells[self.column(column)?]
    }

    /// Returns the figure that the one of `row` and `column` is compared with: the same row's in the column called `peer`,
    /// or the same column's in the row called `peer`.
    pub fn get_peer(&self, row: &str, column: &str, peer: &str) -> Option<f64> {
        match self.column(peer) {
            Some(_) => self.get(row, peer),
            None => self.get(peer, column),
        }
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Returns the index of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
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
