//! The proxy itself: accepts, connects to the upstream, and leaves the rest to [`Relay`].

use std::{io, mem, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_evbuffer::{EvBuffer, Relay, relay::HalfClose};

use crate::{
    cli::ProxyConfig,
    header::Ends,
    metrics::{Entry, Ledger, Moved},
    output::{say, warn},
    shutdown::StopRequests,
};

/// How long accepting rests when the system has no descriptor or memory for a further connection. Those that run go
/// on meanwhile, and their end is what helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs until it is asked to stop. An error is what keeps it from starting.
pub(crate) async fn run(config: ProxyConfig) -> anyhow::Result<()> {
    // A name is resolved anew for each client. One that nobody knows is a slip, best told before there are any.
    let _ = lookup_host(&config.connect)
        .await
        .with_context(|| format!("cannot resolve upstream {}", config.connect))?;
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let mut stop = StopRequests::listen(config.until_eof).context("cannot listen to signals")?;
    say(format_args!("listening on {}", listener.local_addr()?));

    let door = Door {
        listener,
        gate: Arc::new(Semaphore::new(config.max_connections)),
        failing: false,
    };
    let mut server = Server {
        config: Arc::new(config),
        ledger: Arc::default(),
        connections: JoinSet::new(),
    };
    tokio::select! {
        // The door goes with this future: the port is free for a successor once the stop was asked for.
        () = server.serve_all(door) => {}
        () = stop.next() => {}
    }
    server.finish(&mut stop).await;
    Ok(())
}

struct Server {
    config: Arc<ProxyConfig>,
    ledger: Arc<Ledger>,
    connections: JoinSet<()>,
}

impl Server {
    async fn serve_all(&mut self, mut door: Door) {
        let ledger = Arc::clone(&self.ledger);
        let stats = report(&ledger, self.config.stats);
        tokio::pin!(stats);
        loop {
            tokio::select! {
                (client, from, permit) = door.next() => {
                    let entry = self.ledger.enter(permit);
                    let serving = serve(client, from, entry, Arc::clone(&self.config));
                    self.connections.spawn(serving);
                }
                Some(_) = self.connections.join_next() => {}
                () = &mut stats => {}
            }
        }
    }

    /// Lets the connections end by themselves, for as long as they may and as nobody insists.
    async fn finish(&mut self, stop: &mut StopRequests) {
        let running = self.connections.len();
        let grace = self.config.grace;
        warn(format_args!(
            "stopping: {running} still running, closed in {grace:?} at the latest"
        ));
        tokio::select! {
            () = async { while self.connections.join_next().await.is_some() {} } => {}
            () = sleep(grace) => {}
            () = stop.next() => {}
        }
        self.connections.shutdown().await;
    }
}

/// Where clients come in.
struct Door {
    listener: TcpListener,
    /// Holds clients back in the kernel's queue while there are as many as may be.
    gate: Arc<Semaphore>,
    /// Whether the last attempt failed, which was then told.
    failing: bool,
}

impl Door {
    /// The next client, once there may be one more.
    ///
    /// # Cancel safety
    ///
    /// No client is lost: one that was accepted is returned at once. A pause is cut short.
    async fn next(&mut self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let permit = Arc::clone(&self.gate).acquire_owned().await;
        let permit = permit.expect("the gate is never closed");
        loop {
            match self.listener.accept().await {
                Ok((client, from)) => {
                    self.failing = false;
                    return (client, from, permit);
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    if !mem::replace(&mut self.failing, true) {
                        warn(format_args!("cannot accept: {error}; trying on"));
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether a client had gone before it was accepted, which says nothing about the next.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// One client from its first byte to its last.
async fn serve(mut client: TcpStream, from: SocketAddr, entry: Entry, config: Arc<ProxyConfig>) {
    let received = match greet(&mut client, &config).await {
        Ok(received) => received,
        Err(error) => {
            entry.broken();
            return warn(format_args!("{from}: no PROXY header: {error}"));
        }
    };
    let upstream = match connect(&config).await {
        Ok(upstream) => upstream,
        Err(error) => {
            entry.upstream_unreachable();
            let upstream = &config.connect;
            return warn(format_args!(
                "{from}: cannot connect to upstream {upstream}: {error}"
            ));
        }
    };
    // A socket that refuses is about to fail in its relay anyway.
    let _ = client.set_nodelay(true);
    let _ = upstream.set_nodelay(true);

    let mut relay = Relay::new(client, upstream)
        .initial(received, EvBuffer::new())
        .half_close(HalfClose::Linger(config.linger))
        .splice(config.splice)
        .counters(entry.counters());
    if let Some(buffer) = config.buffer {
        relay = relay.buffer(buffer);
    }
    if let Some(idle) = config.idle {
        relay = relay.idle_timeout(idle);
    }
    if relay.run().await.is_err() {
        entry.broken();
    }
}

/// Takes the header that a client has to send, if it has to, and returns what the upstream is to get first.
async fn greet(client: &mut TcpStream, config: &ProxyConfig) -> io::Result<EvBuffer> {
    let mut received = EvBuffer::new();
    if !config.accept_proxy && config.send_proxy.is_none() {
        return Ok(received);
    }
    let mut ends = Ends::of(client)?;
    if config.accept_proxy {
        let header = Ends::read(client, &mut received);
        let told = in_time(config, header).await?;
        ends = told.unwrap_or(ends);
    }
    if let Some(version) = config.send_proxy {
        received.prepend_reference(ends.header(version)?)?;
    }
    Ok(received)
}

async fn connect(config: &ProxyConfig) -> io::Result<TcpStream> {
    in_time(config, TcpStream::connect(&config.connect)).await
}

async fn in_time<T>(
    config: &ProxyConfig,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(config.connect_timeout, step)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

/// Prints a line of figures each `every`; never ends.
async fn report(ledger: &Ledger, every: Option<Duration>) {
    let Some(every) = every else {
        return std::future::pending().await;
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut moved = Moved::default();
    loop {
        ticks.tick().await;
        say(format_args!("stats: {}", ledger.line(&mut moved, every)));
    }
}
