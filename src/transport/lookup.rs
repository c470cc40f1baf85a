//! Finds the socket of a stream whose type only the caller knows.

use std::{any::TypeId, fmt, mem, net::SocketAddr, time::Duration};

use tokio::net::{TcpStream, tcp};
#[cfg(unix)]
use tokio::net::{UnixStream, unix};

use super::Prefixed;
use crate::buffer::chain::EvBuffer;

/// The socket of a stream, borrowed from it.
///
/// The crate reads from it and writes to it in place of the stream.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Socket<'a> {
    /// A TCP socket.
    Tcp(&'a TcpStream),
    /// A Unix stream socket.
    #[cfg(unix)]
    Unix(&'a UnixStream),
}

impl Socket<'_> {
    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

impl<'a> From<&'a TcpStream> for Socket<'a> {
    fn from(tcp: &'a TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

#[cfg(unix)]
impl<'a> From<&'a UnixStream> for Socket<'a> {
    fn from(unix: &'a UnixStream) -> Self {
        Self::Unix(unix)
    }
}

/// A user's function that finds the socket inside a stream.
pub(crate) type Hook<S> = dyn Fn(&S) -> Option<Socket<'_>> + Send;

/// Finds the socket of a stream of type `S`.
///
/// A `TcpStream` or `UnixStream`, or an owned half of one, is recognised by its type, by value or behind up to two
/// `&mut`. For an enum or a wrapper a hook of the user finds it.
pub(crate) struct Finder<'h, S> {
    hook: Option<&'h Hook<S>>,
}

impl<'h, S> Finder<'h, S> {
    /// Looks only at the type of the stream.
    pub(crate) const fn by_type() -> Self {
        Self { hook: None }
    }

    /// Asks `hook`, if there is one, about a stream whose type is not recognised.
    #[inline]
    pub(crate) fn with_hook(hook: Option<&'h Hook<S>>) -> Self {
        Self { hook }
    }

    #[inline]
    pub(crate) fn socket<'a>(&self, stream: &'a S) -> Option<Socket<'a>> {
        by_type(stream).or_else(|| self.hook?(stream))
    }

    /// Returns whether `S` is recognised as a socket: then all its functions are Tokio's or those of this crate.
    #[inline]
    pub(crate) fn is_socket_type() -> bool {
        is_kind_of::<S, TcpStream>() || {
            #[cfg(unix)]
            let is_unix = is_kind_of::<S, UnixStream>();
            #[cfg(not(unix))]
            let is_unix = false;
            is_unix
        }
    }

    /// Returns whether the socket is one inside the stream. The stream may hold bytes that the socket does not.
    #[inline]
    pub(crate) fn is_inside(&self, stream: &S) -> bool {
        by_type(stream).is_none() && self.socket(stream).is_some()
    }

    /// Returns whether dropping the stream closes it. A stream that was lent as `&mut` belongs to its owner, and half
    /// of a socket leaves it open for the other half.
    #[inline]
    pub(crate) fn owns(&self, _: &S) -> bool {
        mem::needs_drop::<S>() && !is_half::<S>()
    }

    /// Returns the address of the peer of a TCP socket.
    pub(crate) fn peer(&self, stream: &S) -> Option<SocketAddr> {
        match self.socket(stream)? {
            Socket::Tcp(tcp) => tcp.peer_addr().ok(),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// Returns the address of this end of a TCP socket.
    pub(crate) fn local(&self, stream: &S) -> Option<SocketAddr> {
        match self.socket(stream)? {
            Socket::Tcp(tcp) => tcp.local_addr().ok(),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// Makes a TCP socket send small writes at once.
    pub(crate) fn set_nodelay(&self, stream: &S) {
        if let Some(Socket::Tcp(tcp)) = self.socket(stream) {
            // Fails for a connection that is gone, which the first read reports.
            let _ = tcp.set_nodelay(true);
        }
    }

    /// Returns the bytes sent on a TCP socket that the peer's kernel has not acknowledged; `None` where that is
    /// unknown.
    pub(crate) fn unacknowledged(&self, stream: &S) -> Option<usize> {
        self.socket(stream)?.unacknowledged()
    }

    /// Returns the bytes that a socket has received and that were not read; `None` where that is unknown.
    pub(crate) fn unread(&self, stream: &S) -> Option<u64> {
        self.socket(stream)?.unread()
    }

    /// Makes a TCP socket send a reset when it is closed, or at once if it is inside the stream. Does nothing for any other
    /// stream.
    ///
    /// The reset discards what the peer has not acknowledged.
    pub(crate) fn reset_on_close(&self, stream: &S) {
        if let Some(Socket::Tcp(tcp)) = self.socket(stream) {
            // Both fail only for a connection that is gone already.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
            // A wrapper may end its stream in order when it is dropped, as an owned half does.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if self.is_inside(stream) {
                let _ = rustix::net::connect_unspec(tcp);
            }
        }
    }
}

impl<S> Clone for Finder<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Finder<'_, S> {}

impl<S> fmt::Debug for Finder<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder")
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

/// Takes at most `max` bytes of the prefix of a [`Prefixed`] socket, by value or behind up to two `&mut`. There are none
/// in any other stream, also in a `Prefixed` of another type, which gives its prefix when it is read.
pub(crate) fn take_prefix<S>(stream: &mut S, max: usize) -> EvBuffer {
    fn taken<S, T>(stream: &mut S, max: usize) -> Option<EvBuffer> {
        if let Some(prefixed) = cast_mut::<S, Prefixed<T>>(stream) {
            return Some(prefixed.take_prefix(max));
        }
        if let Some(prefixed) = cast_mut::<S, &mut Prefixed<T>>(stream) {
            return Some(prefixed.take_prefix(max));
        }
        cast_mut::<S, &mut &mut Prefixed<T>>(stream).map(|prefixed| prefixed.take_prefix(max))
    }
    let prefix =
        taken::<S, TcpStream>(stream, max).or_else(|| taken::<S, tcp::OwnedReadHalf>(stream, max));
    #[cfg(unix)]
    let prefix = prefix
        .or_else(|| taken::<S, UnixStream>(stream, max))
        .or_else(|| taken::<S, unix::OwnedReadHalf>(stream, max));
    prefix.unwrap_or_default()
}

/// Returns the socket of a stream that is one, or of a `Prefixed` one whose prefix is empty.
///
/// The comparisons are constants for each `S`, so at most one branch remains.
#[inline]
fn by_type<S>(stream: &S) -> Option<Socket<'_>> {
    let tcp = find::<S, TcpStream>(stream)
        .or_else(|| find::<S, tcp::OwnedReadHalf>(stream).map(AsRef::as_ref))
        .or_else(|| find::<S, tcp::OwnedWriteHalf>(stream).map(AsRef::as_ref));
    if let Some(tcp) = tcp {
        return Some(Socket::Tcp(tcp));
    }
    #[cfg(unix)]
    {
        let unix = find::<S, UnixStream>(stream)
            .or_else(|| find::<S, unix::OwnedReadHalf>(stream).map(AsRef::as_ref))
            .or_else(|| find::<S, unix::OwnedWriteHalf>(stream).map(AsRef::as_ref));
        unix.map(Socket::Unix)
    }
    #[cfg(not(unix))]
    None
}

/// Returns whether `S` is a `T`, or a `Prefixed<T>`, by value or behind up to two `&mut`.
#[inline]
fn is_kind_of<S, T>() -> bool {
    let own = type_of::<S>();
    own == type_of::<T>()
        || own == type_of::<&mut T>()
        || own == type_of::<&mut &mut T>()
        || own == type_of::<Prefixed<T>>()
        || own == type_of::<&mut Prefixed<T>>()
        || own == type_of::<&mut &mut Prefixed<T>>()
}

/// Finds a `T`, or the one in a `Prefixed<T>` whose prefix is empty; by value or behind up to two `&mut`.
#[inline(always)]
fn find<S, T>(stream: &S) -> Option<&T> {
    let plain = cast::<S, T>(stream)
        .or_else(|| cast::<S, &mut T>(stream).map(|stream| &**stream))
        .or_else(|| cast::<S, &mut &mut T>(stream).map(|stream| &***stream));
    if plain.is_some() {
        return plain;
    }
    let prefixed = cast::<S, Prefixed<T>>(stream)
        .or_else(|| cast::<S, &mut Prefixed<T>>(stream).map(|stream| &**stream))
        .or_else(|| cast::<S, &mut &mut Prefixed<T>>(stream).map(|stream| &***stream))?;
    prefixed.prefix().is_empty().then(|| prefixed.get_ref())
}

/// Returns whether `S` is an owned half of a socket, also in a `Prefixed`.
#[inline(always)]
fn is_half<S>() -> bool {
    fn is<S, T>() -> bool {
        type_of::<S>() == type_of::<T>() || type_of::<S>() == type_of::<Prefixed<T>>()
    }
    let is_half = is::<S, tcp::OwnedReadHalf>() || is::<S, tcp::OwnedWriteHalf>();
    #[cfg(unix)]
    let is_half = is_half || is::<S, unix::OwnedReadHalf>() || is::<S, unix::OwnedWriteHalf>();
    is_half
}

/// Returns `from` as a `U` if that is its type up to lifetimes.
///
/// `U` is a socket, or `&mut` to one once or twice, and is used here with the lifetime of the borrow.
#[inline(always)]
#[allow(unsafe_code)]
fn cast<T, U>(from: &T) -> Option<&U> {
    if type_of::<T>() != type_of::<U>() {
        return None;
    }
    // SAFETY: `T` and `U` are the same type up to lifetimes. Sockets and their halves have no lifetime parameter, so
    // only those of the references around them can differ. They outlive the borrow `'_` of `from`, to
    // which every caller ties the ones in `U`, and behind a shared reference nothing can be written
    // through them that would not live as long as they did.
    Some(unsafe { &*std::ptr::from_ref(from).cast::<U>() })
}

/// Does the same for a mutable reference.
///
/// Callers must not replace the value, only what is behind its references.
#[inline(always)]
#[allow(unsafe_code)]
fn cast_mut<T, U>(from: &mut T) -> Option<&mut U> {
    if type_of::<T>() != type_of::<U>() {
        return None;
    }
    // SAFETY: `T` and `U` are the same type up to lifetimes, as in `cast`, and outlive the borrow `'_` of `from`. The
    // one caller, in this file, writes through the references but never replaces one, so that none with a shorter
    // lifetime is left in `from`.
    Some(unsafe { &mut *std::ptr::from_mut(from).cast::<U>() })
}

#[inline(always)]
fn type_of<T>() -> TypeId {
    typeid::of::<T>()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncRead, AsyncWrite},
        net::TcpListener,
    };

    use super::*;

    async fn tcp() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap()
    }

    fn port(socket: Option<Socket<'_>>) -> Option<u16> {
        match socket? {
            Socket::Tcp(tcp) => Some(tcp.local_addr().unwrap().port()),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// As in generic code: `S` need not be `'static`.
    fn found<S: AsyncRead + AsyncWrite + Unpin>(stream: &S) -> Option<u16> {
        port(Finder::by_type().socket(stream))
    }

    #[tokio::test]
    async fn a_tcp_stream_is_found_by_value_and_behind_up_to_two_references() {
        let mut stream = tcp().await;
        let expected = Some(stream.local_addr().unwrap().port());
        assert_eq!(found(&stream), expected);
        let mut once = &mut stream;
        assert_eq!(found(&once), expected);
        let mut twice = &mut once;
        assert_eq!(found(&twice), expected);
        assert_eq!(found(&&mut twice), None, "three are too many");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_unix_stream_is_found_by_value_and_behind_up_to_two_references() {
        fn is_unix<S>(stream: &S) -> bool {
            matches!(Finder::by_type().socket(stream), Some(Socket::Unix(_)))
        }
        let (mut stream, _peer) = UnixStream::pair().unwrap();
        assert!(is_unix(&stream));
        let mut once = &mut stream;
        assert!(is_unix(&once));
        assert!(is_unix(&&mut once));
    }

    #[tokio::test]
    async fn a_stream_behind_a_reference_is_not_owned() {
        let mut stream = tcp().await;
        assert!(Finder::by_type().owns(&stream));
        assert!(!Finder::by_type().owns(&&mut stream));
    }

    #[tokio::test]
    async fn the_socket_of_owned_halves_is_found_and_not_owned() {
        let stream = tcp().await;
        let expected = Some(stream.local_addr().unwrap().port());
        let (reading, mut writing) = stream.into_split();
        assert_eq!(port(Finder::by_type().socket(&writing)), expected);
        assert!(!Finder::by_type().owns(&writing));
        let once = &mut writing;
        assert_eq!(port(Finder::by_type().socket(&once)), expected);

        let mut reading = Prefixed::new(reading, EvBuffer::from("first"));
        assert_eq!(port(Finder::by_type().socket(&reading)), None);
        assert_eq!(take_prefix(&mut reading, usize::MAX), "first");
        assert_eq!(port(Finder::by_type().socket(&reading)), expected);
        assert!(!Finder::by_type().owns(&reading));
    }

    #[tokio::test]
    async fn a_prefixed_socket_is_found_once_its_prefix_is_taken() {
        let stream = tcp().await;
        let expected = Some(stream.local_addr().unwrap().port());
        let mut stream = Prefixed::new(stream, EvBuffer::from(&b"first"[..]));
        assert_eq!(found(&stream), None, "the prefix comes first");
        assert_eq!(take_prefix(&mut stream, usize::MAX), b"first"[..]);
        assert_eq!(found(&stream), expected);

        let (tcp, _) = stream.into_parts();
        let mut stream = Prefixed::new(tcp, EvBuffer::from(&b"again"[..]));
        let mut once = &mut stream;
        let mut twice = &mut once;
        assert_eq!(take_prefix(&mut twice, usize::MAX), b"again"[..]);
        assert_eq!((found(&twice), found(twice)), (expected, expected));
        assert!(take_prefix(twice, usize::MAX).is_empty());
    }

    #[tokio::test]
    async fn other_prefixed_streams_keep_their_prefix() {
        let (plain, _peer) = tokio::io::duplex(1);
        let mut stream = Prefixed::new(plain, EvBuffer::from(&b"kept"[..]));
        assert!(take_prefix(&mut stream, usize::MAX).is_empty());
        assert_eq!(*stream.prefix(), b"kept"[..]);
    }

    #[tokio::test]
    async fn other_streams_are_not_taken_for_sockets() {
        let (mut plain, _peer) = tokio::io::duplex(1);
        assert_eq!(found(&plain), None);
        assert_eq!(found(&&mut plain), None);
    }

    #[tokio::test]
    async fn a_hook_finds_the_socket_of_an_enum() {
        enum Either {
            Socket(TcpStream),
            Memory,
        }
        let hook: Box<Hook<Either>> = Box::new(|either| match either {
            Either::Socket(tcp) => Some(Socket::from(tcp)),
            Either::Memory => None,
        });
        let finder = Finder::with_hook(Some(&*hook));
        let socket = Either::Socket(tcp().await);
        assert!(port(finder.socket(&socket)).is_some());
        let memory = Either::Memory;
        assert!(finder.socket(&memory).is_none());
    }
}
