//! The future of a relay: polls both directions, asks the policy, applies what it says.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    OnError, Peer, Progress, RelayCounters, RelayEnd, RelayError, RelayStream, RelaySummary, Step,
    clock::Clock,
    direction::{Direction, Most},
    pump::{End, Pump, Turn},
};
use crate::transport::Finder;

/// How a relay goes on when one of its streams has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterError {
    /// Not at all, and it leaves the streams to their owner.
    Stop,
    /// It delivers what was read, then tells the healthy side; `None` is the default for its kind.
    Deliver(Option<OnError>),
}

/// What does not change while a relay runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) most: Most,
    /// The first end of stream ends both directions.
    pub(super) close_at_first: bool,
    pub(super) after_error: AfterError,
}

/// Whom a relay tells what it has delivered.
#[derive(Default)]
pub(super) struct Observers {
    pub(super) counters: Option<Arc<RelayCounters>>,
    pub(super) on_progress: Option<Box<dyn FnMut(Progress) + Send>>,
    /// What they know already.
    told: Progress,
}

/// A relay that runs. Everything it needs only now and then is behind a box, made when it is needed.
pub(super) struct Running<A, B> {
    pub(super) a: A,
    pub(super) b: B,
    pub(super) find_a: Finder<A>,
    pub(super) find_b: Finder<B>,
    pub(super) a_to_b: Direction,
    pub(super) b_to_a: Direction,
    pub(super) settings: Settings,
    pub(super) observers: Option<Box<Observers>>,
    pub(super) clock: Clock,
    /// Some once a stream has failed; from then on only the healthy one is written to.
    pub(super) failure: Option<Box<Failure>>,
    /// One direction was ended because the other had ended.
    pub(super) stopped: bool,
}

/// The first operation that failed.
#[derive(Debug)]
pub(super) struct Failure {
    peer: Peer,
    step: Step,
    error: io::Error,
    /// The healthy side is to be reset once it has what was read for it.
    reset: bool,
}

impl<A: RelayStream, B: RelayStream> Future for Running<A, B> {
    type Output = Result<RelaySummary, RelayError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let turn = this.turn(cx);
        this.tell();
        let end = match this.finished() {
            Some(end) => end,
            None => ready!(this.clock.poll(cx, turn)),
        };
        Poll::Ready(this.result(end))
    }
}

impl<A: RelayStream, B: RelayStream> Running<A, B> {
    /// Moves what can be moved in both directions now.
    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut turn = Turn::default();
        loop {
            let failed = self.failure.is_some();
            turn += self.turn_a_to_b(cx);
            turn += self.turn_b_to_a(cx);
            let newly_failed = !failed && self.failure.is_some();
            if !newly_failed && !self.half_close() {
                return turn;
            }
            // One direction has more to do now than when it had its turn: at most once for each reason.
        }
    }

    fn turn_a_to_b(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut pump = Pump {
            direction: &mut self.a_to_b,
            from: End {
                stream: &mut self.a,
                finder: self.find_a,
            },
            to: End {
                stream: &mut self.b,
                finder: self.find_b,
            },
            most: self.settings.most,
        };
        match pump.turn(cx) {
            Ok(turn) => return turn,
            Err((Step::Read, error)) => self.fail(Peer::A, Step::Read, error),
            Err((step, error)) => self.fail(Peer::B, step, error),
        }
        Turn::default()
    }

    fn turn_b_to_a(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut pump = Pump {
            direction: &mut self.b_to_a,
            from: End {
                stream: &mut self.b,
                finder: self.find_b,
            },
            to: End {
                stream: &mut self.a,
                finder: self.find_a,
            },
            most: self.settings.most,
        };
        match pump.turn(cx) {
            Ok(turn) => return turn,
            Err((Step::Read, error)) => self.fail(Peer::B, Step::Read, error),
            Err((step, error)) => self.fail(Peer::A, step, error),
        }
        Turn::default()
    }

    /// Applies the policy for the first end of stream; true if a direction has more to do by that.
    fn half_close(&mut self) -> bool {
        let (a_to_b, b_to_a) = (self.a_to_b.is_open(), self.b_to_a.is_open());
        if a_to_b && b_to_a {
            return false;
        }
        self.clock.deadlines.half_closed();
        if a_to_b == b_to_a || !self.settings.close_at_first {
            return false;
        }
        self.stopped = true;
        self.a_to_b.end();
        self.b_to_a.end();
        true
    }

    /// Takes note of an operation that failed, and prepares what is still to be done for the healthy side.
    fn fail(&mut self, peer: Peer, step: Step, error: io::Error) {
        if self.failure.is_some() {
            // Now both have failed, and the first tells more.
            self.a_to_b.abandon();
            self.b_to_a.abandon();
            return;
        }
        let mut failure = Failure {
            peer,
            step,
            error,
            reset: false,
        };
        let (to_healthy, to_failed, healthy_is_tcp) = match peer {
            Peer::A => (
                &mut self.a_to_b,
                &mut self.b_to_a,
                self.find_b.is_tcp(&self.b),
            ),
            Peer::B => (
                &mut self.b_to_a,
                &mut self.a_to_b,
                self.find_a.is_tcp(&self.a),
            ),
        };
        to_failed.abandon();
        match self.settings.after_error {
            AfterError::Stop => to_healthy.abandon(),
            // All of its stream was read before: it ends in order, whatever became of the other one.
            AfterError::Deliver(_) if !to_healthy.is_open() => {}
            AfterError::Deliver(Some(OnError::Reset)) => failure.reset = true,
            AfterError::Deliver(Some(OnError::Fin)) => {}
            AfterError::Deliver(None) => failure.reset = healthy_is_tcp,
        }
        if failure.reset {
            to_healthy.cut();
        } else {
            to_healthy.end();
        }
        self.clock.deadlines.failed();
        self.failure = Some(Box::new(failure));
    }

    /// What ended the relay, if both directions have come to their end.
    fn finished(&self) -> Option<RelayEnd> {
        if !self.a_to_b.is_done() || !self.b_to_a.is_done() {
            return None;
        }
        Some(if self.stopped {
            RelayEnd::FirstEof
        } else {
            RelayEnd::Eof
        })
    }

    fn result(&mut self, end: RelayEnd) -> Result<RelaySummary, RelayError> {
        let Some(failure) = self.failure.take() else {
            let summary = self.summary(end);
            tracing::debug!(?summary, "relay ended");
            return Ok(summary);
        };
        let Failure {
            peer,
            step,
            error,
            reset,
        } = *failure;
        if reset {
            match peer {
                Peer::A => self.find_b.reset_on_close(&self.b),
                Peer::B => self.find_a.reset_on_close(&self.a),
            }
        }
        let summary = self.summary(RelayEnd::Error);
        tracing::debug!(?summary, %peer, ?step, %error, "relay failed");
        Err(RelayError {
            summary,
            peer,
            step,
            error,
        })
    }

    fn summary(&self, reason: RelayEnd) -> RelaySummary {
        RelaySummary::new(self.progress(), reason)
    }

    fn progress(&self) -> Progress {
        Progress {
            a_to_b: self.a_to_b.written,
            b_to_a: self.b_to_a.written,
        }
    }

    /// Tells the observers what was delivered since they were last told.
    fn tell(&mut self) {
        let progress = self.progress();
        if let Some(observers) = &mut self.observers {
            observers.tell(progress);
        }
    }
}

impl Observers {
    fn tell(&mut self, progress: Progress) {
        let told = std::mem::replace(&mut self.told, progress);
        if told == progress {
            return;
        }
        if let Some(counters) = &self.counters {
            counters.add(progress.a_to_b - told.a_to_b, progress.b_to_a - told.b_to_a);
        }
        if let Some(on_progress) = &mut self.on_progress {
            on_progress(progress);
        }
    }
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_relay_of_two_sockets_is_small() {
        let size = size_of::<Running<TcpStream, TcpStream>>();
        assert!(size <= 512, "{size} bytes");
    }

    #[cfg(target_os = "linux")]
    mod splice {
        use tokio::{
            io::{AsyncReadExt, AsyncWriteExt},
            net::UnixStream,
        };

        use crate::{
            EvBuffer, Prefixed, Relay,
            relay::{Splice, splice_mode::Mode},
            transport::{Pipe, one_at_a_time},
        };

        /// Whether a relay splices after `len` bytes in pieces of `piece`, and what it holds when they have passed.
        async fn splices(mode: Splice, len: usize, piece: usize) -> bool {
            let (mut left, a) = UnixStream::pair().unwrap();
            let (mut right, b) = UnixStream::pair().unwrap();
            let mut running = Relay::new(a, b).splice(mode).run_until_error();
            let traffic = async {
                let (data, mut received) = (vec![1; piece], vec![0; piece]);
                for _ in 0..len / piece {
                    let (sent, got) =
                        tokio::join!(left.write_all(&data), right.read_exact(&mut received));
                    sent.and(got.map(drop)).unwrap();
                }
                // Lets the relay find that there is no more.
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                _ = &mut running => panic!("nobody has ended"),
                () = traffic => {}
            }
            assert!(running.a_to_b.pipe.is_none(), "an idle relay keeps no pipe");
            assert!(
                !running.b_to_a.mode.is_splicing(),
                "each direction is judged for itself"
            );
            running.a_to_b.mode.is_splicing()
        }

        #[tokio::test]
        async fn bulk_is_spliced_and_small_messages_are_not() {
            let _all = one_at_a_time();
            assert!(splices(Splice::Auto, 4 << 20, 100_000).await);
            assert!(!splices(Splice::Auto, 4 << 20, 1_000).await);
            assert!(!splices(Splice::Never, 4 << 20, 100_000).await);
        }

        #[tokio::test]
        async fn a_prefixed_socket_may_be_spliced_and_gives_its_prefix_as_segments() {
            let (_left, a) = UnixStream::pair().unwrap();
            let (_right, mut b) = UnixStream::pair().unwrap();
            let a = Prefixed::new(a, EvBuffer::from(&b"prefix"[..]));
            let running = Relay::new(a, &mut b)
                .initial(EvBuffer::from(&b"first, "[..]), EvBuffer::new())
                .run_until_error();
            assert!(running.a.prefix().is_empty());
            assert_eq!(running.a_to_b.chain, b"first, prefix"[..]);
            assert_ne!(running.a_to_b.mode, Mode::Never);
        }

        #[tokio::test]
        async fn without_a_pipe_bytes_are_copied() {
            let _all = one_at_a_time();
            let all: Vec<Pipe> = std::iter::from_fn(Pipe::lease).collect();
            assert!(!all.is_empty());
            splices(Splice::Auto, 8 << 20, 100_000).await;
        }
    }
}
