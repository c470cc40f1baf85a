//! The cells of the table for relays: a relay between the peer's stream and a TCP server.

use std::{
    future::{Future, pending},
    io,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    Relay,
    relay::{HalfClose, OnError, RelayCounters, RelayError, RelayStream, RelaySummary},
};

use super::{
    ANY, Cell, Cells, LATE, OwnRuntime, Peer, play,
    streams::{Kind, moved, reset},
};
use crate::support::net::pair_with_recv_buffer;

/// Is delivered even to a slow peer within the time of a test.
const SHORT: usize = 100_000;
/// The receive buffer for what the server sends, in bytes. If all cells let it grow, the kernel runs short of memory for TCP,
/// drops what it receives, and a connection pauses for seconds.
const RECV_BUFFER: u32 = 128 << 10;
/// The time limits that bytes extend.
const LIMIT: Duration = Duration::from_secs(5);
/// The idle timeout of a relay whose peer sends each millisecond. The machine may be busy.
const NEVER_IDLE: Duration = Duration::from_secs(10);
/// Longer than it takes to deliver [`SHORT`] on a busy machine.
const LIFETIME: Duration = Duration::from_secs(10);
/// A write that waits so long, so many times, waits for the peer. Once may mean that the machine is busy.
const BLOCKED: Duration = Duration::from_millis(50);
const BLOCKED_TIMES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Eof,
    Reset,
    ResetFin,
    IdleEarly,
    Idle,
    Linger,
    Lifetime,
    MaxBytes,
    DroppedEarly,
    Dropped,
    RuntimeEarly,
    Runtime,
}

impl Cause {
    const ALL: [Self; 12] = [
        Self::Eof,
        Self::Reset,
        Self::ResetFin,
        Self::IdleEarly,
        Self::Idle,
        Self::Linger,
        Self::Lifetime,
        Self::MaxBytes,
        Self::DroppedEarly,
        Self::Dropped,
        Self::RuntimeEarly,
        Self::Runtime,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Eof => "both sides end",
            Self::Reset => "the other side is reset",
            Self::ResetFin => "the other side is reset, `OnError::Fin`",
            Self::IdleEarly => "`idle_timeout`, with more to deliver",
            Self::Idle => "`idle_timeout`, all delivered",
            Self::Linger => "linger expires",
            Self::Lifetime => "`max_lifetime`, all delivered",
            Self::MaxBytes => "`max_bytes`, with more to read",
            Self::DroppedEarly => "dropped, with more to deliver",
            Self::Dropped => "dropped, all delivered",
            Self::RuntimeEarly => "runtime shut down, with more to deliver",
            Self::Runtime => "runtime shut down, all delivered",
        }
    }

    fn set<A: RelayStream, B: RelayStream>(self, peer: Peer, relay: Relay<A, B>) -> Relay<A, B> {
        match self {
            Self::Idle if peer == Peer::Sends => relay.idle_timeout(NEVER_IDLE),
            Self::ResetFin => relay.on_error(OnError::Fin),
            Self::IdleEarly | Self::Idle => relay.idle_timeout(LIMIT),
            Self::Linger => relay.half_close(HalfClose::Linger(LIMIT)),
            Self::Lifetime => relay.max_lifetime(LIFETIME),
            Self::MaxBytes => relay.max_bytes(SHORT as u64),
            _ => relay,
        }
    }

    fn has_runtime(self) -> bool {
        matches!(self, Self::RuntimeEarly | Self::Runtime)
    }

    fn is_drop(self) -> bool {
        matches!(self, Self::DroppedEarly | Self::Dropped)
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    cause: Cause,
    peer: Peer,
    /// The server is the side a.
    swapped: bool,
}

impl Case {
    /// The server sends more than is taken: the peer reads when all is over.
    fn is_flood(self) -> bool {
        match self.cause {
            Cause::IdleEarly | Cause::DroppedEarly | Cause::RuntimeEarly => true,
            // Of a peer that still sends, the server's direction has ended.
            Cause::Linger => self.peer == Peer::Slow,
            _ => false,
        }
    }

    /// The possible ends where the kernel decides: it shows a reset if a socket is closed that has received bytes which were
    /// not read. A relay that ends by itself reads and discards them up to the end of the peer on TCP.
    fn possible_ends<K: Kind>(self) -> &'static str {
        let is_orderly = matches!(self.cause, Cause::Eof | Cause::Linger);
        if self.peer != Peer::Sends || is_orderly {
            return "";
        }
        match (K::NAME, self.cause) {
            ("Unix", _) => "the end or a reset",
            ("TCP", Cause::Dropped) => "the end or a reset",
            ("TCP" | "TCP lent", Cause::Runtime) => "the end or a reset",
            // The relay ends when all is flushed, and the kernel discards what it has not sent.
            ("TLS", Cause::Reset | Cause::ResetFin) => ANY,
            ("TLS", _) => "`UnexpectedEof` or a reset",
            _ => "",
        }
    }
}

type Outcome = (Result<RelaySummary, RelayError>, u64, u64);

/// Runs the relay. Returns with its result what was delivered to the peer, and what was held for it.
async fn run<S: RelayStream>(
    case: Case,
    near: S,
    server: TcpStream,
    counters: Arc<RelayCounters>,
) -> Outcome {
    let cause = case.cause;
    let result = match case.swapped {
        false => {
            cause
                .set(case.peer, Relay::new(near, server))
                .counters(counters)
                .run()
                .await
        }
        true => {
            cause
                .set(case.peer, Relay::new(server, near))
                .counters(counters)
                .run()
                .await
        }
    };
    let summary = match &result {
        Ok(summary) => summary,
        Err(failed) => &failed.summary,
    };
    let (delivered, held) = match case.swapped {
        false => (summary.b_to_a, summary.held_b),
        true => (summary.a_to_b, summary.held_a),
    };
    (result, delivered, held)
}

/// Plays the server. It triggers `blocked` once nothing more is taken and the relay has bytes to read. `b_again`, a second
/// handle of its socket, shows that.
async fn serve(
    case: Case,
    mut server: TcpStream,
    b_again: std::net::TcpStream,
    counters: Arc<RelayCounters>,
    blocked: watch::Sender<bool>,
) -> io::Result<()> {
    if case.is_flood() {
        let mut waited = 0;
        while waited < BLOCKED_TIMES {
            let written = timeout(BLOCKED, server.write(&[7; 1 << 16])).await;
            let relay_is_behind = matches!(b_again.peek(&mut [0]), Ok(1..));
            waited = match written.is_err() && relay_is_behind {
                true => waited + 1,
                false => 0,
            };
        }
        drop(b_again);
        let _ = blocked.send(true);
        return pending().await;
    }
    drop(b_again);
    let silent = matches!(case.cause, Cause::Idle | Cause::Linger | Cause::Lifetime);
    match (case.peer, case.cause) {
        (Peer::Gone, _) if silent => {}
        (Peer::Gone, _) => while server.write_all(&[7; 10_000]).await.is_ok() {},
        (_, Cause::MaxBytes) => {
            if case.peer == Peer::Sends {
                // What it has sent before counts, too.
                server.read_exact(&mut [0]).await?;
            }
            server.write_all(&[7; 2 * SHORT]).await?;
        }
        _ => server.write_all(&[7; SHORT]).await?,
    }
    if matches!(case.cause, Cause::Reset | Cause::ResetFin) && case.peer != Peer::Gone {
        while counters.a_to_b().max(counters.b_to_a()) < SHORT as u64 {
            sleep(Duration::from_millis(1)).await;
        }
        reset(server);
        return Ok(());
    }
    if matches!(case.cause, Cause::Eof | Cause::Linger) && case.peer != Peer::Gone {
        server.shutdown().await?;
    }
    if case.cause == Cause::Linger {
        return pending().await;
    }
    while server.read(&mut [0; 1 << 14]).await? > 0 {}
    if case.cause == Cause::Eof {
        return Ok(());
    }
    pending().await
}

async fn cell<K: Kind>(case: Case) -> Cell {
    let Case { cause, peer, .. } = case;
    let own = cause.has_runtime().then(OwnRuntime::new);
    let on = (own.as_ref()).map_or(Handle::current(), OwnRuntime::handle);
    let (far, near) = K::pair(on.clone()).await;
    let (b, server) = pair_with_recv_buffer(RECV_BUFFER).await;
    server.set_nodelay(true).unwrap();
    b.set_nodelay(true).unwrap();
    let b = b.into_std().unwrap();
    let b_again = b.try_clone().unwrap();
    let b = moved(b, &on);
    let far = match peer {
        Peer::Gone => {
            far.leave();
            None
        }
        _ => Some(far),
    };

    let counters = Arc::new(RelayCounters::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel();
    // Closed when the relay has ended.
    let (over, mut is_over) = watch::channel(());
    let counted = Arc::clone(&counters);
    let relaying = on.spawn(async move {
        let mut near = Some(near);
        let relay: Pin<Box<dyn Future<Output = Outcome> + Send + '_>> = match K::LENT {
            true => Box::pin(run(case, near.as_mut().unwrap(), b, counted)),
            false => Box::pin(run(case, near.take().unwrap(), b, counted)),
        };
        let outcome = tokio::select! {
            outcome = relay => Some(outcome),
            Ok(()) = stopped => None,
        };
        drop(over);
        let _ = end.send(outcome);
        if let Some(mut lent) = near {
            // The owner ends the stream in order.
            let _ = lent.shutdown().await;
            while let Ok(1..) = lent.read(&mut [0; 1 << 14]).await {}
        }
    });
    let (blocked, mut is_blocked) = watch::channel(false);
    let serving = tokio::spawn(serve(case, server, b_again, counters, blocked));
    let Some(mut far) = far else {
        let (result, ..) = ended.await.unwrap().unwrap();
        serving.abort();
        return Cell {
            sees: "-".to_owned(),
            gets: gets(&result),
            counted: "-".to_owned(),
        };
    };

    if cause == Cause::Linger && case.is_flood() {
        is_blocked.wait_for(|blocked| *blocked).await.unwrap();
    }
    if peer == Peer::Slow && matches!(cause, Cause::Eof | Cause::Linger) {
        far.shutdown().await.unwrap();
    }
    let blocks = case.is_flood() || cause == Cause::Linger;
    let pace = match blocks {
        true => Duration::ZERO,
        false => Duration::from_millis(1),
    };
    let mut keeps_on = is_over.clone();
    let start = async move {
        match blocks {
            true if cause == Cause::Linger && peer == Peer::Sends => {}
            true => drop(is_over.changed().await),
            false => sleep(LATE).await,
        }
    };
    let keep_sending = async move {
        if cause == Cause::Linger {
            let _ = keeps_on.changed().await;
        }
    };
    let (got, got_all) = oneshot::channel();
    let playing = play(
        far,
        (peer == Peer::Sends).then_some(pace),
        (start, keep_sending),
        (SHORT, |_, piece: &[u8]| piece.iter().all(|byte| *byte == 7)),
        Some(got),
    );
    let stopping = async move {
        match case.is_flood() {
            true => drop(is_blocked.wait_for(|blocked| *blocked).await.unwrap()),
            false => drop(got_all.await),
        }
        if let Some(own) = own {
            let shutting_down = tokio::task::spawn_blocking(move || own.shut_down());
            shutting_down.await.unwrap();
        } else if cause.is_drop() {
            let _ = stop.send(());
        } else if cause == Cause::Idle && peer == Peer::Sends {
            sleep(NEVER_IDLE + Duration::from_secs(1)).await;
            return;
        }
        pending().await
    };
    let seen = tokio::select! {
        seen = playing => seen,
        () = stopping => {
            // Bytes still move.
            assert!(!relaying.is_finished());
            relaying.abort();
            serving.abort();
            return Cell {
                sees: "everything".to_owned(),
                gets: "nothing, it lives on".to_owned(),
                counted: "-".to_owned(),
            };
        }
    };
    let outcome = ended.await.ok().flatten();
    serving.abort();
    let all = if case.is_flood() { usize::MAX } else { SHORT };
    let sees = seen.describe(all, case.possible_ends::<K>());
    let Some((result, delivered, held)) = outcome else {
        return Cell {
            sees,
            gets: "-".to_owned(),
            counted: "-".to_owned(),
        };
    };
    let received = seen.received as u64;
    assert!(delivered >= received, "{case:?}, {}", K::NAME);
    if K::KEEPS_WRITTEN {
        assert_eq!(delivered, received, "{case:?}, {}", K::NAME);
    }
    Cell {
        sees,
        gets: gets(&result),
        counted: match held {
            0 => "all delivered".to_owned(),
            _ => "held > 0".to_owned(),
        },
    }
}

fn gets(result: &Result<RelaySummary, RelayError>) -> String {
    match result {
        Ok(summary) => format!("`{:?}`", summary.reason),
        Err(failed) => format!("error `{:?}`", failed.error.kind()),
    }
}

/// Runs one cell with the sides in both orders.
async fn both_orders<K: Kind>(cause: Cause, peer: Peer) -> Cell {
    let [first, second] = [false, true].map(|swapped| {
        cell::<K>(Case {
            cause,
            peer,
            swapped,
        })
    });
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, second, "{cause:?}, {peer:?}, {}", K::NAME);
    first
}

/// Adds the cells of one kind of stream.
pub fn add<K: Kind>(cells: &mut Cells<Cause>) {
    for cause in Cause::ALL {
        for peer in [Peer::Slow, Peer::Sends, Peer::Gone] {
            let ends_by_itself = matches!(
                cause,
                Cause::Eof | Cause::Idle | Cause::Linger | Cause::Lifetime | Cause::MaxBytes
            );
            if peer != Peer::Gone || ends_by_itself {
                cells.add((cause, peer, K::NAME), both_orders::<K>(cause, peer));
            }
        }
    }
}
