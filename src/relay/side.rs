//! One side of a relay: its stream, and how to find the socket in it.

use super::pump::Endpoint;
use crate::transport::{self, Finder, Hook, Socket};

/// A user's function. It is rare, so it is boxed twice: a pointer to it takes one word.
pub(super) struct SocketHook<S>(pub(super) Box<Hook<S>>);

/// A stream and the user's function that finds its socket.
pub(super) struct Side<S> {
    pub(super) stream: S,
    pub(super) hook: Option<Box<SocketHook<S>>>,
}

impl<S> Side<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, hook: None }
    }

    #[inline]
    pub(super) fn finder(&self) -> Finder<'_, S> {
        Finder::with_hook(self.hook.as_deref().map(|hook| &*hook.0))
    }

    #[inline]
    pub(super) fn endpoint(&mut self) -> Endpoint<'_, S> {
        Endpoint {
            finder: Finder::with_hook(self.hook.as_deref().map(|hook| &*hook.0)),
            stream: &mut self.stream,
        }
    }

    pub(super) fn socket(&self) -> Option<Socket<'_>> {
        self.finder().socket(&self.stream)
    }

    pub(super) fn seems_readable(&self) -> bool {
        transport::seems_readable(&self.stream, self.finder())
    }

    /// Returns whether closing the stream can discard bytes that were written to it: a TCP socket that the relay owns.
    pub(super) fn closes_tcp(&self) -> bool {
        let finder = self.finder();
        let socket = finder.socket(&self.stream);
        finder.owns(&self.stream) && socket.is_some_and(|socket| socket.is_tcp())
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.finder().unacknowledged(&self.stream).unwrap_or(0)
    }
}
