//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::candidates::Role;

/// Measures tokio-evbuffer and its peers side by side.
///
/// Installs nothing: names the package of what is missing, and leaves it out. Writes BENCHMARKS.md, its plots, and the
/// figures in README.md and docs/DROP_IN.md; each command replaces its own tables only.
#[derive(Debug, Parser)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Shows within a few minutes that everything works. Writes nothing unless --out is given.
    #[arg(long, global = true, conflicts_with = "short")]
    pub quick: bool,

    /// Takes about ten minutes: less work, fewer rounds, and only one CPU.
    #[arg(long, global = true)]
    pub short: bool,

    /// The number of rounds of which the medians are taken [default: 5, with --short 3, with --quick 1; more for close ratios].
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,

    /// The CPU that candidate and load share [default: the last].
    #[arg(long, global = true)]
    pub cpu: Option<usize>,

    /// Measures only candidates whose names contain this. Writes nothing unless --out is given.
    #[arg(long, global = true, value_name = "PART")]
    pub only: Option<String>,

    /// Runs the candidates of another build of this program.
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub exe: Option<PathBuf>,

    /// Writes figures, tables and plots into this folder instead of the repository.
    #[arg(long, global = true, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Everything below; takes about half an hour.
    All,
    /// CPU time and throughput of proxies: bulk, and small messages.
    Proxy,
    /// System calls and instructions of proxies for each message.
    Trace,
    /// CPU time of relays with limits, budgets and filters.
    Options,
    /// CPU time of proxies whose bulk is slower than the machine.
    Paced,
    /// CPU time between two turns of the I/O driver, and message latency beside bulk.
    Fairness,
    /// CPU time of one direction with a limit, from a socket or a file.
    Transfer,
    /// CPU time of line servers.
    Server,
    /// CPU time of servers that read frames.
    Frames,
    /// Nanoseconds of buffer operations.
    Buffer,
    /// Nanoseconds of operations on a shared buffer, and of what you would build by hand.
    Shared,
    /// Memory of idle connections.
    Idle,
    /// Memory of pairs whose client does not read.
    Stalled,
    /// CPU time and memory by the number of connections.
    Scale,
    /// Writes the tables and plots of earlier figures again.
    Render,
    /// Fails if a ratio of earlier figures is above its limit in comparisons.txt.
    Check,
    /// Runs a candidate in this process.
    #[command(hide = true)]
    Candidate {
        #[command(subcommand)]
        role: Role,
    },
}
