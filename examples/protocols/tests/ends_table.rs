//! The tables of ends over TLS in `docs/ENDS.md`: as those in `tests/`, with rustls between the sockets.
#![cfg(target_os = "linux")]

use std::sync::LazyLock;

use evbuffer_protocols::certificate;
use tokio::{net::TcpStream, runtime::Handle};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client, rustls::pki_types::ServerName, server::TlsStream,
};

use end_cells::{
    Cells, bufferevent, check, lines, relay,
    streams::{Far, Kind, moved},
};

#[path = "../../../tests/support/ends/mod.rs"]
mod end_cells;
mod support;

use support::net::slow_pair;

struct Tls;

impl Kind for Tls {
    const NAME: &'static str = "TLS";
    // The relay writes to the TLS layer, and cannot know what the kernel has sent.
    const KEEPS_WRITTEN: bool = false;
    type Near = TlsStream<TcpStream>;

    async fn pair(on: Handle) -> (Box<dyn Far>, Self::Near) {
        static CERTIFICATE: LazyLock<(TlsAcceptor, TlsConnector)> =
            LazyLock::new(|| certificate().unwrap());
        let (acceptor, connector) = &*CERTIFICATE;
        let (far, near) = slow_pair().await;
        let near = moved(near.into_std().unwrap(), &on);
        let name = ServerName::try_from("localhost").unwrap();
        let (far, near) = tokio::join!(connector.connect(name, far), acceptor.accept(near));
        (Box::new(far.unwrap()), near.unwrap())
    }
}

impl Far for client::TlsStream<TcpStream> {
    fn leave(self: Box<Self>) {
        self.get_ref().0.set_zero_linger().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_table_of_relays_is_as_documented() {
    check("relay ends over TLS", || async {
        let mut cells = Cells::new();
        relay::add::<Tls>(&mut cells);
        lines(cells.run().await, relay::Cause::title)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_table_of_bufferevents_is_as_documented() {
    check("bufferevent ends over TLS", || async {
        let mut cells = Cells::new();
        bufferevent::add::<bufferevent::Over<Tls>>(&mut cells);
        lines(cells.run().await, bufferevent::End::title)
    })
    .await;
}
