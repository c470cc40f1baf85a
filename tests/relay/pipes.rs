//! Flows that make no progress leave pipes to others.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_evbuffer::relay;

use crate::support::{net::tcp_pair, tasks::soon};

fn pipes() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("pipe:"))
        .count()
}

#[tokio::test]
async fn stalled_clients_do_not_take_the_splice_lane_from_others() {
    let before = pipes();
    let mut kept = Vec::new();
    for _ in 0..40 {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        tokio::spawn(relay(a, b));
        let (data, mut room) = (vec![1; 3 << 20], vec![0; 3 << 20]);
        let (sent, got) = tokio::join!(server.write_all(&data), client.read_exact(&mut room));
        sent.unwrap();
        got.unwrap();
        // Now the client stops reading, and the buffers of the kernel fill up.
        let piece = vec![1; 1 << 20];
        let fill = async { while server.write_all(&piece).await.is_ok() {} };
        let full = timeout(Duration::from_millis(100), fill).await;
        assert!(full.is_err());
        kept.push((client, server));
    }
    let few = async {
        while pipes().saturating_sub(before) / 2 >= 32 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("40 stalled flows hold fewer than 32 pipes", few).await;
}
