//! The router, with ClientHellos in unusual pieces.

use std::time::Duration;

use evbuffer_protocols::certificate_for;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::support::Program;

/// A server that takes TLS and greets.
async fn greeter() -> (std::net::SocketAddr, tokio_rustls::TlsConnector) {
    let (acceptor, connector) = certificate_for("one.example").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, connector)
}

/// Sends the ClientHello byte by byte, and everything else as it comes.
#[tokio::test]
async fn a_client_hello_that_arrives_byte_by_byte_is_routed() {
    let (address, connector) = greeter().await;
    let route = format!("one.example={address}");
    let router = Program::start(env!("CARGO_BIN_EXE_sni_router"), &["--route", &route]);
    let (near, far) = io::duplex(64 * 1024);
    let router_address = router.address;
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(router_address).await?;
        stream.set_nodelay(true)?;
        let (mut read, mut write) = io::split(far);
        let mut first = [0; 200];
        read.read_exact(&mut first).await?;
        for byte in first {
            stream.write_all(&[byte]).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (mut stream_read, mut stream_write) = stream.split();
        let up = async {
            io::copy(&mut read, &mut stream_write).await?;
            stream_write.shutdown().await
        };
        let down = async {
            io::copy(&mut stream_read, &mut write).await?;
            write.shutdown().await
        };
        tokio::try_join!(up, down)
    });
    let name = ServerName::try_from("one.example").unwrap();
    let mut stream = timeout(Duration::from_secs(120), connector.connect(name, near))
        .await
        .unwrap()
        .unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "hello");
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_or_names_no_server_is_closed() {
    let (address, _) = greeter().await;
    let route = format!("one.example={address}");
    let router = Program::start(env!("CARGO_BIN_EXE_sni_router"), &["--route", &route]);
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: one.example\r\n\r\n"[..],
        // A record that is longer than a ClientHello may be.
        &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0],
        &[0; 5],
    ] {
        let mut client = TcpStream::connect(router.address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let end = timeout(Duration::from_secs(120), client.read(&mut [0])).await;
        let end = end.expect("the router closes the connection");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}
