//! A flow whose sink takes nothing holds little memory. This is a separate program, since other tests use up the kernel's
//! memory for TCP, and the kernel then takes less than it has promised.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::{io::ErrorKind, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_evbuffer::{Relay, limits::MemoryBudget, relay::Splice};

mod support;

use support::tasks::HANG;

const PAIRS: usize = 8;

const HELD_MAX: usize = 64 << 10;

/// Returns the two ends of a TCP connection with buffers that the kernel lets grow.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = TcpStream::connect(listener.local_addr().unwrap());
    let (accepted, connected) = tokio::join!(listener.accept(), connect);
    (accepted.unwrap().0, connected.unwrap())
}

/// Writes until the socket takes no more.
fn fill(stream: &TcpStream) -> bool {
    let piece = [1; 64 << 10];
    loop {
        match stream.try_write(&piece) {
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test]
async fn bytes_that_a_sink_does_not_take_stay_in_the_kernel_of_the_source() {
    for splice in [Splice::Auto, Splice::Never] {
        let budget = MemoryBudget::new(1 << 30);
        let mut streams = Vec::new();
        for _ in 0..PAIRS {
            let ((client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
            tokio::spawn(Relay::new(a, b).splice(splice).budget(&budget).run());
            streams.push((client, server));
        }
        let stalled = async {
            let mut quiet = 0;
            while quiet < 10 {
                sleep(Duration::from_millis(20)).await;
                assert!(streams.iter().all(|(_, server)| fill(server)));
                let is_small = budget.used() <= PAIRS * HELD_MAX;
                quiet = if is_small { quiet + 1 } else { 0 };
            }
        };
        let stalled = timeout(HANG, stalled).await;
        assert!(stalled.is_ok(), "{splice:?}: {} bytes held", budget.used());
        // The kernel took what a socket has room for, so the relay has not just stopped early.
        let delivered = streams
            .iter()
            .map(|(client, _)| received(client))
            .sum::<usize>();
        assert!(delivered > 0);
    }
}

fn received(client: &TcpStream) -> usize {
    let mut room = vec![0; 1 << 20];
    client.try_read(&mut room).unwrap_or(0)
}
