//! Other programs in front of the proxy and behind it. A test is skipped where its program is not installed.
#![cfg(target_os = "linux")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::sleep,
};

use crate::support::{FEW_CONNECTIONS, Proxy, free_address, soon};

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.iter().map(|folder| folder.join(program));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Another program. Killed when it is dropped.
struct Program {
    address: SocketAddr,
    _child: Child,
    _folder: TempDir,
}

impl Program {
    /// Starts a program with a configuration file, and waits until it listens on `address`.
    async fn start(
        program: &Path,
        arguments: &[&str],
        address: SocketAddr,
        folder: TempDir,
        configuration: &str,
    ) -> Self {
        let file = folder.path().join("configuration");
        // haproxy requires the line end.
        std::fs::write(&file, format!("{configuration}\n")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the other program listens", listens).await;
        Self {
            address,
            _child: child,
            _folder: folder,
        }
    }
}

/// nginx with a file of 5 MB.
async fn nginx(program: &Path) -> (Program, Vec<u8>) {
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let data: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(folder.path().join("file"), &data).unwrap();
    let root = folder.path().display();
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/error;
         user root;
         events {{ worker_connections 1024; }}
         http {{ access_log off;
             client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
             uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
             server {{ listen {address}; root {root}; keepalive_requests 100000; }} }}"
    );
    let nginx = Program::start(program, &["-c"], address, folder, &configuration).await;
    (nginx, data)
}

async fn output(program: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.kill_on_drop(true).output();
    let output = soon("the other program ends", output).await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", program.display());
    output
}

#[tokio::test]
async fn curl_gets_a_file_of_nginx_unchanged() {
    let (Some(server), Some(curl)) = (find("nginx"), find("curl")) else {
        return;
    };
    let (nginx, data) = nginx(&server).await;
    for options in [&[][..], &["--no-splice"]] {
        let proxy = Proxy::start(nginx.address, options).await;
        let url = format!("http://{}/file", proxy.address);
        // Twice over one connection.
        let got = output(&curl, &["-sSf", &url, &url]).await;
        assert!(got.stdout == [&data[..], &data].concat(), "{options:?}");
    }
}

#[tokio::test]
async fn wrk_finds_no_error_of_nginx_through_the_proxy() {
    let (Some(server), Some(wrk)) = (find("nginx"), find("wrk")) else {
        return;
    };
    let (nginx, _) = nginx(&server).await;
    std::fs::write(nginx._folder.path().join("small"), "small").unwrap();
    let mut proxy = Proxy::start(nginx.address, &["--stats", "50ms"]).await;
    for file in ["small", "file"] {
        let url = format!("http://{}/{file}", proxy.address);
        let report = output(&wrk, &["-t1", "-c20", "-d1s", &url]).await;
        let report = String::from_utf8(report.stdout).unwrap();
        assert!(report.contains("Requests/sec"), "{report}");
        assert!(!report.contains("Socket errors"), "{report}");
        assert!(!report.contains("Non-2xx"), "{report}");
    }
    // wrk leaves in the middle of its last answers; what matters is that all its connections end.
    proxy.prints(&["0 running"]).await;
}

/// haproxy checks the port every 50 ms, with its PROXY header: that must not be logged.
#[tokio::test]
async fn haproxy_in_front_announces_its_clients_and_its_checks_are_silent() {
    let Some(haproxy) = find("haproxy") else {
        return;
    };
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ["--accept-proxy", "--send-proxy", "v1", "--stats", "20ms"];
    let options = [&options[..], FEW_CONNECTIONS].concat();
    let mut proxy = Proxy::start(upstream.local_addr().unwrap(), &options).await;
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let configuration = format!(
        "defaults
             mode tcp
             timeout connect 5s
             timeout client 30s
             timeout server 30s
         listen front
             bind {address}
             server proxy {} send-proxy-v2 check check-send-proxy inter 50ms
         ",
        proxy.address
    );
    let haproxy = Program::start(&haproxy, &["-db", "-f"], address, folder, &configuration).await;
    let mut client = TcpStream::connect(haproxy.address).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let from = client.local_addr().unwrap().port();
    let to = haproxy.address.port();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nhello");
    // Checks and the connections that waited for haproxy arrive, too.
    let served = async {
        loop {
            let (mut stream, _) = upstream.accept().await.unwrap();
            let mut received = vec![0; expected.len()];
            if stream.read_exact(&mut received).await.is_ok() && received == expected.as_bytes() {
                return stream;
            }
        }
    };
    let mut served = soon("the client arrives with its address", served).await;
    served.write_all(b"world").await.unwrap();
    let mut answer = [0; 5];
    soon("the answer", client.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"world");

    tokio::spawn(async move { while upstream.accept().await.is_ok() {} });
    sleep(Duration::from_millis(500)).await;
    let stats = proxy.prints(&["0 broken"]).await;
    drop((client, served));
    assert_eq!(
        proxy.remaining_logs().await,
        Vec::<String>::new(),
        "{stats}"
    );
}

#[tokio::test]
async fn haproxy_behind_learns_the_address_of_the_client() {
    let (Some(haproxy), Some(curl)) = (find("haproxy"), find("curl")) else {
        return;
    };
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let configuration = format!(
        "defaults
             mode http
             timeout client 30s
         frontend back
             bind {address} accept-proxy
             http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] to %[dst]:%[dst_port]\"
         "
    );
    let haproxy = Program::start(&haproxy, &["-db", "-f"], address, folder, &configuration).await;
    for version in ["v1", "v2"] {
        let proxy = Proxy::start(haproxy.address, &["--send-proxy", version]).await;
        let url = format!("http://{}/", proxy.address);
        let got = output(&curl, &["-sSf", "-w", " %{local_port}", &url]).await;
        let got = String::from_utf8(got.stdout).unwrap();
        let (seen, port) = got.rsplit_once(' ').unwrap();
        assert_eq!(seen, format!("127.0.0.1:{port} to {}", proxy.address));
    }
}

#[tokio::test]
async fn redis_answers_through_the_proxy() {
    let (Some(server), Some(benchmark)) = (find("redis-server"), find("redis-benchmark")) else {
        return;
    };
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let configuration = format!(
        "bind 127.0.0.1\nport {}\nsave \"\"\ndir {}\n",
        address.port(),
        folder.path().display()
    );
    let redis = Program::start(&server, &[], address, folder, &configuration).await;
    let proxy = Proxy::start(redis.address, &[]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    soon("PONG", client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    let port = proxy.address.port().to_string();
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-n",
        "5000",
        "-P",
        "16",
        "-q",
    ];
    let report = output(
        &benchmark,
        &[&arguments[..], &["-t", "set,get,lrange_300"]].concat(),
    )
    .await;
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(!report.contains("Error"), "{report}");
}
