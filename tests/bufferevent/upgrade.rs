//! `upgrade`: what stays, what `f` gets, and what happens when it fails, panics or is dropped.

use std::{
    future::{Future, pending, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex},
    net::TcpStream,
    time::timeout,
};
use tokio_evbuffer::{
    BufferEvent, Event, Prefixed,
    bufferevent::{CloseReason, UpgradeError},
};

use crate::support::{
    net::tcp_pair,
    tasks::{soon, yield_many},
};

/// Polls `future` once, with the waker of the test.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test]
async fn handles_callbacks_and_buffers_stay() {
    let (near, mut far) = duplex(1024);
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let bev = BufferEvent::builder()
        .on_read(move |_| {
            count.fetch_add(1, Relaxed);
        })
        .spawn(near);
    let other = bev.clone();
    bev.output().add(b"plain").unwrap();
    far.write_all(b"unread").await.unwrap();
    bev.input().readable(6).await.unwrap();

    bev.upgrade(|mut plain: Prefixed<DuplexStream>| async move {
        // What was not removed from the input is in front.
        let mut unread = [0; 6];
        plain.read_exact(&mut unread).await?;
        assert_eq!(&unread, b"unread");
        plain.write_all(b"handshake").await?;
        Ok(BufStream::new(plain))
    })
    .await
    .unwrap();

    assert!(bev.input().is_empty());
    other.output().add(b"encrypted").unwrap();
    let mut received = [0; 23];
    far.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"plainhandshakeencrypted");
    let before = reads.load(Relaxed);
    far.write_all(b"more").await.unwrap();
    other.input().readable(4).await.unwrap();
    yield_many().await;
    assert!(reads.load(Relaxed) > before, "the read callback is called");
    drop(far);
    assert_eq!(bev.next_event().await, Some(Event::Eof));
    let is_new = bev.with_stream(|_: &BufStream<Prefixed<DuplexStream>>| ());
    assert!(is_new.is_some(), "the new stream is in place");
}

#[tokio::test]
async fn output_added_meanwhile_goes_to_the_new_stream() {
    let ((near, mut far), (other_near, mut other_far)) = (tcp_pair().await, tcp_pair().await);
    let bev = BufferEvent::new(near);
    bev.output().add(b"to the old one").unwrap();
    let adding = bev.clone();
    bev.upgrade(|_: Prefixed<TcpStream>| async move {
        adding.output().add(b"to the new one").unwrap();
        Ok(other_near)
    })
    .await
    .unwrap();
    let mut received = String::new();
    far.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "to the old one");
    bev.close().await.unwrap();
    received.clear();
    other_far.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "to the new one");
}

#[tokio::test]
async fn an_upgrade_can_be_repeated_and_an_identity_keeps_the_input() {
    let (mut far, near) = tcp_pair().await;
    let bev = BufferEvent::new(near);
    far.write_all(b"unread").await.unwrap();
    bev.input().readable(6).await.unwrap();
    bev.upgrade(|plain: Prefixed<TcpStream>| async move { Ok(plain) })
        .await
        .unwrap();
    bev.upgrade(|plain: Prefixed<Prefixed<TcpStream>>| async move { Ok(plain.into_parts().0) })
        .await
        .unwrap();
    far.write_all(b" and more").await.unwrap();
    bev.input().readable(9).await.unwrap();
    assert_eq!(bev.metrics().bytes_in, 15);
}

/// Of any stream, also where the crate recognises no sockets.
#[tokio::test]
async fn an_identity_does_not_count_the_input_again() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    far.write_all(b"unread").await.unwrap();
    bev.input().readable(6).await.unwrap();
    bev.upgrade(|plain: Prefixed<DuplexStream>| async move { Ok(plain) })
        .await
        .unwrap();
    assert!(*bev.input().lock() == b"unread"[..]);
    far.write_all(b" and more").await.unwrap();
    bev.input().readable(15).await.unwrap();
    assert_eq!(bev.metrics().bytes_in, 15);
}

#[tokio::test]
async fn another_type_leaves_the_connection_as_it_was() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    let refused = bev
        .upgrade(|plain: Prefixed<TcpStream>| async move { Ok(plain) })
        .await;
    assert!(matches!(refused, Err(UpgradeError::WrongType)));
    let (a, _b) = BufferEvent::pair();
    let refused = a
        .upgrade(|plain: Prefixed<DuplexStream>| async move { Ok(plain) })
        .await;
    assert!(matches!(refused, Err(UpgradeError::WrongType)));
    bev.output().add(b"alive").unwrap();
    far.read_exact(&mut [0; 5]).await.unwrap();
}

#[tokio::test]
async fn a_failure_ends_the_connection_with_a_read_error() {
    let (near, _far) = duplex(64);
    let bev = BufferEvent::new(near);
    let failed = bev
        .upgrade(|_: Prefixed<DuplexStream>| async move {
            Err::<DuplexStream, _>(io::ErrorKind::InvalidData.into())
        })
        .await;
    let error = io::Error::from(failed.unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(bev.next_event().await, Some(Event::ReadError(_))));
    assert_eq!(bev.next_event().await, Some(Event::Closed));
    let waited = io::Error::from(bev.input().readable(1).await.unwrap_err());
    assert_eq!(waited.kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        bev.close().await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

#[tokio::test]
async fn a_panic_ends_the_connection_and_reaches_the_caller() {
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::new(near);
    let upgrading = bev.clone();
    let panicked = tokio::spawn(async move {
        upgrading
            .upgrade(|_: Prefixed<DuplexStream>| async move {
                if true {
                    panic!("panic of the test");
                }
                Ok::<DuplexStream, _>(duplex(1).0)
            })
            .await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let summary = soon("the end", bev.closed()).await;
    assert!(matches!(summary.reason, CloseReason::Error(_)));
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn dropped_during_the_flush_it_has_no_effect() {
    let (near, mut far) = duplex(4);
    let bev = BufferEvent::new(near);
    bev.output().add(b"more than fits").unwrap();
    {
        let mut upgrading =
            std::pin::pin!(bev.upgrade(|plain: Prefixed<DuplexStream>| async move { Ok(plain) }));
        for _ in 0..5 {
            assert!(poll_once(upgrading.as_mut()).await.is_pending());
            tokio::task::yield_now().await;
        }
    }
    let mut received = [0; 14];
    far.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"more than fits");
    bev.upgrade(|plain: Prefixed<DuplexStream>| async move { Ok(plain) })
        .await
        .unwrap();
}

/// Drops the future after each number of polls up to the one that is in `f`.
#[tokio::test(start_paused = true)]
async fn dropped_at_any_point_it_leaves_a_connection_that_works_or_has_ended() {
    let mut ended = 0;
    for polls in 1..6 {
        let (near, mut far) = duplex(64);
        let bev = BufferEvent::new(near);
        let called = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&called);
        {
            let mut upgrading =
                std::pin::pin!(bev.upgrade(|plain: Prefixed<DuplexStream>| async move {
                    count.fetch_add(1, Relaxed);
                    pending::<()>().await;
                    Ok(plain)
                }));
            for n in 0..polls {
                if n > 0 {
                    tokio::task::yield_now().await;
                }
                let polled = poll_once(upgrading.as_mut()).await;
                assert!(polled.is_pending());
            }
        }
        if timeout(Duration::from_millis(20), bev.closed())
            .await
            .is_ok()
        {
            assert_eq!(bev.closed().await.reason, CloseReason::Aborted);
            ended += 1;
        } else {
            assert_eq!(called.load(Relaxed), 0);
            bev.output().add(b"alive").unwrap();
            far.read_exact(&mut [0; 5]).await.unwrap();
        }
    }
    assert!((1..5).contains(&ended), "{ended} of 5");
}

#[tokio::test]
async fn abort_and_close_end_it_meanwhile() {
    for abort in [true, false] {
        let (near, mut far) = duplex(64);
        let bev = BufferEvent::new(near);
        let ending = bev.clone();
        let upgraded = bev.upgrade(|plain: Prefixed<DuplexStream>| async move {
            match abort {
                true => ending.abort(),
                false => {
                    tokio::spawn(ending.close());
                }
            }
            pending::<()>().await;
            Ok(plain)
        });
        let Err(UpgradeError::Closed(summary)) = soon("the upgrade", upgraded).await else {
            panic!("it was not replaced");
        };
        match abort {
            true => assert_eq!(summary.reason, CloseReason::Aborted),
            false => assert_eq!(summary.reason, CloseReason::Finished),
        }
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_second_upgrade_is_refused_and_into_inner_sees_the_new_type() {
    let (near, _far) = duplex(64);
    let bev = BufferEvent::new(near);
    let (second, wanted) = (bev.clone(), bev.clone());
    let mut taking = None;
    bev.upgrade(|plain: Prefixed<DuplexStream>| {
        let taking = &mut taking;
        async move {
            let busy = second
                .upgrade(|plain: Prefixed<DuplexStream>| async move { Ok(plain) })
                .await;
            assert!(matches!(busy, Err(UpgradeError::Busy)));
            *taking = Some(tokio::spawn(wanted.into_inner::<DuplexStream>()));
            yield_many().await;
            Ok(BufStream::new(plain))
        }
    })
    .await
    .unwrap();
    let taken = soon("the stream", taking.unwrap()).await.unwrap();
    assert!(matches!(
        taken,
        Err(tokio_evbuffer::bufferevent::IntoInnerError::WrongType(_))
    ));
    bev.into_inner::<BufStream<Prefixed<DuplexStream>>>()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_is_over_is_not_upgraded() {
    let (near, far) = duplex(64);
    let bev = BufferEvent::new(near);
    bev.abort();
    bev.closed().await;
    drop(far);
    let late = bev
        .upgrade(|plain: Prefixed<DuplexStream>| async move { Ok(plain) })
        .await;
    assert!(matches!(late, Err(UpgradeError::Closed(_))), "{late:?}");
}
