//! The cells of the table for BufferEvents.

use std::{future::Future, marker::PhantomData, sync::LazyLock, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    BufferEvent, Event,
    bufferevent::{Builder, CloseReason, Direction, Summary},
    shared::WaitError,
};

use super::{
    Cell, Cells, HANG, LATE, OwnRuntime, Peer, Seen, play,
    streams::{Far, Kind},
};
use crate::support::data::pattern;

/// Fits into no socket buffer.
const LONG: usize = 12 << 20;
/// Is delivered even to a slow peer within the time of a test.
const SHORT: usize = 100_000;
const IDLE: Duration = Duration::from_secs(1);
/// The idle timeout where the peer sends each millisecond. The machine may be busy.
const NEVER_IDLE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Close,
    Drop,
    Shutdown,
    Abort,
    Linger,
    Left,
    Idle,
    Runtime,
}

impl End {
    const ALL: [Self; 8] = [
        Self::Close,
        Self::Drop,
        Self::Shutdown,
        Self::Abort,
        Self::Linger,
        Self::Left,
        Self::Idle,
        Self::Runtime,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Close => "`close`",
            Self::Drop => "last handle dropped",
            Self::Shutdown => "`shutdown`, then the end of the peer",
            Self::Abort => "`abort`",
            Self::Linger => "`close`, `linger` expires",
            Self::Left => "the peer leaves, with nothing to send",
            Self::Idle => "`idle_timeout`",
            Self::Runtime => "runtime shut down",
        }
    }

    /// The peers that make a difference. One that is gone ends the connection before anything else does.
    fn peers(self) -> &'static [Peer] {
        match self {
            Self::Close | Self::Shutdown => &[Peer::Slow, Peer::Sends, Peer::Gone],
            Self::Left => &[Peer::Gone],
            _ => &[Peer::Slow, Peer::Sends],
        }
    }

    /// Most of the output is unsent when the connection ends.
    fn is_early(self) -> bool {
        matches!(self, Self::Abort | Self::Linger | Self::Runtime)
    }
}

/// Connections of a BufferEvent.
pub trait Connection: Send + 'static {
    const NAME: &'static str;
    /// Whether the connection has the settings of a builder, and a runtime.
    const HAS_SETTINGS: bool = true;

    fn connect(
        builder: Builder,
        on: Handle,
    ) -> impl Future<Output = (Box<dyn Far>, BufferEvent)> + Send;
}

/// Connections over one kind of stream.
#[derive(Debug)]
pub struct Over<K>(PhantomData<K>);

/// Two BufferEvents that are connected.
#[derive(Debug)]
pub struct Pair;

impl<K: Kind> Connection for Over<K> {
    const NAME: &'static str = K::NAME;

    async fn connect(builder: Builder, on: Handle) -> (Box<dyn Far>, BufferEvent) {
        let (far, near) = K::pair(on.clone()).await;
        let _entered = on.enter();
        (far, builder.spawn(near))
    }
}

impl Connection for Pair {
    const NAME: &'static str = "pair";
    const HAS_SETTINGS: bool = false;

    async fn connect(_: Builder, _: Handle) -> (Box<dyn Far>, BufferEvent) {
        let (far, near) = BufferEvent::pair();
        (Box::new(far), near)
    }
}

impl Far for BufferEvent {
    fn leave(self: Box<Self>) {
        self.abort();
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
    let known = summary.bytes_out + summary.unsent;
    assert_eq!(known, len as u64, "{summary:?}");
    match summary.unsent {
        0 => "all written".to_owned(),
        _ => "`unsent` > 0".to_owned(),
    }
}

/// Reads and discards the input, as a user does, so that the peer is not held up.
fn discard_input(bev: &BufferEvent) {
    let input = bev.input().clone();
    tokio::spawn(async move {
        while input.readable(1).await.is_ok() {
            input.clear().unwrap();
        }
    });
}

async fn cell<C: Connection>(end: End, peer: Peer) -> Cell {
    // The peer reads, and ends its side when it has seen the end. On a busy machine that takes a while.
    let mut builder = BufferEvent::builder().close_wait(HANG).linger(HANG);
    match end {
        End::Linger => builder = builder.linger(Duration::from_millis(50)),
        End::Idle if peer == Peer::Sends => builder = builder.idle_timeout(NEVER_IDLE),
        End::Idle => builder = builder.idle_timeout(IDLE),
        _ => {}
    }
    let own = (end == End::Runtime).then(OwnRuntime::new);
    let on = own.as_ref().map_or(Handle::current(), OwnRuntime::handle);
    let (far, bev) = C::connect(builder, on).await;
    let early = end.is_early();
    let len = match end {
        End::Left | End::Idle => 0,
        _ if early || peer == Peer::Gone => LONG,
        _ => SHORT,
    };
    if peer == Peer::Gone {
        far.leave();
        bev.output().add(data(len)).unwrap();
        let (caller, summary) = gone(end, bev).await;
        return Cell {
            sees: "-".to_owned(),
            gets: caller,
            counted: summary.map_or("-".to_owned(), |summary| counted(&summary, len)),
        };
    }
    bev.output().add(data(len)).unwrap();
    if matches!(end, End::Shutdown | End::Idle) {
        discard_input(&bev);
    }
    let (over, is_over) = oneshot::channel::<()>();
    let start = async move {
        match early {
            true => drop(is_over.await),
            false => sleep(LATE).await,
        }
    };
    let pace = match early {
        true => Duration::ZERO,
        false => Duration::from_millis(1),
    };
    let playing = tokio::spawn(play(
        far,
        (peer == Peer::Sends).then_some(pace),
        (start, std::future::ready(())),
        (len, |at, piece: &[u8]| {
            piece == &data(LONG)[at..][..piece.len()]
        }),
        None,
    ));
    if early {
        while bev.metrics().bytes_out == 0 || (peer == Peer::Sends && bev.metrics().bytes_in == 0) {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let (gets, summary) = match end {
        End::Close | End::Linger => close(bev).await,
        End::Drop => {
            drop(bev);
            ("-".to_owned(), None)
        }
        End::Shutdown => {
            bev.shutdown().await.unwrap();
            let summary = bev.closed().await;
            (name(&summary.reason), Some(summary))
        }
        End::Abort => {
            bev.abort();
            let summary = bev.closed().await;
            (name(&summary.reason), Some(summary))
        }
        End::Runtime => {
            let own = own.unwrap();
            let shutting_down = tokio::task::spawn_blocking(move || own.shut_down());
            shutting_down.await.unwrap();
            let summary = bev.closed().await;
            (name(&summary.reason), Some(summary))
        }
        End::Idle => {
            let gets = idle(&bev, peer).await;
            playing.abort();
            return Cell {
                sees: "nothing".to_owned(),
                gets,
                counted: "-".to_owned(),
            };
        }
        End::Left => unreachable!(),
    };
    drop(over);
    let seen: Seen = playing.await.unwrap();
    // A closed socket shows a reset if it has received bytes that were not read.
    let ends = match (early && peer == Peer::Sends, C::NAME) {
        (true, "Unix") => "the end or a reset",
        (true, "TLS") => "`UnexpectedEof` or a reset",
        _ => "",
    };
    Cell {
        sees: seen.describe(len, ends),
        gets,
        counted: summary.map_or("-".to_owned(), |summary| counted(&summary, len)),
    }
}

/// Closes the connection. The handle that waits is the only one.
async fn close(bev: BufferEvent) -> (String, Option<Summary>) {
    let waiting = bev.clone();
    let closing = bev.close().await;
    let summary = waiting.closed().await;
    let caller = match closing {
        Ok(summary) => name(&summary.reason),
        Err(error) => format!("error `{:?}`", error.kind()),
    };
    (caller, Some(summary))
}

async fn idle(bev: &BufferEvent, peer: Peer) -> String {
    let time = match peer {
        Peer::Sends => NEVER_IDLE + IDLE,
        _ => HANG,
    };
    let event = timeout(time, bev.next_event()).await;
    assert!(bev.is_enabled(Direction::Read) && bev.is_enabled(Direction::Write));
    match peer {
        Peer::Sends => assert!(event.is_err(), "bytes still arrive: {event:?}"),
        _ => assert_eq!(event.unwrap(), Some(Event::IdleTimeout)),
    }
    match peer {
        Peer::Sends => "nothing".to_owned(),
        _ => "`Event::IdleTimeout`; it lives on".to_owned(),
    }
}

/// The peer has left.
async fn gone(end: End, bev: BufferEvent) -> (String, Option<Summary>) {
    match end {
        End::Close => close(bev).await,
        End::Shutdown => {
            let error = bev.shutdown().await.unwrap_err();
            let summary = bev.closed().await;
            assert!(matches!(&summary.reason, CloseReason::Error(e) if e.kind() == error.kind()));
            (format!("error `{:?}`", error.kind()), Some(summary))
        }
        _ => match bev.input().readable(1).await.unwrap_err() {
            // An orderly end: the connection can still send.
            WaitError::Closed => {
                assert_eq!(bev.next_event().await, Some(Event::Eof));
                ("`Event::Eof`".to_owned(), None)
            }
            error => {
                let kind = std::io::Error::from(error).kind();
                let summary = bev.closed().await;
                assert!(matches!(&summary.reason, CloseReason::Error(e) if e.kind() == kind));
                (name(&summary.reason), None)
            }
        },
    }
}

/// Adds the cells of one kind of connection.
pub fn add<C: Connection>(cells: &mut Cells<End>) {
    for end in End::ALL {
        let needs_settings = matches!(end, End::Linger | End::Idle | End::Runtime);
        if !C::HAS_SETTINGS && needs_settings {
            continue;
        }
        for &peer in end.peers() {
            cells.add((end, peer, C::NAME), cell::<C>(end, peer));
        }
    }
}
