//! The public value of a rate limit, checked when it is made.

use std::{error::Error, fmt, io};

/// Bytes per second for reading, for writing or for both, and the largest burst.
///
/// A limit works as a token bucket. The bucket fills at the rate, and each byte that moves takes one token. It holds at
/// most the burst, which is one second's worth unless you set it with [`and_burst`](Self::and_burst), and starts with
/// the smaller of the burst and one second's worth. A connection that waited for tokens continues once 256 KiB of them
/// have gathered, but not later than after about 60 ms, so that a limit does not cut a flow into tiny pieces. With more
/// than 16 MiB per second it is the worth of 16 ms, and with a small burst half of that.
///
/// The two directions never share tokens. A direction without a rate is not limited. Timers have a resolution of 1 ms,
/// so a burst below 4 ms' worth lowers the rate.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::limits::{InvalidRateLimit, RateLimit};
///
/// let limit = RateLimit::read(250_000)?.and_burst(16 << 10)?;
/// assert_ne!(limit, RateLimit::both(250_000)?);
/// assert_eq!(RateLimit::both(0), Err(InvalidRateLimit::ZeroRate));
/// # Ok::<(), InvalidRateLimit>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ev_token_bucket_cfg_new")]
pub struct RateLimit {
    pub(super) read: Option<Rate>,
    pub(super) write: Option<Rate>,
}

/// The limit of one direction. Neither number is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rate {
    /// Bytes per second.
    pub(super) per_second: u64,
    /// The most bytes at once.
    pub(super) burst: u64,
}

impl RateLimit {
    /// Limits each direction to `bytes_per_second`; the directions do not share it.
    ///
    /// [`u64::MAX`] is a limit that never holds anything up.
    ///
    /// # Errors
    ///
    /// [`InvalidRateLimit::ZeroRate`] if `bytes_per_second` is zero.
    pub const fn both(bytes_per_second: u64) -> Result<Self, InvalidRateLimit> {
        match Rate::new(bytes_per_second) {
            Ok(rate) => Ok(Self {
                read: Some(rate),
                write: Some(rate),
            }),
            Err(error) => Err(error),
        }
    }

    /// Limits reading to `bytes_per_second`. Writing is not limited.
    ///
    /// # Errors
    ///
    /// [`InvalidRateLimit::ZeroRate`] if `bytes_per_second` is zero.
    pub const fn read(bytes_per_second: u64) -> Result<Self, InvalidRateLimit> {
        match Rate::new(bytes_per_second) {
            Ok(rate) => Ok(Self {
                read: Some(rate),
                write: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// Limits writing to `bytes_per_second`. Reading is not limited.
    ///
    /// # Errors
    ///
    /// [`InvalidRateLimit::ZeroRate`] if `bytes_per_second` is zero.
    pub const fn write(bytes_per_second: u64) -> Result<Self, InvalidRateLimit> {
        match Rate::new(bytes_per_second) {
            Ok(rate) => Ok(Self {
                read: None,
                write: Some(rate),
            }),
            Err(error) => Err(error),
        }
    }

    /// Sets the most bytes that may move at once, in each limited direction. The default is one second's worth.
    ///
    /// # Errors
    ///
    /// [`InvalidRateLimit::ZeroBurst`] if `bytes` is zero.
    pub const fn and_burst(self, bytes: u64) -> Result<Self, InvalidRateLimit> {
        if bytes == 0 {
            return Err(InvalidRateLimit::ZeroBurst);
        }
        Ok(Self {
            read: Rate::with_burst(self.read, bytes),
            write: Rate::with_burst(self.write, bytes),
        })
    }
}

impl Rate {
    const fn new(per_second: u64) -> Result<Self, InvalidRateLimit> {
        if per_second == 0 {
            return Err(InvalidRateLimit::ZeroRate);
        }
        Ok(Self {
            per_second,
            burst: per_second,
        })
    }

    const fn with_burst(rate: Option<Self>, burst: u64) -> Option<Self> {
        match rate {
            Some(Self { per_second, .. }) => Some(Self { per_second, burst }),
            None => None,
        }
    }
}

/// The error of a [`RateLimit`] that would never let a byte through.
///
/// Converts into an [`io::Error`] of kind [`InvalidInput`](io::ErrorKind::InvalidInput).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRateLimit {
    /// The rate is 0 bytes per second.
    ZeroRate,
    /// The burst is 0 bytes.
    ZeroBurst,
}

impl fmt::Display for InvalidRateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroRate => "a rate limit of 0 bytes per second never lets a byte through",
            Self::ZeroBurst => "a rate limit with a burst of 0 bytes never lets a byte through",
        })
    }
}

impl Error for InvalidRateLimit {}

impl From<InvalidRateLimit> for io::Error {
    fn from(error: InvalidRateLimit) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_refused_and_the_maximum_is_not() {
        for new in [RateLimit::both, RateLimit::read, RateLimit::write] {
            assert_eq!(new(0), Err(InvalidRateLimit::ZeroRate));
            let most = new(u64::MAX).unwrap();
            assert_eq!(most.and_burst(0), Err(InvalidRateLimit::ZeroBurst));
            assert_eq!(most.and_burst(u64::MAX), Ok(most));
        }
        let error = io::Error::from(InvalidRateLimit::ZeroBurst);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_burst_limits_only_the_limited_directions() {
        let limit = RateLimit::read(10).unwrap().and_burst(3).unwrap();
        let rate = limit.read.unwrap();
        assert_eq!((rate.per_second, rate.burst), (10, 3));
        assert_eq!(limit.write, None);
    }
}
