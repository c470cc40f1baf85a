//! The proxy itself: accepts, connects to the upstream, and leaves the rest to [`Relay`].

use std::{
    io::{self, Read},
    mem,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use socket2::SockRef;
use tokio::{
    net::{TcpStream, lookup_host},
    sync::OwnedSemaphorePermit,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_evbuffer::{
    EvBuffer, Relay,
    relay::{HalfClose, RelayCounters, RelayEnd, RelayOutcome, RelayParts},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli::ProxyConfig,
    connect::{ConnectError, configure, connect},
    header::{self, Origin, Received},
    listener::Listener,
    metrics::{End, Metrics, Moved},
    open_files,
    output::{Repeated, log, print},
    shutdown::StopRequests,
};

/// How long nothing may move while connections hold much memory, before the largest of them is ended.
const STALL_MAX: Duration = Duration::from_secs(1);
/// How long connections have to close after they were cut.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// Runs until a stop is requested.
///
/// # Errors
///
/// What keeps the proxy from starting.
pub(crate) async fn run(config: ProxyConfig) -> anyhow::Result<()> {
    // Names are resolved again for each client. A wrong one is best reported before there are any.
    let _ = lookup_host(&config.connect)
        .await
        .with_context(|| format!("cannot resolve upstream {}", config.connect))?;
    let (max_connections, changed_limits) = open_files::prepare(&config);
    let listener = Listener::bind(&config.listen, config.backlog, max_connections).await?;
    let mut stop = StopRequests::listen(config.until_eof).context("cannot listen for signals")?;
    print(format_args!("listening on {}", listener.local_addr()));
    if let Some(text) = changed_limits {
        log(format_args!("{text}"));
    }

    let server = Server(Arc::new(Shared {
        listening: listener.local_addr(),
        config,
        metrics: Arc::default(),
        connections: TaskTracker::new(),
        cut: CancellationToken::new(),
        exhausted: Repeated::default(),
    }));
    tokio::select! {
        () = server.serve_all(&listener) => {}
        () = server.print_stats() => {}
        () = server.end_stalled() => {}
        () = stop.next() => {}
    }
    server.finish(listener, &mut stop).await;
    Ok(())
}

struct Server(Arc<Shared>);

/// What all connections share.
struct Shared {
    config: ProxyConfig,
    listening: SocketAddr,
    metrics: Arc<Metrics>,
    connections: TaskTracker,
    /// Cancelled when the time for connections to finish is over.
    cut: CancellationToken,
    /// The system has no descriptor or memory for another socket.
    exhausted: Repeated,
}

impl Server {
    /// Serves clients; never returns.
    async fn serve_all(&self, listener: &Listener) {
        loop {
            let (client, from, slot) = listener.accept().await;
            self.serve(client, from, std::future::ready(slot));
        }
    }

    /// Serves a client as soon as it has its slot.
    fn serve(
        &self,
        client: TcpStream,
        from: SocketAddr,
        slot: impl Future<Output = OwnedSemaphorePermit> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.0);
        let connection = shared.metrics.connection();
        let serving = async move {
            let served = async {
                let _slot = slot.await;
                shared.serve(client, from, connection.counters()).await
            };
            // A relay ends by itself when it is cut. This ends what comes before it.
            let end = tokio::select! {
                biased;
                end = served => end,
                () = shared.cut.cancelled() => End::Cut,
            };
            connection.ended(end);
        };
        self.0.connections.spawn(serving);
    }

    /// Prints a line of figures at each interval that was asked for; never returns.
    async fn print_stats(&self) {
        let Some(every) = self.0.config.stats else {
            return std::future::pending().await;
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut moved = Moved::default();
        loop {
            ticks.tick().await;
            let line = self.0.metrics.line(&mut moved, every);
            print(format_args!("stats: {line}"));
        }
    }

    /// Ends the largest connection if stalled ones keep all others from reading; never returns.
    ///
    /// Above the limit of memory all connections stop reading until half of it is free. Clients that take nothing would
    /// make that permanent.
    async fn end_stalled(&self) {
        let Some(budget) = &self.0.config.budget else {
            return std::future::pending().await;
        };
        let mut moved = self.0.metrics.bytes_moved();
        loop {
            sleep(STALL_MAX).await;
            let before = mem::replace(&mut moved, self.0.metrics.bytes_moved());
            if moved > before || budget.used() <= budget.limit() / 2 {
                continue;
            }
            for holder in budget.largest(1) {
                self.0.exhausted.log(format_args!(
                    "memory is used up: ending connections that take nothing, {} bytes each or less",
                    holder.bytes()
                ));
                holder.abort();
            }
        }
    }

    /// Waits until all connections have ended, the time for that is over, or another stop is requested.
    async fn finish(self, listener: Listener, stop: &mut StopRequests) {
        let Shared {
            config,
            metrics,
            connections,
            cut,
            ..
        } = &*self.0;
        log(format_args!(
            "stopping: {} connections have {:?} to finish",
            connections.len(),
            config.grace
        ));
        let finish = async {
            let slots = listener.slots();
            let queue = listener.close(|client, from| self.serve(client, from, slots.next()));
            if let Err(error) = queue.await {
                log(format_args!("cannot serve waiting clients: {error}"));
            }
            connections.close();
            connections.wait().await;
        };
        tokio::select! {
            () = finish => {}
            () = sleep(config.grace) => {}
            () = stop.next() => {}
        }
        cut.cancel();
        connections.close();
        let _ = timeout(CUT_WAIT, connections.wait()).await;
        if let Some(text) = metrics.cut() {
            log(format_args!("stopped: {text}"));
        }
    }
}

impl Shared {
    /// Serves one client from its first byte to its last, and logs what went wrong.
    async fn serve(
        &self,
        client: TcpStream,
        from: SocketAddr,
        counters: Arc<RelayCounters>,
    ) -> End {
        match self.relay(client, from, counters).await {
            Ok(()) => End::InOrder,
            Err(Failure::Left) => End::Left,
            Err(Failure::Header(error)) => {
                log(format_args!("{from}: no PROXY header: {error}"));
                End::Broken
            }
            Err(Failure::Upstream { error, silent }) => {
                let text = format!(
                    "cannot connect to upstream {}: {error}",
                    self.config.connect
                );
                if is_exhausted(&error) {
                    self.exhausted.log(format_args!("{text}"));
                } else if !silent {
                    log(format_args!("{from}: {text}"));
                }
                End::Unreachable
            }
            Err(Failure::Relay) => End::Broken,
            Err(Failure::Cut) => End::Cut,
        }
    }

    async fn relay(
        &self,
        mut client: TcpStream,
        from: SocketAddr,
        counters: Arc<RelayCounters>,
    ) -> Result<(), Failure> {
        let config = &self.config;
        configure(&client, config);
        let (initial, local) = self.greet(&mut client, from).await?;
        let upstream = match connect(&client, config, self.listening).await {
            Ok(upstream) => upstream,
            Err(ConnectError::ClientGone) => return Err(Failure::Left),
            Err(ConnectError::Upstream(error)) => {
                return Err(Failure::Upstream {
                    error,
                    silent: local,
                });
            }
        };
        configure(&upstream, config);

        let mut relay = Relay::new(client, upstream)
            .initial(initial, EvBuffer::new())
            .half_close(HalfClose::Linger(config.linger))
            .splice(config.splice)
            .counters(counters);
        if let Some(buffer) = config.buffer {
            relay = relay.buffer(buffer);
        }
        if let Some(idle) = config.idle {
            relay = relay.idle_timeout(idle);
        }
        if let Some(limit) = config.rate_limit {
            relay = relay.rate_limit(limit);
        }
        if let Some(group) = &config.rate_group {
            relay = relay.rate_group(group);
        }
        if let Some(budget) = &config.budget {
            relay = relay.budget(budget);
        }
        match relay.run_until(self.cut.cancelled()).await {
            Ok(RelayOutcome::Stopped(parts)) => {
                let RelayParts {
                    a, b, to_a, to_b, ..
                } = parts;
                self.metrics.not_delivered(to_a.len() + to_b.len());
                reset_if_cut(&a, &to_a, &b);
                reset_if_cut(&b, &to_b, &a);
                Err(Failure::Cut)
            }
            Ok(RelayOutcome::Ended(summary)) if summary.reason == RelayEnd::Aborted => {
                Err(Failure::Relay)
            }
            // A health check ends as it likes, often by a reset.
            Err(_) if !local => Err(Failure::Relay),
            _ => Ok(()),
        }
    }

    /// Takes the header that a client has to send, if it has to. Returns what the upstream gets first, and whether
    /// the connection is one of the load balancer itself.
    async fn greet(
        &self,
        client: &mut TcpStream,
        from: SocketAddr,
    ) -> Result<(EvBuffer, bool), Failure> {
        let config = &self.config;
        let mut received = EvBuffer::new();
        let mut proxied = None;
        if config.accept_proxy {
            let header = header::read(client, &mut received);
            proxied = match timeout(config.connect_timeout, header).await {
                Ok(Ok(Received::Proxied(origin))) => Some(origin),
                Ok(Ok(Received::Local)) => None,
                // A health check that only looks whether the port is open.
                Ok(Err(error)) if received.is_empty() && has_left(&error) => {
                    return Err(Failure::Left);
                }
                Ok(Err(error)) => return Err(Failure::Header(error)),
                Err(_) => return Err(Failure::Header(io::ErrorKind::TimedOut.into())),
            };
        }
        let local = config.accept_proxy && proxied.is_none();
        if let Some(version) = config.send_proxy {
            let header = match proxied {
                Some(origin) => origin.encode(version),
                None => Origin::of_socket(client, from).and_then(|origin| origin.encode(version)),
            };
            let header = header.map_err(Failure::Header)?;
            received
                .prepend_reference(header)
                .map_err(|error| Failure::Header(error.into()))?;
        }
        Ok((received, local))
    }
}

/// Why a client was not served to its end.
enum Failure {
    /// It left before it was connected.
    Left,
    /// It sent no header, or a wrong one.
    Header(io::Error),
    Upstream {
        error: io::Error,
        /// The client is a health check, which is repeated every few seconds.
        silent: bool,
    },
    Relay,
    /// The proxy stops.
    Cut,
}

/// Makes the end of a stream an error if bytes for it are lost, here or in the kernel: an answer must not look complete.
fn reset_if_cut(stream: &TcpStream, held: &EvBuffer, source: &TcpStream) {
    let is_unread = || matches!((&*SockRef::from(source)).read(&mut [0]), Ok(n) if n > 0);
    if !held.is_empty() || is_unread() {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

/// Returns whether the error is that of a client that closed its connection.
fn has_left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof
    )
}

/// Returns whether the system has no descriptor or memory for another socket, which then is so for all clients.
#[cfg(unix)]
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| exhausted.contains(&error))
}

#[cfg(not(unix))]
fn is_exhausted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}
