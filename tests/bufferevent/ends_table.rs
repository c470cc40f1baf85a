//! The table of ends in `docs/ENDS.md`: each cell is run with real streams, and the page has to say what was seen.
//!
//! With `UPDATE_DOCS=1` the test writes the page.

use std::{
    collections::BTreeMap, fmt::Write as _, io, path::PathBuf, pin::Pin, sync::LazyLock,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    BufferEvent, Event, Watermarks,
    bufferevent::{Builder, CloseReason, Direction, Summary},
    pipe,
};

use crate::support::{data::pattern, net::tcp_pair};

/// Fits into no socket buffer.
const LONG: usize = 12 << 20;
/// Is delivered even to a slow peer within the time of a test.
const SHORT: usize = 400_000;

const BEGIN: &str = "<!-- begin: bufferevent ends -->\n";
const END: &str = "<!-- end: bufferevent ends -->\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Tcp,
    Unix,
    Other,
    Pair,
}
const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Unix, Kind::Other, Kind::Pair];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    /// Begins to read late, and reads small pieces.
    Slow,
    /// Sends all the time, until it sees the end.
    Sending,
    /// Has reset the connection, or dropped its stream.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Close,
    Drop,
    Shutdown,
    Abort,
    Linger,
    ReadError,
    Idle,
    RuntimeShutdown,
}

/// What was seen of one end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    peer: String,
    caller: String,
    counted: String,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The far side of a connection.
enum Far {
    Tcp(TcpStream),
    Other(Box<dyn Io>),
    Pair(BufferEvent),
}

impl Far {
    fn leave(self) {
        match self {
            Self::Tcp(tcp) => tcp.set_zero_linger().unwrap(),
            Self::Other(stream) => drop(stream),
            Self::Pair(bev) => bev.abort(),
        }
    }

    fn into_io(self) -> Pin<Box<dyn Io>> {
        match self {
            Self::Tcp(tcp) => Box::pin(tcp),
            Self::Other(stream) => Pin::new(stream),
            Self::Pair(bev) => Box::pin(bev),
        }
    }
}

/// Spawns a connection of `kind` on the current runtime.
async fn connection(kind: Kind, builder: Builder) -> (BufferEvent, Far) {
    match kind {
        Kind::Tcp => {
            let (near, far) = tcp_pair().await;
            (builder.spawn(near), Far::Tcp(far))
        }
        Kind::Unix => {
            let (near, far) = UnixStream::pair().unwrap();
            (builder.spawn(near), Far::Other(Box::new(far)))
        }
        Kind::Other => {
            let (near, far) = duplex(64 << 10);
            (builder.spawn(near), Far::Other(Box::new(far)))
        }
        // A pair has the default settings.
        Kind::Pair => {
            let (near, far) = BufferEvent::pair();
            (near, Far::Pair(far))
        }
    }
}

/// Reads to the end, and says how much came and how it ended.
async fn read_all(far: Far, expected: &[u8], sends: bool) -> String {
    let (mut read, mut write) = tokio::io::split(far.into_io());
    let sending = async move {
        if !sends {
            return false;
        }
        loop {
            if let Err(error) = write.write_all(&[7; 4096]).await {
                return error.kind() == io::ErrorKind::ConnectionReset;
            }
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let (mut got, mut piece) = (0, vec![0; 32 << 10]);
        let end = loop {
            match read.read(&mut piece).await {
                Ok(0) => break "the end",
                Ok(n) => {
                    assert!(
                        piece[..n] == expected[got..got + n],
                        "another byte at {got}"
                    );
                    got += n;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break "a reset",
                Err(error) => panic!("{error:?}"),
            }
        };
        let amount = match got == expected.len() {
            true => "everything",
            false => "a part",
        };
        format!("{amount}, then {end}")
    };
    let mut sending = std::pin::pin!(sending);
    let mut reading = std::pin::pin!(reading);
    // Sends until the end was seen. A socket reports a reset once: to a write, or to a read.
    tokio::select! {
        is_reset = &mut sending => match (is_reset, reading.await) {
            (true, end) => end.replace("the end", "a reset"),
            (false, end) => end,
        },
        end = &mut reading => end,
    }
}

/// The bytes of the output: the beginning of one pattern.
fn data(len: usize) -> &'static [u8] {
    static DATA: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(LONG));
    &DATA[..len]
}

fn name(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Error(error) => format!("`Error({:?})`", error.kind()),
        other => format!("`{other:?}`"),
    }
}

fn counted(summary: &Summary, len: usize) -> String {
    assert_eq!(
        summary.bytes_out + summary.unsent,
        len as u64,
        "{summary:?}"
    );
    match summary.unsent {
        0 => "all written".to_owned(),
        _ => "`unsent` > 0".to_owned(),
    }
}

async fn run(end: End, kind: Kind, peer: Peer) -> Cell {
    let linger = match end {
        End::Linger => Duration::from_millis(30),
        _ => Duration::from_secs(30),
    };
    let mut builder = BufferEvent::builder().linger(linger);
    if end == End::Idle {
        builder = builder.idle_timeout(Duration::from_millis(20));
    }
    if end == End::RuntimeShutdown {
        return runtime_shutdown(kind).await;
    }
    let (bev, far) = connection(kind, builder).await;
    let watching = bev.clone();
    let cut = matches!(end, End::Abort | End::Linger) || peer == Peer::Gone;
    let data = data(if cut { LONG } else { SHORT });
    if end != End::Idle && end != End::ReadError {
        bev.output().add(data).unwrap();
    }
    let sends = peer == Peer::Sending;
    let (over, closed) = oneshot::channel::<()>();
    let peer_sees = match peer {
        Peer::Gone => {
            far.leave();
            None
        }
        _ => Some(tokio::spawn(async move {
            match cut || end == End::Idle {
                // It reads when the connection is over, so that linger expires before.
                true => drop(closed.await),
                false => sleep(Duration::from_millis(20)).await,
            }
            match end {
                End::Idle => "nothing".to_owned(),
                _ => read_all(far, data, sends).await,
            }
        })),
    };
    let caller = match end {
        End::Close | End::Linger => {
            drop(watching);
            // The handle that waits is the only one.
            let waiting = bev.clone();
            let closing = bev.close().await;
            let summary = waiting.closed().await;
            let caller = match closing {
                Ok(summary) => name(&summary.reason),
                Err(error) => format!("error `{:?}`", error.kind()),
            };
            Some((caller, Some(summary)))
        }
        End::Drop => {
            drop((bev, watching));
            None
        }
        End::Shutdown => {
            bev.shutdown().await.unwrap();
            let summary = bev.closed().await;
            Some((name(&summary.reason), Some(summary)))
        }
        End::Abort => {
            while bev.metrics().bytes_out == 0 {
                tokio::task::yield_now().await;
            }
            bev.abort();
            let summary = bev.closed().await;
            Some((name(&summary.reason), Some(summary)))
        }
        End::ReadError => {
            let waited = bev.input().readable(1).await.unwrap_err();
            let summary = bev.closed().await;
            let waited = io::Error::from(waited).kind();
            assert!(matches!(&summary.reason, CloseReason::Error(e) if e.kind() == waited));
            Some((name(&summary.reason), None))
        }
        End::Idle => {
            assert_eq!(bev.next_event().await, Some(Event::IdleTimeout));
            assert!(bev.is_enabled(Direction::Read) && bev.is_enabled(Direction::Write));
            Some(("`Event::IdleTimeout`; it lives on".to_owned(), None))
        }
        End::RuntimeShutdown => unreachable!(),
    };
    drop(over);
    let (caller, summary) = caller.unwrap_or_else(|| ("-".to_owned(), None));
    Cell {
        peer: match peer_sees {
            Some(sees) => sees.await.unwrap(),
            None => "-".to_owned(),
        },
        caller,
        counted: summary.map_or("-".to_owned(), |summary| counted(&summary, data.len())),
    }
}

/// Shuts the runtime of the connection down while most of the output is unsent.
async fn runtime_shutdown(kind: Kind) -> Cell {
    let data = data(LONG);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (near, far): (_, Far) = match kind {
        Kind::Tcp => {
            let (near, far) = tcp_pair().await;
            let near = near.into_std().unwrap();
            let _entered = runtime.enter();
            let near = TcpStream::from_std(near).unwrap();
            (BufferEvent::new(near), Far::Tcp(far))
        }
        Kind::Unix => {
            let (near, far) = UnixStream::pair().unwrap();
            let near = near.into_std().unwrap();
            let _entered = runtime.enter();
            let near = UnixStream::from_std(near).unwrap();
            (BufferEvent::new(near), Far::Other(Box::new(far)))
        }
        Kind::Other | Kind::Pair => {
            let (near, far) = duplex(64 << 10);
            let _entered = runtime.enter();
            (BufferEvent::new(near), Far::Other(Box::new(far)))
        }
    };
    near.output().add(data).unwrap();
    while near.metrics().bytes_out == 0 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();
    let summary = near.closed().await;
    Cell {
        peer: read_all(far, data, false).await,
        caller: name(&summary.reason),
        counted: counted(&summary, data.len()),
    }
}

/// Which peers make a difference for an end.
fn peers(end: End) -> &'static [Peer] {
    match end {
        End::Close => &[Peer::Slow, Peer::Sending, Peer::Gone],
        End::Drop => &[Peer::Slow, Peer::Sending],
        End::Shutdown => &[Peer::Slow],
        End::Abort => &[Peer::Slow, Peer::Sending],
        End::Linger => &[Peer::Slow],
        End::ReadError => &[Peer::Gone],
        End::Idle | End::RuntimeShutdown => &[Peer::Slow],
    }
}

fn title(end: End) -> &'static str {
    match end {
        End::Close => "`close`",
        End::Drop => "last handle dropped",
        End::Shutdown => "`shutdown`, then the end of the peer",
        End::Abort => "`abort`",
        End::Linger => "`close`, `linger` expires",
        End::ReadError => "reset by the peer, or its end",
        End::Idle => "`idle_timeout`",
        End::RuntimeShutdown => "runtime shut down",
    }
}

/// Runs every cell, and returns the rows of the table: cells of one end with the same outcome share a row.
async fn table() -> String {
    let mut running = Vec::new();
    let ends = [
        End::Close,
        End::Drop,
        End::Shutdown,
        End::Abort,
        End::Linger,
        End::ReadError,
        End::Idle,
        End::RuntimeShutdown,
    ];
    for end in ends {
        for &peer in peers(end) {
            for kind in KINDS {
                let settings_needed = matches!(end, End::Linger | End::Idle);
                if kind == Kind::Pair && (settings_needed || end == End::RuntimeShutdown) {
                    continue;
                }
                // On these streams a peer that is gone is an ordinary end.
                if end == End::ReadError && matches!(kind, Kind::Unix | Kind::Other) {
                    continue;
                }
                let cell = tokio::spawn(timeout(Duration::from_secs(60), run(end, kind, peer)));
                running.push((end, peer, kind, cell));
            }
        }
    }
    let mut rows: BTreeMap<(End, Peer, Cell), Vec<Kind>> = BTreeMap::new();
    for (end, peer, kind, cell) in running {
        let cell = cell.await.unwrap();
        let cell = cell.unwrap_or_else(|_| panic!("{end:?} {peer:?} {kind:?} does not end"));
        rows.entry((end, peer, cell)).or_default().push(kind);
    }
    let mut text = String::from(
        "| end | peer | stream | the peer sees | the caller gets | counted |\n|---|---|---|---|---|---|\n",
    );
    let mut sorted: Vec<_> = rows.into_iter().collect();
    sorted.sort_by_key(|((end, peer, _), kinds)| (*end, *peer, kinds.clone()));
    for ((end, peer, cell), kinds) in sorted {
        let kinds: Vec<_> = (kinds.iter())
            .map(|kind| match kind {
                Kind::Tcp => "TCP",
                Kind::Unix => "Unix",
                Kind::Other => "other",
                Kind::Pair => "pair",
            })
            .collect();
        let peer = match peer {
            Peer::Slow => "slow",
            Peer::Sending => "still sends",
            Peer::Gone => "gone",
        };
        let Cell {
            peer: sees,
            caller,
            counted,
        } = cell;
        writeln!(
            text,
            "| {} | {peer} | {} | {sees} | {caller} | {counted} |",
            title(end),
            kinds.join(", ")
        )
        .unwrap();
    }
    text
}

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/ENDS.md")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_table_of_ends_is_as_documented() {
    let found = table().await;
    let text = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (documented, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page(), format!("{before}{BEGIN}{found}{END}{after}")).unwrap();
        return;
    }
    assert!(
        documented == found,
        "the page says\n{documented}\nand the test found\n{found}"
    );
}

/// A pipe in memory follows the same rule.
#[tokio::test]
async fn a_pipe_ends_in_order_or_with_an_error_after_its_bytes() {
    let data = pattern(100_000);
    for in_order in [true, false] {
        let (mut writer, mut reader) = pipe(Watermarks::NONE);
        writer.write_all(&data).await.unwrap();
        match in_order {
            true => drop(writer),
            false => writer.close_with(io::ErrorKind::ConnectionReset.into()),
        }
        let mut got = Vec::new();
        let end = reader.read_to_end(&mut got).await;
        assert!(got == data);
        match in_order {
            true => assert_eq!(end.unwrap(), data.len()),
            false => assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
        }
    }
}
