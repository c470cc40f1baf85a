//! A mail server (a small part of SMTP) whose connections begin in plain text and switch to TLS with STARTTLS.
//!
//! [`BufferEvent::upgrade`] sends what is queued, replaces the stream by a TLS stream over it, and continues: the code
//! that reads lines and adds answers is the same before and after. Bytes that a client sends behind its STARTTLS are
//! taken as TLS, never as commands.
//!
//! ```sh
//! cargo run --release -p evbuffer-protocols --bin starttls_server     # a demonstration that ends by itself
//! cargo run --release -p evbuffer-protocols --bin starttls_server -- --listen 127.0.0.1:2525
//! openssl s_client -starttls smtp -connect 127.0.0.1:2525             # in another terminal
//! ```
//!
//! The certificate, for `localhost`, is made at the start. Mails are counted and thrown away.

#[path = "../../../support/mod.rs"]
mod support;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evbuffer_protocols::certificate;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_evbuffer::{BufferEvent, EolStyle, Prefixed};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::ServerName};

/// The longest line of a command or of a mail (RFC 5321 requires at least 1000).
const LINE_MAX: usize = 4096;
/// The longest mail.
const MAIL_MAX: usize = 1 << 20;
/// Time for a client to send its next line. RFC 5321 asks for five minutes.
const LINE_WAIT: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Result<()> {
    let listen = support::arguments(|_, _| Ok(false))?;
    let (acceptor, connector) = certificate()?;
    match listen {
        Some(addr) => support::listen(addr, |listener| accept(listener, acceptor)).await,
        None => demonstrate(acceptor, connector).await,
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    let serve = |stream, peer| {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let connection = BufferEvent::new(stream);
            match serve(&connection, acceptor).await {
                Ok(mails) => println!("{peer}: {mails} mails"),
                Err(error) => eprintln!("{peer}: {error:#}"),
            }
            // Sends the last answer. A client that is gone does not need it.
            let _ = connection.close().await;
        });
    };
    support::accept_all(listener, serve).await
}

/// Serves one client until it quits or leaves. Returns the number of its mails.
async fn serve(connection: &BufferEvent, acceptor: TlsAcceptor) -> Result<usize> {
    let (mut encrypted, mut mails) = (false, 0);
    reply(connection, "220 localhost ready")?;
    while let Some(command) = next_line(connection).await? {
        let verb = command.split(' ').next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if encrypted => reply(connection, "250 localhost")?,
            "EHLO" => reply(connection, "250-localhost\r\n250 STARTTLS")?,
            "STARTTLS" if !encrypted => {
                reply(connection, "220 begin with TLS")?;
                let acceptor = acceptor.clone();
                connection
                    .upgrade(move |plain: Prefixed<TcpStream>| acceptor.accept(plain))
                    .await?;
                encrypted = true;
            }
            "MAIL" | "RCPT" | "DATA" if !encrypted => reply(connection, "530 STARTTLS first")?,
            "MAIL" | "RCPT" | "NOOP" | "RSET" => reply(connection, "250 ok")?,
            "DATA" => {
                reply(connection, "354 end with a line that is a dot")?;
                let len = receive_mail(connection).await?;
                mails += 1;
                reply(connection, &format!("250 {len} bytes accepted"))?;
            }
            "QUIT" => {
                reply(connection, "221 bye")?;
                break;
            }
            _ => reply(connection, "502 unknown command")?,
        }
    }
    Ok(mails)
}

/// Adds an answer. The task of the connection sends it.
fn reply(connection: &BufferEvent, text: &str) -> Result<()> {
    connection.output().add(text.as_bytes())?;
    Ok(connection.output().add(b"\r\n")?)
}

/// Returns the next line, or `None` if the client has left.
async fn next_line(connection: &BufferEvent) -> Result<Option<String>> {
    let line = connection.input().next_line(EolStyle::Crlf, LINE_MAX);
    let line = timeout(LINE_WAIT, line)
        .await
        .context("no line in time")??;
    let text = line.map(|line| String::from_utf8(line.into())).transpose();
    text.context("a line that is not text")
}

/// Reads the lines of a mail, up to the dot, and returns the number of its bytes.
async fn receive_mail(connection: &BufferEvent) -> Result<usize> {
    let mut len = 0;
    while let Some(line) = next_line(connection).await? {
        if line == "." {
            return Ok(len);
        }
        len += line.len() + 2;
        ensure!(len <= MAIL_MAX, "a mail is longer than {MAIL_MAX} bytes");
    }
    bail!("the client left within a mail")
}

/// Runs a client that is refused without TLS, switches to TLS, and sends a mail.
async fn demonstrate(acceptor: TlsAcceptor, connector: TlsConnector) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(accept(listener, acceptor));

    let mut plain = BufReader::new(TcpStream::connect(addr).await?);
    say(&mut plain, "", "220 localhost ready").await?;
    say(&mut plain, "EHLO client", "250-localhost").await?;
    say(&mut plain, "", "250 STARTTLS").await?;
    say(&mut plain, "MAIL FROM:<a@example>", "530 STARTTLS first").await?;
    say(&mut plain, "STARTTLS", "220 begin with TLS").await?;
    let name = ServerName::try_from("localhost")?;
    let stream = connector.connect(name, plain.into_inner()).await?;
    println!("--- the connection is encrypted");

    let mut encrypted = BufReader::new(stream);
    say(&mut encrypted, "EHLO client", "250 localhost").await?;
    say(&mut encrypted, "MAIL FROM:<a@example>", "250 ok").await?;
    say(&mut encrypted, "RCPT TO:<b@example>", "250 ok").await?;
    say(&mut encrypted, "DATA", "354 end with a line that is a dot").await?;
    say(
        &mut encrypted,
        "Subject: hi\r\n\r\nhello\r\n.",
        "250 22 bytes accepted",
    )
    .await?;
    say(&mut encrypted, "QUIT", "221 bye").await?;
    let mut rest = String::new();
    ensure!(
        encrypted.read_line(&mut rest).await? == 0,
        "more than an end: {rest}"
    );
    Ok(())
}

/// Sends a line, unless it is empty, and checks the line that comes back.
async fn say(
    stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
    line: &str,
    expected: &str,
) -> Result<()> {
    if !line.is_empty() {
        println!("> {}", line.escape_default());
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        stream.flush().await?;
    }
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    println!("< {}", answer.trim_end());
    ensure!(answer.trim_end() == expected, "expected {expected}");
    Ok(())
}
