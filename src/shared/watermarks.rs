//! Marks on the length of a buffer, checked when they are made.

use std::{error::Error, fmt, io};

/// Marks on the length of a buffer: where to stop, where to go on, where it is too much.
///
/// What fills the buffer stops at the high mark and goes on at the low one, so that it does not go on for each byte
/// taken. Whoever leaves a frame in the buffer until the whole of it is there either waits for it with
/// [`readable`](crate::SharedEvBuffer::readable), for which more comes in also between the marks, or sets a low mark that no
/// frame is longer than. Checked when made, `low < high < overflow`, so that setting them cannot fail. The default is no marks.
///
/// # Examples
///
/// ```
/// use tokio_evbuffer::Watermarks;
///
/// let marks = Watermarks::new(16 * 1024, 64 * 1024)?.and_overflow(1024 * 1024)?;
/// assert_eq!(marks.high(), Some(64 * 1024));
///
/// let wrong = Watermarks::new(10, 5).unwrap_err();
/// assert_eq!((wrong.low, wrong.high), (Some(10), Some(5)));
/// # Ok::<(), tokio_evbuffer::shared::InvalidWatermarks>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "bufferevent_setwatermark")]
pub struct Watermarks {
    pub(super) low: Option<usize>,
    pub(super) high: Option<usize>,
    pub(super) overflow: Option<usize>,
}

impl Watermarks {
    /// No marks.
    pub const NONE: Self = Self {
        low: None,
        high: None,
        overflow: None,
    };

    /// Stops at `high` bytes and goes on at `low`.
    ///
    /// # Errors
    ///
    /// [`InvalidWatermarks`] unless `low < high`.
    pub const fn new(low: usize, high: usize) -> Result<Self, InvalidWatermarks> {
        Self {
            low: Some(low),
            high: Some(high),
            overflow: None,
        }
        .checked()
    }

    /// Stops at `high` bytes and goes on at half of that.
    ///
    /// # Errors
    ///
    /// [`InvalidWatermarks`] if `high` is zero, where nothing would ever come in.
    pub const fn with_high(high: usize) -> Result<Self, InvalidWatermarks> {
        Self {
            low: None,
            high: Some(high),
            overflow: None,
        }
        .checked()
    }

    /// Stops nowhere; having fallen to `low` bytes is told.
    #[must_use]
    pub const fn with_low(low: usize) -> Self {
        Self {
            low: Some(low),
            high: None,
            overflow: None,
        }
    }

    /// Adds a mark at which it is too much: somebody went on though the high mark was passed.
    ///
    /// # Errors
    ///
    /// [`InvalidWatermarks`] unless `overflow` is above the other marks.
    pub const fn and_overflow(self, overflow: usize) -> Result<Self, InvalidWatermarks> {
        Self {
            overflow: Some(overflow),
            ..self
        }
        .checked()
    }

    /// Returns the low mark as given: `None` where [`with_high`](Self::with_high) made the marks.
    #[must_use]
    pub const fn low(&self) -> Option<usize> {
        self.low
    }

    /// Returns the high mark.
    #[must_use]
    pub const fn high(&self) -> Option<usize> {
        self.high
    }

    /// Returns the overflow mark.
    #[must_use]
    pub const fn overflow(&self) -> Option<usize> {
        self.overflow
    }

    const fn checked(self) -> Result<Self, InvalidWatermarks> {
        let Self {
            low,
            high,
            overflow,
        } = self;
        // Each mark given is above all below it, and none but the low one is zero.
        let mut floor = low;
        if let Some(high) = high {
            if !above(high, floor) {
                return Err(InvalidWatermarks {
                    low,
                    high: Some(high),
                    overflow,
                });
            }
            floor = Some(high);
        }
        if let Some(limit) = overflow {
            if !above(limit, floor) {
                return Err(InvalidWatermarks {
                    low,
                    high,
                    overflow,
                });
            }
        }
        Ok(self)
    }

    /// Where what has stopped goes on.
    pub(super) fn resume(&self) -> usize {
        match (self.low, self.high.or(self.overflow)) {
            (Some(low), _) => low,
            (None, Some(stop)) => stop / 2,
            (None, None) => 0,
        }
    }
}

const fn above(mark: usize, floor: Option<usize>) -> bool {
    match floor {
        Some(floor) => mark > floor,
        None => mark > 0,
    }
}

/// The marks are not in order: `low < high < overflow` has to hold, and `high` may not be zero.
///
/// [`io::ErrorKind::InvalidInput`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidWatermarks {
    /// The low mark that was given.
    pub low: Option<usize>,
    /// The high mark that was given.
    pub high: Option<usize>,
    /// The overflow mark that was given.
    pub overflow: Option<usize>,
}

impl fmt::Display for InvalidWatermarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watermarks have to rise and be above zero:")?;
        for (name, mark) in [
            ("low", self.low),
            ("high", self.high),
            ("overflow", self.overflow),
        ] {
            if let Some(mark) = mark {
                write!(f, " {name} {mark}")?;
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
    fn marks_have_to_rise() {
        let invalid = |low, high, overflow| InvalidWatermarks {
            low,
            high,
            overflow,
        };
        assert_eq!(Watermarks::new(5, 5), Err(invalid(Some(5), Some(5), None)));
        assert_eq!(Watermarks::with_high(0), Err(invalid(None, Some(0), None)));
        let marks = Watermarks::new(1, 5).unwrap();
        assert_eq!(
            marks.and_overflow(5),
            Err(invalid(Some(1), Some(5), Some(5)))
        );
        assert!(Watermarks::NONE.and_overflow(0).is_err());
        assert!(Watermarks::with_low(4).and_overflow(4).is_err());
        assert!(Watermarks::new(0, 1).is_ok());
    }
}
