//! Sends what a TCP socket has received to another one, and reads from the first only what the other has taken.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::io::Interest;

use crate::{
    buffer::chain::EvBuffer,
    transport::{Forwarded, lookup::Socket},
};

impl Socket<'_> {
    /// Sends at most `max` of the bytes that this TCP socket has received. What `to` does not take stays unread. The error is
    /// that of reading.
    pub(crate) fn forward(
        self,
        cx: &mut Context<'_>,
        to: Socket<'_>,
        max: usize,
    ) -> io::Result<Forwarded> {
        loop {
            match self.poll_ready(cx, Interest::READABLE) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(Forwarded::SourceWaits),
            }
            match to.poll_ready(cx, Interest::WRITABLE) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Ok(Forwarded::WriteFailed(error)),
                Poll::Pending => return Ok(Forwarded::SinkWaits),
            }
            let mut outcome = Forwarded::SinkWaits;
            // All of it within one `transfer`: it clears only the readiness from before the look.
            let moved = self.transfer(Interest::READABLE, |from| {
                let mut seen = EvBuffer::new();
                let n = seen.peek_from(from, max)?;
                if n == 0 {
                    outcome = Forwarded::End;
                    return Ok((0, 0));
                }
                let (sent, _) = seen.with_slices(n, |slices| to.poll_send_slices(cx, slices));
                match sent {
                    Poll::Ready(Ok(taken @ 1..)) => {
                        seen.skip_in(from, taken)?;
                        outcome = Forwarded::Bytes { seen: n, taken };
                        // The source is empty if it had less than `max`, and the sink took all of it.
                        Ok((taken, if taken == n { max } else { taken }))
                    }
                    Poll::Ready(Ok(_)) => {
                        outcome = Forwarded::WriteFailed(io::ErrorKind::WriteZero.into());
                        Ok((0, 0))
                    }
                    Poll::Ready(Err(error)) => {
                        outcome = Forwarded::WriteFailed(error);
                        Ok((0, 0))
                    }
                    Poll::Pending => Ok((0, 0)),
                }
            });
            match moved {
                Some(Ok(_)) => return Ok(outcome),
                Some(Err(error)) => return Err(error),
                // The readiness was out of date.
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::test_net::tcp_pair;

    async fn forwarded(from: &TcpStream, to: &TcpStream, max: usize) -> io::Result<Forwarded> {
        poll_fn(
            |cx| match Socket::Tcp(from).forward(cx, Socket::Tcp(to), max) {
                Ok(Forwarded::SourceWaits) => Poll::Pending,
                outcome => Poll::Ready(outcome),
            },
        )
        .await
    }

    #[tokio::test]
    async fn bytes_arrive_once_and_in_order_and_then_the_end() {
        let ((mut source, from), (to, mut sink)) = (tcp_pair().await, tcp_pair().await);
        let data: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        let (sent, mut received) = (data.clone(), vec![0; data.len()]);
        let sending = tokio::spawn(async move {
            source.write_all(&sent).await.unwrap();
            source.shutdown().await.unwrap();
        });
        let receiving = sink.read_exact(&mut received);
        let forwarding = async {
            let mut moved = 0;
            loop {
                match forwarded(&from, &to, 7_000).await.unwrap() {
                    Forwarded::Bytes { seen, taken } => {
                        assert!((1..=seen).contains(&taken) && seen <= 7_000);
                        moved += taken;
                    }
                    Forwarded::SinkWaits => to.writable().await.unwrap(),
                    Forwarded::End => break moved,
                    other => panic!("{other:?}"),
                }
            }
        };
        let (moved, received_all) = tokio::join!(forwarding, receiving);
        received_all.unwrap();
        sending.await.unwrap();
        assert_eq!(moved, data.len());
        assert!(received == data);
    }

    #[tokio::test]
    async fn what_a_full_sink_does_not_take_stays_in_the_source() {
        let ((mut source, mut from), (to, mut sink)) = (tcp_pair().await, tcp_pair().await);
        to.writable().await.unwrap();
        let (mut moved, mut sent) = (0, 0);
        loop {
            // Small kernel buffers may be full at both ends, so the source does not wait alone.
            tokio::select! {
                written = source.write(&[7; 60_000]) => sent += written.unwrap(),
                outcome = forwarded(&from, &to, 1 << 20) => match outcome.unwrap() {
                    Forwarded::Bytes { taken, .. } => moved += taken,
                    Forwarded::SinkWaits => break,
                    other => panic!("{other:?}"),
                },
            }
        }
        drop((source, to));
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.unwrap();
        assert_eq!(moved + rest.len(), sent);
        let mut received = Vec::new();
        sink.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), moved);
    }

    #[tokio::test]
    async fn a_sink_that_is_gone_fails_the_write_and_leaves_the_bytes() {
        let ((mut source, mut from), (mut to, _sink)) = (tcp_pair().await, tcp_pair().await);
        source.write_all(&[7; 5]).await.unwrap();
        source.shutdown().await.unwrap();
        to.writable().await.unwrap();
        to.shutdown().await.unwrap();
        match forwarded(&from, &to, 100).await.unwrap() {
            Forwarded::WriteFailed(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [7; 5]);
    }
}
