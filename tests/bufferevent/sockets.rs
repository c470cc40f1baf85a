//! `BufferEvent` over sockets.

#![cfg(feature = "net")]

use tokio::net::TcpListener;
use tokio_evbuffer::{BufferEvent, Event};

use crate::support::{
    data::leak,
    net::{ClosedPort, tcp_pair},
};

#[tokio::test]
async fn connect_tries_all_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = ClosedPort::new();
    let addrs = [closed.addr(), listener.local_addr().unwrap()];
    let bev = BufferEvent::builder().connect(&*leak(addrs) as &[_]);
    assert!(matches!(bev.next_event().await, Some(Event::Connected)));
}

#[tokio::test]
async fn a_reset_is_reported_once_and_ends_the_connection() {
    let (near, far) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    far.set_zero_linger().unwrap();
    drop(far);
    assert!(matches!(bev.next_event().await, Some(Event::ReadError(_))));
    assert!(matches!(bev.next_event().await, Some(Event::Closed)));
    assert!(bev.next_event().await.is_none());
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_work() {
    let (near, far) = tokio::net::UnixStream::pair().unwrap();
    let (a, b) = (BufferEvent::new(near), BufferEvent::new(far));
    a.output().add(&vec![3; 500_000]).unwrap();
    let closing = tokio::spawn(a.close());
    let mut taken = 0;
    while b.input().readable(1).await.is_ok() {
        taken += b.input().drain(usize::MAX).unwrap();
    }
    assert_eq!(taken, 500_000);
    b.close().await.unwrap();
    closing.await.unwrap().unwrap();
}
