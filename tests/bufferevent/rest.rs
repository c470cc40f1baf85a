//! What a peer had sent before it reset the connection, while reading was paused.

use std::{io::ErrorKind, time::Duration};

use tokio::{io::AsyncReadExt, time::Instant};
use tokio_evbuffer::{
    BufferEvent, Event, Watermarks,
    bufferevent::{CloseReason, Direction},
    limits::RateLimit,
};

use crate::support::tasks::{pause, soon};

const LEN: usize = 5000;

fn data() -> Vec<u8> {
    (0..LEN).map(|i| (i % 251) as u8).collect()
}

/// Why reading is paused.
#[derive(Clone, Copy, Debug)]
enum Paused {
    HighWatermark,
    Disabled,
    RateLimit,
}

impl Paused {
    const ALL: [Self; 3] = [Self::HighWatermark, Self::Disabled, Self::RateLimit];

    fn begin(self, bev: &BufferEvent) {
        match self {
            Self::HighWatermark => {
                (bev.input()).set_watermarks(Watermarks::new(100, 1000).unwrap());
            }
            Self::Disabled => bev.disable(Direction::Read),
            Self::RateLimit => {
                bev.set_rate_limit(Some(RateLimit::read(1000).unwrap()));
                bev.consume_rate(Direction::Read, 1 << 40);
            }
        }
    }

    fn end(self, bev: &BufferEvent) {
        match self {
            // Reading makes room.
            Self::HighWatermark => {}
            Self::Disabled => bev.enable(Direction::Read),
            Self::RateLimit => bev.set_rate_limit(None),
        }
    }
}

fn is_reset(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Error(error) if error.kind() == ErrorKind::ConnectionReset)
}

async fn assert_reset_is_reported(bev: &BufferEvent) {
    match soon("the reset", bev.next_event()).await {
        Some(Event::ReadError(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    soon("the end of the peer", bev.peer_closed()).await;
}

/// Returns what the input gives before it ends with the reset.
async fn read_all(bev: &BufferEvent) -> Vec<u8> {
    let (mut bev, mut read) = (bev.clone(), Vec::new());
    let reading = soon("the rest", bev.read_to_end(&mut read));
    assert_eq!(
        reading.await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    read
}

/// The peer has sent everything and was reset.
async fn assert_everything_is_read(bev: &BufferEvent, paused: Paused) {
    assert_reset_is_reported(bev).await;
    assert!(
        bev.input().len() < LEN,
        "{paused:?}: reading was not paused"
    );
    let flushed = soon("an error", bev.shutdown()).await;
    assert_eq!(flushed.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(bev.output().add(b"answer").is_err());

    paused.end(bev);
    assert!(read_all(bev).await == data(), "{paused:?}: bytes are lost");
    let summary = soon("the end", bev.closed()).await;
    assert!(is_reset(&summary.reason), "{summary:?}");
    assert_eq!(bev.next_event().await, Some(Event::Closed), "one report");
}

/// A pair whose far end has sent everything, and then aborted.
async fn reset_pair(paused: Paused) -> BufferEvent {
    let (near, far) = BufferEvent::pair();
    paused.begin(&near);
    far.output().add(data()).unwrap();
    far.flush().await.unwrap();
    far.abort();
    near
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_that_a_pair_had_sent() {
    for paused in Paused::ALL {
        assert_everything_is_read(&reset_pair(paused).await, paused).await;
    }
}

#[cfg(all(feature = "net", target_os = "linux"))]
mod sockets {
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpStream, UnixStream},
    };
    use tokio_evbuffer::{
        EvBuffer, Prefixed, SharedEvBuffer,
        bufferevent::{Builder, IntoInnerError, UpgradeError},
        limits::MemoryBudget,
    };

    use super::*;
    use crate::support::{filters::pass, net::tcp_pair, tasks::HANG};

    /// Nothing is given up on a slow machine.
    fn patient() -> Builder {
        BufferEvent::builder().close_wait(HANG)
    }

    async fn reset(mut far: TcpStream) {
        far.write_all(&data()).await.unwrap();
        far.set_zero_linger().unwrap();
    }

    #[tokio::test]
    async fn everything_is_read_that_a_tcp_socket_had_sent() {
        for paused in Paused::ALL {
            let (far, near) = tcp_pair().await;
            let bev = patient().spawn(near);
            paused.begin(&bev);
            reset(far).await;
            assert_everything_is_read(&bev, paused).await;
        }
    }

    /// A Unix socket is reset if it is closed before it has read everything.
    #[tokio::test]
    async fn everything_is_read_that_a_unix_socket_had_sent() {
        for paused in Paused::ALL {
            let (mut far, near) = UnixStream::pair().unwrap();
            let bev = patient().spawn(near);
            paused.begin(&bev);
            bev.output().add(b"unread").unwrap();
            bev.flush().await.unwrap();
            far.write_all(&data()).await.unwrap();
            drop(far);
            assert_everything_is_read(&bev, paused).await;
        }
    }

    #[tokio::test]
    async fn everything_is_read_once_the_budget_allows_it() {
        let budget = MemoryBudget::new(1 << 10);
        let mut other = EvBuffer::new();
        other.add([0; 64 << 10]).unwrap();
        let holder = SharedEvBuffer::new();
        holder.set_budget(&budget);
        holder.add_buffer(&mut other).unwrap();
        let (far, near) = tcp_pair().await;
        let bev = patient().budget(&budget).spawn(near);
        reset(far).await;
        assert_reset_is_reported(&bev).await;
        assert!(bev.input().is_empty());
        drop(holder);
        assert!(read_all(&bev).await == data());
    }

    /// The connection below has read the reset, and holds what the filtered one has no room for.
    #[tokio::test]
    async fn everything_is_read_through_a_filter() {
        let (far, near) = tcp_pair().await;
        let below = patient().spawn(near);
        let bev = below.filter(pass, pass);
        Paused::HighWatermark.begin(&bev);
        reset(far).await;
        assert_everything_is_read(&bev, Paused::HighWatermark).await;
    }

    /// The server is slower than the client.
    #[tokio::test]
    async fn everything_is_joined() {
        let (far, near) = tcp_pair().await;
        let client = patient().spawn(near);
        client
            .input()
            .set_watermarks(Watermarks::new(100, 1000).unwrap());
        let (b, mut server) = tokio::io::duplex(64);
        let b = BufferEvent::builder()
            .write_watermarks(Watermarks::new(100, 1000).unwrap())
            .spawn(b);
        let seen = client.clone();
        let joined = tokio::spawn(BufferEvent::join(client, b));
        reset(far).await;
        assert_reset_is_reported(&seen).await;
        assert!(seen.metrics().bytes_in < LEN as u64);

        let mut read = Vec::new();
        soon("the rest", server.read_to_end(&mut read))
            .await
            .unwrap();
        assert!(read == data());
        let failed = soon("the end", joined).await.unwrap().unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(
            (failed.summary.a_to_b, failed.summary.held_a),
            (LEN as u64, 0)
        );
    }

    async fn reset_while_disabled() -> BufferEvent {
        let (far, near) = tcp_pair().await;
        let bev = patient().spawn(near);
        bev.disable(Direction::Read);
        reset(far).await;
        assert_reset_is_reported(&bev).await;
        bev
    }

    /// The stream does not report the reset again.
    #[tokio::test]
    async fn a_stream_with_a_rest_is_not_handed_over() {
        let bev = reset_while_disabled().await;
        match soon("the stream", bev.into_inner::<TcpStream>()).await {
            Err(IntoInnerError::Closed(summary)) => assert!(is_reset(&summary.reason)),
            other => panic!("{other:?}"),
        }
        let bev = reset_while_disabled().await;
        let upgrade = bev.upgrade(|stream: Prefixed<TcpStream>| async { Ok(stream) });
        match soon("the upgrade", upgrade).await {
            Err(UpgradeError::Closed(summary)) => assert!(is_reset(&summary.reason)),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_close_does_not_wait_for_the_rest() {
        let bev = reset_while_disabled().await;
        let error = soon("the end", bev.close()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Each byte that is read starts the time again.
#[tokio::test(start_paused = true)]
async fn the_rest_is_lost_if_no_byte_is_read_for_the_close_wait() {
    let bev = reset_pair(Paused::HighWatermark).await;
    assert_reset_is_reported(&bev).await;
    let mut read = 0;
    for _ in 0..3 {
        pause(Duration::from_millis(1900)).await;
        read += bev.input().take_bytes(1000).unwrap().len();
    }
    let start = Instant::now();
    let summary = bev.closed().await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(is_reset(&summary.reason), "{summary:?}");
    read += read_all(&bev).await.len();
    assert_eq!(read, 4000);
}
