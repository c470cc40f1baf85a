//! The mail server, with curl as its client, and with commands behind a STARTTLS.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{Program, find};

const SERVER: &str = env!("CARGO_BIN_EXE_starttls_server");

#[test]
fn curl_sends_a_mail_over_starttls() {
    let Some(curl) = find("curl") else {
        return;
    };
    let server = Program::start(SERVER, &[]);
    let mut client = Command::new(curl)
        .args(["-sSk", "--ssl-reqd", "--max-time", "20"])
        .args(["--mail-from", "a@example", "--mail-rcpt", "b@example"])
        .args(["-T", "-", &format!("smtp://{}", server.address)])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mail = b"Subject: a mail\r\n\r\nhello\r\n";
    client.stdin.take().unwrap().write_all(mail).unwrap();
    let output = client.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// A command that an attacker has put behind the STARTTLS of a client must not count as sent by TLS.
#[test]
fn commands_behind_starttls_are_not_taken_as_commands() {
    let server = Program::start(SERVER, &[]);
    let mut client = TcpStream::connect(server.address).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    client
        .write_all(b"STARTTLS\r\nMAIL FROM:<a@example>\r\nNOOP\r\n")
        .unwrap();
    let mut received = Vec::new();
    // The handshake fails; the connection may end by a reset.
    let _ = client.read_to_end(&mut received);
    let received = String::from_utf8_lossy(&received);
    assert!(received.contains("220 begin with TLS\r\n"), "{received}");
    assert!(!received.contains("250"), "{received}");
}
