//! The low-water mark of a socket: how many bytes it receives before it is reported as readable.

use nix::{
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::socket::{getsockopt, setsockopt},
};

use crate::transport::lookup::Socket;

sockopt_impl!(
    /// `SO_RCVLOWAT`.
    LowWaterMark,
    Both,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32
);

impl Socket<'_> {
    /// Returns the low-water mark of a TCP socket, in bytes; `None` where that is unknown.
    pub(crate) fn low_water(self) -> Option<u32> {
        let Self::Tcp(tcp) = self else { return None };
        u32::try_from(getsockopt(tcp, LowWaterMark).ok()?).ok()
    }

    /// Sets the low-water mark, and returns whether the kernel takes it. An end or an error is reported in any case, and
    /// so are the bytes that are there when the mark is lowered.
    ///
    /// The kernel limits the mark to half of the receive buffer, and enlarges a buffer of automatic size for it.
    pub(crate) fn set_low_water(self, mark: u32) -> bool {
        let Self::Tcp(tcp) = self else { return false };
        i32::try_from(mark).is_ok_and(|mark| setsockopt(tcp, LowWaterMark, &mark).is_ok())
    }
}
