//! Sends file ranges to sockets inside the kernel, without a copy through this process.
//!
//! `sendfile` takes no flags, so a broken pipe also raises `SIGPIPE` where the process does not ignore it. Blocking the
//! signal around the call would need `unsafe` and two more system calls for each send.

use std::{
    io,
    task::{Context, Poll, ready},
};

use rustix::{fs::sendfile, io::Errno};
use tokio::io::Interest;

use crate::{buffer::chain::EvBuffer, loading::Loading, stats, transport::lookup::Socket};

/// The most bytes of one `sendfile` call, and of the look into the page cache before it. A socket takes about 1.5 MiB at once;
/// with half of this limit, a transfer made 1.4 times as many system calls.
const SEND_MAX: usize = 1 << 20;

impl Socket<'_> {
    /// Sends at most `max` bytes of the file range at the front of `chain`, and removes what was sent. What the page cache
    /// does not hold is read by `loading` first.
    ///
    /// `None` if the chain does not begin with a file range, or if the kernel does not send from that kind of file.
    pub(crate) fn poll_send_file(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
        loading: &mut Loading,
    ) -> Poll<Option<io::Result<usize>>> {
        let Some(part) = chain.first_file(max.min(SEND_MAX)) else {
            return Poll::Ready(None);
        };
        let sent = loop {
            if let Err(error) = ready!(self.poll_ready(cx, Interest::WRITABLE)) {
                return Poll::Ready(Some(Err(error)));
            }
            let len = ready!(loading.poll_ready(cx, &part));
            let sent = self.transfer(Interest::WRITABLE, |socket| {
                let (file, mut at) = part.start();
                let n = sendfile(&**socket, file, Some(&mut at), len)?;
                // A send is also short at the end of the file, where the socket stays ready.
                Ok((n, n))
            });
            if let Some(sent) = sent {
                break sent;
            }
        };
        Poll::Ready(match sent {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                stats::sent_from_file(n);
                Some(chain.drain(n).map_err(Into::into))
            }
            Err(error) if refused(&error) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

fn refused(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOSYS)
    )
}
