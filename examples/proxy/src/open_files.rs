//! The limit of open files: raises it, and says how many connections fit.

use tokio_evbuffer::relay::max_pipes;

use crate::cli::ProxyConfig;

/// Descriptors of a connection: its client and its upstream.
const PER_CONNECTION: u64 = 2;
/// Descriptors for the listener, the runtime, name lookups and standard streams.
const RESERVED: u64 = 32;

/// Raises the limit of open files to what the system allows, and returns how many connections may run at the same
/// time: what `config` asks for, or what fits. The text says what was changed, if anything was.
pub(crate) fn prepare(config: &ProxyConfig) -> (usize, Option<String>) {
    let asked = config.max_connections;
    let Some((before, limit)) = raise() else {
        return (asked, None);
    };
    // Spliced connections share a few pipes, each of which has two ends.
    let pipes = if config.splices() { max_pipes() } else { 0 };
    let reserved = RESERVED + 2 * pipes as u64;
    // A very low limit leaves a quarter to connections: the rest of the process needs few in practice.
    let for_connections = limit.saturating_sub(reserved).max(limit / 4);
    let fit = usize::try_from(for_connections / PER_CONNECTION).unwrap_or(usize::MAX);
    let connections = asked.min(fit).max(1);
    let text = if connections < asked {
        Some(format!(
            "at most {connections} connections instead of {asked}: the limit of open files is {limit}"
        ))
    } else if before < limit {
        Some(format!(
            "limit of open files raised from {before} to {limit}"
        ))
    } else {
        None
    };
    (connections, text)
}

/// Raises the soft limit to the hard limit. Returns the limit before and after, if there is one.
#[cfg(unix)]
fn raise() -> Option<(u64, u64)> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current?;
    limit.current = limit.maximum;
    // A system that refuses keeps the limit that it had.
    let _ = setrlimit(Resource::Nofile, limit);
    let after = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Some((before, after))
}

#[cfg(not(unix))]
fn raise() -> Option<(u64, u64)> {
    None
}
