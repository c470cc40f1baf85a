//! When a direction lets its source gather bytes.

use std::task::Context;

use super::{Direction, Phase};
use crate::{relay::gather::Gather, transport::Finder};

impl Direction {
    /// Returns whether the source gathers bytes now.
    #[inline]
    pub(crate) fn gathers(&self) -> bool {
        self.gather.as_deref().is_some_and(Gather::is_raised)
    }

    /// Returns whether the source may gather bytes: the flow is spliced without a limit, and nothing has ended.
    fn may_gather(&self) -> bool {
        self.phase == Phase::Open
            && self.mode.is_splicing()
            && self.allowance == u64::MAX
            && self.empty_reads_left.is_none()
    }

    /// Makes every byte of the source, `stream`, wake the task, as before. The next read takes what was gathered.
    #[inline]
    pub(crate) fn stop_gathering<S>(&mut self, stream: &S, finder: Finder<'_, S>) {
        let Some(gather) = &mut self.gather else {
            return;
        };
        if gather.stop(stream, finder) {
            self.hang_up.clear();
        }
    }

    /// Begins a turn: lets it read what the source has gathered if it is time. Stops gathering if it may no longer.
    #[inline]
    pub(crate) fn look_at_source<S>(&mut self, stream: &S, finder: Finder<'_, S>) {
        if self.gather.is_none() {
            return;
        }
        if !self.may_gather() {
            self.stop_gathering(stream, finder);
        } else if self.gather.as_mut().is_some_and(|g| g.begin_turn()) {
            self.hang_up.clear();
        }
    }

    /// Ends a turn that has read `read` bytes of the source and left none. Returns whether it is time to look again.
    pub(crate) fn gather<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &S,
        finder: Finder<'_, S>,
        read: usize,
    ) -> bool {
        if !self.may_gather() {
            // The turn has ended the splicing, for example for lack of a pipe.
            self.stop_gathering(stream, finder);
            return false;
        }
        // While the sink is behind, it is the one that decides how much each turn moves.
        let may_begin = read > 0 && self.held() == 0 && !finder.is_inside(stream);
        if !may_begin && !self.gathers() {
            return false;
        }
        let gather = self.gather.get_or_insert_default();
        gather.poll_end_turn(cx, stream, finder, read).is_ready()
    }
}

#[cfg(all(test, feature = "net", target_os = "linux"))]
mod tests {
    use std::{os::fd::AsFd, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpStream, UnixStream},
        time::timeout,
    };

    use crate::{
        relay::{RelayOutcome, Splice, builder::Relay, future::Running, transfer::Transfer},
        test_net,
        transport::{Pipe, Socket, pipe_test_lock},
    };

    const PIECE: usize = 32 << 10;

    /// Its buffers hold several pieces, also where the system's limits for TCP are small.
    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let pair = test_net::tcp_pair().await;
        for stream in [&pair.0, &pair.1] {
            let socket = socket2::SockRef::from(stream);
            socket.set_recv_buffer_size(8 * PIECE).unwrap();
            socket.set_send_buffer_size(8 * PIECE).unwrap();
        }
        pair
    }

    fn mark(stream: &TcpStream) -> u32 {
        Socket::Tcp(stream).low_water().unwrap()
    }

    /// Sends `len` bytes through `relay`, which does not end.
    async fn send<F: Future + Unpin>(
        relay: &mut F,
        from: &mut TcpStream,
        to: &mut TcpStream,
        len: usize,
    ) {
        let (data, mut received) = (vec![1; len], vec![0; len]);
        tokio::select! {
            biased;
            _ = relay => panic!("neither side has ended"),
            sent = async { tokio::try_join!(from.write_all(&data), to.read_exact(&mut received)) } => {
                sent.unwrap();
            }
        }
    }

    type Lent<'a> = Running<&'a mut TcpStream, &'a mut TcpStream>;

    /// Sends pieces, which seem to come without a pause as the clock stands, until the source gathers.
    async fn send_until_it_gathers(
        relay: &mut Lent<'_>,
        left: &mut TcpStream,
        right: &mut TcpStream,
    ) {
        for _ in 0..10_000 {
            send(relay, left, right, PIECE).await;
            if relay.a_to_b.gathers() {
                assert!(!relay.b_to_a.gathers());
                return;
            }
        }
        panic!("the source of a bulk flow never gathers");
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Ending {
        Dropped,
        Stopped,
        Ended,
        Failed,
        Answered,
        Quiet,
    }

    #[tokio::test(start_paused = true)]
    async fn the_mark_of_the_source_is_as_before_in_the_end() {
        let _lock = pipe_test_lock();
        for ending in [
            Ending::Dropped,
            Ending::Stopped,
            Ending::Ended,
            Ending::Failed,
            Ending::Answered,
            Ending::Quiet,
        ] {
            for before in [1, 2] {
                let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
                assert!(Socket::Tcp(&a).set_low_water(before));
                let mut relay = Relay::new(&mut a, &mut b).run_until_error();
                send_until_it_gathers(&mut relay, &mut left, &mut right).await;
                assert!(mark(relay.sides.as_ref().unwrap().0.stream) > 2);
                match ending {
                    Ending::Dropped => {}
                    Ending::Stopped => {
                        let stopped = relay.stop().unwrap();
                        assert!(matches!(stopped, RelayOutcome::Stopped(_)));
                    }
                    Ending::Ended => {
                        left.shutdown().await.unwrap();
                        right.shutdown().await.unwrap();
                        (&mut relay).await.unwrap();
                    }
                    Ending::Failed => {
                        let reset = Some(Duration::ZERO);
                        socket2::SockRef::from(&right).set_linger(reset).unwrap();
                        drop(right);
                        assert!((&mut relay).await.is_err());
                    }
                    Ending::Answered => {
                        send(&mut relay, &mut right, &mut left, 1).await;
                        assert!(!relay.a_to_b.gathers());
                    }
                    Ending::Quiet => {
                        let quiet = timeout(Duration::from_millis(50), &mut relay).await;
                        assert!(quiet.is_err() && !relay.a_to_b.gathers());
                        assert_eq!(mark(relay.sides.as_ref().unwrap().0.stream), before);
                    }
                }
                drop(relay);
                assert_eq!(mark(&a), before, "{ending:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_below_the_mark_are_delivered() {
        let _lock = pipe_test_lock();
        let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
        let mut relay = Relay::new(&mut a, &mut b).run_until_error();
        for tail in [1, 100, PIECE, 5 * PIECE, 1 << 20] {
            send_until_it_gathers(&mut relay, &mut left, &mut right).await;
            send(&mut relay, &mut left, &mut right, tail).await;
        }
        send_until_it_gathers(&mut relay, &mut left, &mut right).await;
        left.write_all(&[1; 100]).await.unwrap();
        drop(left);
        let mut rest = vec![];
        tokio::select! {
            biased;
            _ = &mut relay => panic!("one side has not ended"),
            read = right.read_to_end(&mut rest) => assert_eq!(read.unwrap(), 100),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_no_longer_spliced_gathers_no_more() {
        let _lock = pipe_test_lock();
        let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
        let mut relay = Relay::new(&mut a, &mut b).run_until_error();
        send_until_it_gathers(&mut relay, &mut left, &mut right).await;
        let all: Vec<Pipe> = std::iter::from_fn(Pipe::lease).collect();
        // Found by a look, which gets no pipe.
        send(&mut relay, &mut left, &mut right, PIECE).await;
        assert!(!relay.a_to_b.gathers() && !relay.a_to_b.mode.is_splicing());
        assert_eq!(mark(relay.sides.as_ref().unwrap().0.stream), 1);
        send(&mut relay, &mut left, &mut right, 100).await;
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_whose_messages_are_answered_never_gathers() {
        let _lock = pipe_test_lock();
        for (request, answer) in [(PIECE, PIECE), (PIECE, 1), (100, 100)] {
            let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
            let mut relay = Relay::new(&mut a, &mut b).run_until_error();
            for _ in 0..200 {
                send(&mut relay, &mut left, &mut right, request).await;
                send(&mut relay, &mut right, &mut left, answer).await;
                assert!(!relay.a_to_b.gathers() && !relay.b_to_a.gathers());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flow_that_is_limited_or_not_spliced_never_gathers() {
        let _lock = pipe_test_lock();
        for limited in [false, true] {
            let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
            let relay = Relay::new(&mut a, &mut b);
            let mut relay = match limited {
                true => relay.max_bytes(1 << 40).run_until_error(),
                false => relay.splice(Splice::Never).run_until_error(),
            };
            for _ in 0..200 {
                send(&mut relay, &mut left, &mut right, PIECE).await;
                assert!(!relay.a_to_b.gathers());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_gives_the_mark_back() {
        let _lock = pipe_test_lock();
        let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
        let same = a.as_fd().try_clone_to_owned().unwrap();
        let same = TcpStream::from_std(same.into()).unwrap();
        let mut transfer = Box::pin(Transfer::new(&mut a, &mut b).run());
        for _ in 0..10_000 {
            send(&mut transfer, &mut left, &mut right, PIECE).await;
            if mark(&same) > 1 {
                break;
            }
        }
        assert!(mark(&same) > 1);
        drop(transfer);
        assert_eq!(mark(&same), 1);
    }

    /// Without timers, what stays below the mark would wait for more.
    #[test]
    fn without_timers_no_source_gathers() {
        let _lock = pipe_test_lock();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime.unwrap().block_on(async {
            let ((mut left, mut a), (mut right, mut b)) = (tcp_pair().await, tcp_pair().await);
            let mut relay = Relay::new(&mut a, &mut b).run_until_error();
            for _ in 0..200 {
                send(&mut relay, &mut left, &mut right, PIECE).await;
                assert!(!relay.a_to_b.gathers());
            }
            drop(relay);
            assert_eq!(mark(&a), 1);
        });
    }

    #[tokio::test]
    async fn a_unix_socket_has_no_mark_that_can_be_set() {
        let (unix, _peer) = UnixStream::pair().unwrap();
        assert_eq!(Socket::Unix(&unix).low_water(), None);
        assert!(!Socket::Unix(&unix).set_low_water(2));
    }
}
