//! `BufferEvent::filter`: bytes in another form, at every split, with flushes, ends, limits and faults.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_evbuffer::{
    BufferEvent, EvBuffer, Event, Watermarks,
    bufferevent::{CloseReason, Direction, Filter, FilterStatus, FlushMode, PauseReason, Side},
};

use crate::support::{
    filters::pass,
    tasks::{soon, until, yield_many},
};

const NEED_MORE: io::Result<FilterStatus> = Ok(FilterStatus::NeedMore);
const MORE: io::Result<FilterStatus> = Ok(FilterStatus::Ok);

fn xor(key: u8) -> impl Filter {
    move |src: &mut EvBuffer, dst: &mut EvBuffer, limit: Option<usize>, _: FlushMode| {
        let n = src.len().min(limit.unwrap_or(usize::MAX));
        let bytes: Vec<u8> = src.take_bytes(n)?.iter().map(|byte| byte ^ key).collect();
        dst.add(&bytes)?;
        MORE
    }
}

/// Sends what there is as one frame: a length of four bytes, then the bytes.
fn encode_frames(
    src: &mut EvBuffer,
    dst: &mut EvBuffer,
    _: Option<usize>,
    _: FlushMode,
) -> io::Result<FilterStatus> {
    if src.is_empty() {
        return NEED_MORE;
    }
    dst.add(&(src.len() as u32).to_be_bytes())?;
    dst.add_buffer(src)?;
    MORE
}

fn decode_frames(
    src: &mut EvBuffer,
    dst: &mut EvBuffer,
    _: Option<usize>,
    _: FlushMode,
) -> io::Result<FilterStatus> {
    let mut header = [0; 4];
    if src.copyout(&mut header)? < 4 {
        return NEED_MORE;
    }
    let len = u32::from_be_bytes(header) as usize;
    if src.len() < 4 + len {
        return NEED_MORE;
    }
    src.drain(4)?;
    src.remove_buffer(dst, len)?;
    MORE
}

const CHUNK: usize = 1024;

fn deflate() -> impl Filter {
    let mut compress = Compress::new(Compression::fast(), true);
    move |src: &mut EvBuffer, dst: &mut EvBuffer, limit: Option<usize>, mode: FlushMode| {
        let input = src.pullup(src.len()).unwrap().to_vec();
        let mut out = [0; CHUNK];
        let room = limit.unwrap_or(CHUNK).clamp(1, CHUNK);
        let (taken, made) = (compress.total_in(), compress.total_out());
        let flush = match mode {
            FlushMode::Normal => FlushCompress::None,
            FlushMode::Flush => FlushCompress::Sync,
            FlushMode::Finished => FlushCompress::Finish,
        };
        compress
            .compress(&input, &mut out[..room], flush)
            .map_err(io::Error::other)?;
        let made = (compress.total_out() - made) as usize;
        src.drain((compress.total_in() - taken) as usize)?;
        dst.add(&out[..made])?;
        match made == room || !src.is_empty() {
            true => MORE,
            false => NEED_MORE,
        }
    }
}

fn inflate() -> impl Filter {
    let mut decompress = Decompress::new(true);
    let mut ended = false;
    move |src: &mut EvBuffer, dst: &mut EvBuffer, limit: Option<usize>, _: FlushMode| {
        if ended {
            return NEED_MORE;
        }
        let input = src.pullup(src.len()).unwrap().to_vec();
        let mut out = [0; CHUNK];
        let room = limit.unwrap_or(CHUNK).clamp(1, CHUNK);
        let (taken, made) = (decompress.total_in(), decompress.total_out());
        let status = decompress
            .decompress(&input, &mut out[..room], FlushDecompress::None)
            .map_err(io::Error::other)?;
        ended = status == Status::StreamEnd;
        let made = (decompress.total_out() - made) as usize;
        src.drain((decompress.total_in() - taken) as usize)?;
        dst.add(&out[..made])?;
        MORE
    }
}

async fn read_all(bev: &BufferEvent) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bev.clone().read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Waits for the first event that `wanted` accepts.
async fn event(bev: &BufferEvent, wanted: impl Fn(&Event) -> bool) -> Event {
    let waiting = async {
        loop {
            let event = bev
                .next_event()
                .await
                .expect("the event comes before the end");
            if wanted(&event) {
                return event;
            }
        }
    };
    soon("an event", waiting).await
}

/// Sends `data` through both filters in pieces of every size, and expects it unchanged on the other side.
async fn round_trip<I: Filter, O: Filter>(data: &[u8], new: impl Fn() -> (I, O)) {
    for piece in 1..=data.len() {
        let (near, far) = tokio::io::duplex(7);
        let (_, encode) = new();
        let (decode, _) = new();
        let sender = BufferEvent::new(near).filter(pass, encode);
        let receiver = BufferEvent::new(far).filter(decode, pass);
        for piece in data.chunks(piece) {
            sender.output().add(piece).unwrap();
            sender.flush().await.unwrap();
        }
        sender.shutdown().await.unwrap();
        assert_eq!(
            read_all(&receiver).await.unwrap(),
            data,
            "pieces of {piece}"
        );
        event(&receiver, |event| matches!(event, Event::Eof)).await;
    }
}

#[tokio::test]
async fn every_split_arrives_unchanged() {
    let data: Vec<u8> = (0..40).collect();
    round_trip(&data, || (xor(0x5a), xor(0x5a))).await;
    round_trip(&data, || (decode_frames, encode_frames)).await;
    round_trip(&data, || (inflate(), deflate())).await;
}

/// The output is empty, and its bytes wait in the filter.
#[tokio::test]
async fn a_filter_that_waits_for_room_shows_that_the_peer_pauses_it() {
    let (near, mut far) = tokio::io::duplex(64);
    let inflate = |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
        dst.add(&vec![7; src.len() * (1 << 20)])?;
        src.clear()?;
        MORE
    };
    let bev = BufferEvent::new(near).filter(pass, inflate);
    bev.output().add(b"ab").unwrap();
    until("writing waits for the peer", || {
        bev.output().is_empty() && bev.paused(Direction::Write).contains(PauseReason::Peer)
    })
    .await;
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        received.len()
    });
    bev.flush().await.unwrap();
    assert!(bev.paused(Direction::Write).is_empty());
    bev.close().await.unwrap();
    assert_eq!(reading.await.unwrap(), 2 << 20);
}

#[tokio::test]
async fn three_filters_can_be_stacked() {
    let data: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
    let (near, far) = tokio::io::duplex(4096);
    let stacked = |stream| {
        BufferEvent::new(stream)
            .filter(xor(7), xor(7))
            .filter(decode_frames, encode_frames)
            .filter(inflate(), deflate())
    };
    let (near, far) = (stacked(near), stacked(far));
    let sending = async {
        let mut near = near.clone();
        near.write_all(&data).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let echoing = async {
        let received = read_all(&far).await.unwrap();
        assert!(received == data);
        far.output().add(&received[..1000]).unwrap();
        far.close().await.unwrap()
    };
    let (_, far_summary, answer) = tokio::join!(sending, echoing, read_all(&near));
    assert_eq!(answer.unwrap(), &data[..1000]);
    let summary = near.close().await.unwrap();
    // Compressed and framed: fewer bytes than went in, and both sides counted the same.
    assert!(summary.bytes_out < 100_000, "{summary:?}");
    assert_eq!(summary.bytes_out, far_summary.bytes_in);
    assert_eq!(summary.bytes_in, far_summary.bytes_out);
    assert_eq!(summary.reason, CloseReason::Finished);
}

#[tokio::test]
async fn a_filter_holds_back_until_a_flush_or_the_end() {
    let (near, far) = BufferEvent::pair();
    let modes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&modes);
    let hold = move |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, mode| {
        seen.lock().unwrap().push(mode);
        if mode == FlushMode::Normal {
            return NEED_MORE;
        }
        dst.add_buffer(src)?;
        MORE
    };
    let near = near.filter(pass, hold);
    near.output().add(b"held").unwrap();
    until("the filter takes the output", || near.output().is_empty()).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(far.input().len(), 0);
    assert_eq!(*modes.lock().unwrap(), [FlushMode::Normal]);

    near.flush().await.unwrap();
    far.input().readable(4).await.unwrap();
    assert!(modes.lock().unwrap().contains(&FlushMode::Flush));

    near.output().add(b" and the tail").unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(read_all(&far).await.unwrap(), b"held and the tail");
    assert!(modes.lock().unwrap().contains(&FlushMode::Finished));
}

/// libevent never finishes the input filter, and passes the end on before the bytes.
#[tokio::test]
async fn the_tail_arrives_before_the_end() {
    let (near, far) = BufferEvent::pair();
    // Gives bytes only at the end, and then a trailer.
    let mut finished = false;
    let at_end = move |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, mode| {
        if mode != FlushMode::Finished || finished {
            return NEED_MORE;
        }
        dst.add_buffer(src)?;
        dst.add(b", and a tail")?;
        finished = true;
        MORE
    };
    let near = near.filter(at_end, pass);
    far.output().add(b"all").unwrap();
    far.shutdown().await.unwrap();
    let eof = event(&near, |_| true).await;
    assert!(matches!(eof, Event::Eof), "{eof:?}");
    assert_eq!(read_all(&near).await.unwrap(), b"all, and a tail");
}

#[tokio::test]
async fn bytes_that_the_input_filter_leaves_at_the_end_are_an_error() {
    let (near, far) = BufferEvent::pair();
    let near = near.filter(decode_frames, pass);
    far.output().add(&[0, 0, 0, 9, 1, 2]).unwrap();
    far.shutdown().await.unwrap();
    let Event::ReadError(error) = event(&near, |_| true).await else {
        panic!("not a read error");
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_filter_that_fails_or_panics_is_an_error_of_its_direction() {
    let fail = |_: &mut EvBuffer, _: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
        Err::<FilterStatus, _>(io::ErrorKind::InvalidData.into())
    };
    let panics = |_: &mut EvBuffer, _: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
        panic!("as this test wants it")
    };

    let (near, far) = BufferEvent::pair();
    let near = near.filter(fail, pass);
    far.output().add(b"x").unwrap();
    let failed = event(&near, |event| matches!(event, Event::ReadError(_))).await;
    let Event::ReadError(error) = failed else {
        unreachable!()
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    near.closed().await;
    let summary = far.closed().await;
    assert_ne!(
        summary.reason,
        CloseReason::Finished,
        "the other side sees no orderly end"
    );

    let (near, _far) = BufferEvent::pair();
    let near = near.filter(pass, fail);
    near.output().add(b"x").unwrap();
    event(&near, |event| matches!(event, Event::WriteError(_))).await;
    assert_eq!(
        near.flush().await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );

    let (near, far) = BufferEvent::pair();
    let near = near.filter(panics, pass);
    far.output().add(b"x").unwrap();
    event(&near, |event| matches!(event, Event::ReadError(_))).await;

    let (near, far) = BufferEvent::pair();
    let near = near.filter(pass, panics);
    near.output().add(b"x").unwrap();
    event(&near, |event| matches!(event, Event::WriteError(_))).await;
    drop(near);
    assert_ne!(far.closed().await.reason, CloseReason::Finished);
}

/// libevent calls a filter that answers OK without progress repeatedly.
#[tokio::test]
async fn a_filter_without_progress_needs_more() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let idle = move |_: &mut EvBuffer, _: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
        counted.fetch_add(1, Ordering::Relaxed);
        MORE
    };
    let (near, far) = BufferEvent::pair();
    let near = near.filter(idle, pass);
    far.output().add(b"x").unwrap();
    until("the filter is called", || calls.load(Ordering::Relaxed) > 0).await;
    yield_many().await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(near.input().len(), 0);
}

#[tokio::test]
async fn a_filter_that_needs_more_than_the_high_watermark_fails() {
    let (near, far) = BufferEvent::pair();
    near.set_watermarks(Side::Input, Watermarks::new(0, 100).unwrap());
    let near = near.filter(decode_frames, pass);
    far.output().add(&[0, 0, 1, 0]).unwrap();
    far.output().add(&[0; 300]).unwrap();
    let Event::ReadError(error) = event(&near, |_| true).await else {
        panic!("not a read error");
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("100"), "{error}");
}

#[tokio::test]
async fn a_thousandfold_output_observes_the_limit_and_arrives() {
    const LEN: usize = 3 << 20;
    let mut encoder = Compress::new(Compression::best(), true);
    let mut bomb = Vec::with_capacity(64 << 10);
    encoder
        .compress_vec(&vec![0; LEN], &mut bomb, FlushCompress::Finish)
        .unwrap();
    assert!(bomb.len() < LEN / 500);

    let (near, far) = BufferEvent::pair();
    let near = near.filter(inflate(), pass);
    near.set_watermarks(Side::Input, Watermarks::new(0, 10_000).unwrap());
    far.output().add(&bomb).unwrap();
    far.shutdown().await.unwrap();
    let mut received = 0;
    while near.input().readable(1).await.is_ok() {
        let len = near.input().len();
        assert!(len <= 10_000, "{len}");
        received += near.input().lock().drain(len).unwrap();
    }
    assert_eq!(received, LEN);
}

/// A filter that ignores its limit delays itself, and loses nothing.
#[tokio::test]
async fn output_beyond_the_limit_is_kept() {
    let thousandfold = |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
        let n = src.drain(1)?;
        dst.add(&vec![7; n * 1000])?;
        MORE
    };
    let (near, far) = BufferEvent::pair();
    let near = near.filter(thousandfold, thousandfold);
    near.set_watermarks(Side::Input, Watermarks::new(0, 64).unwrap());
    far.output().add(&[0; 30]).unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_all(&near).await.unwrap(), [7; 30_000]);

    near.output().add(&[0; 30]).unwrap();
    let (closed, received) = tokio::join!(near.close(), read_all(&far));
    assert_eq!(received.unwrap(), [7; 30_000]);
    assert_eq!(closed.unwrap().bytes_out, 30_000);
}

#[tokio::test]
async fn backpressure_passes_through_in_both_directions() {
    let (near, mut far) = tokio::io::duplex(1024);
    let below = BufferEvent::new(near);
    below.set_watermarks(Side::Input, Watermarks::new(0, 4096).unwrap());
    below.set_watermarks(Side::Output, Watermarks::new(0, 4096).unwrap());
    let near = below.filter(pass, pass);
    near.set_watermarks(Side::Input, Watermarks::new(0, 4096).unwrap());

    let data = vec![1; 1 << 20];
    let sent = timeout(Duration::from_millis(300), far.write_all(&data)).await;
    assert!(
        sent.is_err(),
        "nobody reads, and yet everything was accepted"
    );
    assert!(near.input().len() <= 4096);

    // What is not sent stays in the output, but for what the filter and the connection below hold.
    near.output().add(&data).unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(near.output().len() > 600_000, "{}", near.output().len());
    assert!(near.is_enabled(Direction::Write));
    let summary = {
        near.abort();
        near.closed().await
    };
    assert_eq!(summary.bytes_out + summary.unsent, 1 << 20);
}

#[tokio::test]
async fn an_abort_and_a_drop_reach_the_connection_below() {
    let (near, far) = BufferEvent::pair();
    let near = near.filter(pass, pass);
    near.abort();
    assert_ne!(far.closed().await.reason, CloseReason::Finished);

    let (near, far) = BufferEvent::pair();
    let near = near.filter(pass, xor(1));
    near.output().add(b"`").unwrap();
    drop(near);
    assert_eq!(read_all(&far).await.unwrap(), b"a");
}

#[tokio::test]
async fn a_failure_below_is_seen_above() {
    let (near, far) = BufferEvent::pair();
    let near = near.filter(pass, pass);
    far.output().add(b"first").unwrap();
    near.input().readable(5).await.unwrap();
    far.abort();
    event(&near, |event| matches!(event, Event::ReadError(_))).await;
    assert!(near.input().len() == 5);
    near.closed().await;
}

#[tokio::test]
async fn callbacks_of_the_filtered_connection_are_called() {
    let (near, far) = BufferEvent::pair();
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let near = near.filter(xor(3), xor(3));
    near.set_callbacks(
        tokio_evbuffer::bufferevent::Callbacks::new().on_read(move |bev| {
            let len = bev.input().len();
            let _ = sender.send(bev.input().take_bytes(len).unwrap());
        }),
    );
    far.output().add(&[b'a' ^ 3, b'b' ^ 3]).unwrap();
    assert_eq!(received.recv().await.unwrap(), "ab");
}
