//! The reverse proxy between curl or wrk and nginx, and between unusual messages.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{Program, find, output};

fn start(upstream: SocketAddr) -> Program {
    let upstream = upstream.to_string();
    Program::start(
        env!("CARGO_BIN_EXE_http_reverse_proxy"),
        &["--connect", &upstream],
    )
}

/// An upstream that answers the first requests of each connection with the given bytes, and passes the requests on.
fn scripted(answers: &'static [&'static [u8]]) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            for answer in answers {
                let mut request = vec![0; 64 * 1024];
                let n = stream.read(&mut request).unwrap_or(0);
                request.truncate(n);
                let _ = sender.send(request);
                let _ = stream.write_all(answer);
            }
        }
    });
    (address, receiver)
}

fn connect(proxy: &Program) -> TcpStream {
    let client = TcpStream::connect(proxy.address).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    client
}

/// Sends `request` and reads `len` bytes.
fn exchange(client: &mut TcpStream, request: &[u8], len: usize) -> String {
    client.write_all(request).unwrap();
    let mut answer = vec![0; len];
    client.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";

#[test]
fn messages_of_all_framings_pass_over_one_connection() {
    const ANSWERS: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    let (upstream, _requests) = scripted(ANSWERS);
    let proxy = start(upstream);
    let mut client = connect(&proxy);
    for answer in ANSWERS {
        let received = exchange(&mut client, GET, answer.len());
        assert_eq!(received.as_bytes(), *answer);
    }
}

#[test]
fn a_request_is_passed_on_with_the_address_of_its_client() {
    let (upstream, requests) = scripted(&[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
    let proxy = start(upstream);
    let mut client = connect(&proxy);
    exchange(&mut client, GET, 38);
    let request = String::from_utf8(requests.recv().unwrap()).unwrap();
    assert_eq!(
        request,
        "GET / HTTP/1.1\r\nHost: here\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
    );
}

/// Two servers may understand such requests differently, which is how requests are smuggled.
#[test]
fn requests_of_doubtful_length_are_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let (upstream, requests) = scripted(&[b""]);
        let proxy = start(upstream);
        let mut client = connect(&proxy);
        let request = format!("POST / HTTP/1.1\r\nHost: here\r\n{fields}\r\n\r\nhello");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = BufReader::new(&client).read_line(&mut answer);
        assert_eq!(answer, "HTTP/1.1 400 Bad Request\r\n", "{fields}");
        // The connection to the upstream may have been made; it carries nothing.
        drop((client, proxy));
        let passed_on = requests.recv_timeout(Duration::from_millis(500));
        assert!(
            passed_on.is_err() || passed_on.unwrap().is_empty(),
            "{fields}"
        );
    }
}

#[test]
fn an_upstream_that_refuses_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    drop(listener);
    let proxy = start(upstream);
    let mut client = connect(&proxy);
    let mut answer = String::new();
    client.write_all(GET).unwrap();
    let _ = client.read_to_string(&mut answer);
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
}

/// After 101 the connection is no longer HTTP; bytes pass both ways as they are.
#[test]
fn a_connection_that_switches_protocols_is_relayed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let n = stream.read(&mut [0; 4096]).unwrap();
        assert!(n > 0);
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nready";
        stream.write_all(head).unwrap();
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
    });
    let proxy = start(upstream);
    let mut client = connect(&proxy);
    let request =
        b"GET / HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0\x01\x02\x03";
    let answer = exchange(&mut client, request, 57);
    assert!(
        answer.ends_with("\r\n\r\nready\0\x01\x02\x03"),
        "{answer:?}"
    );
}

/// Starts an upstream that handles one connection with `serve`.
fn upstream(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

/// Reads a head, and not a byte more.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

const POST_64_MIB: &[u8] = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 67108864\r\n\r\n";
const TOO_LARGE: &str =
    "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large";

/// The client sends until it sees the end. The upstream closes in order, or in a way that resets its connection.
#[test]
fn an_answer_arrives_while_the_client_still_sends() {
    for resets in [false, true] {
        let proxy = start(upstream(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(TOO_LARGE.as_bytes()).unwrap();
            if !resets {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        }));
        let mut client = connect(&proxy);
        client.write_all(POST_64_MIB).unwrap();
        let mut sending = client.try_clone().unwrap();
        let sender = thread::spawn(move || {
            let body = vec![7; 1 << 20];
            (0..64).all(|_| sending.write_all(&body).is_ok())
        });
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, TOO_LARGE, "resets: {resets}");
        drop(client);
        sender.join().unwrap();
    }
}

#[test]
fn connections_are_used_again_after_an_early_answer_if_the_body_is_read() {
    let proxy = start(upstream(|mut stream| {
        for _ in 0..2 {
            read_head(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
                .unwrap();
            let mut body = Vec::new();
            (&mut stream).take(64 << 20).read_to_end(&mut body).unwrap();
            assert!(body.len() == 64 << 20 && body.iter().all(|&byte| byte == 7));
        }
    }));
    let mut client = connect(&proxy);
    for _ in 0..2 {
        let answer = exchange(&mut client, POST_64_MIB, 43);
        assert!(answer.ends_with("early"), "{answer}");
        client.write_all(&vec![7; 64 << 20]).unwrap();
    }
}

/// The client sends its body only after 100.
#[test]
fn a_client_receives_100_and_then_sends_its_body() {
    let proxy = start(upstream(|mut stream| {
        let head = read_head(&mut stream);
        assert!(head.contains("Expect: 100-continue"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            .unwrap();
        stream.write_all(&body).unwrap();
    }));
    let mut client = connect(&proxy);
    let request =
        b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let interim = exchange(&mut client, request, 25);
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    let answer = exchange(&mut client, b"hello", 43);
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[test]
fn an_upstream_that_leaves_without_an_answer_is_a_bad_gateway() {
    let proxy = start(upstream(|mut stream| {
        read_head(&mut stream);
    }));
    let mut client = connect(&proxy);
    client.write_all(GET).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
}

/// A client knows such a body to be complete by an orderly end, so a part of it must not end in order.
#[test]
fn a_body_without_a_length_that_is_cut_is_an_error_for_the_client() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\n\r\na part";
    let (received, is_received) = std::sync::mpsc::channel();
    let proxy = start(upstream(move |mut stream| {
        // To close a connection whose request was not read resets it.
        stream.peek(&mut [0]).unwrap();
        stream.write_all(ANSWER.as_bytes()).unwrap();
        is_received.recv().unwrap();
    }));
    let mut client = connect(&proxy);
    assert_eq!(exchange(&mut client, GET, ANSWER.len()), ANSWER);
    received.send(()).unwrap();
    let end = client.read(&mut [0]);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn an_idle_upstream_that_closes_ends_the_connection_in_order() {
    let proxy = start(upstream(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    }));
    let mut client = connect(&proxy);
    client.write_all(GET).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

/// nginx, with a file of 5 MB. Killed when it is dropped.
struct Nginx {
    address: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Nginx {
    fn start() -> Option<Self> {
        let program = find("nginx")?;
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let root = folder.path().display();
        let configuration = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error; user root;
             events {{ worker_connections 1024; }}
             http {{ access_log off; gzip on; gzip_min_length 1;
                 client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
                 uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
                 server {{ listen {address}; root {root}; keepalive_requests 1000000; }} }}"
        );
        let file = folder.path().join("configuration");
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1000 {
            if TcpStream::connect(address).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            address,
            child,
            folder,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn curl_gets_files_of_nginx_over_one_connection() {
    let (Some(curl), Some(nginx)) = (find("curl"), Nginx::start()) else {
        return;
    };
    let data: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    nginx.write("large", &data);
    nginx.write("small.html", b"small");
    let proxy = start(nginx.address);
    let url = |name: &str| format!("http://{}/{name}", proxy.address);
    let (large, small) = (url("large"), url("small.html"));
    let arguments = ["-sSf", "--max-time", "20", "-w", "%{num_connects}"];
    let got = output(&curl, &[&arguments[..], &[&large, &small, &large]].concat());
    assert!(got == [&data[..], b"1", b"small", b"0", &data, b"0"].concat());

    // A compressed answer has no length: nginx sends it in chunks.
    let got = output(
        &curl,
        &[&arguments[..4], &["", "--compressed", "-i", &small]].concat(),
    );
    let got = String::from_utf8(got).unwrap();
    assert!(
        got.contains("chunked") && got.ends_with("\r\n\r\nsmall"),
        "{got}"
    );
    let got = output(&curl, &["-sSI", "--max-time", "20", &large]);
    let got = String::from_utf8(got).unwrap();
    assert!(got.contains("Content-Length: 5000000"), "{got}");

    // nginx refuses more than 1 MB when it has read the head.
    let body = format!("@{}", nginx.folder.path().join("large").display());
    let status = [
        "-sS",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
    ];
    for expect in ["Expect:", "Expect: 100-continue"] {
        let request = ["-H", expect, "--data-binary", &body, &small];
        let got = output(&curl, &[&status[..], &request].concat());
        assert_eq!(got, b"413", "{expect}");
    }
}

#[test]
fn wrk_finds_no_error() {
    let (Some(wrk), Some(nginx)) = (find("wrk"), Nginx::start()) else {
        return;
    };
    nginx.write("small", b"small");
    nginx.write("large", &vec![7; 1 << 20]);
    let proxy = start(nginx.address);
    for name in ["small", "large"] {
        let url = format!("http://{}/{name}", proxy.address);
        let report = output(&wrk, &["-t1", "-c10", "-d1s", &url]);
        let report = String::from_utf8(report).unwrap();
        assert!(report.contains("Requests/sec"), "{report}");
        assert!(!report.contains("Socket errors"), "{report}");
        assert!(!report.contains("Non-2xx"), "{report}");
    }
}
