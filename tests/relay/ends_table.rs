//! The table of ends of relays in `docs/ENDS.md`: each cell is run with real streams, with the sides in both orders, and the
//! page has to say what was seen.
//!
//! With `UPDATE_DOCS=1` the test writes the page.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::{collections::BTreeMap, fmt::Write as _, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    Relay,
    relay::{HalfClose, OnError, RelayCounters, RelayError, RelayStream, RelaySummary},
};

use crate::{
    ends::{reset, slow_pair},
    support::net::tcp_pair,
};

/// Is delivered even to a slow peer within the time of a test.
const SHORT: usize = 100_000;
/// The time limits of the relays.
const LIMIT: Duration = Duration::from_millis(400);

const BEGIN: &str = "<!-- begin: relay ends -->\n";
const END: &str = "<!-- end: relay ends -->\n";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Lent,
    Unix,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Eof,
    Reset,
    ResetFin,
    IdleHeld,
    Idle,
    Linger,
    Lifetime,
    MaxBytes,
    DroppedHeld,
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    /// Starts to read late.
    Slow,
    /// Sends until it sees the end.
    Sends,
    /// Has reset the connection, or dropped its stream.
    Gone,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Tcp, Self::Lent, Self::Unix, Self::Other];

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Lent => "TCP lent",
            Self::Unix => "Unix",
            Self::Other => "other",
        }
    }
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Eof => "both sides end",
            Self::Reset => "the other side is reset",
            Self::ResetFin => "the other side is reset, `OnError::Fin`",
            Self::IdleHeld => "`idle_timeout`, with bytes held",
            Self::Idle => "`idle_timeout`, all delivered",
            Self::Linger => "linger expires, with bytes held",
            Self::Lifetime => "`max_lifetime`, all delivered",
            Self::MaxBytes => "`max_bytes`, with more to read",
            Self::DroppedHeld => "dropped, with bytes held",
            Self::Dropped => "dropped, all delivered",
        }
    }

    /// Whether the server sends more than anything takes.
    fn is_flood(self) -> bool {
        matches!(self, Self::IdleHeld | Self::Linger | Self::DroppedHeld)
    }

    fn set<A: RelayStream, B: RelayStream>(self, relay: Relay<A, B>) -> Relay<A, B> {
        match self {
            Self::ResetFin => relay.on_error(OnError::Fin),
            Self::IdleHeld | Self::Idle => relay.idle_timeout(LIMIT),
            Self::Linger => relay.half_close(HalfClose::Linger(LIMIT)),
            Self::Lifetime => relay.max_lifetime(LIMIT),
            Self::MaxBytes => relay.max_bytes(SHORT as u64),
            _ => relay,
        }
    }
}

/// What one end looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    sees: String,
    gets: String,
    counted: String,
}

/// Runs a relay from `server` to `near`, in this order of the sides or the other one.
async fn run<S: RelayStream>(
    cause: Cause,
    near: S,
    server: TcpStream,
    swapped: bool,
    counters: Arc<RelayCounters>,
) -> (Result<RelaySummary, RelayError>, u64, u64) {
    let result = match swapped {
        false => {
            (cause.set(Relay::new(near, server)).counters(counters))
                .run()
                .await
        }
        true => {
            (cause.set(Relay::new(server, near)).counters(counters))
                .run()
                .await
        }
    };
    let summary = match &result {
        Ok(summary) => summary.clone(),
        Err(failed) => failed.summary.clone(),
    };
    match swapped {
        false => (result, summary.b_to_a, summary.held_b),
        true => (result, summary.a_to_b, summary.held_a),
    }
}

async fn cell<S: RelayStream + Send + 'static>(
    (cause, client, lent, swapped): (Cause, Client, bool, bool),
    near: S,
    far: Option<Box<dyn Stream>>,
) -> Cell {
    let (mut server, b) = tcp_pair().await;
    let (ended, relay_has_ended) = oneshot::channel();
    let counters = Arc::new(RelayCounters::default());
    let counted = Arc::clone(&counters);
    let relaying = tokio::spawn(async move {
        let mut near = near;
        let result = match lent {
            false => run(cause, near, b, swapped, counted).await,
            true => run(cause, &mut near, b, swapped, counted).await,
        };
        let _ = ended.send(());
        result
    });
    let Some(far) = far else {
        // The client is gone: the server sends until it sees that.
        while server.write_all(&[7; 10_000]).await.is_ok() {}
        let (result, ..) = relaying.await.unwrap();
        let failed = result.unwrap_err();
        return Cell {
            sees: "-".to_owned(),
            gets: format!("error `{:?}`", failed.error.kind()),
            counted: "-".to_owned(),
        };
    };
    let (mut from_relay, mut to_relay) = tokio::io::split(far);
    let sending = match client {
        Client::Sends if cause != Cause::Eof => Some(tokio::spawn(async move {
            loop {
                if let Err(error) = to_relay.write_all(&[1; 1000]).await {
                    return Some(error.kind());
                }
                sleep(Duration::from_millis(1)).await;
            }
        })),
        Client::Sends => {
            // It ends when it has seen the end of the answer.
            Some(tokio::spawn(async move {
                for _ in 0..200 {
                    to_relay.write_all(&[1; 1000]).await.unwrap();
                    sleep(Duration::from_millis(1)).await;
                }
                to_relay.shutdown().await.unwrap();
                None
            }))
        }
        _ => {
            if matches!(cause, Cause::Eof | Cause::Linger) {
                to_relay.shutdown().await.unwrap();
            }
            None
        }
    };
    let abort = relaying.abort_handle();
    let serving = tokio::spawn(async move {
        if cause.is_flood() {
            let flood = async { while server.write_all(&[7; 1 << 16]).await.is_ok() {} };
            let _ = timeout(Duration::from_millis(300), flood).await;
        } else {
            let len = if cause == Cause::MaxBytes {
                2 * SHORT
            } else {
                SHORT
            };
            server.write_all(&vec![7; len]).await.unwrap();
        }
        if matches!(cause, Cause::Reset | Cause::ResetFin) {
            while counters.a_to_b().max(counters.b_to_a()) < SHORT as u64 {
                sleep(Duration::from_millis(1)).await;
            }
            reset(server);
            return;
        }
        if cause == Cause::Eof {
            server.shutdown().await.unwrap();
        }
        let mut room = vec![0; 1 << 16];
        while let Ok(1..) = server.read(&mut room).await {}
        if matches!(cause, Cause::Eof) {
            return;
        }
        std::future::pending().await
    });
    if cause.is_flood() {
        // Reads when all is over.
        if cause == Cause::DroppedHeld {
            sleep(Duration::from_millis(400)).await;
            abort.abort();
        }
        let _ = timeout(Duration::from_secs(10), relay_has_ended).await;
    } else {
        sleep(Duration::from_millis(200)).await;
    }
    let (mut got, mut room) = (0, vec![0; 1 << 16]);
    let mut end = loop {
        if cause == Cause::Dropped && got == SHORT {
            sleep(Duration::from_millis(50)).await;
            abort.abort();
        }
        match timeout(Duration::from_secs(20), from_relay.read(&mut room)).await {
            Ok(Ok(0)) => break "the end",
            Ok(Ok(n)) => got += n,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => break "a reset",
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => break "nothing",
        }
    };
    let result = relaying.await;
    serving.abort();
    if let Some(sending) = sending {
        // A write that returns the reset leaves none for the read.
        let sent = timeout(Duration::from_millis(200), sending).await;
        if matches!(sent, Ok(Ok(Some(io::ErrorKind::ConnectionReset)))) {
            end = "a reset";
        }
    }
    let all = !cause.is_flood() && got == SHORT;
    let sees = format!("{}, then {end}", if all { "everything" } else { "a part" });
    let Ok((result, delivered, held)) = result else {
        return Cell {
            sees,
            gets: "-".to_owned(),
            counted: "-".to_owned(),
        };
    };
    if end == "a reset" && !lent {
        assert_eq!(delivered, got as u64, "{cause:?} {client:?}");
    } else {
        assert!(delivered >= got as u64, "{cause:?} {client:?}");
    }
    Cell {
        sees,
        gets: match result {
            Ok(summary) => format!("`{:?}`", summary.reason),
            Err(failed) => format!("error `{:?}`", failed.error.kind()),
        },
        counted: match held {
            0 => "all delivered".to_owned(),
            _ => "held > 0".to_owned(),
        },
    }
}

/// Runs one cell with the sides in both orders.
async fn both_orders(cause: Cause, client: Client, kind: Kind) -> Cell {
    let mut cells = Vec::new();
    for swapped in [false, true] {
        let case = (cause, client, kind == Kind::Lent, swapped);
        let gone = client == Client::Gone;
        cells.push(match kind {
            Kind::Tcp | Kind::Lent => {
                let (far, near) = slow_pair().await;
                if gone {
                    reset(far);
                    cell(case, near, None).await
                } else {
                    cell(case, near, Some(Box::new(far))).await
                }
            }
            Kind::Unix => {
                let (far, near) = UnixStream::pair().unwrap();
                let far = (!gone).then(|| Box::new(far) as Box<dyn Stream>);
                cell(case, near, far).await
            }
            Kind::Other => {
                let (far, near) = duplex(1 << 20);
                let far = (!gone).then(|| Box::new(far) as Box<dyn Stream>);
                cell(case, near, far).await
            }
        });
    }
    assert_eq!(cells[0], cells[1], "{cause:?} {client:?} {kind:?}");
    cells.remove(0)
}

async fn table() -> String {
    let mut cases = vec![(Cause::Eof, Client::Gone)];
    for cause in [
        Cause::Eof,
        Cause::Reset,
        Cause::ResetFin,
        Cause::IdleHeld,
        Cause::Idle,
        Cause::Linger,
        Cause::Lifetime,
        Cause::MaxBytes,
        Cause::DroppedHeld,
        Cause::Dropped,
    ] {
        cases.push((cause, Client::Slow));
        if matches!(cause, Cause::Eof | Cause::Reset | Cause::ResetFin) {
            cases.push((cause, Client::Sends));
        }
    }
    let mut running = Vec::new();
    for (cause, client) in cases {
        for kind in Kind::ALL {
            if client == Client::Sends {
                // The owner of a lent stream decides what arrives. A Unix socket that is closed shows a reset if it has
                // received bytes that were not read, which is a race here.
                let is_race = kind == Kind::Unix && cause != Cause::Eof;
                if kind == Kind::Lent || is_race {
                    continue;
                }
            }
            let cell = tokio::spawn(both_orders(cause, client, kind));
            running.push((cause, client, kind, cell));
        }
    }
    let mut rows = BTreeMap::<(Cause, Client), Vec<(Cell, Vec<&'static str>)>>::new();
    for (cause, client, kind, running) in running {
        let cell = running.await.unwrap();
        let row = rows.entry((cause, client)).or_default();
        match row.iter_mut().find(|(known, _)| *known == cell) {
            Some((_, kinds)) => kinds.push(kind.name()),
            None => row.push((cell, vec![kind.name()])),
        }
    }
    let mut text = String::from(
        "| end | peer | stream | the peer sees | the caller gets | counted for the peer |\n|---|---|---|---|---|---|\n",
    );
    for ((cause, client), row) in rows {
        let client = match client {
            Client::Slow => "slow",
            Client::Sends => "still sends",
            Client::Gone => "gone",
        };
        for (cell, kinds) in row {
            let (cause, kinds) = (cause.name(), kinds.join(", "));
            let Cell {
                sees,
                gets,
                counted,
            } = cell;
            writeln!(
                text,
                "| {cause} | {client} | {kinds} | {sees} | {gets} | {counted} |"
            )
            .unwrap();
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_table_of_ends_is_as_documented() {
    let found = table().await;
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/ENDS.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (documented, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{found}{END}{after}")).unwrap();
        return;
    }
    assert!(
        documented == found,
        "the page says\n{documented}\nand the test found\n{found}"
    );
}
