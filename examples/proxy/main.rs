//! A TCP proxy on chains of segments.
//!
//! A demonstration on loopback that ends by itself: an upstream, this proxy as a process of its own, and clients
//! whose bytes are checked by hash:
//!
//! ```sh
//! cargo run --release --example proxy
//! ```
//!
//! The real thing, which prints `listening on ADDR` once it accepts and runs until SIGINT or SIGTERM:
//!
//! ```sh
//! cargo run --release --example proxy -- --listen 127.0.0.1:8080 --connect example.com:80 --stats 5s --idle 5m
//! ```

mod cli;
mod demo;
mod header;
mod ledger;
mod lines;
mod server;
mod stop;

use std::process::ExitCode;

use cli::{Args, Mode};

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Args::parse_or_exit().mode() {
        Mode::Proxy(config) => server::run(config).await,
        Mode::Demo(config) => demo::run(config).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            lines::warn(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
