//! Bulk is copied while no pipe can be created, and spliced again later.

#![cfg(all(feature = "net", target_os = "linux"))]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_evbuffer::relay;

use support::net::{pipes, tcp_pair};

/// More than the relay copies before it tries to create a pipe again.
const BULK: usize = 100 << 20;

/// Sends `len` bytes that depend on `seed`, and compares what arrives.
async fn carry(left: &mut TcpStream, right: &mut TcpStream, len: usize, seed: u8) {
    let piece: Vec<u8> = (0..65_537_u32).map(|i| (i % 251) as u8 ^ seed).collect();
    let pieces = len / piece.len();
    let send = async {
        for _ in 0..pieces {
            left.write_all(&piece).await.unwrap();
        }
    };
    let receive = async {
        let mut received = vec![0; piece.len()];
        for _ in 0..pieces {
            right.read_exact(&mut received).await.unwrap();
            assert!(received == piece);
        }
    };
    tokio::join!(send, receive);
}

// A single test, since the limit and the pipes are those of the process.
#[tokio::test]
async fn bulk_is_copied_without_descriptors_and_spliced_again_with_them() {
    let ((mut left, a), (mut right, b)) = (tcp_pair().await, tcp_pair().await);
    tokio::spawn(relay(a, b));
    carry(&mut left, &mut right, 1 << 17, 0).await;
    let before = pipes();

    let usual = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..usual
    };
    setrlimit(Resource::Nofile, none).unwrap();
    carry(&mut left, &mut right, BULK, 1).await;
    setrlimit(Resource::Nofile, usual).unwrap();
    assert_eq!(pipes(), before);

    carry(&mut left, &mut right, BULK, 2).await;
    assert!(pipes() > before);
}
