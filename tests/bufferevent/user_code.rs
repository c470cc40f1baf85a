//! User code may call the connection that runs it: filters, streams, closures and destructors.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread,
};

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio_evbuffer::{
    BufferEvent, EvBuffer, Event, Prefixed,
    bufferevent::{Direction, FilterStatus, FlushMode},
};

use crate::support::tasks::{block_on_in_time, yield_many};

/// Calls all methods that look at the connection or change it.
fn use_all_methods(bev: &BufferEvent) {
    let _ = (bev.peer_addr(), bev.local_addr(), bev.metrics());
    let _ = bev.with_stream(|_: &DuplexStream| ());
    let _ = bev.with_stream(|_: &Curious| ());
    for direction in [Direction::Read, Direction::Write] {
        let _ = (bev.is_enabled(direction), bev.paused(direction));
        bev.enable(direction);
        bev.consume_rate(direction, 0);
    }
    bev.set_rate_limit(None);
    bev.set_timeouts(None, None);
    let _ = (bev.input().len(), bev.output().len());
    drop(bev.clone());
}

type Handle = Arc<OnceLock<BufferEvent>>;

fn use_handle(handle: &Handle) {
    if let Some(bev) = handle.get() {
        use_all_methods(bev);
    }
}

#[test]
fn a_filter_may_call_the_filtered_connection_and_the_one_below() {
    block_on_in_time(|| async {
        let (near, mut far) = duplex(64);
        let (filtered, below) = (Handle::default(), Handle::default());
        let handles = [Arc::clone(&filtered), Arc::clone(&below)];
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let pass = move |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
            handles.iter().for_each(use_handle);
            count.fetch_add(1, SeqCst);
            dst.add_buffer(src)?;
            Ok(FilterStatus::Ok)
        };
        let bev = BufferEvent::new(near);
        below.set(bev.clone()).unwrap();
        let bev = bev.filter(pass.clone(), pass);
        filtered.set(bev.clone()).unwrap();

        far.write_all(b"in").await.unwrap();
        bev.input().readable(2).await.unwrap();
        bev.output().add(b"out").unwrap();
        bev.flush().await.unwrap();
        let mut received = [0; 3];
        far.read_exact(&mut received).await.unwrap();
        assert!(calls.load(SeqCst) >= 2);
        bev.abort();
        bev.closed().await;
    });
}

#[cfg(feature = "net")]
#[test]
fn a_filter_sees_the_addresses_and_the_stream_of_the_connection_below() {
    use std::sync::Mutex;

    use tokio::net::TcpStream;

    block_on_in_time(|| async {
        let (near, mut far) = crate::support::net::tcp_pair().await;
        let addresses = (near.peer_addr().unwrap(), near.local_addr().unwrap());
        let handle = Handle::default();
        let (inside, seen) = (Arc::clone(&handle), Arc::new(Mutex::new(None)));
        let noted = Arc::clone(&seen);
        let look = move |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
            let bev = inside.get().unwrap();
            let port = bev.with_stream(|tcp: &TcpStream| tcp.local_addr().unwrap().port());
            *noted.lock().unwrap() = Some((bev.peer_addr(), bev.local_addr(), port));
            dst.add_buffer(src)?;
            Ok(FilterStatus::Ok)
        };
        let bev = BufferEvent::new(near).filter(look.clone(), look);
        assert!(handle.set(bev.clone()).is_ok());
        far.write_all(b"x").await.unwrap();
        bev.input().readable(1).await.unwrap();
        let expected = (
            Some(addresses.0),
            Some(addresses.1),
            Some(addresses.1.port()),
        );
        assert_eq!(*seen.lock().unwrap(), Some(expected));
        bev.abort();
        bev.closed().await;
        assert_eq!(bev.peer_addr(), None);
    });
}

/// A stream that calls its connection in each of its functions and when it is dropped.
struct Curious(DuplexStream, Handle);

impl AsyncRead for Curious {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        use_handle(&self.1);
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for Curious {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        use_handle(&self.1);
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        use_handle(&self.1);
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        use_handle(&self.1);
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        use_handle(&self.1);
    }
}

#[test]
fn a_stream_may_call_its_connection_in_every_function_and_in_drop() {
    block_on_in_time(|| async {
        let (near, mut far) = duplex(64);
        let handle = Handle::default();
        let bev = BufferEvent::new(Curious(near, Arc::clone(&handle)));
        assert!(handle.set(bev.clone()).is_ok());
        far.write_all(b"in").await.unwrap();
        bev.input().readable(2).await.unwrap();
        bev.output().add(b"out").unwrap();
        bev.flush().await.unwrap();
        bev.shutdown().await.unwrap();
        let mut received = String::new();
        far.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "out");
        bev.with_stream(|_: &Curious| ())
            .expect("outside of the stream it is there");
        drop(far);
        bev.closed().await;
    });
}

#[test]
fn the_closure_of_with_stream_may_call_the_connection() {
    block_on_in_time(|| async {
        let (near, _far) = duplex(64);
        let bev = BufferEvent::new(near);
        tokio::task::yield_now().await;
        let inside = bev.with_stream(|_: &DuplexStream| {
            use_all_methods(&bev);
            bev.with_stream(|_: &DuplexStream| ())
        });
        assert_eq!(inside, Some(None), "the stream is in use");
        assert_eq!(bev.with_stream(|_: &DuplexStream| 1), Some(1));
        bev.with_stream(|_: &DuplexStream| bev.abort());
        bev.closed().await;
    });
}

/// Each closure looks at the stream that the other one uses.
#[test]
fn closures_of_two_threads_do_not_wait_for_each_other() {
    block_on_in_time(|| async {
        let (near, far) = duplex(64);
        let (a, b) = (BufferEvent::new(near), BufferEvent::new(far));
        tokio::task::yield_now().await;
        let threads = [(a.clone(), b.clone()), (b.clone(), a.clone())].map(|(first, second)| {
            thread::spawn(move || {
                for _ in 0..2000 {
                    first
                        .with_stream(|_: &DuplexStream| second.with_stream(|_: &DuplexStream| ()))
                        .expect("from outside it waits");
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        a.abort();
        b.abort();
    });
}

#[test]
fn the_closure_of_upgrade_may_call_the_connection() {
    block_on_in_time(|| async {
        let (near, _far) = duplex(64);
        let bev = BufferEvent::new(near);
        bev.upgrade(|stream: Prefixed<DuplexStream>| {
            use_all_methods(&bev);
            let bev = bev.clone();
            async move {
                use_all_methods(&bev);
                Ok(stream)
            }
        })
        .await
        .unwrap();
        bev.abort();
        bev.closed().await;
    });
}

/// A filter that calls its connection when it is dropped.
struct Last(Handle);

impl Drop for Last {
    fn drop(&mut self) {
        use_handle(&self.0);
    }
}

#[test]
fn the_drop_of_a_filter_may_call_the_connection() {
    block_on_in_time(|| async {
        for fails in [true, false] {
            let (near, mut far) = duplex(64);
            let handle = Handle::default();
            let last = Last(Arc::clone(&handle));
            let input =
                move |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
                    let _ = &last;
                    if fails {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    dst.add_buffer(src)?;
                    Ok(FilterStatus::Ok)
                };
            let output =
                |src: &mut EvBuffer, dst: &mut EvBuffer, _: Option<usize>, _: FlushMode| {
                    dst.add_buffer(src)?;
                    Ok(FilterStatus::Ok)
                };
            let bev = BufferEvent::new(near).filter(input, output);
            assert!(handle.set(bev.clone()).is_ok());
            far.write_all(b"x").await.unwrap();
            if !fails {
                bev.input().readable(1).await.unwrap();
                bev.abort();
            }
            bev.closed().await;
        }
    });
}

/// An error that calls a connection when it is dropped.
#[derive(Debug)]
struct LastError(BufferEvent);

impl fmt::Display for LastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the last error")
    }
}

impl Error for LastError {}

impl Drop for LastError {
    fn drop(&mut self) {
        use_all_methods(&self.0);
    }
}

#[test]
fn the_drop_of_a_discarded_event_may_call_the_connection() {
    block_on_in_time(|| async {
        let (near, _far) = duplex(64);
        // The callback takes the last events, which own handles.
        let bev = BufferEvent::builder().on_event(|_, _| ()).spawn(near);
        for _ in 0..100 {
            let error = io::Error::other(LastError(bev.clone()));
            bev.trigger_event(Event::ReadError(Arc::new(error)));
        }
        bev.abort();
        bev.closed().await;
        while bev.next_event().await.is_some() {}
        yield_many().await;
    });
}
