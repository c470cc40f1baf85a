//! Bounds of the memory of a BufferEvent's input: a peer does not decide how much is held for its bytes.

use tokio_evbuffer::EolStyle;

use crate::heap::{self, KEPT_MAX};

const KIB: usize = 1024;

/// The sizes in which a peer sends do not decide how much memory the input holds.
#[tokio::test]
async fn an_input_at_its_high_watermark_holds_little_more_than_that() {
    use tokio::io::AsyncWriteExt;
    use tokio_evbuffer::BufferEvent;

    let (mut peer, stream) = tokio::io::duplex(64 * KIB);
    let event = BufferEvent::new(stream);
    // Reads of 8 KiB are offered once those of 2 KiB were filled.
    peer.write_all(&[1; 2 * KIB]).await.unwrap();
    event.input().readable(2 * KIB).await.unwrap();
    event.input().drain(usize::MAX).unwrap();
    let before = heap::in_use_here();
    let mut sent = 0;
    for n in [600, 2_100].into_iter().cycle() {
        if sent + n > 250 * KIB {
            break;
        }
        peer.write_all(&vec![7; n]).await.unwrap();
        sent += n;
        event.input().readable(sent).await.unwrap();
    }
    let held = (heap::in_use_here() - before) as usize;
    let len = {
        let input = event.input().lock();
        input.len()
    };
    assert!(held <= 2 * len + 32 * KIB + KEPT_MAX + 64 * KIB, "{held}");
}

/// A connection that waits for the rest of a line holds little more than an idle one.
#[tokio::test]
async fn half_a_line_does_not_hold_what_came_before_it() {
    use tokio::io::AsyncWriteExt;
    use tokio_evbuffer::BufferEvent;

    async fn per_connection(end: &[u8]) -> usize {
        // Tasks of the last round end first.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let before = heap::in_use_here();
        let mut all = Vec::new();
        for _ in 0..64 {
            let (mut peer, stream) = tokio::io::duplex(64 * KIB);
            let event = BufferEvent::new(stream);
            let lines = b"0123456789abcdef\n".repeat(16 * KIB);
            let len = lines.len() + end.len();
            let mut taken = 0;
            let writing = async {
                peer.write_all(&lines).await.unwrap();
                peer.write_all(end).await.unwrap();
            };
            let reading = async {
                while taken < lines.len() {
                    event
                        .input()
                        .readable(event.input().len() + 1)
                        .await
                        .unwrap();
                    while let Some(line) = event.input().readln(EolStyle::Lf).unwrap() {
                        taken += line.len() + 1;
                    }
                }
                event.input().readable(end.len()).await.unwrap();
                assert_eq!(event.input().readln(EolStyle::Lf).unwrap(), None);
            };
            tokio::join!(writing, reading);
            assert_eq!(taken + end.len(), len);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            all.push((peer, event));
        }
        (heap::in_use_here() - before) as usize / all.len()
    }
    let _first = per_connection(b"").await;
    let whole = per_connection(b"").await;
    let half = per_connection(b"par").await;
    assert!(half <= whole + 2 * KIB, "{half} and {whole}");
}

/// A server keeps a short name of each client, and nothing else of the blocks that it was read into.
#[cfg(feature = "net")]
#[tokio::test]
async fn short_pieces_that_are_kept_do_not_keep_the_blocks_they_came_in() {
    use bytes::Bytes;
    use tokio::io::AsyncWriteExt;
    use tokio_evbuffer::BufferEvent;

    use crate::support::net::tcp_pair;

    const PIECES: usize = 500;
    type Take = fn(&BufferEvent) -> Bytes;
    let ways: [(&str, Take); 2] = [
        ("readln", |bev| {
            bev.input().readln(EolStyle::Lf).unwrap().unwrap()
        }),
        ("take_bytes", |bev| bev.input().take_bytes(32).unwrap()),
    ];
    let mut message = vec![b'n'; 16 * KIB];
    message[31] = b'\n';
    for (name, take) in ways {
        let mut kept = Vec::with_capacity(PIECES);
        let before = heap::in_use_here();
        for _ in 0..PIECES {
            let (mut far, near) = tcp_pair().await;
            let bev = BufferEvent::new(near);
            far.write_all(&message).await.unwrap();
            bev.input().readable(16 * KIB).await.unwrap();
            kept.push(take(&bev));
            bev.input().drain(usize::MAX).unwrap();
            bev.abort();
            bev.closed().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let each = (heap::in_use_here() - before) / PIECES as isize;
        assert!(each < 1024, "{name} of many connections: {each}");
    }

    // A connection that is busy, whose reads have grown.
    for (name, take) in ways {
        let (mut far, near) = tcp_pair().await;
        let bev = BufferEvent::new(near);
        let mut kept = Vec::with_capacity(PIECES);
        let before = heap::in_use_here();
        let sending = async {
            for _ in 0..PIECES {
                far.write_all(&message).await.unwrap();
            }
        };
        let taking = async {
            for _ in 0..PIECES {
                bev.input().readable(16 * KIB).await.unwrap();
                let piece = take(&bev);
                assert!(piece.len() >= 31);
                kept.push(piece);
                bev.input().drain((16 << 10) - 32).unwrap();
            }
        };
        tokio::join!(sending, taking);
        let each = (heap::in_use_here() - before) / PIECES as isize;
        assert!(each < 1024, "{name} of a busy connection: {each}");
    }
}
