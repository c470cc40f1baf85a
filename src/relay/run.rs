//! From the settings of a relay to its future.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use super::{
    RelayError, RelayOutcome, RelayStream, RelaySummary,
    builder::Relay,
    deadlines::Deadlines,
    direction::Direction,
    flow_limits::FlowLimits,
    future::{AfterError, Running, Settings},
    splice_mode::Mode,
};
use crate::transport::take_prefix;

impl<A: RelayStream, B: RelayStream> Relay<A, B> {
    /// Relays until both sides have ended, or until a policy or an error ends the relay.
    ///
    /// The streams that the relay owns are closed when the future is ready.
    ///
    /// # Errors
    ///
    /// A [`RelayError`] for the first operation that failed, with the bytes delivered. What was read before is delivered
    /// to the healthy side, for which it has the time of [`HalfClose::Linger`](super::HalfClose::Linger) (30 s with the
    /// other policies; at most 2 s for a side that took nothing when the other one failed). When writing to a side fails,
    /// what that side has sent is still read and delivered. `Interrupted` is not an error; the operation is repeated.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what was read and not yet written is lost with the future, and a TCP socket that the relay owns is
    /// then reset. [`run_until`](Self::run_until) stops a relay without loss. The bytes delivered are known from
    /// [`counters`](Self::counters).
    pub fn run(self) -> impl Future<Output = Result<RelaySummary, RelayError>> {
        let after_error = AfterError::Deliver(self.on_error);
        self.start(after_error)
    }

    /// Relays as [`run`](Self::run) does until `stop` is ready, and then returns the streams and the bytes in transit.
    ///
    /// Nothing is lost: what was read from one side and not yet written to the other is in the parts, also what was in a
    /// pipe in the kernel. A stream with its own buffer, such as TLS, may hold bytes that were written to it: flush it
    /// or continue to use it.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run). A relay that is stopped while it delivers what is left after an error returns that error.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe, as [`run`](Self::run); make `stop` ready instead of dropping the future.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio_evbuffer::{Relay, relay::RelayOutcome};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (mut client, a) = tokio::io::duplex(64);
    /// let (mut server, b) = tokio::io::duplex(4);
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let relay = tokio::spawn(Relay::new(a, b).run_until(async { stopped.await.unwrap() }));
    ///
    /// client.write_all(b"ping pong").await?;
    /// let mut start = [0; 4];
    /// server.read_exact(&mut start).await?;
    /// stop.send(()).unwrap();
    /// let RelayOutcome::Stopped(mut parts) = relay.await?? else { unreachable!() };
    /// drop(parts.b);
    /// let mut rest = start.to_vec();
    /// server.read_to_end(&mut rest).await?;
    /// rest.extend(parts.to_b.take_bytes(usize::MAX)?);
    /// assert_eq!(rest, b"ping pong");
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_until(
        self,
        stop: impl Future<Output = ()>,
    ) -> impl Future<Output = Result<RelayOutcome<A, B>, RelayError>> {
        let after_error = AfterError::Deliver(self.on_error);
        let mut running = self.start(after_error);
        async move {
            let mut stop = pin!(stop);
            poll_fn(|cx| {
                if let Poll::Ready(ended) = Pin::new(&mut running).poll(cx) {
                    return Poll::Ready(ended.map(RelayOutcome::Ended));
                }
                stop.as_mut().poll(cx).map(|()| running.stop())
            })
            .await
        }
    }

    /// Relays as [`run`](Self::run) does, but an error ends it at once and leaves the streams as they are.
    pub(super) fn run_until_error(self) -> Running<A, B> {
        self.start(AfterError::Stop)
    }

    /// Moves the settings into the future piece by piece: an `async fn` would keep them beside its state.
    fn start(mut self, after_error: AfterError) -> Running<A, B> {
        // Without its prefix a `Prefixed` socket can be used as a socket.
        let prefix_a = take_prefix(&mut self.a.stream, usize::MAX);
        let prefix_b = take_prefix(&mut self.b.stream, usize::MAX);
        let (a, b) = (self.a.socket(), self.b.socket());
        let (forth, back) = (Mode::of(self.splice, a, b), Mode::of(self.splice, b, a));
        let mut a_to_b = Direction::new(self.from_a, forth).followed_by(prefix_a);
        let mut b_to_a = Direction::new(self.from_b, back).followed_by(prefix_b);
        let flow = FlowLimits::new(self.flow, &mut a_to_b, &mut b_to_a);
        let has_time_limit = self.idle_timeout.is_some() || self.max_lifetime.is_some();
        let deadlines = has_time_limit
            .then(|| Deadlines::new(self.half_close, self.idle_timeout, self.max_lifetime));
        Running {
            sides: Some((self.a, self.b)),
            a_to_b,
            b_to_a,
            settings: Settings {
                limits: self.limits,
                half_close: self.half_close,
                after_error,
                allow_truncation: self.allow_truncation,
                max_bytes: self.max_bytes,
            },
            observers: self.observers,
            flow: flow.map(Box::new),
            deadlines: deadlines.map(Box::new),
            failure: None,
            ending: None,
            acknowledgement: None,
            waker: None,
        }
    }
}
