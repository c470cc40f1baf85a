//! The candidates, and how each one is started.

mod external;
mod proxies;
mod servers;
mod splice;
mod transfers;

use std::{io::Read, net::SocketAddr, path::PathBuf, process::Command};

use anyhow::Result;
use clap::ValueEnum;

use crate::process::Running;

pub use proxies::Proxy;
pub use servers::Server;
pub use transfers::Source;

/// A program that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The name in the tables.
    pub name: &'static str,
    pub program: Program,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Program {
    /// A proxy of this program, on the runtime flavour given.
    Proxy(Proxy, Flavour),
    /// A server of this program that answers by itself, without an upstream.
    Server(Server, Flavour),
    /// A server of this program that sends this many bytes, from the upstream or from a file of `x`.
    Transfer(Source, u64),
    Nginx,
    Haproxy {
        splice: bool,
    },
}

/// The Tokio runtime that a candidate runs on. Candidates without Tokio ignore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    MultiThread,
    CurrentThread,
}

/// How candidates are started.
#[derive(Clone, Debug)]
pub struct Starter {
    /// This program, as a file.
    pub exe: PathBuf,
    /// A command with arguments that runs the candidate, such as a profiler.
    pub wrap: Vec<String>,
    /// The highest number of pairs of connections that a candidate has to hold.
    pub pairs: usize,
}

impl Starter {
    /// Runs the candidates of `exe`, another build of this program, or those of this one.
    pub fn new(exe: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            exe: exe.map_or_else(std::env::current_exe, Ok)?,
            wrap: Vec::new(),
            pairs: 1_000,
        })
    }

    /// Starts `candidate`. A proxy connects to `upstream`; a server ignores it.
    pub fn start(&self, candidate: &Candidate, upstream: SocketAddr) -> Result<Running> {
        match candidate.program {
            Program::Proxy(proxy, flavour) => {
                let mut command = self.command(&self.exe);
                command.args([
                    "candidate",
                    "proxy",
                    &name_of(proxy),
                    &name_of(flavour),
                    &upstream.to_string(),
                ]);
                Running::own(command)
            }
            Program::Server(server, flavour) => {
                let mut command = self.command(&self.exe);
                command.args(["candidate", "server", &name_of(server), &name_of(flavour)]);
                Running::own(command)
            }
            Program::Transfer(source, bytes) => {
                let file = tempfile::NamedTempFile::new()?;
                if !source.reads_upstream() {
                    std::io::copy(&mut std::io::repeat(b'x').take(bytes), &mut file.as_file())?;
                }
                let mut command = self.command(&self.exe);
                command.args([
                    "candidate",
                    "transfer",
                    &name_of(source),
                    &upstream.to_string(),
                ]);
                command.arg(file.path()).arg(bytes.to_string());
                let mut running = Running::own(command)?;
                running.keep(file);
                Ok(running)
            }
            Program::Nginx => external::nginx(self, upstream),
            Program::Haproxy { splice } => external::haproxy(self, upstream, splice),
        }
    }

    fn command(&self, program: impl Into<std::ffi::OsString>) -> Command {
        let mut words = self.wrap.iter().map(Into::into).chain([program.into()]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words);
        command
    }
}

/// The packages of the candidates in C, if they are missing.
const C_PACKAGES: Option<&str> = if cfg!(libevent) {
    None
} else {
    Some("libevent-dev pkg-config")
};

impl Candidate {
    /// Returns the Debian packages of a candidate that is not installed.
    pub fn missing(&self) -> Option<&'static str> {
        match self.program {
            Program::Proxy(proxy, _) if proxy.is_c() => C_PACKAGES,
            Program::Server(Server::Libevent, _) => C_PACKAGES,
            Program::Proxy(..) | Program::Server(..) | Program::Transfer(..) => None,
            Program::Nginx => {
                (!external::has_nginx_stream()).then_some("nginx libnginx-mod-stream")
            }
            Program::Haproxy { .. } => external::find("haproxy").is_none().then_some("haproxy"),
        }
    }

    pub fn is_ours(&self) -> bool {
        match self.program {
            Program::Proxy(proxy, _) => proxy.is_ours(),
            Program::Server(server, _) => server.is_ours(),
            Program::Transfer(source, _) => source.is_ours(),
            _ => false,
        }
    }
}

/// Returns the candidates that are installed, and prints the packages of the others.
pub fn present(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut there = candidates.to_vec();
    there.retain(|candidate| {
        let missing = candidate.missing();
        if let Some(packages) = missing {
            eprintln!(
                "{} was not found and is left out; to include it: apt-get install {packages}",
                candidate.name
            );
        }
        missing.is_none()
    });
    there
}

/// Returns whether a tool is installed, and prints its package if it is not.
pub fn has_tool(name: &str) -> bool {
    let found = external::find(name).is_some();
    if !found {
        eprintln!(
            "{name} was not found, its columns stay empty; to fill them: apt-get install {name}"
        );
    }
    found
}

/// A proxy of this program on the multi-thread runtime.
pub const fn proxy(name: &'static str, proxy: Proxy) -> Candidate {
    Candidate {
        name,
        program: Program::Proxy(proxy, Flavour::MultiThread),
    }
}

/// A server of this program on the multi-thread runtime.
pub const fn server(name: &'static str, server: Server) -> Candidate {
    Candidate {
        name,
        program: Program::Server(server, Flavour::MultiThread),
    }
}

fn name_of(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .expect("none is skipped")
        .get_name()
        .to_owned()
}

/// Runs a candidate in this process until its standard input is closed.
pub fn run(role: Role) -> Result<()> {
    match role {
        Role::Proxy {
            proxy,
            flavour,
            upstream,
        } => proxies::run(proxy, flavour, upstream),
        Role::Server { server, flavour } => servers::run(server, flavour),
        Role::Transfer {
            source,
            upstream,
            file,
            bytes,
        } => transfers::run(source, upstream, file, bytes),
    }
}

/// The candidate that this process runs.
#[derive(Clone, Debug, PartialEq, clap::Subcommand)]
pub enum Role {
    Proxy {
        proxy: Proxy,
        flavour: Flavour,
        upstream: SocketAddr,
    },
    Server {
        server: Server,
        flavour: Flavour,
    },
    Transfer {
        source: Source,
        upstream: SocketAddr,
        file: PathBuf,
        bytes: u64,
    },
}

impl Flavour {
    fn runtime(self) -> std::io::Result<tokio::runtime::Runtime> {
        match self {
            Self::MultiThread => tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build(),
            Self::CurrentThread => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build(),
        }
    }
}
