//! The example proxy as its users meet it: what it says, how it ends, and what it survives.
#![cfg(unix)]

use std::{
    ffi::OsStr,
    io,
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_evbuffer-proxy"))
}

/// Turns what never comes into a failure.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = timeout(Duration::from_secs(30), future).await;
    outcome.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// Runs the program to its end.
async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    soon("the program ends", command.output()).await.unwrap()
}

/// Runs the program, which must refuse to start with one line that has all of `named` in it.
async fn assert_refused(arguments: &[&str], named: &[&str]) {
    let output = run(arguments).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed on stdout");
    for name in named {
        assert!(
            stderr.contains(name),
            "{arguments:?}: no {name} in: {stderr}"
        );
    }
}

/// A proxy that runs. Killed when it is dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Proxy {
    async fn start(upstream: SocketAddr, options: &[&str]) -> Self {
        Self::start_as(Command::new(program()), upstream, options).await
    }

    async fn start_as(mut command: Command, upstream: SocketAddr, options: &[&str]) -> Self {
        command
            .args([
                "--listen",
                "127.0.0.1:0",
                "--connect",
                &upstream.to_string(),
            ])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = soon("the first line", stdout.next_line())
            .await
            .unwrap()
            .unwrap();
        let address = first
            .strip_prefix("listening on ")
            .expect(&first)
            .parse()
            .unwrap();
        Self {
            child,
            address,
            stdout,
            stderr,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Reads stderr up to a line with `text` in it.
    async fn says(&mut self, text: &str) -> String {
        loop {
            let line = soon(text, self.stderr.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the proxy ended without saying: {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Reads figures up to a line that says both.
    async fn counts(&mut self, connections: &str, bytes: &str) {
        let figures = async {
            loop {
                let line = self.stdout.next_line().await.unwrap().unwrap();
                if line.contains(connections) && line.contains(bytes) {
                    return;
                }
            }
        };
        soon(bytes, figures).await;
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn ends_well(&mut self) {
        let status = soon("the proxy ends", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Sends everything back, until it is dropped. Counts the most connections it had at the same time.
struct Echo {
    address: SocketAddr,
    most: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let most = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(echo(listener, Arc::clone(&most)));
        Self {
            address,
            most,
            _serving: serving,
        }
    }
}

async fn echo(listener: TcpListener, most: Arc<AtomicUsize>) {
    let now = Arc::new(AtomicUsize::new(0));
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let now = Arc::clone(&now);
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::spawn(async move {
            let (mut from, mut to) = client.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            // Before the end is sent, so that whoever saw it sees the smaller count.
            now.fetch_sub(1, SeqCst);
            let _ = to.shutdown().await;
        });
    }
}

/// Sends a message and reads it back.
async fn exchange(client: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 5];
    client.write_all(b"hello").await?;
    soon("the answer", client.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

/// Waits until the other side has ended the connection, in whichever way.
async fn assert_ended(client: &mut TcpStream) {
    let end = soon("the end of the connection", client.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn wrong_arguments_are_one_line() {
    assert_refused(&["--bogus"], &["--bogus"]).await;
    assert_refused(&["extra"], &["extra"]).await;
    assert_refused(&["--listen", "127.0.0.1:0"], &["--connect"]).await;
    assert_refused(&["--connect", "127.0.0.1:1"], &["--listen"]).await;
    assert_refused(&["--listen"], &["--listen"]).await;
    assert_refused(&["--idle", "5s"], &["--listen"]).await;
}

#[tokio::test]
async fn unreadable_values_are_one_line_that_names_them() {
    let both = ["--listen", "127.0.0.1:0", "--connect", "127.0.0.1:1"];
    for (option, value) in [
        ("--idle", "5q"),
        ("--idle", "18446744073709551615"),
        ("--linger", "soon"),
        ("--grace", "-1s"),
        ("--connect-timeout", ""),
        ("--stats", "0"),
        ("--max-connections", "0"),
        ("--max-connections", "99999999999999999999"),
        ("--buffer", "big"),
    ] {
        let argument = format!("{option}={value}");
        let arguments = [&both[..], &[&argument]].concat();
        assert_refused(&arguments, &[option]).await;
    }
}

#[tokio::test]
async fn an_unreadable_address_is_one_line_that_names_it() {
    for address in [
        "nonsense",
        "127.0.0.1",
        "127.0.0.1:",
        ":80",
        "127.0.0.1:65536",
        "::1:80",
        "a b:1",
    ] {
        assert_refused(
            &["--listen", address, "--connect", "127.0.0.1:1"],
            &["--listen", address],
        )
        .await;
        assert_refused(
            &["--listen", "127.0.0.1:0", "--connect", address],
            &["--connect", address],
        )
        .await;
    }
}

#[tokio::test]
async fn an_upstream_that_nobody_knows_is_one_line() {
    // No name has a part of 64 letters, which is found out without asking a server.
    let upstream = &format!("{}.invalid:80", "x".repeat(64));
    assert_refused(
        &["--listen", "127.0.0.1:0", "--connect", upstream],
        &[upstream],
    )
    .await;
}

#[tokio::test]
async fn a_busy_port_is_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let busy = taken.local_addr().unwrap().to_string();
    assert_refused(&["--listen", &busy, "--connect", "127.0.0.1:1"], &[&busy]).await;
}

#[tokio::test]
async fn bytes_and_both_ends_pass_through() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &[]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(soon("the end", client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn an_upstream_that_refuses_costs_one_client_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut proxy = Proxy::start(address, &[]).await;

    let mut early = proxy.connect().await;
    let (mut accepted, _) = soon("a connection", listener.accept()).await.unwrap();
    drop(listener);
    // A process that another test is starting may hold the listener a little longer.
    let refused_here = async { while TcpStream::connect(address).await.is_ok() {} };
    soon("the upstream is gone", refused_here).await;
    let mut refused = proxy.connect().await;
    assert_ended(&mut refused).await;
    let line = proxy.says("upstream").await;
    assert!(line.contains(&address.to_string()), "{line}");

    early.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    soon("bytes", accepted.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"still here");

    let upstream = Echo::on(TcpListener::bind(address).await.unwrap());
    assert_eq!(upstream.address, address);
    exchange(&mut proxy.connect().await).await.unwrap();
}

#[tokio::test]
async fn no_more_connections_run_than_may() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &["--max-connections", "2"]).await;
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let mut client = proxy.connect().await;
        clients.spawn(async move {
            exchange(&mut client).await.unwrap();
            client.shutdown().await.unwrap();
            assert_ended(&mut client).await;
        });
    }
    soon("all clients are served", clients.join_all()).await;
    assert_eq!(upstream.most.load(SeqCst), 2);
}

/// The system has no descriptor for a further client: accepting pauses, and goes on when there is one again.
#[tokio::test]
async fn running_out_of_descriptors_ends_nothing() {
    let upstream = Echo::start().await;
    let mut shell = Command::new("sh");
    let script = OsStr::new("ulimit -n 24; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script).arg(program());
    let mut proxy = Proxy::start_as(shell, upstream.address, &[]).await;

    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(proxy.connect().await);
    }
    proxy.says("cannot accept").await;
    drop(clients);
    // Descriptors come back one by one, so the first clients may still find none for their upstream.
    let served = async { while exchange(&mut proxy.connect().await).await.is_err() {} };
    soon("a client is served again", served).await;
}

#[tokio::test]
async fn a_signal_lets_connections_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Echo::start().await;
        let mut proxy = Proxy::start(upstream.address, &[]).await;
        let mut client = proxy.connect().await;
        exchange(&mut client).await.unwrap();

        proxy.signal(signal);
        proxy.says("stopping").await;
        assert!(
            TcpStream::connect(proxy.address).await.is_err(),
            "still accepts"
        );
        exchange(&mut client).await.unwrap();
        client.shutdown().await.unwrap();
        assert_ended(&mut client).await;
        proxy.ends_well().await;
    }
}

#[tokio::test]
async fn grace_is_all_the_time_there_is() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--grace", "10ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    proxy.signal(Signal::TERM);
    assert_ended(&mut client).await;
    proxy.ends_well().await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--grace", "1h"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    proxy.signal(Signal::TERM);
    proxy.says("stopping").await;
    proxy.signal(Signal::TERM);
    assert_ended(&mut client).await;
    proxy.ends_well().await;
}

#[tokio::test]
async fn stats_count_connections_and_bytes() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--stats", "20ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    client.shutdown().await.unwrap();
    assert_ended(&mut client).await;
    proxy
        .counts("0 running, 1 accepted", "5 B to upstream, 5 B to clients")
        .await;
}

/// Accepts the next connection of an upstream and reads exactly what is expected of it.
async fn assert_gets(upstream: &TcpListener, expected: &[u8]) {
    let (mut stream, _) = soon("a connection", upstream.accept()).await.unwrap();
    let mut got = vec![0; expected.len()];
    soon("the bytes", stream.read_exact(&mut got))
        .await
        .unwrap();
    assert_eq!(
        got.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[tokio::test]
async fn the_upstream_is_told_who_the_client_is() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let proxy = Proxy::start(address, &["--send-proxy", "v1"]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"hello").await.unwrap();
    let (from, to) = (client.local_addr().unwrap().port(), proxy.address.port());
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nhello");
    assert_gets(&upstream, expected.as_bytes()).await;
}

#[tokio::test]
async fn a_header_is_taken_off_and_passed_on() {
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n";
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\x57\x08\xae";
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();

    let proxy = Proxy::start(address, &["--accept-proxy"]).await;
    let mut client = proxy.connect().await;
    client.set_nodelay(true).unwrap();
    for byte in header.iter().chain(b"hello") {
        client.write_all(&[*byte]).await.unwrap();
    }
    assert_gets(&upstream, b"hello").await;

    let proxy = Proxy::start(address, &["--accept-proxy", "--send-proxy", "v2"]).await;
    let mut client = proxy.connect().await;
    client
        .write_all(&[&header[..], b"hello"].concat())
        .await
        .unwrap();
    assert_gets(&upstream, &[&binary[..], b"hello"].concat()).await;
}

#[tokio::test]
async fn a_client_without_the_header_it_owes_costs_itself_only() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--accept-proxy"]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_ended(&mut client).await;
    proxy.says("no PROXY header").await;
    let mut client = proxy.connect().await;
    client.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    exchange(&mut client).await.unwrap();
}

/// Bytes are counted while they flow: the connection is still open when the figures show them.
#[tokio::test]
async fn stats_count_connections_that_still_run() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--stats", "20ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    proxy
        .counts("1 running, 1 accepted", "5 B to upstream, 5 B to clients")
        .await;
    exchange(&mut client).await.unwrap();
    proxy
        .counts("1 running, 1 accepted", "10 B to upstream, 10 B to clients")
        .await;
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &["--idle", "50ms"]).await;
    let mut client = proxy.connect().await;
    exchange(&mut client).await.unwrap();
    assert_ended(&mut client).await;
}

/// The upstream knows that the client has ended, but neither sends nor ends: only the linger ends the connection.
#[tokio::test]
async fn a_half_closed_connection_ends_with_its_linger() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let proxy = Proxy::start(address, &["--linger", "50ms"]).await;
    let mut client = proxy.connect().await;
    let (mut accepted, _) = soon("a connection", upstream.accept()).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(
        soon("the first end", accepted.read(&mut [0]))
            .await
            .unwrap(),
        0
    );
    assert_ended(&mut client).await;
}

#[tokio::test]
async fn the_demonstration_ends_well_by_itself() {
    for options in [
        &["--duration=300ms"][..],
        &["--duration=300ms", "--no-splice"],
    ] {
        let output = run(options).await;
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stdout}{stderr}");
        for word in ["bulk", "requests", "GiB/s", "p99"] {
            assert!(stdout.contains(word), "no {word} in: {stdout}");
        }
    }
}

#[tokio::test]
async fn the_demonstration_finds_one_wrong_bit() {
    let output = run(&["--duration", "300ms", "--corrupt"]).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("hash"), "{stderr}");
}
