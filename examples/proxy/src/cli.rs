//! The arguments of the program. Wrong ones are reported in one line.

use std::{
    io::{self, Write},
    process::exit,
    time::Duration,
};

use clap::{Parser, error::ErrorKind};
use tokio_evbuffer::{
    limits::{MemoryBudget, RateLimit, RateLimitGroup},
    relay::Splice,
};

use crate::header::Version;

/// The longest time that is accepted. The end of a longer one could not be computed.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The settings of a proxy.
#[derive(Clone, Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) listen: String,
    pub(crate) connect: String,
    pub(crate) idle: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) stats: Option<Duration>,
    pub(crate) max_connections: usize,
    pub(crate) backlog: i32,
    pub(crate) buffer: Option<usize>,
    pub(crate) rate_limit: Option<RateLimit>,
    /// Shared by all connections.
    pub(crate) rate_group: Option<RateLimitGroup>,
    /// Shared by all connections.
    pub(crate) budget: Option<MemoryBudget>,
    pub(crate) splice: Splice,
    pub(crate) accept_proxy: bool,
    pub(crate) send_proxy: Option<Version>,
    pub(crate) until_eof: bool,
}

/// The settings of the demonstration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemoConfig {
    pub(crate) duration: Duration,
    pub(crate) splice: Splice,
    /// Whether the upstream sends one wrong byte, which the clients have to find.
    pub(crate) corrupt: bool,
}

#[derive(Debug)]
pub(crate) enum Mode {
    Proxy(Box<ProxyConfig>),
    Demo(DemoConfig),
}

/// A TCP proxy on chains of segments. Without arguments: a demonstration on loopback.
#[derive(Parser, Debug)]
#[command(name = "evbuffer-proxy", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Accept clients on this address. Port 0 takes a free port; the first line on stdout names it. Another proxy may
    /// listen on the same address, to replace this one
    #[arg(long, value_name = "HOST:PORT", requires = "connect", value_parser = address)]
    listen: Option<String>,

    /// Connect each client to this upstream. A name is resolved again for each connection
    #[arg(long, value_name = "HOST:PORT", requires = "listen", value_parser = address)]
    connect: Option<String>,

    /// End a connection on which nothing moved for this long; `never` for no limit
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "1h", value_parser = limit)]
    idle: Limit,

    /// After one side has ended, end the other if nothing moves for this long
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "30s", value_parser = duration)]
    linger: Duration,

    /// Time for the upstream to accept a connection, and for a client to send its PROXY header
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,

    /// Probe a peer that was silent for this long, and end the connection if it does not answer (SO_KEEPALIVE);
    /// `never` for no probes
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "1m", value_parser = limit)]
    keepalive: Limit,

    /// End a connection if sent bytes are not acknowledged for this long (TCP_USER_TIMEOUT, on Linux), or if the peer
    /// is there but accepts none; `never` leaves a peer that is gone to the system, which takes about 15 minutes
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "never", value_parser = limit)]
    user_timeout: Limit,

    /// Time for connections to finish when the proxy is stopped
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "30s", value_parser = duration)]
    grace: Duration,

    /// Print a line of figures at this interval [default: never]
    #[arg(long, value_name = "TIME", requires = "listen", value_parser = interval)]
    stats: Option<Duration>,

    /// Serve at most this many connections at a time; more clients wait. Lowered to what the limit of open files allows
    #[arg(long, value_name = "N", requires = "listen", default_value = "8192", value_parser = count)]
    max_connections: usize,

    /// Clients that wait in the queue of the kernel [default: as many as the system allows]
    #[arg(long, value_name = "N", requires = "listen", value_parser = clap::value_parser!(i32).range(1..))]
    backlog: Option<i32>,

    /// Hold at most this many bytes of a connection each way [default: 256KiB, or 1MiB in the kernel]
    #[arg(long, value_name = "SIZE", requires = "listen", value_parser = size)]
    buffer: Option<usize>,

    /// Move at most this many bytes per second of a connection, in each direction
    #[arg(long, value_name = "SIZE", requires = "listen", value_parser = rate)]
    rate_limit: Option<RateLimit>,

    /// Move at most this many bytes per second of all connections together, in each direction; busy ones share it fairly
    #[arg(long, value_name = "SIZE", requires = "listen", value_parser = rate)]
    total_rate_limit: Option<RateLimit>,

    /// Hold at most about this much memory for the bytes of all connections; above it, reading pauses,
    /// and connections that take nothing are ended
    #[arg(long, value_name = "SIZE", requires = "listen", value_parser = size)]
    memory: Option<usize>,

    /// Copy all bytes; never let the kernel move them from socket to socket. Also for the demonstration
    #[arg(long)]
    no_splice: bool,

    /// Expect a PROXY protocol header (v1 or v2) from each client, as a load balancer sends it
    #[arg(long, requires = "listen")]
    accept_proxy: bool,

    /// Send the upstream a PROXY protocol header that says who the client is
    #[arg(long, value_name = "VERSION", requires = "listen")]
    send_proxy: Option<Version>,

    /// Stop, as on SIGTERM, at the end of standard input
    #[arg(long, hide = true, requires = "listen")]
    until_eof: bool,

    /// Length of the demonstration's measurements
    #[arg(long, value_name = "TIME", conflicts_with = "listen", default_value = "7500ms", value_parser = duration)]
    duration: Duration,

    /// Let the demonstration's upstream send one wrong byte, which the clients have to find
    #[arg(long, hide = true, conflicts_with = "listen")]
    corrupt: bool,
}

impl ProxyConfig {
    /// Returns whether connections may need pipes.
    pub(crate) fn splices(&self) -> bool {
        cfg!(target_os = "linux") && self.splice != Splice::Never
    }
}

impl Args {
    /// Returns the arguments of this process. Prints help, or one line about what is wrong, and exits if there are none.
    pub(crate) fn parse_or_exit() -> Self {
        Self::try_parse().unwrap_or_else(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => {
                // A closed stderr is no reason to panic.
                let _ = writeln!(io::stderr(), "{}", one_line(&error.to_string()));
                exit(2)
            }
        })
    }

    pub(crate) fn mode(self) -> Mode {
        let splice = match self.no_splice {
            true => Splice::Never,
            false => Splice::Auto,
        };
        match (self.listen, self.connect) {
            (Some(listen), Some(connect)) => Mode::Proxy(Box::new(ProxyConfig {
                listen,
                connect,
                idle: self.idle.0,
                linger: self.linger,
                connect_timeout: self.connect_timeout,
                keepalive: self.keepalive.0,
                user_timeout: self.user_timeout.0,
                grace: self.grace,
                stats: self.stats,
                max_connections: self.max_connections,
                // The system lowers this to its maximum.
                backlog: self.backlog.unwrap_or(i32::MAX),
                buffer: self.buffer,
                rate_limit: self.rate_limit,
                rate_group: self.total_rate_limit.map(RateLimitGroup::new),
                budget: self.memory.map(MemoryBudget::new),
                splice,
                accept_proxy: self.accept_proxy,
                send_proxy: self.send_proxy,
                until_eof: self.until_eof,
            })),
            _ => Mode::Demo(DemoConfig {
                duration: self.duration,
                splice,
                corrupt: self.corrupt,
            }),
        }
    }
}

/// The first paragraph of clap's message. The usage and the tips are in `--help`.
fn one_line(message: &str) -> String {
    let paragraph: Vec<&str> = message
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    format!("{} (see --help)", paragraph.join(" "))
}

/// `HOST:PORT`, where HOST may be a name. Whether the name exists is found out later.
fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not of the form HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || bare_ipv6 || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// `5s`, `250ms`, `2m 30s`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs);
    seconds
        .or_else(|_| humantime::parse_duration(text))
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "expected a time such as 5s, 250ms or 2m".to_owned())
}

/// As [`duration`], but more than zero.
fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than zero".to_owned()),
        interval => Ok(interval),
    }
}

/// A time limit that may be switched off.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<Duration>);

/// As [`interval`], or `never`.
fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "never" => Ok(Limit(None)),
        _ => interval(text).map(|limit| Limit(Some(limit))),
    }
}

/// `64KiB`, `1MB`; a bare number is bytes.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || "expected a size such as 65536, 64KiB or 1MB".to_owned();
    let size: bytesize::ByteSize = text.parse().map_err(|_| wrong())?;
    usize::try_from(size.as_u64()).map_err(|_| wrong())
}

/// A size per second.
fn rate(text: &str) -> Result<RateLimit, String> {
    RateLimit::both(size(text)? as u64).map_err(|error| error.to_string())
}

/// A number of connections: at least one, and no more than a semaphore can count.
fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=tokio::sync::Semaphore::MAX_PERMITS).contains(n))
        .ok_or_else(|| "expected a number of at least 1".to_owned())
}
