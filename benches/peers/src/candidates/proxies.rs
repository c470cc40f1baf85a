//! Proxies of this program: each accepts, connects to the upstream, and relays until both ends have closed.

use std::{io, net::SocketAddr, sync::LazyLock};

use anyhow::Result;
use bytes::BytesMut;
use clap::ValueEnum;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};
use tokio_evbuffer::{
    BufferEvent, EvBuffer, Relay,
    bufferevent::{FilterStatus, FlushMode},
    limits::{InvalidRateLimit, MemoryBudget, RateLimit},
    relay::Splice,
};

use super::{Flavour, splice};
use crate::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proxy {
    /// `tokio_evbuffer::relay`, as a proxy would use it.
    Relay,
    /// The same without splice.
    RelayNoSplice,
    /// A relay with a rate limit that never applies.
    RelayLimit,
    /// A relay without splice and with a memory budget.
    RelayBudget,
    /// A relay of at most [`RATE`] bytes a second in each direction, with and without splice.
    RelayRate,
    RelayRateNoSplice,
    /// Two joined BufferEvents; one of them with filters that move all bytes on.
    Join,
    JoinFilter,
    /// `tokio_evbuffer::copy_bidirectional`, in place of Tokio's.
    CopyBidirectional,
    /// `tokio::io::copy_bidirectional`, with its default size and with a larger one.
    Copy8,
    Copy256,
    /// A 16 KiB `BytesMut` for each direction, read and written in turn.
    BytesMut,
    /// Splice through 1 MiB pipes and nothing else: a limit, not a usable proxy.
    Splice,
    /// The same in C on epoll, which also reads while a write waits.
    SpliceEpoll,
    /// bufferevents in C.
    Libevent,
    /// Changes bytes, to test that the load notices it.
    Corrupt,
}

impl Proxy {
    /// Whether it is written in C, and built only together with libevent.
    pub(super) fn is_c(self) -> bool {
        matches!(self, Self::Libevent | Self::SpliceEpoll)
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Relay
                | Self::RelayNoSplice
                | Self::RelayLimit
                | Self::RelayBudget
                | Self::RelayRate
                | Self::RelayRateNoSplice
                | Self::Join
                | Self::JoinFilter
                | Self::CopyBidirectional
        )
    }
}

const KIB: usize = 1024;

pub(super) fn run(proxy: Proxy, flavour: Flavour, upstream: SocketAddr) -> Result<()> {
    if proxy.is_c() {
        #[cfg(libevent)]
        return match proxy {
            Proxy::SpliceEpoll => crate::libevent::run_splice(upstream),
            _ => crate::libevent::run_proxy(upstream),
        };
        #[cfg(not(libevent))]
        anyhow::bail!("built without libevent");
    }
    flavour.runtime()?.block_on(serve(proxy, upstream))
}

async fn serve(proxy: Proxy, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::from_std(process::listen()?)?;
    process::serve_parent(listener.local_addr()?);
    loop {
        let client = listener.accept().await?.0;
        // Each kind has its own future type, so that none pays for the size of another.
        match proxy {
            Proxy::Relay => spawn(client, upstream, relay),
            Proxy::RelayNoSplice => spawn(client, upstream, relay_no_splice),
            Proxy::RelayLimit => spawn(client, upstream, |a, b| {
                limited(a, b, RateLimit::both(u64::MAX / 4), Splice::Auto)
            }),
            Proxy::RelayRate => spawn(client, upstream, |a, b| limited(a, b, rate(), Splice::Auto)),
            Proxy::RelayRateNoSplice => spawn(client, upstream, |a, b| {
                limited(a, b, rate(), Splice::Never)
            }),
            Proxy::RelayBudget => spawn(client, upstream, budgeted),
            Proxy::Join => spawn(client, upstream, join),
            Proxy::JoinFilter => spawn(client, upstream, join_filter),
            Proxy::CopyBidirectional => spawn(client, upstream, copy_bidirectional),
            Proxy::Copy8 => spawn(client, upstream, |a, b| copy(a, b, 8 * KIB)),
            Proxy::Copy256 => spawn(client, upstream, |a, b| copy(a, b, 256 * KIB)),
            Proxy::BytesMut => spawn(client, upstream, bytes_mut),
            Proxy::Splice => spawn(client, upstream, splice::relay),
            Proxy::Corrupt => spawn(client, upstream, corrupt),
            Proxy::Libevent | Proxy::SpliceEpoll => unreachable!("does not run on Tokio"),
        }
    }
}

/// Relays one connection. A reset by a peer is one of its ends, so errors are ignored.
fn spawn<F>(
    client: TcpStream,
    upstream: SocketAddr,
    relay: impl Fn(TcpStream, TcpStream) -> F + Send + 'static,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        let server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        relay(client, server).await
    });
}

async fn relay(a: TcpStream, b: TcpStream) -> io::Result<()> {
    Ok(tokio_evbuffer::relay(a, b).await.map(drop)?)
}

async fn relay_no_splice(a: TcpStream, b: TcpStream) -> io::Result<()> {
    Ok(Relay::new(a, b)
        .splice(Splice::Never)
        .run()
        .await
        .map(drop)?)
}

/// The limit of a rate-limited connection. With the default burst, one second's worth, it would not apply to the bytes
/// of a measurement.
fn rate() -> Result<RateLimit, InvalidRateLimit> {
    RateLimit::both(40 << 20)?.and_burst(4 << 20)
}

async fn limited(
    a: TcpStream,
    b: TcpStream,
    limit: Result<RateLimit, InvalidRateLimit>,
    splice: Splice,
) -> io::Result<()> {
    let relay = Relay::new(a, b).splice(splice).rate_limit(limit?);
    Ok(relay.run().await.map(drop)?)
}

async fn budgeted(a: TcpStream, b: TcpStream) -> io::Result<()> {
    static BUDGET: LazyLock<MemoryBudget> = LazyLock::new(|| MemoryBudget::new(1 << 40));
    let relay = Relay::new(a, b).splice(Splice::Never).budget(&BUDGET);
    Ok(relay.run().await.map(drop)?)
}

async fn join(a: TcpStream, b: TcpStream) -> io::Result<()> {
    Ok(BufferEvent::join(BufferEvent::new(a), BufferEvent::new(b))
        .await
        .map(drop)?)
}

async fn join_filter(a: TcpStream, b: TcpStream) -> io::Result<()> {
    let a = BufferEvent::new(a).filter(move_all, move_all);
    Ok(BufferEvent::join(a, BufferEvent::new(b)).await.map(drop)?)
}

fn move_all(
    src: &mut EvBuffer,
    dst: &mut EvBuffer,
    limit: Option<usize>,
    _: FlushMode,
) -> io::Result<FilterStatus> {
    let n = src.remove_buffer(dst, limit.unwrap_or(usize::MAX))?;
    Ok(if n > 0 {
        FilterStatus::Ok
    } else {
        FilterStatus::NeedMore
    })
}

async fn copy_bidirectional(mut a: TcpStream, mut b: TcpStream) -> io::Result<()> {
    tokio_evbuffer::copy_bidirectional(&mut a, &mut b)
        .await
        .map(drop)
}

async fn copy(mut a: TcpStream, mut b: TcpStream, size: usize) -> io::Result<()> {
    copy_bidirectional_with_sizes(&mut a, &mut b, size, size)
        .await
        .map(drop)
}

async fn bytes_mut(mut a: TcpStream, mut b: TcpStream) -> io::Result<()> {
    let (a_in, a_out) = a.split();
    let (b_in, b_out) = b.split();
    tokio::try_join!(one_way(a_in, b_out, |_| ()), one_way(b_in, a_out, |_| ()))?;
    Ok(())
}

async fn corrupt(mut a: TcpStream, mut b: TcpStream) -> io::Result<()> {
    let (a_in, a_out) = a.split();
    let (b_in, b_out) = b.split();
    let flip = |bytes: &mut [u8]| bytes[0] ^= 1;
    tokio::try_join!(one_way(a_in, b_out, flip), one_way(b_in, a_out, |_| ()))?;
    Ok(())
}

async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut change: impl FnMut(&mut [u8]),
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(16 * KIB);
    while from.read_buf(&mut buffer).await? > 0 {
        change(&mut buffer);
        to.write_all(&buffer).await?;
        buffer.clear();
    }
    to.shutdown().await
}
