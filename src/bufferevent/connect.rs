//! Connects before the task of the connection starts.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use futures::future::BoxFuture;
use tokio::{net::TcpStream, time::Instant};
use tracing::{Instrument, Span};

use super::{
    endpoint::Stream,
    establish::{establish, is_due},
    event::{CloseReason, Event},
    task::{FinishOnDrop, Task},
};
use crate::timer::Timer;

/// How long an attempt may take before the next address is tried beside it: the recommended value of RFC 8305.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The address family that [`Builder::connect`](super::Builder::connect) uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFamily {
    /// Both, in turn.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectSettings {
    pub(super) timeout: Option<Duration>,
    pub(super) family: AddressFamily,
}

/// Connects, reports the result, and spawns the task of the connection.
pub(super) async fn connect(
    resolve: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    settings: ConnectSettings,
    nodelay: bool,
    finish: FinishOnDrop,
    span: Span,
) {
    let inner = Arc::clone(finish.inner());
    let connecting = async {
        let stream = race(in_order(resolve.await?, settings.family)).await?;
        stream.set_nodelay(nodelay)?;
        Ok(stream)
    };
    let connected = establish(connecting, settings.timeout, &inner)
        .instrument(span.clone())
        .await;
    match connected {
        Ok(stream) => {
            if let (false, Ok(peer)) = (span.is_disabled(), stream.peer_addr()) {
                span.record("peer", tracing::field::display(peer));
            }
            let task = Task::new(Stream::new(stream), finish, span);
            inner.note_connected();
            tokio::spawn(task);
        }
        Err(reason) => {
            if let CloseReason::Error(error) = &reason {
                inner.report(Event::ConnectError(Arc::clone(error)));
            }
            inner.finish(reason);
        }
    }
}

/// Selects the addresses of `family`, and lets the families take turns, beginning with that of the first address.
fn in_order(addresses: Vec<SocketAddr>, family: AddressFamily) -> Vec<SocketAddr> {
    let is_selected = |address: &SocketAddr| match family {
        AddressFamily::Any => true,
        AddressFamily::V4 => address.is_ipv4(),
        AddressFamily::V6 => address.is_ipv6(),
    };
    let selected: Vec<_> = addresses.into_iter().filter(is_selected).collect();
    let Some(first) = selected.first() else {
        return selected;
    };
    let is_first_family = first.is_ipv4();
    let (firsts, seconds): (Vec<_>, Vec<_>) =
        (selected.iter().copied()).partition(|address| address.is_ipv4() == is_first_family);
    let (mut firsts, mut seconds) = (firsts.into_iter(), seconds.into_iter());
    let mut ordered = Vec::with_capacity(selected.len());
    loop {
        let pair = [firsts.next(), seconds.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Connects to the first address that answers. The attempts start one after another and then run side by side.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut remaining = addresses.into_iter();
    let mut attempts: Vec<BoxFuture<'static, io::Result<TcpStream>>> = Vec::new();
    let mut timer = Timer::default();
    let mut next_at = Instant::now();
    let mut last_error = None;
    poll_fn(|cx| {
        loop {
            let mut failed = false;
            let mut at = 0;
            while at < attempts.len() {
                match attempts[at].as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        last_error = Some(error);
                        failed = true;
                        drop(attempts.remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if remaining.len() == 0 && attempts.is_empty() {
                let none = || {
                    io::Error::new(
                        io::ErrorKind::NotFound,
                        "the host has no address of the selected family",
                    )
                };
                return Poll::Ready(Err(last_error.take().unwrap_or_else(none)));
            }
            let is_time = failed || attempts.is_empty() || is_due(&mut timer, cx, next_at);
            let Some(address) = is_time.then(|| remaining.next()).flatten() else {
                return Poll::Pending;
            };
            attempts.push(Box::pin(TcpStream::connect(address)));
            next_at = Instant::now() + ATTEMPT_DELAY;
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_one_can_be_selected() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let resolved = parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "127.0.0.1:1",
            "127.0.0.2:1",
        ]);
        let table = [
            (
                AddressFamily::Any,
                parse(&[
                    "[::1]:1",
                    "127.0.0.1:1",
                    "[::2]:1",
                    "127.0.0.2:1",
                    "[::3]:1",
                ]),
            ),
            (AddressFamily::V4, parse(&["127.0.0.1:1", "127.0.0.2:1"])),
            (AddressFamily::V6, parse(&["[::1]:1", "[::2]:1", "[::3]:1"])),
        ];
        for (family, expected) in table {
            assert_eq!(in_order(resolved.clone(), family), expected, "{family:?}");
        }
        assert!(in_order(parse(&["127.0.0.1:1"]), AddressFamily::V6).is_empty());
    }

    #[tokio::test]
    async fn no_address_is_an_error() {
        let error = race(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
