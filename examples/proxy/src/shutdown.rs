//! Requests to stop: SIGINT, SIGTERM, and the end of standard input if that is enabled.

use std::{io, thread};

use tokio::sync::oneshot;

/// Listens from its creation on, so that a request between two calls of [`next`](Self::next) is not lost.
pub(crate) struct StopRequests {
    signals: Signals,
    input_ended: Option<oneshot::Receiver<()>>,
}

impl StopRequests {
    pub(crate) fn listen(until_eof: bool) -> io::Result<Self> {
        Ok(Self {
            signals: Signals::listen()?,
            input_ended: until_eof.then(watch_input),
        })
    }

    /// Waits for the next request.
    ///
    /// # Cancel safety
    ///
    /// A request that comes while no call waits is kept for the next one.
    pub(crate) async fn next(&mut self) {
        let input_ended = async {
            match &mut self.input_ended {
                Some(ended) => _ = ended.await,
                None => std::future::pending().await,
            }
            // A receiver that is done must not be polled again.
            self.input_ended = None;
        };
        tokio::select! {
            () = self.signals.next() => {}
            () = input_ended => {}
        }
    }
}

/// Reads standard input on a thread: a task that does so would keep the runtime from ending.
fn watch_input() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // An error counts as the end.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
