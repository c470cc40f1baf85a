//! What the user may ask for.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::candidates::Role;

/// Measures tokio-evbuffer and its peers side by side.
///
/// Installs nothing: what is missing is named, with the package that has it, and left out. Figures are kept in a
/// directory and shown in the README; each command replaces its own tables only.
#[derive(Debug, Parser)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// A glance of about a minute: shows that everything works, and writes nothing unless --out is given.
    #[arg(long, global = true)]
    pub quick: bool,

    /// Rounds, of which the medians are taken [default: 5, with --quick 1].
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,

    /// The CPU on which candidate and load share their time [default: the last].
    #[arg(long, global = true)]
    pub cpu: Option<usize>,

    /// Measures only candidates with this in their names, and writes nothing unless --out is given.
    #[arg(long, global = true, value_name = "PART")]
    pub only: Option<String>,

    /// Where figures and plots are kept [default: benches/peers/results, which the README shows].
    #[arg(long, global = true, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Everything below; takes about half an hour.
    All,
    /// CPU time and throughput of proxies: bulk, and small messages.
    Proxy,
    /// CPU time of line servers.
    Server,
    /// Nanoseconds of buffer operations.
    Buffer,
    /// Nanoseconds of operations on a shared buffer, beside what one would build by hand.
    Shared,
    /// Memory of idle pairs of connections.
    Idle,
    /// What a growing number of connections costs.
    Scale,
    /// Draws and writes again what was measured before.
    Render,
    /// This process is the one that is measured.
    #[command(hide = true)]
    Candidate {
        #[command(subcommand)]
        role: Role,
    },
}
