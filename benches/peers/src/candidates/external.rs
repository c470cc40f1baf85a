//! Other projects' proxies: one worker or thread each, in the foreground, configured in a temporary folder.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Starter;
use crate::process::Running;

const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Files that a proxy needs in addition to two for each pair.
const SPARE_FILES: usize = 100;

pub(super) fn has_nginx_stream() -> bool {
    find("nginx").is_some() && fs::exists(NGINX_STREAM).unwrap_or(false)
}

/// Searches `PATH` and the folders of daemons.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

pub(super) fn nginx(starter: &Starter, upstream: SocketAddr) -> Result<Running> {
    let connections = 2 * starter.pairs + SPARE_FILES;
    start(|listen, dir| {
        let place = dir.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\nworker_rlimit_nofile {connections};\n\
             load_module {NGINX_STREAM};\npid {place}/pid;\nerror_log stderr;\n\
             events {{ worker_connections {connections}; }}\n\
             stream {{ server {{ listen {listen} backlog=4096; proxy_pass {upstream}; proxy_half_close on; proxy_timeout 1h; }} }}\n"
        );
        let mut command = starter.command(find("nginx").context("nginx")?);
        command
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(write(dir, &config)?);
        Ok(command)
    })
}

pub(super) fn haproxy(starter: &Starter, upstream: SocketAddr, splice: bool) -> Result<Running> {
    let splice = if splice {
        "option splice-request\n option splice-response"
    } else {
        ""
    };
    let pairs = starter.pairs + SPARE_FILES;
    start(|listen, dir| {
        let config = format!(
            "global\n nbthread 1\n maxconn {pairs}\n\
             defaults\n mode tcp\n maxconn {pairs}\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n {splice}\n\
             frontend in\n bind {listen} backlog 4096\n default_backend out\n\
             backend out\n server upstream {upstream}\n"
        );
        let mut command = starter.command(find("haproxy").context("haproxy")?);
        command.arg("-db").arg("-f").arg(write(dir, &config)?);
        Ok(command)
    })
}

/// Starts the command that `configure` returns for an address. Another program may take the free port first, so this tries
/// more than one.
fn start(configure: impl Fn(SocketAddr, &TempDir) -> Result<Command>) -> Result<Running> {
    const TRIES: usize = 3;
    let attempt = || {
        let dir = tempfile::tempdir()?;
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Running::other(configure(listen, &dir)?, listen, dir)
    };
    (1..TRIES)
        .find_map(|_| attempt().ok())
        .map_or_else(attempt, Ok)
}

fn write(dir: &TempDir, config: &str) -> Result<PathBuf> {
    let file = dir.path().join("config");
    fs::write(&file, config)?;
    Ok(file)
}
