//! Files to sockets: the kernel sends the bytes, which never come into this process.

use std::{
    io,
    task::{Context, Poll, ready},
};

use rustix::{fs::sendfile, io::Errno};
use tokio::io::Interest;

use crate::{EvBuffer, transport::lookup::Socket};

impl Socket<'_> {
    /// Sends at most `max` bytes of the file range at the front of `chain`, and drains what was taken.
    ///
    /// `None` if there is no such range, or the kernel does not send from that kind of file.
    pub(crate) fn poll_send_file(
        self,
        cx: &mut Context<'_>,
        chain: &mut EvBuffer,
        max: usize,
    ) -> Poll<Option<io::Result<usize>>> {
        let Some((file, at, len)) = chain.first_file() else {
            return Poll::Ready(None);
        };
        let sent = loop {
            if let Err(error) = ready!(self.poll_ready(cx, Interest::WRITABLE)) {
                return Poll::Ready(Some(Err(error)));
            }
            let sent = self.transfer(Interest::WRITABLE, |socket| {
                let mut at = at;
                let n = sendfile(&**socket, file, Some(&mut at), len.min(max))?;
                // It falls short where the file ends, too, and then the socket is as ready as before.
                Ok((n, n))
            });
            if let Some(sent) = sent {
                break sent;
            }
        };
        Poll::Ready(match sent {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => Some(chain.drain(n).map_err(Into::into)),
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
