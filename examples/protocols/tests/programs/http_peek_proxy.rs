//! A TLS front with curl as its client.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use crate::support::{Program, find, output};

#[test]
fn curl_reaches_the_server_of_its_host() {
    let Some(curl) = find("curl") else {
        return;
    };
    let mut routes = Vec::new();
    for host in ["one.example", "two.example"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        routes.push(format!("{host}={}", listener.local_addr().unwrap()));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1024]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", host.len());
                let _ = stream.write_all([&head, host].concat().as_bytes());
            }
        });
    }
    let routes = ["--route", &routes[0], "--route", &routes[1]];
    let front = Program::start(env!("CARGO_BIN_EXE_http_peek_proxy"), &routes);
    let port = front.address.port();
    for host in ["one.example", "two.example"] {
        let (resolve, url) = (
            format!("{host}:{port}:127.0.0.1"),
            format!("https://{host}:{port}/"),
        );
        let got = output(
            &curl,
            &["-sSfk", "--max-time", "20", "--resolve", &resolve, &url],
        );
        assert_eq!(String::from_utf8(got).unwrap(), host);
    }
}
