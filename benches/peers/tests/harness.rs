//! Tests of the measuring itself: every candidate works, wrong bytes are noticed, CPU time and memory are the candidate's.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use peers::{
    candidates::{Candidate, Program, Proxy, Server, Source, Starter, present, proxy, server},
    load::{
        bulk::Bulk,
        download,
        idle::Idle,
        lines,
        ping_pong::PingPong,
        upstream::{Answer, Upstream},
    },
    sys,
};

fn starter() -> Starter {
    Starter {
        exe: PathBuf::from(env!("CARGO_BIN_EXE_peers")),
        wrap: Vec::new(),
        pairs: 100,
    }
}

const COPY: Candidate = proxy("copy", Proxy::Copy8);
const CORRUPT: Candidate = proxy("corrupt", Proxy::Corrupt);

fn proxies() -> Vec<Candidate> {
    let own = [
        Proxy::Relay,
        Proxy::RelayNoSplice,
        Proxy::RelayLimit,
        Proxy::RelayBudget,
        Proxy::RelayRate,
        Proxy::Join,
        Proxy::JoinFilter,
        Proxy::CopyBidirectional,
        Proxy::Copy8,
        Proxy::Copy256,
        Proxy::BytesMut,
        Proxy::Splice,
        Proxy::SpliceEpoll,
        Proxy::Libevent,
    ];
    let others = [
        Program::Nginx,
        Program::Haproxy { splice: false },
        Program::Haproxy { splice: true },
    ];
    let own = own.map(|kind| proxy("own", kind));
    let others = others.map(|program| Candidate {
        name: "other",
        program,
    });
    present(&[&own[..], &others[..]].concat())
}

async fn bulk(candidate: &Candidate, bytes: u64) -> anyhow::Result<()> {
    let upstream = Upstream::start(Answer::Digest).await?;
    let running = starter().start(candidate, upstream.addr())?;
    let mut load = Bulk::start(running.addr(), &upstream, 3).await?;
    load.send(bytes / 2).await?;
    load.send(bytes - bytes / 2).await?;
    load.finish().await
}

#[tokio::test]
async fn every_proxy_passes_bytes_and_their_end() {
    for candidate in proxies() {
        bulk(&candidate, 3_000_001)
            .await
            .unwrap_or_else(|error| panic!("{candidate:?}: {error:#}"));
    }
}

#[tokio::test]
async fn every_proxy_passes_messages_both_ways() {
    for candidate in proxies() {
        let upstream = Upstream::start(Answer::Echo).await.unwrap();
        let running = starter().start(&candidate, upstream.addr()).unwrap();
        let mut load = PingPong::start(running.addr(), 3).await.unwrap();
        assert_eq!(load.run(10).await.unwrap().len(), 30, "{candidate:?}");
    }
}

#[tokio::test]
async fn a_changed_byte_fails_every_kind_of_load() {
    let error = bulk(&CORRUPT, 1_000_000).await.unwrap_err();
    assert!(
        error.to_string().contains("not those that were sent"),
        "{error:#}"
    );

    let upstream = Upstream::start(Answer::Echo).await.unwrap();
    let running = starter().start(&CORRUPT, upstream.addr()).unwrap();
    let error = PingPong::start(running.addr(), 1).await.unwrap_err();
    assert!(error.to_string().contains("not what was sent"), "{error:#}");

    let mut idle = Idle::default();
    idle.open(running.addr(), &upstream, 1).await.unwrap();
    let error = idle.carry(100_000).await.unwrap_err();
    assert!(
        error.to_string().contains("not those that were sent"),
        "{error:#}"
    );

    // A proxy that changes bytes in front of a good server is a bad server.
    let good = starter()
        .start(&server("good", Server::BytesMut), upstream.addr())
        .unwrap();
    let bad = starter().start(&CORRUPT, good.addr()).unwrap();
    let error = lines::run(bad.addr(), 1, 4, 8).await.unwrap_err();
    assert!(
        error.to_string().contains("not those that were sent"),
        "{error:#}"
    );
}

#[tokio::test]
async fn every_server_sends_each_line_back() {
    let kinds = [
        Server::Batch,
        Server::Callback,
        Server::Plain,
        Server::NextLine,
        Server::ReadLines,
        Server::Stream,
        Server::BufStream,
        Server::FramedSend,
        Server::FramedForward,
        Server::BytesMut,
        Server::BytesMutOver,
        Server::Libevent,
    ];
    for candidate in present(&kinds.map(|kind| server("server", kind))) {
        let running = starter()
            .start(&candidate, ([127, 0, 0, 1], 0).into())
            .unwrap();
        for depth in [1, 32] {
            lines::run(running.addr(), 3, depth, 64)
                .await
                .unwrap_or_else(|error| panic!("{candidate:?}: {error:#}"));
        }
    }
}

#[tokio::test]
async fn every_transfer_sends_exactly_its_bytes() {
    const BYTES: u64 = 3_000_001;
    let sources = [
        Source::CopyExact,
        Source::TokioTake,
        Source::Copy,
        Source::TokioCopy,
        Source::SpliceLoop,
        Source::FileTransfer,
        Source::TokioFile,
        Source::SendfileLoop,
    ];
    for source in sources {
        let candidate = Candidate {
            name: "transfer",
            program: Program::Transfer(source, BYTES),
        };
        let upstream = Upstream::start(Answer::Send(BYTES)).await.unwrap();
        let running = starter().start(&candidate, upstream.addr()).unwrap();
        download::run(running.addr(), BYTES)
            .await
            .unwrap_or_else(|error| panic!("{candidate:?}: {error:#}"));
    }
}

#[tokio::test]
async fn cpu_time_excludes_the_load() {
    let upstream = Upstream::start(Answer::Echo).await.unwrap();
    let running = starter().start(&COPY, upstream.addr()).unwrap();
    let mut load = PingPong::start(running.addr(), 1).await.unwrap();

    let before = running.cpu_time().unwrap();
    let own = sys::cpu_time(std::process::id()).unwrap();
    let spin = Duration::from_millis(400);
    let began = Instant::now();
    while sys::cpu_time(std::process::id()).unwrap() - own < spin {
        std::hint::spin_loop();
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "this process gets no CPU time"
        );
    }
    let idle = running.cpu_time().unwrap() - before;
    assert!(
        idle < spin / 4,
        "an idle candidate used {idle:?} while this process was busy"
    );

    let before = running.cpu_time().unwrap();
    load.run(2_000).await.unwrap();
    let busy = running.cpu_time().unwrap() - before;
    assert!(
        busy > idle,
        "a busy candidate used {busy:?}, an idle one {idle:?}"
    );
}

#[tokio::test]
async fn memory_is_that_of_the_candidate() {
    let upstream = Upstream::start(Answer::Echo).await.unwrap();
    let mut running = starter().start(&COPY, upstream.addr()).unwrap();
    let mut idle = Idle::default();
    idle.open(running.addr(), &upstream, 1).await.unwrap();
    let before = running
        .heap_bytes()
        .unwrap()
        .expect("our own candidates answer");
    idle.open(running.addr(), &upstream, 51).await.unwrap();
    idle.carry(1_000).await.unwrap();
    let each = (running.heap_bytes().unwrap().unwrap() - before) / 50;
    // Two buffers of 8 KiB, and little else.
    assert!(
        (16_384..20_480).contains(&each),
        "{each} bytes for each pair"
    );
}

#[tokio::test]
async fn dropping_a_candidate_ends_its_process() {
    let upstream = Upstream::start(Answer::Echo).await.unwrap();
    let running = starter().start(&COPY, upstream.addr()).unwrap();
    let (pid, port) = (running.pid(), running.addr().port());
    assert!(sys::listens_on(pid, port));
    assert!(
        !sys::listens_on(std::process::id(), port),
        "it is not this process that listens"
    );
    drop(running);
    assert!(!sys::listens_on(pid, port));
}
