//! What the user may ask for, and one line for what cannot be understood.

use std::{process::exit, time::Duration};

use clap::{Parser, error::ErrorKind};
use tokio_evbuffer::relay::Splice;

use crate::{header::Version, output::warn};

/// No wait is longer: a point in time so far away can still be computed.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What makes one proxy differ from another.
#[derive(Clone, Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) listen: String,
    pub(crate) connect: String,
    pub(crate) idle: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) stats: Option<Duration>,
    pub(crate) max_connections: usize,
    pub(crate) buffer: Option<usize>,
    pub(crate) splice: Splice,
    pub(crate) accept_proxy: bool,
    pub(crate) send_proxy: Option<Version>,
    pub(crate) until_eof: bool,
}

/// How long the demonstration takes, what its proxy may do, and whether it is to find a wrong byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemoConfig {
    pub(crate) duration: Duration,
    pub(crate) splice: Splice,
    pub(crate) corrupt: bool,
}

pub(crate) enum Mode {
    Proxy(ProxyConfig),
    Demo(DemoConfig),
}

/// A TCP proxy on chains of segments. Without arguments: a demonstration on loopback.
#[derive(Parser, Debug)]
#[command(name = "proxy", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Accept clients here; port 0 takes a free one. The first line on stdout names the address
    #[arg(long, value_name = "ADDR", requires = "connect", value_parser = address)]
    listen: Option<String>,

    /// Connect each client to this upstream; names are resolved for each connection
    #[arg(long, value_name = "ADDR", requires = "listen", value_parser = address)]
    connect: Option<String>,

    /// End a connection on which nothing moved for so long [default: never]
    #[arg(long, value_name = "TIME", requires = "listen", value_parser = duration)]
    idle: Option<Duration>,

    /// After one side has ended, let the other stand still for so long
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "30s", value_parser = duration)]
    linger: Duration,

    /// Give up on an upstream that has not answered, or a header that has not come, by then
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,

    /// When stopped, give the connections so long to finish
    #[arg(long, value_name = "TIME", requires = "listen", default_value = "30s", value_parser = duration)]
    grace: Duration,

    /// Print a line of figures every so often [default: never]
    #[arg(long, value_name = "SECONDS", requires = "listen", value_parser = interval)]
    stats: Option<Duration>,

    /// Serve at most so many connections; more wait to be accepted
    #[arg(long, value_name = "N", requires = "listen", default_value = "10000", value_parser = count)]
    max_connections: usize,

    /// Hold at most so many bytes of a connection each way [default: 256KiB, or 1MiB in the kernel]
    #[arg(long, value_name = "SIZE", requires = "listen", value_parser = size)]
    buffer: Option<usize>,

    /// Copy all bytes; never let the kernel move them from socket to socket. Also in the demonstration
    #[arg(long)]
    no_splice: bool,

    /// Expect a PROXY protocol header from each client, as a balancer sends it
    #[arg(long, requires = "listen")]
    accept_proxy: bool,

    /// Tell the upstream by a PROXY protocol header who the client is
    #[arg(long, value_name = "VERSION", requires = "listen")]
    send_proxy: Option<Version>,

    /// Stop, as by SIGTERM, at the end of standard input
    #[arg(long, hide = true, requires = "listen")]
    until_eof: bool,

    /// Length of the demonstration's measurements
    #[arg(long, value_name = "TIME", conflicts_with = "listen", default_value = "7500ms", value_parser = duration)]
    duration: Duration,

    /// Let the demonstration's upstream send one wrong byte, which must be found
    #[arg(long, hide = true, conflicts_with = "listen")]
    corrupt: bool,
}

impl Args {
    /// The arguments of this process. Prints help, or one line about what is wrong, and exits instead where it must.
    pub(crate) fn parse_or_exit() -> Self {
        Self::try_parse().unwrap_or_else(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => {
                warn(format_args!("{}", one_line(&error.to_string())));
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
            (Some(listen), Some(connect)) => Mode::Proxy(ProxyConfig {
                listen,
                connect,
                idle: self.idle,
                linger: self.linger,
                connect_timeout: self.connect_timeout,
                grace: self.grace,
                stats: self.stats,
                max_connections: self.max_connections,
                buffer: self.buffer,
                splice,
                accept_proxy: self.accept_proxy,
                send_proxy: self.send_proxy,
                until_eof: self.until_eof,
            }),
            _ => Mode::Demo(DemoConfig {
                duration: self.duration,
                splice,
                corrupt: self.corrupt,
            }),
        }
    }
}

/// The first paragraph of what clap has to say; its usage and tips are in `--help`.
fn one_line(message: &str) -> String {
    let paragraph: Vec<&str> = message
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    format!("{} (see --help)", paragraph.join(" "))
}

/// `HOST:PORT`, where HOST may be a name. Whether the name exists shows only when it is used.
fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no address of the form HOST:PORT");
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

/// As [`duration`], but not nothing.
fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        interval => Ok(interval),
    }
}

/// `64KiB`, `1MB`; a bare number is bytes.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || "expected a size such as 65536, 64KiB or 1MB".to_owned();
    let size: bytesize::ByteSize = text.parse().map_err(|_| wrong())?;
    usize::try_from(size.as_u64()).map_err(|_| wrong())
}

/// A number from one on, within what the gate of the server can count.
fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=tokio::sync::Semaphore::MAX_PERMITS).contains(n))
        .ok_or_else(|| "expected a number from 1 on".to_owned())
}
