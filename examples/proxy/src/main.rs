//! A TCP proxy on chains of segments.
//!
//! A demonstration on loopback that ends by itself: an upstream, this proxy as a separate process, and clients that
//! check every byte by hash:
//!
//! ```sh
//! cargo run --release -p evbuffer-proxy
//! ```
//!
//! A proxy that prints `listening on ADDR` once it accepts, and runs until SIGINT or SIGTERM:
//!
//! ```sh
//! cargo run --release -p evbuffer-proxy -- --listen 127.0.0.1:8080 --connect example.com:80 --stats 5s --idle 5m
//! ```

mod cli;
mod connect;
mod demo;
mod header;
mod listener;
mod metrics;
mod open_files;
mod output;
mod server;
mod shutdown;

use std::process::ExitCode;

use anyhow::Context;
use cli::{Args, Mode};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let mode = Args::parse_or_exit().mode();
    let _flush_at_exit = output::start();
    match run(mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::log(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(mode: Mode) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        match mode {
            Mode::Proxy(config) => server::run(*config).await,
            Mode::Demo(config) => demo::run(config).await,
        }
    });
    // A lookup that waits for a name server runs on a thread that cannot be stopped: do not wait for it.
    runtime.shutdown_background();
    outcome
}
