//! Runs each program with a type of Tokio and with its counterpart here, and compares the results. The programs know only the
//! traits or the signature that both share, so changing one import changes nothing else.

use std::io;

use futures::{SinkExt, StreamExt};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
    BufStream, DuplexStream, duplex, simplex,
};
use tokio_evbuffer::{BufferEvent, Watermarks, pipe, shared::LengthDecoder};
use tokio_util::codec::{Framed, LengthDelimitedCodec, LinesCodec};

mod support;

use support::data::pattern;

const CAPACITY: usize = 1_000;

// ---- copy_bidirectional

/// A client sends a request and ends; the server reads all of it and answers.
async fn request_and_answer(
    relay: impl AsyncFnOnce(&mut DuplexStream, &mut DuplexStream) -> io::Result<(u64, u64)>,
) -> (io::Result<(u64, u64)>, Vec<u8>, Vec<u8>) {
    let (mut client, mut a) = duplex(CAPACITY);
    let (mut b, mut server) = duplex(CAPACITY);
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    let ask = async {
        client.write_all(&pattern(10_007)).await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut answer).await.unwrap();
    };
    let serve = async {
        server.read_to_end(&mut request).await.unwrap();
        server.write_all(&pattern(20_011)).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let (relayed, (), ()) = tokio::join!(relay(&mut a, &mut b), ask, serve);
    (relayed, request, answer)
}

#[tokio::test]
async fn copy_bidirectional_returns_and_delivers_the_same() {
    let tokios = request_and_answer(async |a, b| tokio::io::copy_bidirectional(a, b).await).await;
    let ours =
        request_and_answer(async |a, b| tokio_evbuffer::copy_bidirectional(a, b).await).await;
    assert_eq!(tokios.0.unwrap(), (10_007, 20_011));
    assert_eq!(ours.0.unwrap(), (10_007, 20_011));
    assert!(ours.1 == tokios.1 && ours.2 == tokios.2);
}

#[tokio::test]
async fn copy_bidirectional_fails_with_the_same_error() {
    let broken = || {
        tokio_test::io::Builder::new()
            .read(b"before")
            .read_error(io::ErrorKind::ConnectionReset.into())
            .build()
    };
    let (mut a, mut b, mut sink, mut far) =
        (broken(), broken(), duplex(CAPACITY), duplex(CAPACITY));
    let tokios = tokio::io::copy_bidirectional(&mut a, &mut sink.0).await;
    let ours = tokio_evbuffer::copy_bidirectional(&mut b, &mut far.0).await;
    assert_eq!(tokios.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ours.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

// ---- copy

#[tokio::test]
async fn copy_returns_and_delivers_the_same() {
    let data = pattern(100_003);
    let (mut tokios, mut ours) = (Vec::new(), Vec::new());
    assert_eq!(
        tokio::io::copy(&mut &data[..], &mut tokios).await.unwrap(),
        100_003
    );
    assert_eq!(
        tokio_evbuffer::copy(&mut &data[..], &mut ours)
            .await
            .unwrap(),
        100_003
    );
    assert!(tokios == data && ours == data);
}

/// After an error, both have delivered the bytes before it.
#[tokio::test]
async fn copy_fails_with_the_same_error_after_the_same_bytes() {
    let broken = || {
        tokio_test::io::Builder::new()
            .read(b"before")
            .read_error(io::ErrorKind::ConnectionReset.into())
            .build()
    };
    let (mut tokios, mut ours) = (Vec::new(), Vec::new());
    let error = tokio::io::copy(&mut broken(), &mut tokios)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = tokio_evbuffer::copy(&mut broken(), &mut ours)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(tokios, b"before");
    assert_eq!(ours, tokios);
}

/// Neither ends the writer, which is used again.
#[tokio::test]
async fn copy_leaves_the_writer_open() {
    let (mut writer, mut reader) = duplex(CAPACITY);
    tokio::io::copy(&mut &b"tokio's, "[..], &mut writer)
        .await
        .unwrap();
    tokio_evbuffer::copy(&mut &b"ours"[..], &mut writer)
        .await
        .unwrap();
    drop(writer);
    let mut received = String::new();
    reader.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "tokio's, ours");
}

// ---- simplex and duplex

/// Writes more than the capacity in pieces of many sizes, ends, and reads to the end.
async fn write_and_read(
    mut writer: impl AsyncWrite + Unpin,
    mut reader: impl AsyncRead + Unpin,
) -> Vec<u8> {
    let data = pattern(50_021);
    let mut received = Vec::new();
    let write = async {
        let mut rest = &data[..];
        for len in (1..).take_while(|len| len * (len + 1) / 2 <= data.len()) {
            let (piece, next) = rest.split_at(len);
            writer.write_all(piece).await.unwrap();
            rest = next;
        }
        writer.write_all(rest).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = async { reader.read_to_end(&mut received).await.unwrap() };
    let ((), len) = tokio::join!(write, read);
    assert_eq!(len, data.len());
    received
}

#[tokio::test]
async fn a_pipe_delivers_what_simplex_delivers() {
    let (reader, writer) = simplex(CAPACITY);
    let tokios = write_and_read(writer, reader).await;
    let (writer, reader) = pipe(Watermarks::with_high(CAPACITY).unwrap());
    assert!(write_and_read(writer, reader).await == tokios);
}

/// Both sides send and end; then one is dropped.
async fn talk(
    mut a: impl AsyncRead + AsyncWrite + Unpin,
    mut b: impl AsyncRead + AsyncWrite + Unpin,
) -> Vec<u8> {
    let (question, mut received) = (pattern(5_003), vec![0; 5_003]);
    let send = a.write_all(&question);
    let answer = async {
        let mut asked = vec![0; 5_003];
        b.read_exact(&mut asked).await.unwrap();
        b.write_all(&pattern(5_003)).await.unwrap();
        b.flush().await.unwrap();
    };
    let (sent, ()) = tokio::join!(send, answer);
    sent.unwrap();
    a.read_exact(&mut received).await.unwrap();
    drop(b);
    assert_eq!(
        a.read(&mut [0; 1]).await.unwrap(),
        0,
        "the end of the dropped side"
    );
    received
}

#[tokio::test]
async fn a_pair_talks_as_duplex_does() {
    let (a, b) = duplex(16 * 1024);
    let tokios = talk(a, b).await;
    let (a, b) = BufferEvent::pair();
    assert!(talk(a, b).await == tokios);
}

// ---- BufReader and BufStream

/// Uses each way to read, and returns what it got.
async fn read_in_all_ways(mut stream: impl AsyncBufRead + Unpin) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    got.push(line.into_bytes());
    let mut part = Vec::new();
    stream.read_until(b';', &mut part).await.unwrap();
    got.push(part);
    let mut exact = vec![0; 5];
    stream.read_exact(&mut exact).await.unwrap();
    got.push(exact);
    let first = stream.fill_buf().await.unwrap()[0];
    stream.consume(1);
    got.push(vec![first]);
    let mut lines = stream.lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        got.push(line.into_bytes());
    }
    got
}

#[tokio::test]
async fn a_bufferevent_reads_as_a_buf_reader_does() {
    const INPUT: &[u8] = b"a line\npart;exact!\nx\r\ny\n\nno end";
    for piece in [1, 7, INPUT.len()] {
        let input = || {
            let mut pieces = tokio_test::io::Builder::new();
            for piece in INPUT.chunks(piece) {
                pieces.read(piece);
            }
            pieces.build()
        };
        let tokios = read_in_all_ways(BufReader::new(input())).await;
        assert_eq!(tokios.len(), 9);
        assert_eq!(
            read_in_all_ways(BufferEvent::new(input())).await,
            tokios,
            "pieces of {piece}"
        );
    }
}

/// Answers each line, and flushes at the end.
async fn answer_lines(mut stream: impl AsyncBufRead + AsyncWrite + Unpin) {
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await.unwrap() > 0 {
        stream.write_all(&line.to_ascii_uppercase()).await.unwrap();
        line.clear();
    }
    stream.flush().await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_bufferevent_answers_as_a_buf_stream_does() {
    let ask = async |mut client: DuplexStream| {
        client.write_all(b"one\ntwo\nthree").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (client, server) = duplex(CAPACITY);
    let (tokios, ()) = tokio::join!(ask(client), answer_lines(BufStream::new(server)));
    let (client, server) = duplex(CAPACITY);
    let (ours, ()) = tokio::join!(ask(client), answer_lines(BufferEvent::new(server)));
    assert_eq!(tokios, "ONE\nTWO\nTHREE");
    assert_eq!(ours, tokios);
}

// ---- Framed

async fn echo_frames(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut lines = Framed::new(stream, LinesCodec::new());
    while let Some(line) = lines.next().await {
        lines.send(line.unwrap()).await.unwrap();
    }
    SinkExt::<String>::close(&mut lines).await.unwrap();
}

#[tokio::test]
async fn framed_works_over_a_bufferevent() {
    let ask = async |mut client: DuplexStream| {
        client.write_all(b"one\r\ntwo\nthree").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (client, server) = duplex(CAPACITY);
    let (tokios, ()) = tokio::join!(ask(client), echo_frames(server));
    let (client, server) = duplex(CAPACITY);
    let (ours, ()) = tokio::join!(ask(client), echo_frames(BufferEvent::new(server)));
    assert_eq!(tokios, "one\ntwo\nthree\n");
    assert_eq!(ours, tokios);
}

/// Frames of many lengths, in pieces that cut through lengths and payloads.
#[tokio::test]
async fn frames_are_those_of_a_length_delimited_codec() {
    let frames: Vec<Vec<u8>> = [0, 1, 7, 500, 3_000].map(pattern).to_vec();
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat())
        .collect();
    for piece in [1, 3, 1_000] {
        let input = || {
            let mut pieces = tokio_test::io::Builder::new();
            for piece in bytes.chunks(piece) {
                pieces.read(piece);
            }
            pieces.build()
        };
        let codec = LengthDelimitedCodec::builder().new_read(input());
        let tokios: Vec<_> = codec.map(|frame| frame.unwrap().to_vec()).collect().await;
        let event = BufferEvent::new(input());
        let decoded = event.input().frames(LengthDecoder::new(4_096));
        let ours: Vec<_> = decoded.map(|frame| frame.unwrap().to_vec()).collect().await;
        assert_eq!(tokios, frames);
        assert_eq!(ours, tokios, "pieces of {piece}");
    }
}
