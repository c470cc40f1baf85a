//! Runs the program, and clients and upstreams for it.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdout, Command},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_evbuffer-proxy"))
}

/// The program under a limit of open files, soft and hard.
pub(crate) fn program_with_open_files(limit: u32) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script).arg(program());
    shell
}

/// So few that no limit of open files makes the proxy report that it serves fewer.
pub(crate) const FEW_CONNECTIONS: &[&str] = &["--max-connections", "100"];

/// Returns an address that is free. The kernel gives its port to no connection, since those ports begin at 32,768.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, SeqCst);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether this machine has IPv6.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::]:0").is_ok()
}

/// Fails if `future` hangs. The machine may be slow and busy.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = timeout(Duration::from_secs(120), future).await;
    outcome.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// Runs the program to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    soon("the program ends", command.output()).await.unwrap()
}

/// A running proxy. Killed when it is dropped.
pub(crate) struct Proxy {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) stderr: Lines<BufReader<ChildStderr>>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr, options: &[&str]) -> Self {
        Self::start_as(Command::new(program()), "127.0.0.1:0", upstream, options).await
    }

    pub(crate) async fn start_as(
        mut command: Command,
        listen: &str,
        upstream: SocketAddr,
        options: &[&str],
    ) -> Self {
        command
            .args(["--listen", listen, "--connect", &upstream.to_string()])
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

    pub(crate) async fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).await.unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    /// Reads stderr up to a line that contains `text`.
    pub(crate) async fn logs(&mut self, text: &str) -> String {
        loop {
            let line = soon(text, self.stderr.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the proxy ended without logging: {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Kills the proxy, and returns the lines of stderr that were not read yet.
    pub(crate) async fn remaining_logs(mut self) -> Vec<String> {
        self.child.start_kill().unwrap();
        let mut lines = Vec::new();
        while let Some(line) = soon("stderr", self.stderr.next_line()).await.unwrap() {
            lines.push(line);
        }
        lines
    }

    /// Reads stdout up to a line that contains all of `parts`.
    pub(crate) async fn prints(&mut self, parts: &[&str]) -> String {
        let find = async {
            loop {
                let line = self.stdout.next_line().await.unwrap().unwrap();
                if parts.iter().all(|part| line.contains(part)) {
                    return line;
                }
            }
        };
        soon(&parts.join(", "), find).await
    }

    pub(crate) fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        Pid::from_raw(pid).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) async fn exits_successfully(&mut self) {
        let status = soon("the proxy ends", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
    }

    /// Returns the seconds of CPU used so far.
    #[cfg(target_os = "linux")]
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid().as_raw_nonzero()));
        let stat = stat.unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = times.map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero()));
        files.unwrap().count()
    }
}

/// An upstream that sends everything back, until it is dropped. Counts the most connections at the same time.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) most: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
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
            // Before the end is sent, so that a client that has seen the end sees the smaller count.
            now.fetch_sub(1, SeqCst);
            let _ = to.shutdown().await;
        });
    }
}

/// An upstream that answers no connection attempt: its queue is full.
pub(crate) struct SilentUpstream {
    pub(crate) address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
    /// Attempts that are not answered. On a slow machine they may fill the queue later.
    _waiting: Vec<JoinHandle<io::Result<TcpStream>>>,
}

impl SilentUpstream {
    pub(crate) async fn start() -> Self {
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let (mut queued, mut waiting) = (Vec::new(), Vec::new());
        while waiting.len() < 3 {
            let mut connecting = tokio::spawn(TcpStream::connect(address));
            match timeout(Duration::from_millis(300), &mut connecting).await {
                Ok(stream) => queued.push(stream.unwrap().unwrap()),
                Err(_) => waiting.push(connecting),
            }
        }
        Self {
            address,
            _listener: listener,
            _queued: queued,
            _waiting: waiting,
        }
    }
}

/// Sends a message and reads it back.
pub(crate) async fn exchange(client: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 5];
    client.write_all(b"hello").await?;
    soon("the answer", client.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

/// Waits until the other side has ended the connection, in order or by a reset.
pub(crate) async fn assert_ended(client: &mut TcpStream) {
    let end = soon("the end of the connection", client.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

/// Accepts the next connection of an upstream and checks its first bytes.
pub(crate) async fn assert_receives(upstream: &TcpListener, expected: &[u8]) -> TcpStream {
    let (mut stream, _) = soon("a connection", upstream.accept()).await.unwrap();
    let mut received = vec![0; expected.len()];
    soon("the bytes", stream.read_exact(&mut received))
        .await
        .unwrap();
    assert_eq!(
        received.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    stream
}
