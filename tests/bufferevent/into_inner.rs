//! `into_inner` of a connection that fails while it is handed over.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_evbuffer::{
    BufferEvent, EvBuffer, Relay,
    bufferevent::{CloseReason, IntoInnerError},
    relay::HalfClose,
};

use crate::support::{
    net::tcp_pair,
    tasks::{HANG, soon},
};

/// The program peeks at the head of a request, and the client resets in the middle of the body while the upstream is being connected.
/// The task has read the error from the socket, so the next read of the socket would be an ordinary end.
#[tokio::test]
async fn a_reset_before_into_inner_is_not_mistaken_for_an_end() {
    let ((mut client, near), (mut upstream, far)) = (tcp_pair().await, tcp_pair().await);
    let bev = BufferEvent::new(near);
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nhalf of the bo")
        .await
        .unwrap();
    bev.input().readable(20).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    client.set_zero_linger().unwrap();
    drop(client);
    // Connecting the upstream takes a while.
    sleep(Duration::from_millis(100)).await;

    let parts = match bev.into_inner::<TcpStream>().await {
        Ok(parts) => parts,
        Err(IntoInnerError::Closed(summary)) => {
            let CloseReason::Error(error) = summary.reason else {
                panic!("{summary:?}");
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            return;
        }
        Err(other) => panic!("{other:?}"),
    };
    let relaying = tokio::spawn(
        Relay::new(parts.stream, far)
            .initial(parts.input, EvBuffer::new())
            .half_close(HalfClose::Linger(HANG))
            .run(),
    );
    let mut request = Vec::new();
    let end = soon("the end", upstream.read_to_end(&mut request)).await;
    drop(upstream);
    let _ = relaying.await.unwrap();
    assert_eq!(
        end.map_err(|error| error.kind()).unwrap_err(),
        io::ErrorKind::ConnectionReset,
        "half a request looks complete"
    );
}
