//! Starts a connection with the settings of a builder: from a stream, or by connecting.

use std::{any::TypeId, sync::Arc};

use tracing::Span;

#[cfg(feature = "net")]
use super::connect;
use super::{
    builder::Builder,
    control::{CloseMode, ConnectionState},
    endpoint::{Endpoint, Stream, Transport},
    inner::{BufferEvent, Extras, Inner},
    settings::Settings,
    task::{FinishOnDrop, Task},
    throttles::RateControl,
};
#[cfg(doc)]
use crate::Event;
use crate::{
    DeferredQueue, EvBuffer, SharedEvBuffer,
    sync::next_token,
    transport::{Finder, take_prefix},
};

impl Builder {
    /// Spawns a task that owns `stream`. There is no [`Event::Connected`].
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    #[doc(alias = "bufferevent_socket_new")]
    #[track_caller]
    #[must_use = "dropping the last handle closes the connection and removes its callbacks; `spawn_detached` keeps it"]
    pub fn spawn(self, mut stream: impl Transport) -> BufferEvent {
        let span = self.span(&stream);
        if self.nodelay {
            Finder::by_type().set_nodelay(&stream);
        }
        let prefix = take_prefix(&mut stream, usize::MAX);
        self.run(Stream::new(stream), prefix, span)
    }

    /// Spawns a task that owns `stream`, and keeps the connection until it has ended. The callbacks get a handle to it.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (stream, mut peer) = tokio::io::duplex(64);
    /// BufferEvent::builder()
    ///     .on_read(|bev| {
    ///         let _ = bev.input().move_to(bev.output(), usize::MAX);
    ///     })
    ///     .spawn_detached(stream);
    ///
    /// peer.write_all(b"echo").await?;
    /// let mut answer = [0; 4];
    /// peer.read_exact(&mut answer).await?;
    /// assert_eq!(&answer, b"echo");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_detached(self, stream: impl Transport) {
        self.spawn(stream).detach();
    }

    /// Spawns a task that connects to `addr`, and then owns the connection.
    ///
    /// Host names are resolved by Tokio; [`connect_resolved`](Self::connect_resolved) takes another resolver. The addresses
    /// are tried as RFC 8305 says: the families take turns, and the next attempt starts when one fails or has not succeeded in
    /// 250 ms. The first connection wins. The output is written as soon as the connection is established.
    ///
    /// [`connected`](BufferEvent::connected) waits for it. [`Event::Connected`] reports it; [`Event::ConnectError`] and
    /// then [`Event::Closed`] report a failure.
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::net::TcpListener;
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let addr = listener.local_addr()?;
    /// let connection = BufferEvent::builder().nodelay(true).connect(addr);
    /// connection.connected().await?;
    /// assert_eq!(connection.peer_addr(), Some(addr));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "net")]
    #[doc(alias("bufferevent_socket_connect", "bufferevent_socket_connect_hostname"))]
    #[doc(alias = "bufferevent_socket_get_dns_error")]
    #[track_caller]
    #[must_use = "dropping the last handle closes the connection and removes its callbacks; `detach` keeps it"]
    pub fn connect(self, addr: impl tokio::net::ToSocketAddrs + Send + 'static) -> BufferEvent {
        self.connect_resolved(async move {
            let found = tokio::net::lookup_host(addr).await?;
            Ok(found.collect::<Vec<_>>())
        })
    }

    /// Spawns a task that connects to the first address that answers, of those that `resolve` returns. Otherwise as
    /// [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// Outside a runtime, as [`tokio::spawn`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::net::TcpListener;
    /// use tokio_evbuffer::BufferEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// // In place of your resolver.
    /// let resolve = async move { Ok(vec![address]) };
    /// let bev = BufferEvent::builder().connect_resolved(resolve);
    /// bev.connected().await?;
    /// assert_eq!(bev.peer_addr(), Some(address));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "net")]
    #[doc(alias = "evdns_base_new")]
    #[track_caller]
    #[must_use = "dropping the last handle closes the connection and removes its callbacks; `detach` keeps it"]
    pub fn connect_resolved(
        self,
        resolve: impl Future<Output = std::io::Result<Vec<std::net::SocketAddr>>> + Send + 'static,
    ) -> BufferEvent {
        let connect = self.connect;
        let nodelay = self.nodelay;
        let span = tracing::debug_span!(
            "bufferevent",
            id = next_token(),
            name = self.name.as_deref(),
            peer = tracing::field::Empty
        );
        let bev = self.handle(
            TypeId::of::<tokio::net::TcpStream>(),
            EvBuffer::new(),
            false,
        );
        let finish = FinishOnDrop::new(&bev.inner);
        tokio::spawn(async move {
            connect::connect(resolve, connect, nodelay, finish, span).await;
        });
        bev
    }

    /// Spawns the task for an endpoint.
    #[track_caller]
    pub(super) fn run<E: Endpoint>(self, endpoint: E, input: EvBuffer, span: Span) -> BufferEvent {
        let bev = self.handle(endpoint.stream_type(), input, true);
        tokio::spawn(Task::new(endpoint, FinishOnDrop::new(&bev.inner), span));
        bev
    }

    fn span<S: Transport>(&self, stream: &S) -> Span {
        tracing::debug_span!(
            "bufferevent",
            id = next_token(),
            name = self.name.as_deref(),
            peer = Finder::by_type().peer(stream).map(tracing::field::display)
        )
    }

    #[track_caller]
    fn handle(self, stream_type: TypeId, input: EvBuffer, established: bool) -> BufferEvent {
        let queue = match self.queue {
            Some(queue) => queue,
            None => DeferredQueue::current(),
        };
        let (input, output) = (SharedEvBuffer::from(input), SharedEvBuffer::new());
        input.set_watermarks(self.read_watermarks);
        output.set_watermarks(self.write_watermarks);
        let rate = RateControl::new(self.rate_limit, self.rate_group.as_ref());
        let has_extras = rate.is_some() || self.settings != Settings::DEFAULT;
        let extras = has_extras.then(|| {
            Box::new(Extras {
                settings: self.settings,
                rate,
                ..Extras::default()
            })
        });
        let inner = Arc::new(Inner::new(
            (input, output),
            queue,
            ConnectionState::new(established),
            extras,
            stream_type,
        ));
        if let Some(budget) = &self.budget {
            let name = self.name.as_deref().map(Arc::from);
            let weak = Arc::downgrade(&inner);
            let account = budget.open_account(name, move || {
                if let Some(inner) = weak.upgrade() {
                    inner.request_close(CloseMode::Abort);
                }
            });
            inner.open_account(account);
        }
        let bev = BufferEvent::first(inner);
        bev.inner.set_callbacks(self.callbacks);
        bev
    }
}
