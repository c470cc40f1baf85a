//! Frames in bulk, which a `BufferEvent` reads so that they end with a block.

use std::io;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncWriteExt, duplex};
use tokio_evbuffer::{
    BufferEvent, EvBuffer, Watermarks,
    bufferevent::{Builder, FilterStatus, FlushMode},
    shared::{FrameDecoder, LengthDecoder},
};

use crate::support::{data::pattern, filters::pass, net::tcp_pair};

const FRAME_MAX: usize = 1 << 20;

/// Decodes frames, and checks the number of buffered bytes each time.
struct Checked {
    decoder: LengthDecoder,
    high: usize,
}

impl FrameDecoder for Checked {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut EvBuffer) -> io::Result<Option<Bytes>> {
        assert!(src.len() <= self.high, "{} bytes", src.len());
        self.decoder.decode(src)
    }

    fn frame_len(&self, src: &EvBuffer) -> Option<usize> {
        self.decoder.frame_len(src)
    }
}

/// Sends frames of these lengths to a `BufferEvent`, and compares what arrives with them.
async fn send(lens: &[usize], high: usize, build: Builder) -> BufferEvent {
    let (near, mut far) = tcp_pair().await;
    let watermarks = Watermarks::with_high(high).unwrap();
    let event = build.read_watermarks(watermarks).spawn(near);
    let bodies: Vec<_> = lens.iter().map(|&len| pattern(len)).collect();
    let sent = async {
        for body in &bodies {
            far.write_u32(body.len() as u32).await.unwrap();
            far.write_all(body).await.unwrap();
        }
        far.shutdown().await.unwrap();
    };
    let checked = Checked {
        decoder: LengthDecoder::new(FRAME_MAX),
        high,
    };
    let received = async {
        let mut frames = event.input().frames(checked);
        for body in &bodies {
            let frame = frames.try_next().await.unwrap().unwrap();
            assert!(frame == body, "a frame of {} bytes", body.len());
        }
        assert!(frames.next().await.is_none());
    };
    tokio::join!(sent, received);
    event
}

/// Frames of one length after another: each change is unexpected for the reads.
#[tokio::test]
async fn frames_in_bulk_arrive_whole_and_in_order_below_the_high_watermark() {
    let mut lens = Vec::new();
    for (len, count) in [
        (64 << 10, 40),
        (1, 50),
        (0, 50),
        (4_000, 300),
        (100_000, 20),
        (288 << 10, 4),
        (700_000, 3),
        (65_000, 9),
        (16_380, 70),
    ] {
        lens.extend(std::iter::repeat_n(len, count));
    }
    for high in [2 << 20, 720_000] {
        send(&lens, high, BufferEvent::builder()).await;
    }
    let short: Vec<_> = lens.into_iter().filter(|&len| len < 200_000).collect();
    for high in [256 << 10, 100_004] {
        send(&short, high, BufferEvent::builder()).await;
    }
}

#[tokio::test]
async fn reads_of_frames_respect_the_limit_of_a_single_read() {
    let build = BufferEvent::builder().max_single_read(70_000);
    let event = send(&[65_000; 30], 2 << 20, build).await;
    let metrics = event.metrics();
    assert_eq!(metrics.bytes_in, 30 * 65_004);
    assert!(metrics.reads >= metrics.bytes_in / 70_000, "{metrics:?}");
}

/// Once the length of the frames is known, no read ends within one: each lies in one segment, and shares its memory.
#[tokio::test]
async fn frames_in_bulk_are_not_copied() {
    const LEN: usize = 65_000;
    const COUNT: usize = 100;
    let frame = [&(LEN as u32).to_be_bytes()[..], &[7; LEN]].concat();
    let all = Bytes::from(frame.repeat(COUNT));
    let memory = all.as_ptr_range();
    for high in [2 << 20, 256 << 10] {
        let (near, mut far) = duplex(64);
        let mut frames = Some(all.clone());
        // Turns one byte into all frames, so that each read gets what it asks for.
        let expand =
            move |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
                src.clear()?;
                frames.take().map_or(Ok(()), |all| dst.add_reference(all))?;
                Ok(FilterStatus::NeedMore)
            };
        let event = BufferEvent::new(near).filter(expand, pass);
        let watermarks = Watermarks::with_high(high).unwrap();
        event.input().set_watermarks(watermarks);
        far.write_all(b".").await.unwrap();
        let frames = event.input().frames(LengthDecoder::new(FRAME_MAX));
        let is_copy = frames
            .take(COUNT)
            .map(|frame| !memory.contains(&frame.unwrap().as_ptr()));
        let copies: Vec<_> = is_copy.collect().await;
        let late = copies[COUNT / 4..].iter().filter(|&&copy| copy).count();
        assert_eq!((copies.len(), late), (COUNT, 0), "high watermark {high}");
    }
}
