//! The PROXY protocol, in and out.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::support::{
    Echo, FEW_CONNECTIONS, Proxy, assert_ended, assert_receives, exchange, has_ipv6, program, soon,
};

/// The address block of a version 2 header, from 192.0.2.1:1111 to 192.0.2.2:2222.
const ADDRESSES: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 4, 87, 8, 174];

/// A version 2 header. The command is 0 for LOCAL, 1 for PROXY.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend_from_slice(body);
    header
}

/// An extension: type, length, value.
fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &len[..], value].concat()
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn the_upstream_gets_a_header_that_names_the_client() {
    let (upstream, address) = listener().await;
    let proxy = Proxy::start(address, &["--send-proxy", "v1"]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"hello").await.unwrap();
    let (from, to) = (client.local_addr().unwrap().port(), proxy.address.port());
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\nhello");
    assert_receives(&upstream, expected.as_bytes()).await;
}

/// A dual-stack socket shows an IPv4 client as `::ffff:127.0.0.1`; readers of a header refuse that.
#[tokio::test]
async fn an_ipv4_client_of_a_dual_stack_listener_is_announced_as_ipv4() {
    if !has_ipv6() {
        return;
    }
    let (upstream, address) = listener().await;
    let command = tokio::process::Command::new(program());
    let proxy = Proxy::start_as(command, "[::]:0", address, &["--send-proxy", "v1"]).await;
    let port = proxy.address.port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let from = client.local_addr().unwrap().port();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {port}\r\nhello");
    assert_receives(&upstream, expected.as_bytes()).await;
}

#[tokio::test]
async fn a_header_is_taken_off_and_passed_on() {
    let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n";
    let (upstream, address) = listener().await;

    let proxy = Proxy::start(address, &["--accept-proxy"]).await;
    let mut client = proxy.connect().await;
    for byte in text.iter().chain(b"hello") {
        client.write_all(&[*byte]).await.unwrap();
    }
    assert_receives(&upstream, b"hello").await;

    let proxy = Proxy::start(address, &["--accept-proxy", "--send-proxy", "v2"]).await;
    let mut client = proxy.connect().await;
    client
        .write_all(&[&text[..], b"hello"].concat())
        .await
        .unwrap();
    assert_receives(&upstream, &[&v2(1, 0x11, ADDRESSES)[..], b"hello"].concat()).await;
}

/// Padding and checksum belong to the header that they came in; a checksum that is passed on may be wrong.
#[tokio::test]
async fn extensions_are_passed_on() {
    let extensions = [
        tlv(0x05, b"unique-id-of-it"),
        tlv(0x02, b"host.example"),
        tlv(0xEA, b"\x01vpce-1"),
        tlv(
            0x20,
            &[&[1, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3")].concat(),
        ),
    ]
    .concat();
    let extra = [tlv(0x03, &[1, 2, 3, 4]), tlv(0x04, &[0; 9])].concat();
    let (upstream, address) = listener().await;
    let proxy = Proxy::start(address, &["--accept-proxy", "--send-proxy", "v2"]).await;
    let mut client = proxy.connect().await;
    let received = v2(1, 0x11, &[ADDRESSES, &extra, &extensions].concat());
    client
        .write_all(&[&received[..], b"hello"].concat())
        .await
        .unwrap();
    let expected = v2(1, 0x11, &[ADDRESSES, &extensions].concat());
    assert_receives(&upstream, &[&expected[..], b"hello"].concat()).await;

    // Version 1 has no place for them.
    let proxy = Proxy::start(address, &["--accept-proxy", "--send-proxy", "v1"]).await;
    let mut client = proxy.connect().await;
    client
        .write_all(&[&received[..], b"hello"].concat())
        .await
        .unwrap();
    assert_receives(
        &upstream,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\nhello",
    )
    .await;
}

#[tokio::test]
async fn headers_of_all_kinds_are_taken_off_however_they_are_split() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--accept-proxy"]).await;
    let with_extensions = [
        ADDRESSES,
        &tlv(0x02, b"host.example"),
        &tlv(0x05, b"unique"),
        &tlv(0x04, &[0; 40]),
    ]
    .concat();
    let headers = [
        (
            "LOCAL with addresses and extensions",
            v2(0, 0x11, &with_extensions),
        ),
        ("PROXY with extensions", v2(1, 0x11, &with_extensions)),
        ("AF_UNIX", v2(1, 0x31, &[b'/'; 216])),
        (
            "v1 UNKNOWN with addresses",
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
        ),
        (
            "v1 TCP6",
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
        ),
    ];
    for (name, header) in &headers {
        let middle = [1, 5, 11, 12, 15, 16, 17, header.len() / 2];
        for at in middle.into_iter().chain([header.len() - 1, header.len()]) {
            let mut client = proxy.connect().await;
            client.write_all(&header[..at]).await.unwrap();
            sleep(Duration::from_millis(5)).await;
            client.write_all(&header[at..]).await.unwrap();
            let served = exchange(&mut client).await;
            assert!(served.is_ok(), "{name} split at {at}: {served:?}");
        }
    }
    assert!(proxy.child.try_wait().unwrap().is_none());
}

/// A header with a client certificate is long. Up to 65,551 bytes are allowed.
#[tokio::test]
async fn a_header_of_up_to_64_kib_is_taken_off() {
    let upstream = Echo::start().await;
    let proxy = Proxy::start(upstream.address, &["--accept-proxy"]).await;
    let longest = usize::from(u16::MAX) - ADDRESSES.len() - 11;
    for len in [1_500, 3_900, 4_200, 6_000, 30_000, longest] {
        let certificate = tlv(0x28, &vec![0x30; len]);
        let ssl = tlv(0x20, &[&[1, 0, 0, 0, 0][..], &certificate].concat());
        let header = v2(1, 0x11, &[ADDRESSES, &ssl].concat());
        let mut client = proxy.connect().await;
        for piece in header.chunks(1460) {
            client.write_all(piece).await.unwrap();
        }
        let served = exchange(&mut client).await;
        assert!(served.is_ok(), "{} bytes: {served:?}", header.len());
    }
}

#[tokio::test]
async fn a_client_without_the_required_header_is_refused() {
    let upstream = Echo::start().await;
    let mut proxy = Proxy::start(upstream.address, &["--accept-proxy"]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_ended(&mut client).await;
    proxy.logs("no PROXY header").await;
    let mut client = proxy.connect().await;
    client.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    exchange(&mut client).await.unwrap();
}

/// A header that never ends is not collected without a bound, and one that stops in the middle holds no slot for long.
#[tokio::test]
async fn a_header_that_does_not_end_is_refused() {
    let upstream = Echo::start().await;
    let options = ["--accept-proxy", "--connect-timeout", "1h"];
    let proxy = Proxy::start(upstream.address, &options).await;
    let mut endless = proxy.connect().await;
    endless.write_all(b"PROXY TCP4 ").await.unwrap();
    let refused = async {
        while endless.write_all(&[b'1'; 1000]).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the endless header is refused", refused).await;

    let options = ["--accept-proxy", "--connect-timeout", "1s"];
    let proxy = Proxy::start(upstream.address, &options).await;
    let mut silent = proxy.connect().await;
    silent.write_all(b"PROXY TCP4 192.0.2.1").await.unwrap();
    assert_ended(&mut silent).await;
}

/// A load balancer checks each few seconds whether the port is open: it connects and leaves, in order or by a reset,
/// before or after a LOCAL header. That is neither logged nor counted as broken.
#[tokio::test]
async fn health_checks_are_silent() {
    async fn check(proxy: &Proxy, header: &[u8], reset: bool, answered: bool) {
        let mut client = proxy.connect().await;
        client.write_all(header).await.unwrap();
        if answered {
            let mut byte = [0];
            soon("the greeting", client.read_exact(&mut byte))
                .await
                .unwrap();
        }
        if reset {
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&client).set_linger(linger).unwrap();
        }
    }

    let (upstream, address) = listener().await;
    let greeting = tokio::spawn(async move {
        let mut clients = Vec::new();
        while let Ok((mut client, _)) = upstream.accept().await {
            let _ = client.write_all(b"220 ready\r\n").await;
            clients.push(client);
        }
    });
    let options = ["--accept-proxy", "--send-proxy", "v2", "--stats", "20ms"];
    let options = [&options[..], FEW_CONNECTIONS].concat();
    let mut proxy = Proxy::start(address, &options).await;
    let local = v2(0, 0x00, &[]);
    for reset in [false, true] {
        for header in [&[][..], &local] {
            check(&proxy, header, reset, false).await;
        }
        check(&proxy, &local, reset, true).await;
    }
    greeting.abort();
    let _ = greeting.await;
    proxy.prints(&["0 running, 6 accepted", "0 broken"]).await;
    // The upstream is down; the load balancer notices that by itself.
    check(&proxy, &local, true, false).await;
    proxy.prints(&["0 running, 7 accepted", "0 broken"]).await;
    assert_eq!(proxy.remaining_logs().await, Vec::<String>::new());
}
