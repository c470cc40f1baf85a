//! What the user and the timeouts turn.

/// Whether a direction may move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    /// Switched off by the user.
    Off,
    /// Switched off by a timeout.
    TimedOut,
}

impl Switch {
    pub(super) fn of(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}
