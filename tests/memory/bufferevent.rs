//! An idle BufferEvent is small and holds no segment, before and after it has carried bytes.

#![cfg(feature = "net")]

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use tokio::net::TcpStream;
use tokio_evbuffer::{BufferEvent, EolStyle, bufferevent::Callbacks};

use crate::heap;

/// Each takes two descriptors, and a process may often have 1024.
const CONNECTIONS: usize = 400;

/// The maximum number of heap bytes of an idle `BufferEvent`, including its task and Tokio's registration.
const BYTES_EACH: isize = 1880;

type Peer = std::net::TcpStream;

/// Sends one line through each connection and waits until all are idle.
async fn exchange(all: &mut [(BufferEvent, Peer)], by_callback: bool) {
    let mut line = [b'x'; 3001];
    line[3000] = b'\n';
    for (bev, peer) in all {
        let sent = bev.metrics().bytes_out + 3001;
        peer.write_all(&line).unwrap();
        if !by_callback {
            bev.input().readable(3001).await.unwrap();
            echo(bev);
        }
        while bev.metrics().bytes_out < sent {
            tokio::task::yield_now().await;
        }
        let mut answer = [0; 3001];
        peer.read_exact(&mut answer).unwrap();
    }
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

fn echo(bev: &BufferEvent) {
    while let Some(line) = bev.input().readln(EolStyle::Lf).unwrap() {
        let mut output = bev.output().lock();
        output.add(&line).unwrap();
        output.add(b"\n").unwrap();
    }
}

fn spawn_all(n: usize) -> Vec<(BufferEvent, Peer)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = |_| {
        let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (BufferEvent::new(TcpStream::from_std(near).unwrap()), peer)
    };
    (0..n).map(one).collect()
}

/// Returns how many more bytes than `before` are in use, per connection.
fn each(before: isize, list: &Vec<(BufferEvent, Peer)>) -> isize {
    let own = list.capacity() * size_of::<(BufferEvent, Peer)>();
    (heap::in_use_here() - before - own as isize) / CONNECTIONS as isize
}

#[tokio::test]
async fn an_idle_bufferevent_is_small_and_holds_no_segment() {
    // Allocate first what is allocated once in a process or thread.
    let mut first = spawn_all(4);
    exchange(&mut first, false).await;

    let before = heap::in_use_here();
    let mut all = spawn_all(CONNECTIONS);
    tokio::task::yield_now().await;
    let fresh = each(before, &all);
    assert!(fresh <= BYTES_EACH, "{fresh} bytes each when new");

    exchange(&mut all, false).await;
    let used = each(before, &all);
    assert!(used <= BYTES_EACH, "{used} bytes each after traffic");
    assert_no_segment(&all);

    for (bev, _) in &all {
        bev.set_callbacks(Callbacks::new().on_read(echo));
    }
    exchange(&mut all, true).await;
    assert_no_segment(&all);
}

fn assert_no_segment(all: &[(BufferEvent, Peer)]) {
    for (bev, _) in all {
        let held = bev.input().lock().capacity() + bev.output().lock().capacity();
        assert_eq!(held, 0);
    }
}
