//! Ends of connections: a truncated answer does not look complete, and what counts as delivered arrives.

#![cfg(all(feature = "net", target_os = "linux"))]

use std::{io, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tokio_evbuffer::{
    Relay,
    relay::{HalfClose, OnError, RelayCounters, RelayEnd, Splice},
};

use crate::{
    end_cells::streams::reset,
    support::{
        net::{slow_pair, tcp_pair},
        tasks::{pause, soon},
    },
};

/// Reads until the end or an error: returns the number of bytes, and how it ended.
pub(crate) async fn read_to_the_end(client: &mut TcpStream) -> (usize, io::Result<()>) {
    let (mut total, mut piece) = (0, vec![0; 8192]);
    loop {
        match soon("the end of the client", client.read(&mut piece)).await {
            Ok(0) => return (total, Ok(())),
            Ok(n) => total += n,
            Err(error) => return (total, Err(error)),
        }
    }
}

/// Writes until nothing is taken for a while, but at most 64 MiB. Returns the number of bytes.
async fn fill(stream: &mut (impl AsyncWriteExt + Unpin)) -> usize {
    let piece = vec![1; 64 << 10];
    let mut sent = 0;
    while sent < 64 << 20 {
        match timeout(Duration::from_millis(300), stream.write(&piece)).await {
            Ok(n) => sent += n.unwrap(),
            Err(_) => break,
        }
    }
    sent
}

/// Waits until `len` bytes have left the relay, so that none is left in the kernel of the server. Where the kernels hold less
/// than that, the client reads meanwhile. Returns what it has read.
async fn all_passed_on(counters: &RelayCounters, len: usize, client: &mut TcpStream) -> usize {
    let mut read = 0;
    while counters.b_to_a() < len as u64 {
        let before = counters.b_to_a();
        sleep(Duration::from_millis(100)).await;
        if counters.b_to_a() == before && before < len as u64 {
            read += client.read(&mut [0; 16 << 10]).await.unwrap();
        }
    }
    read
}

/// The reset discards nothing that the summary counts: it waits until the client's kernel has everything.
#[tokio::test]
async fn bytes_that_count_as_delivered_arrive_before_the_reset() {
    for (len, late) in [(200_000, 300), (200_000, 800), (1 << 20, 500)] {
        let ((mut client, a), (mut server, b)) = (slow_pair().await, tcp_pair().await);
        let counters = Arc::new(RelayCounters::default());
        let relay = Relay::new(a, b).counters(Arc::clone(&counters));
        let relaying = tokio::spawn(relay.run());
        let writing = tokio::spawn(async move {
            server.write_all(&vec![7; len]).await.unwrap();
            server
        });
        let read = all_passed_on(&counters, len, &mut client).await;
        reset(writing.await.unwrap());
        sleep(Duration::from_millis(late)).await;
        let (rest, end) = read_to_the_end(&mut client).await;
        let failed = relaying.await.unwrap().unwrap_err();
        assert_eq!(failed.summary.b_to_a, (read + rest) as u64);
        assert_eq!(read + rest, len, "{late} ms late");
        assert_eq!(
            end.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset,
            "an incomplete answer"
        );
    }
}

#[tokio::test]
async fn with_fin_all_bytes_arrive_before_an_orderly_end() {
    const LEN: usize = 200_000;
    let ((mut client, a), (mut server, b)) = (slow_pair().await, tcp_pair().await);
    let counters = Arc::new(RelayCounters::default());
    let relay = Relay::new(a, b).on_error(OnError::Fin);
    let relaying = tokio::spawn(relay.counters(Arc::clone(&counters)).run());
    let writing = tokio::spawn(async move {
        server.write_all(&vec![7; LEN]).await.unwrap();
        server
    });
    let read = all_passed_on(&counters, LEN, &mut client).await;
    reset(writing.await.unwrap());
    sleep(Duration::from_millis(300)).await;
    let (rest, end) = read_to_the_end(&mut client).await;
    end.unwrap();
    relaying.await.unwrap().unwrap_err();
    assert_eq!(read + rest, LEN);
}

/// A client that does not read: after linger the summary counts only what its kernel has.
#[tokio::test]
async fn bytes_that_a_reset_discards_do_not_count_as_delivered() {
    const LEN: usize = 1 << 20;
    let ((mut client, a), (mut server, b)) = (slow_pair().await, tcp_pair().await);
    let counters = Arc::new(RelayCounters::default());
    let relay = Relay::new(a, b)
        .half_close(HalfClose::Linger(Duration::from_millis(300)))
        .counters(Arc::clone(&counters));
    let relaying = tokio::spawn(relay.run());
    let writing = tokio::spawn(async move {
        server.write_all(&vec![7; LEN]).await.unwrap();
        server
    });
    let read = all_passed_on(&counters, LEN, &mut client).await;
    reset(writing.await.unwrap());
    let summary = relaying.await.unwrap().unwrap_err().summary;
    let (rest, end) = read_to_the_end(&mut client).await;
    let got = read + rest;
    assert_eq!(summary.b_to_a, got as u64);
    assert_eq!(summary.b_to_a + summary.held_b, LEN as u64);
    assert!(end.is_err() && got < LEN);
}

async fn cut_short(
    relay: Relay<TcpStream, TcpStream>,
    half_close: bool,
    mut client: TcpStream,
    mut server: TcpStream,
) {
    // Fits into no buffers of a kernel.
    const LEN: usize = 64 << 20;
    // What the relay finds when it starts.
    server.write_all(&[7; 1000]).await.unwrap();
    let relaying = tokio::spawn(relay.run());
    if half_close {
        client.shutdown().await.unwrap();
        let mut end = [0];
        assert_eq!(server.read(&mut end).await.unwrap(), 0);
    }
    let sending = tokio::spawn(async move { server.write_all(&vec![7; LEN]).await });
    let summary = relaying.await.unwrap().unwrap();
    let (got, end) = read_to_the_end(&mut client).await;
    assert!(matches!(
        summary.reason,
        RelayEnd::Idle | RelayEnd::LingerExpired
    ));
    assert!(got < LEN);
    assert_eq!(summary.b_to_a, got as u64);
    assert!(summary.held_b > 0);
    sending.abort();
    assert!(end.is_err(), "an orderly end after {got} of {LEN} bytes");
}

#[tokio::test]
async fn an_answer_cut_by_the_idle_timeout_does_not_look_complete() {
    let ((client, a), (server, b)) = (slow_pair().await, tcp_pair().await);
    let relay = Relay::new(a, b).idle_timeout(Duration::from_secs(1));
    cut_short(relay, false, client, server).await;
}

#[tokio::test]
async fn an_answer_cut_by_linger_does_not_look_complete() {
    let ((client, a), (server, b)) = (slow_pair().await, tcp_pair().await);
    let relay = Relay::new(a, b).half_close(HalfClose::Linger(Duration::from_secs(1)));
    cut_short(relay, true, client, server).await;
}

#[tokio::test]
async fn an_answer_cut_by_dropping_the_relay_does_not_look_complete() {
    let ((mut client, a), (mut server, b)) = (slow_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(Relay::new(a, b).run());
    fill(&mut server).await;
    relaying.abort();
    let _ = relaying.await;
    assert!(read_to_the_end(&mut client).await.1.is_err());
}

#[tokio::test]
async fn an_idle_relay_that_is_dropped_or_times_out_ends_in_order() {
    for dropped in [false, true] {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        client.write_all(b"ping").await.unwrap();
        let relay = Relay::new(a, b).idle_timeout(Duration::from_millis(500));
        let relaying = tokio::spawn(relay.run());
        server.read_exact(&mut [0; 4]).await.unwrap();
        if dropped {
            relaying.abort();
        }
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}

/// A client that uploads everything and closes without reading a greeting: its kernel sends a reset behind the data.
#[tokio::test]
async fn an_upload_arrives_although_its_client_left_a_greeting_unread() {
    const LEN: usize = 200_000;
    let mut received = Vec::new();
    for tokios in [true, false] {
        let ((mut client, mut a), (mut server, mut b)) = (tcp_pair().await, slow_pair().await);
        let relaying = tokio::spawn(async move {
            match tokios {
                true => drop(tokio::io::copy_bidirectional(&mut a, &mut b).await),
                false => drop(Relay::new(a, b).run().await),
            }
        });
        server.write_all(b"220 welcome\r\n").await.unwrap();
        pause(Duration::from_millis(100)).await;
        let sending = tokio::spawn(async move {
            client.write_all(&vec![7; LEN]).await.unwrap();
            // The rest leaves the client's kernel.
            pause(Duration::from_millis(300)).await;
        });
        pause(Duration::from_millis(800)).await;
        received.push(read_to_the_end(&mut server).await.0);
        drop(server);
        sending.await.unwrap();
        relaying.await.unwrap();
    }
    // The client's kernel drops what it has not sent.
    assert!(
        received[1] >= received[0],
        "tokio's copy delivers {}, the relay {}",
        received[0],
        received[1]
    );
}

/// The sink is full when its client resets the connection, so the relay has not read all that its kernel had received.
#[tokio::test]
async fn bytes_received_before_a_reset_arrive_although_the_sink_was_full() {
    const LEN: usize = 100_000;
    for (on_error, splice) in [
        (OnError::Reset, Splice::Never),
        (OnError::Reset, Splice::Auto),
        (OnError::Fin, Splice::Auto),
    ] {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, slow_pair().await);
        SockRef::from(&b).set_send_buffer_size(8 << 10).unwrap();
        client.set_nodelay(true).unwrap();
        let relay = Relay::new(a, b).splice(splice).on_error(on_error);
        let relaying = tokio::spawn(relay.run());
        client.write_all(&vec![7; LEN]).await.unwrap();
        // The relay watches its source for a reset.
        pause(Duration::from_millis(300)).await;
        reset(client);
        pause(Duration::from_millis(100)).await;
        let (received, end) = read_to_the_end(&mut server).await;
        let failed = relaying.await.unwrap().unwrap_err();
        assert_eq!(received, LEN, "{on_error:?}, {splice:?}");
        assert_eq!(end.is_ok(), matches!(on_error, OnError::Fin));
        assert_eq!(failed.error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(failed.summary.a_to_b, LEN as u64);
    }
}

/// A server that answers and closes while the client still sends: its kernel resets the connection behind the answer.
#[tokio::test]
async fn an_early_response_reaches_a_client_that_still_sends() {
    const LEN: usize = 100_000;
    for splice in [Splice::Auto, Splice::Never] {
        let ((client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        let relaying = tokio::spawn(Relay::new(a, b).splice(splice).run());
        let (mut from_relay, mut to_relay) = client.into_split();
        let sending = tokio::spawn(async move {
            let piece = vec![1; 64 << 10];
            while to_relay.write_all(&piece).await.is_ok() {}
        });
        server.read_exact(&mut [0; 1000]).await.unwrap();
        server.write_all(&vec![4; LEN]).await.unwrap();
        drop(server);
        let (mut answer, mut piece) = (0, vec![0; 8192]);
        while let Ok(n @ 1..) = from_relay.read(&mut piece).await {
            answer += n;
        }
        let ended = soon("the end of the relay", relaying).await;
        assert_eq!(answer, LEN);
        ended.unwrap().unwrap_err();
        sending.abort();
    }
}

/// The first end ends the relay, while the other side still sends: what was written to that side still arrives.
#[tokio::test]
async fn closing_at_the_first_end_discards_nothing_that_was_written() {
    const LEN: usize = 200_000;
    let ((mut client, a), (mut server, b)) = (slow_pair().await, tcp_pair().await);
    let relaying = tokio::spawn(Relay::new(a, b).half_close(HalfClose::Close).run());
    let (got, end) = {
        let (mut from_relay, mut to_relay) = client.split();
        let sending = async { while to_relay.write_all(&[1; 1000]).await.is_ok() {} };
        let answer = async {
            server.write_all(&vec![7; LEN]).await.unwrap();
            server.shutdown().await.unwrap();
            sleep(Duration::from_millis(300)).await;
            let (mut got, mut piece) = (0, vec![0; 8192]);
            loop {
                match from_relay.read(&mut piece).await {
                    Ok(0) => break (got, Ok(())),
                    Ok(n) => got += n,
                    Err(error) => break (got, Err(error)),
                }
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = async { sending.await; std::future::pending().await } => unreachable!(),
        }
    };
    assert_eq!(got, LEN);
    end.unwrap();
    drop(client);
    // The server reads what it was sent: if it were dropped now, the relay could not write the rest.
    let mut sink = tokio::io::sink();
    let (_, ended) = tokio::join!(tokio::io::copy(&mut server, &mut sink), relaying);
    assert_eq!(ended.unwrap().unwrap().reason, RelayEnd::FirstEof);
}

/// The server answers as it reads, and is blocked on its answers when the client is gone.
#[tokio::test]
async fn a_client_that_was_reset_does_not_hold_the_upstream() {
    let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
    tokio::spawn(async move {
        let (mut read, mut write) = server.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let relaying = tokio::spawn(Relay::new(a, b).run());
    fill(&mut client).await;
    reset(client);
    let ended = soon("the end of the relay", relaying).await;
    // The relay discards the answers, so that the server reads on.
    assert_eq!(ended.unwrap().unwrap_err().summary.held_a, 0);
}

/// Nothing is read from the client when it goes, since the server takes nothing.
#[tokio::test]
async fn a_client_that_resets_under_backpressure_ends_the_relay() {
    for (splice, swapped) in [
        (Splice::Never, false),
        (Splice::Never, true),
        (Splice::Auto, false),
        (Splice::Auto, true),
    ] {
        let ((mut client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
        let (a, b) = if swapped { (b, a) } else { (a, b) };
        let relaying = tokio::spawn(Relay::new(a, b).splice(splice).run());
        fill(&mut client).await;
        reset(client);
        let ended = soon("the end of the relay", relaying).await;
        let failed = ended.unwrap().unwrap_err();
        assert_eq!(failed.error.kind(), io::ErrorKind::ConnectionReset);
        drop(server);
    }
}

/// A pause under backpressure, and then the server reads on: no byte is lost, although the source was watched meanwhile.
#[tokio::test]
async fn a_flow_continues_after_a_pause_under_backpressure() {
    const LEN: usize = 9 << 20;
    for splice in [Splice::Never, Splice::Auto] {
        let ((mut client, a), (mut server, b)) = (tcp_pair().await, tcp_pair().await);
        let relaying = tokio::spawn(Relay::new(a, b).splice(splice).run());
        let sent = fill(&mut client).await + LEN;
        let sending = tokio::spawn(async move {
            client.write_all(&vec![1; LEN]).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let (mut received, mut piece) = (0, vec![0; 3 << 20]);
        for _ in 0..3 {
            sleep(Duration::from_millis(150)).await;
            received += server.read_exact(&mut piece).await.unwrap();
        }
        received += read_to_the_end(&mut server).await.0;
        assert_eq!(received, sent);
        drop((sending.await.unwrap(), server));
        relaying.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_unix_peer_that_is_gone_under_backpressure_does_not_lose_its_bytes() {
    let (mut client, a) = UnixStream::pair().unwrap();
    let (mut server, b) = tcp_pair().await;
    let relaying = tokio::spawn(Relay::new(a, b).run());
    let sent = fill(&mut client).await;
    drop(client);
    sleep(Duration::from_millis(300)).await;
    let (got, end) = read_to_the_end(&mut server).await;
    end.unwrap();
    assert_eq!(got, sent);
    drop(server);
    relaying.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lent_stream_keeps_its_options() {
    let ((mut client, mut a), (server, mut b)) = (tcp_pair().await, tcp_pair().await);
    let before = socket2::SockRef::from(&a).linger().unwrap();
    let relaying = async { Relay::new(&mut a, &mut b).run().await.unwrap_err() };
    let resetting = async {
        sleep(Duration::from_millis(20)).await;
        reset(server);
    };
    tokio::join!(relaying, resetting);
    assert_eq!(socket2::SockRef::from(&a).linger().unwrap(), before);
    // As a proxy that reports the reason to its client.
    tokio::spawn(async move { a.write_all(&vec![b'5'; 400_000]).await });
    let (got, end) = read_to_the_end(&mut client).await;
    assert!(got == 400_000 && end.is_ok());
}

/// The future still exists when the peers look.
#[tokio::test]
async fn a_relay_that_has_ended_has_closed_its_streams() {
    let ((mut client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let mut relaying = Box::pin(Relay::new(a, b).run());
    reset(server);
    (&mut relaying).await.unwrap_err();
    let end = soon("the reset", client.read(&mut [0])).await;
    assert!(end.is_err());

    let ((mut client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let relay = Relay::new(a, b).half_close(HalfClose::Linger(Duration::ZERO));
    let mut relaying = Box::pin(relay.run());
    drop(server);
    (&mut relaying).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    // Writing to a socket that is closed is answered with a reset.
    let gone = async {
        while client.write_all(&[0]).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the socket is closed", gone).await;
}

#[tokio::test]
async fn a_half_closed_relay_does_not_spin() {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Poll},
    };

    struct CountsPolls<F>(F, Arc<AtomicUsize>);

    impl<F: Future + Unpin> Future for CountsPolls<F> {
        type Output = F::Output;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            self.1.fetch_add(1, Relaxed);
            Pin::new(&mut self.0).poll(cx)
        }
    }

    for unix in [false, true] {
        let polls = Arc::new(AtomicUsize::new(0));
        let (server, b) = tcp_pair().await;
        let task = if unix {
            let (peer, a) = UnixStream::pair().unwrap();
            let run = Box::pin(Relay::new(a, b).half_close(HalfClose::Propagate).run());
            let task = tokio::spawn(CountsPolls(run, Arc::clone(&polls)));
            sleep(Duration::from_millis(50)).await;
            drop(peer);
            task
        } else {
            let (peer, a) = tcp_pair().await;
            let run = Box::pin(Relay::new(a, b).half_close(HalfClose::Propagate).run());
            let task = tokio::spawn(CountsPolls(run, Arc::clone(&polls)));
            sleep(Duration::from_millis(50)).await;
            drop(peer);
            task
        };
        sleep(Duration::from_millis(100)).await;
        let before = polls.load(Relaxed);
        sleep(Duration::from_millis(500)).await;
        let polls = polls.load(Relaxed) - before;
        task.abort();
        drop(server);
        assert!(polls <= 2, "{polls} polls in 500 ms of silence");
    }
}

#[tokio::test]
async fn linger_ends_a_half_closed_relay_whose_reader_has_stopped() {
    let ((mut client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    let linger = HalfClose::Linger(Duration::from_secs(1));
    let relaying = tokio::spawn(Relay::new(a, b).half_close(linger).run());
    client.write_all(&[1; 100]).await.unwrap();
    client.shutdown().await.unwrap();
    let ended = soon("the end of the relay", relaying).await;
    drop(server);
    let reason = ended.unwrap().unwrap().reason;
    assert_eq!(reason, RelayEnd::LingerExpired);
}
