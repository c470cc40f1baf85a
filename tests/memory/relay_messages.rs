//! Small messages pass through a relay without an allocation.

#![cfg(feature = "net")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_evbuffer::relay;

use crate::heap;

use crate::support::net::tcp_pair;

#[tokio::test]
async fn a_message_written_at_once_allocates_nothing() {
    let ((mut left, a), (mut right, b)) = (tcp_pair().await, tcp_pair().await);
    tokio::spawn(relay(a, b));
    let mut received = [0; 2_000];
    let mut before = 0;
    for round in 0..100 {
        if round == 1 {
            before = heap::allocations_here();
        }
        let message = [round; 2_000];
        left.write_all(&message).await.unwrap();
        right.read_exact(&mut received).await.unwrap();
        assert_eq!(received, message);
        right.write_all(&message[..64]).await.unwrap();
        left.read_exact(&mut received[..64]).await.unwrap();
    }
    assert_eq!(heap::allocations_here(), before);
}
