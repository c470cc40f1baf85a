//! Making the connection first.

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{
    net::{TcpStream, ToSocketAddrs},
    time,
};
use tracing::{Instrument, Span};

use super::{
    CloseReason, Event,
    endpoint::Stream,
    inner::{Inner, Wish},
    task::{Ends, Settings, Task},
};

/// Connects, tells how that went, and leaves the rest to the task of the connection.
pub(super) async fn connect<A: ToSocketAddrs>(
    addr: A,
    timeout: Option<Duration>,
    ends: Ends,
    settings: Settings,
    span: Span,
) {
    let inner = Arc::clone(ends.inner());
    let linger = settings.limits.linger;
    let connected = connected(addr, timeout, &inner, linger).instrument(span.clone());
    match connected.await {
        Ok(stream) => {
            if let (false, Ok(peer)) = (span.is_disabled(), stream.peer_addr()) {
                span.record("peer", tracing::field::display(peer));
            }
            inner.tell(Event::Connected);
            tokio::spawn(Task::new(Stream::new(stream), ends, settings, span));
        }
        Err(reason) => {
            if let CloseReason::Error(error) = &reason {
                inner.tell(Event::ConnectError(Arc::clone(error)));
            }
            inner.finish(reason);
        }
    }
}

/// The connection, or why there is none.
async fn connected<A: ToSocketAddrs>(
    addr: A,
    timeout: Option<Duration>,
    inner: &Inner,
    linger: Duration,
) -> Result<TcpStream, CloseReason> {
    let mut connecting = pin!(async {
        let connecting = TcpStream::connect(addr);
        match timeout {
            None => connecting.await,
            Some(timeout) => time::timeout(timeout, connecting)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        }
    });
    let mut lingering = None;
    poll_fn(|cx| {
        inner.signal.register(cx.waker());
        let wish = inner.control.lock().orders.wish;
        if let Some(reason) = given_up(wish, inner) {
            return Poll::Ready(Err(reason));
        }
        if let Poll::Ready(outcome) = connecting.as_mut().poll(cx) {
            return Poll::Ready(outcome.map_err(|error| CloseReason::Error(Arc::new(error))));
        }
        if wish >= Wish::Close {
            let sleep = lingering.get_or_insert_with(|| Box::pin(time::sleep(linger)));
            return sleep
                .as_mut()
                .poll(cx)
                .map(|()| Err(CloseReason::LingerExpired));
        }
        Poll::Pending
    })
    .await
}

/// Why the connection is not wanted any more.
fn given_up(wish: Wish, inner: &Inner) -> Option<CloseReason> {
    match wish {
        Wish::Abort => Some(CloseReason::Aborted),
        Wish::Close if inner.output.is_empty() => Some(CloseReason::Finished),
        Wish::Drop if inner.output.is_empty() => Some(CloseReason::Dropped),
        _ => None,
    }
}
