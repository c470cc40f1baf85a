//! How a relay ends: the policies for ends and errors, and the close of the connections.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{
    HalfClose, OnError, Peer, RelayEnd, RelayError, RelayOutcome, RelayParts, RelayStream,
    RelaySummary, Step,
    direction::{Direction, SinkEnd},
    future::{AcknowledgementWait, AfterError, Failure, Running},
    side::Side,
};
use crate::timer::{Backoff, Timer};

impl<A: RelayStream, B: RelayStream> Running<A, B> {
    /// Applies the policy for the first end of stream. Returns whether a direction has more to do now.
    pub(super) fn apply_half_close(&mut self) -> bool {
        let (a_to_b, b_to_a) = (self.a_to_b.is_open(), self.b_to_a.is_open());
        // Its linger time runs also while the end cannot be read, since the other side takes nothing.
        let end_is_near = self.a_to_b.end_is_near || self.b_to_a.end_is_near;
        let is_open = a_to_b && b_to_a && !end_is_near;
        if is_open || self.failure.is_some() || self.ending.is_some() {
            return false;
        }
        if self.settings.half_close != HalfClose::Propagate {
            self.deadlines().half_closed();
        }
        if a_to_b == b_to_a || self.settings.half_close != HalfClose::Close {
            return false;
        }
        self.ending = Some(RelayEnd::FirstEof);
        self.a_to_b.end(SinkEnd::Fin);
        self.b_to_a.end(SinkEnd::Fin);
        true
    }

    /// Stops reading once this many bytes were read. Returns whether a direction has more to do now.
    pub(super) fn apply_max_bytes(&mut self) -> bool {
        let max = self.settings.max_bytes;
        if max == u64::MAX || self.ending.is_some() {
            return false;
        }
        let is_open = self.a_to_b.is_open() || self.b_to_a.is_open();
        let reached = is_open && self.read() >= max;
        if reached && self.failure.is_some() {
            // The rest of the side that has failed is not read either.
            self.a_to_b.leave_rest();
            self.b_to_a.leave_rest();
        } else if reached {
            self.stop_reading(RelayEnd::MaxBytes);
        }
        reached
    }

    /// Ends both directions for `reason`: delivers what was read, and then ends a sink in order if its source had sent
    /// no more than that.
    pub(super) fn stop_reading(&mut self, reason: RelayEnd) {
        self.ending = Some(reason);
        self.recheck_sources();
        for direction in [&mut self.a_to_b, &mut self.b_to_a] {
            direction.end(match direction.source_is_empty() {
                true => SinkEnd::Fin,
                false => SinkEnd::Reset,
            });
        }
        self.deadlines().stopped_reading(false);
    }

    /// Records an operation that failed, and ends the directions accordingly.
    pub(super) fn fail(&mut self, peer: Peer, step: Step, error: io::Error) {
        let is_truncation = step == Step::Read && error.kind() == io::ErrorKind::UnexpectedEof;
        if is_truncation && self.settings.allow_truncation {
            self.direction_from(peer).source_has_ended();
            return;
        }
        match &self.failure {
            // What it had sent before it failed was read until here.
            Some(failure) if failure.peer == peer && step == Step::Read => {
                self.direction_from(peer).rest_has_failed();
                return;
            }
            Some(_) => {
                self.abandon(Peer::A);
                self.abandon(Peer::B);
                return;
            }
            None => {}
        }
        self.failure = Some(Box::new(Failure {
            peer,
            step,
            error,
            dropped: [0; 2],
        }));
        let AfterError::Deliver(on_error) = self.settings.after_error else {
            self.abandon(Peer::A);
            self.abandon(Peer::B);
            return;
        };
        self.abandon(peer.other());
        let sink_end = match on_error {
            OnError::Reset => SinkEnd::Reset,
            OnError::Fin => SinkEnd::Fin,
        };
        // The failed side may have answered before it closed, and a reset is noticed ahead of the bytes before it.
        let has_rest = step != Step::Read || self.has_unread(peer);
        let to_healthy = self.direction_from(peer);
        match has_rest {
            true => to_healthy.read_rest(sink_end),
            false => to_healthy.source_has_failed(sink_end),
        }
        let stalled = to_healthy.is_blocked();
        self.deadlines().stopped_reading(stalled);
    }

    /// Drops what was read from the side `from`: it cannot be delivered any more.
    fn abandon(&mut self, from: Peer) {
        let dropped = self.direction_from(from).abandon();
        if let Some(failure) = &mut self.failure {
            failure.dropped[usize::from(from == Peer::B)] += dropped;
        }
    }

    /// Waits until both directions are done, and everything that a close could discard was acknowledged.
    pub(super) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if !self.a_to_b.is_done() || !self.b_to_a.is_done() {
            return Poll::Pending;
        }
        ready!(self.poll_acknowledged(cx));
        Poll::Ready(self.ending.unwrap_or(RelayEnd::Eof))
    }

    /// Waits until no close can discard bytes that were written. A reset discards them, and so does closing a socket
    /// that has received bytes which were not read.
    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((a, b)) = &self.sides else {
            return Poll::Ready(());
        };
        let mut unacknowledged = 0;
        if discards_on_close(&self.b_to_a, &self.a_to_b) && a.closes_tcp() {
            unacknowledged += a.unacknowledged();
        }
        if discards_on_close(&self.a_to_b, &self.b_to_a) && b.closes_tcp() {
            unacknowledged += b.unacknowledged();
        }
        if unacknowledged == 0 {
            return Poll::Ready(());
        }
        let now = Instant::now();
        let wait = self.acknowledgement.get_or_insert_with(|| {
            let mut backoff = Backoff::default();
            Box::new(AcknowledgementWait {
                timer: Timer::default(),
                next: now + backoff.next_delay(),
                backoff,
                unacknowledged,
            })
        });
        let progress = unacknowledged < wait.unacknowledged;
        if progress {
            wait.unacknowledged = unacknowledged;
            wait.backoff = Backoff::default();
            wait.next = wait.next.min(now + wait.backoff.next_delay());
        }
        while wait.timer.poll(cx, wait.next).is_ready() {
            wait.next = now + wait.backoff.next_delay();
        }
        // Without a timer the wait would have no end.
        let polled = match wait.timer.is_unavailable() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        if progress {
            self.deadlines().note_progress();
        }
        polled
    }

    /// Ends the connections and closes the streams that the relay owns. Without `cx` no end of stream is sent.
    pub(super) fn finish(
        &mut self,
        mut cx: Option<&mut Context<'_>>,
        end: RelayEnd,
    ) -> Result<RelaySummary, RelayError> {
        let mut summary = self.summary(end);
        self.recheck_sources();
        if let Some((mut a, mut b)) = self.take_sides() {
            let lost = end_side(&mut a, &self.b_to_a, cx.as_deref_mut()).min(summary.b_to_a);
            summary.b_to_a -= lost;
            summary.held_b += lost;
            let lost = end_side(&mut b, &self.a_to_b, cx).min(summary.a_to_b);
            summary.a_to_b -= lost;
            summary.held_a += lost;
        }
        let Some(failure) = self.failure.take() else {
            if let Some(ending @ (RelayEnd::Lifetime | RelayEnd::MaxBytes)) = self.ending {
                summary.reason = ending;
            }
            tracing::debug!(?summary, "relay ended");
            return Ok(summary);
        };
        summary.reason = RelayEnd::Error;
        let Failure {
            peer, step, error, ..
        } = *failure;
        tracing::debug!(?summary, %peer, ?step, %error, "relay failed");
        Err(RelayError {
            summary,
            peer,
            step,
            error,
        })
    }

    /// Takes the relay apart: returns the streams, and what was read from one and not yet written to the other.
    pub(super) fn stop(&mut self) -> Result<RelayOutcome<A, B>, RelayError> {
        let is_done = self.a_to_b.is_done() && self.b_to_a.is_done();
        if self.failure.is_some() || is_done {
            let end = self.ending.unwrap_or(RelayEnd::Eof);
            return self.finish(None, end).map(RelayOutcome::Ended);
        }
        for peer in [Peer::A, Peer::B] {
            if let Err(error) = self.direction_from(peer).return_pipe() {
                self.fail(peer, Step::Read, error);
                return self.finish(None, RelayEnd::Error).map(RelayOutcome::Ended);
            }
        }
        let summary = self.summary(RelayEnd::Stopped);
        let Some((a, b)) = self.take_sides() else {
            panic!("a relay was stopped after it had ended");
        };
        tracing::debug!(?summary, "relay stopped");
        Ok(RelayOutcome::Stopped(RelayParts {
            a: a.stream,
            b: b.stream,
            to_a: std::mem::take(&mut self.b_to_a.chain),
            to_b: std::mem::take(&mut self.a_to_b.chain),
            summary,
        }))
    }
}

impl<A, B> Running<A, B> {
    /// Makes every byte from the side `peer` wake the task, as before the relay.
    #[inline]
    pub(super) fn stop_gathering(&mut self, peer: Peer) {
        let Some((a, b)) = &self.sides else { return };
        match peer {
            Peer::A => self.a_to_b.stop_gathering(&a.stream, a.finder()),
            Peer::B => self.b_to_a.stop_gathering(&b.stream, b.finder()),
        }
    }

    /// Takes the streams, as they were before the relay.
    fn take_sides(&mut self) -> Option<(Side<A>, Side<B>)> {
        self.stop_gathering(Peer::A);
        self.stop_gathering(Peer::B);
        self.sides.take()
    }

    /// Returns whether the socket of a side has received bytes that were not read.
    fn has_unread(&self, peer: Peer) -> bool {
        let unread = self.sides.as_ref().and_then(|(a, b)| match peer {
            Peer::A => a.finder().unread(&a.stream),
            Peer::B => b.finder().unread(&b.stream),
        });
        unread.is_some_and(|unread| unread > 0)
    }

    /// Finds out whether an open direction that ends now gets less than its source has sent.
    fn recheck_sources(&mut self) {
        let Some((a, b)) = &self.sides else { return };
        if self.a_to_b.is_open() {
            self.a_to_b.recheck_source(a.finder().unread(&a.stream));
        }
        if self.b_to_a.is_open() {
            self.b_to_a.recheck_source(b.finder().unread(&b.stream));
        }
    }
}

impl<A, B> Drop for Running<A, B> {
    /// A relay that is dropped while it runs ends as any other: a sink that gets less than its source has sent is reset.
    fn drop(&mut self) {
        self.stop_gathering(Peer::A);
        self.stop_gathering(Peer::B);
        if self.settings.after_error == AfterError::Stop {
            return;
        }
        self.recheck_sources();
        let Some((a, b)) = &self.sides else { return };
        if self.b_to_a.is_cut_short() && a.closes_tcp() {
            a.finder().reset_on_close(&a.stream);
        }
        if self.a_to_b.is_cut_short() && b.closes_tcp() {
            b.finder().reset_on_close(&b.stream);
        }
    }
}

/// Returns whether closing the sink of `to` can discard bytes, if it is a TCP socket. `from` has it as its source.
fn discards_on_close(to: &Direction, from: &Direction) -> bool {
    to.written > 0 && (to.resets_sink() || !from.source_ended())
}

/// Prepares the close of a stream, to which `to` leads. Returns the number of bytes that were written to it and that the
/// close discards.
fn end_side<S: RelayStream>(
    side: &mut Side<S>,
    to: &Direction,
    cx: Option<&mut Context<'_>>,
) -> u64 {
    if !side.finder().owns(&side.stream) {
        return 0;
    }
    if to.is_cut_short() {
        if !side.closes_tcp() {
            return 0;
        }
        let unacknowledged = side.unacknowledged();
        side.finder().reset_on_close(&side.stream);
        return unacknowledged as u64;
    }
    if !to.is_open() {
        return 0;
    }
    let unread = side.finder().unread(&side.stream).unwrap_or(0);
    // The kernel resets a connection that is closed with unread bytes, and discards what the peer has not acknowledged.
    let discarded = match unread > 0 && side.closes_tcp() {
        true => side.unacknowledged(),
        false => 0,
    };
    if let Some(cx) = cx {
        // The relay ends by a time limit, so there is one attempt and no wait.
        let _ = Pin::new(&mut side.stream).poll_shutdown(cx);
    }
    discarded as u64
}

#[cfg(all(test, feature = "net", target_os = "linux"))]
mod tests {
    use std::{
        io::{ErrorKind, Read},
        thread,
        time::Duration,
    };

    use socket2::SockRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
        time::{sleep, timeout},
    };

    use crate::{
        BufferEvent, Relay,
        relay::{RelayEnd, RelayError, RelaySummary, Step},
        test_net::tcp_pair,
        transport::Socket,
    };

    const HELLO: &[u8] = b"hello";

    /// A relay has brought a client a greeting of the server, and then the client's kernel takes no more.
    struct Behind {
        client: TcpStream,
        /// The client's socket at the relay.
        socket: TcpStream,
        server: BufferEvent,
        relaying: JoinHandle<Result<RelaySummary, RelayError>>,
        swapped: bool,
    }

    impl Behind {
        async fn new(swapped: bool) -> Self {
            let (mut client, near) = tcp_pair().await;
            let near = near.into_std().unwrap();
            let socket = TcpStream::from_std(near.try_clone().unwrap()).unwrap();
            let near = TcpStream::from_std(near).unwrap();
            let (far, server) = BufferEvent::pair();
            let relaying = match swapped {
                false => tokio::spawn(Relay::new(near, far).run()),
                true => tokio::spawn(Relay::new(far, near).run()),
            };
            server.output().add(HELLO).unwrap();
            client.read_exact(&mut [0; HELLO.len()]).await.unwrap();
            // Until the socket takes no more.
            while SockRef::from(&socket).send(&[1; 64 << 10]).is_ok() {}
            Self {
                client,
                socket,
                server,
                relaying,
                swapped,
            }
        }

        fn unacknowledged(&self) -> usize {
            Socket::Tcp(&self.socket).unacknowledged().unwrap()
        }

        /// Reads until few enough bytes are not acknowledged. A paused clock does not advance meanwhile.
        fn read_until(&self, few_enough: impl Fn(usize) -> bool) {
            let mut room = vec![0; 64 << 10];
            while !few_enough(self.unacknowledged()) {
                match (&*SockRef::from(&self.client)).read(&mut room) {
                    Ok(n) => assert!(n > 0),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                thread::yield_now();
            }
        }

        /// Returns how much of the greeting was delivered, and how much the relay holds.
        fn delivered(&self, summary: &RelaySummary) -> (u64, u64) {
            match self.swapped {
                false => (summary.b_to_a, summary.held_b),
                true => (summary.a_to_b, summary.held_a),
            }
        }
    }

    /// Such a close discards nothing, so the relay does not wait for a client that reads late.
    #[tokio::test]
    async fn an_orderly_end_does_not_wait_for_acknowledgements() {
        for swapped in [false, true] {
            let mut behind = Behind::new(swapped).await;
            behind.client.shutdown().await.unwrap();
            behind.server.shutdown().await.unwrap();
            // Only what hangs takes longer.
            let ended = timeout(Duration::from_secs(120), &mut behind.relaying).await;
            let summary = ended.unwrap().unwrap().unwrap();
            assert_eq!(summary.reason, RelayEnd::Eof);
            assert_eq!(behind.delivered(&summary), (HELLO.len() as u64, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_acknowledgement_restarts_the_linger_time() {
        for swapped in [false, true] {
            let mut behind = Behind::new(swapped).await;
            behind.server.abort();
            for _ in 0..3 {
                sleep(Duration::from_secs(20)).await;
                let before = behind.unacknowledged();
                behind.read_until(|left| left < before.max(1));
            }
            behind.read_until(|left| left == 0);
            let failed = (&mut behind.relaying).await.unwrap().unwrap_err();
            assert_eq!(failed.step, Step::Read);
            assert_eq!(behind.delivered(&failed.summary), (HELLO.len() as u64, 0));
        }
    }

    /// The relay cannot know which bytes are lost, so those that were written last count as held.
    #[tokio::test(start_paused = true)]
    async fn each_byte_counts_as_delivered_or_held_after_a_reset() {
        for swapped in [false, true] {
            let mut behind = Behind::new(swapped).await;
            behind.server.abort();
            let failed = (&mut behind.relaying).await.unwrap().unwrap_err();
            let (delivered, held) = behind.delivered(&failed.summary);
            assert_eq!(delivered + held, HELLO.len() as u64);
        }
    }
}
