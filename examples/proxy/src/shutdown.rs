//! Requests to stop: SIGINT, SIGTERM, and the end of standard input where that was asked for.

use std::{io, thread};

use tokio::sync::oneshot;

/// Listens from the moment it is made, so that no request between two calls of [`next`](Self::next) is lost.
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
    /// A request that comes while nobody waits is kept for the next call.
    pub(crate) async fn next(&mut self) {
        let input_ended = async {
            match &mut self.input_ended {
                Some(ended) => _ = ended.await,
                None => std::future::pending().await,
            }
            // The end is told once; the receiver must not be asked again.
            self.input_ended = None;
        };
        tokio::select! {
            () = self.signals.next() => {}
            () = input_ended => {}
        }
    }
}

/// A thread of its own: a task that reads standard input would keep the runtime from ending.
fn watch_input() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // An error is an end, too.
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
