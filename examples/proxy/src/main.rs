//! A TCP proxy on chains of segments.
//!
//! A demonstration on loopback that ends by itself: an upstream, this proxy as a process of its own, and clients
//! whose bytes are checked by hash:
//!
//! ```sh
//! cargo run --release -p evbuffer-proxy
//! ```
//!
//! The real thing, which prints `listening on ADDR` once it accepts and runs until SIGINT or SIGTERM:
//!
//! ```sh
//! cargo run --release -p evbuffer-proxy -- --listen 127.0.0.1:8080 --connect example.com:80 --stats 5s --idle 5m
//! ```

mod cli;
mod demo;
mod header;
mod metrics;
mod output;
mod server;
mod shutdown;

use std::process::ExitCode;

use anyhow::Context;
use cli::{Args, Mode};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mode = Args::parse_or_exit().mode();
    match in_runtime(mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::warn(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(mode: Mode) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        match mode {
            Mode::Proxy(config) => server::run(config).await,
            Mode::Demo(config) => demo::run(config).await,
        }
    });
    // Whoever asked to stop does not wait for a name server that never answers.
    runtime.shutdown_background();
    outcome
}
