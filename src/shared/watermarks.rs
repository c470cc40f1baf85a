//! [`Watermarks`] on the length of a buffer, checked when they are made.

use std::{error::Error, fmt, io, num::NonZeroUsize};

/// Watermarks on the length of a buffer, in bytes: where to stop filling it, where to continue, where it is too much.
///
/// A [`Writer`](crate::shared::Writer) or a connection that fills the buffer stops at the high watermark and continues at
/// the low one, so that it does not continue for each byte that is removed. It also continues, up to the high watermark, for
/// a task that waits for more than is there, for instance with [`readable`](crate::SharedEvBuffer::readable) or
/// [`next_line`](crate::SharedEvBuffer::next_line).
///
/// Values are checked when they are made, `low < high < overflow`, so setting them cannot fail. The default is no
/// watermarks.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::Watermarks;
///
/// let watermarks = Watermarks::new(16 * 1024, 64 * 1024)?.and_overflow(1024 * 1024)?;
/// assert_eq!(watermarks.high(), Some(64 * 1024));
///
/// let wrong = Watermarks::new(10, 5).unwrap_err();
/// assert_eq!((wrong.low, wrong.high), (Some(10), Some(5)));
/// # Ok::<(), tokio_evbuffer::shared::InvalidWatermarks>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "bufferevent_setwatermark")]
pub struct Watermarks {
    low: Option<usize>,
    high: Option<NonZeroUsize>,
    overflow: Option<NonZeroUsize>,
}

impl Watermarks {
    /// No watermarks.
    pub const NONE: Self = Self {
        low: None,
        high: None,
        overflow: None,
    };

    /// Stops at `high` bytes and continues at `low` bytes or fewer.
    ///
    /// # Errors
    ///
    /// [`InvalidWatermarks`] unless `low < high`.
    pub const fn new(low: usize, high: usize) -> Result<Self, InvalidWatermarks> {
        Self::checked(Some(low), Some(high), None)
    }

    /// Stops at `high` bytes and continues at half of that or less.
    ///
    /// # Errors
    ///
    /// [`InvalidWatermarks`] if `high` is zero: nothing could ever be added.
    pub const fn with_high(high: usize) -> Result<Self, InvalidWatermarks> {
        Self::checked(None, Some(high), None)
    }

    /// Sets no length to stop at; callbacks are notified when the length falls to `low` bytes.
    #[must_use]
    pub const fn with_low(low: usize) -> Self {
        Self {
            low: Some(low),
            ..Self::NONE
        }
    }

    /// Adds a watermark at which it is too much: bytes were added although the high watermark was passed.
    ///
    /// # Errors
    ///
    /// [`InvalidWatermarks`] unless `overflow` is above zero and the other watermarks.
    pub const fn and_overflow(self, overflow: usize) -> Result<Self, InvalidWatermarks> {
        Self::checked(self.low, self.high(), Some(overflow))
    }

    /// Returns the low watermark as given: `None` after [`with_high`](Self::with_high).
    #[must_use]
    pub const fn low(&self) -> Option<usize> {
        self.low
    }

    /// Returns the high watermark.
    #[must_use]
    pub const fn high(&self) -> Option<usize> {
        get(self.high)
    }

    /// Returns the overflow watermark.
    #[must_use]
    pub const fn overflow(&self) -> Option<usize> {
        get(self.overflow)
    }

    const fn checked(
        low: Option<usize>,
        high: Option<usize>,
        overflow: Option<usize>,
    ) -> Result<Self, InvalidWatermarks> {
        // Each is above all before it, and only the low one may be zero.
        let mut floor = low;
        let mut rises = true;
        if let Some(high) = high {
            rises = above(high, floor);
            floor = Some(high);
        }
        if let Some(overflow) = overflow {
            rises = rises && above(overflow, floor);
        }
        match rises {
            true => Ok(Self {
                low,
                high: non_zero(high),
                overflow: non_zero(overflow),
            }),
            false => Err(InvalidWatermarks {
                low,
                high,
                overflow,
            }),
        }
    }

    /// Returns the low, the high and the overflow watermark.
    pub(super) fn all(&self) -> (Option<usize>, Option<usize>, Option<usize>) {
        (self.low, self.high(), self.overflow())
    }

    /// Returns the length at which a writer stops.
    pub(super) fn stop(&self) -> Option<usize> {
        self.high().or(self.overflow())
    }

    /// Returns the length at which a writer that has stopped continues.
    pub(super) fn resume(&self) -> usize {
        match (self.low, self.stop()) {
            (Some(low), _) => low,
            (None, Some(stop)) => stop / 2,
            (None, None) => 0,
        }
    }
}

const fn get(watermark: Option<NonZeroUsize>) -> Option<usize> {
    match watermark {
        Some(watermark) => Some(watermark.get()),
        None => None,
    }
}

const fn non_zero(watermark: Option<usize>) -> Option<NonZeroUsize> {
    match watermark {
        Some(watermark) => NonZeroUsize::new(watermark),
        None => None,
    }
}

const fn above(watermark: usize, floor: Option<usize>) -> bool {
    match floor {
        Some(floor) => watermark > floor,
        None => watermark > 0,
    }
}

/// The watermarks are not in order: `low < high < overflow` has to hold, and `high` and `overflow` may not be zero.
///
/// [`io::ErrorKind::InvalidInput`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidWatermarks {
    /// The low watermark that was given.
    pub low: Option<usize>,
    /// The high watermark that was given.
    pub high: Option<usize>,
    /// The overflow watermark that was given.
    pub overflow: Option<usize>,
}

impl fmt::Display for InvalidWatermarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watermarks must rise, and only the low one may be zero:")?;
        for (name, watermark) in [
            ("low", self.low),
            ("high", self.high),
            ("overflow", self.overflow),
        ] {
            if let Some(watermark) = watermark {
                write!(f, " {name} {watermark}")?;
            }
        }
        Ok(())
    }
}

impl Error for InvalidWatermarks {}

impl From<InvalidWatermarks> for io::Error {
    fn from(error: InvalidWatermarks) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn watermarks_must_rise() {
        let invalid = |low, high, overflow| InvalidWatermarks {
            low,
            high,
            overflow,
        };
        assert_eq!(Watermarks::new(5, 5), Err(invalid(Some(5), Some(5), None)));
        assert_eq!(Watermarks::with_high(0), Err(invalid(None, Some(0), None)));
        let watermarks = Watermarks::new(1, 5).unwrap();
        assert_eq!(
            watermarks.and_overflow(5),
            Err(invalid(Some(1), Some(5), Some(5)))
        );
        assert!(Watermarks::NONE.and_overflow(0).is_err());
        assert!(Watermarks::with_low(4).and_overflow(4).is_err());
        assert!(Watermarks::new(0, 1).is_ok());
    }
}
