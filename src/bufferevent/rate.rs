//! The rate limits of a connection: commands of the handles, and the throttles of the task.

use crate::limits::{Held, RateLimit, RateLimitGroup, Throttle};

use super::{
    event::{Direction, PauseReason},
    inner::{BufferEvent, Control},
};

impl BufferEvent {
    /// Sets the rate limit of this connection, beside that of its group; `None` removes it. It applies at once, also to a
    /// direction that waits.
    ///
    /// A direction that was not limited starts with the smaller of the burst and one second's worth. Otherwise what is
    /// left of the allowance stays, up to the new burst. The limit combines with
    /// [`max_single_read`](crate::bufferevent::Builder::max_single_read),
    /// [`max_single_write`](crate::bufferevent::Builder::max_single_write), the watermarks and the group: the smallest
    /// counts. A direction that waits for allowance shows [`PauseReason::RateLimit`], and its timeout does not run.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::time::Instant;
    /// use tokio_evbuffer::{BufferEvent, limits::RateLimit};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = BufferEvent::pair();
    /// near.set_rate_limit(Some(RateLimit::write(1000)?));
    /// let start = Instant::now();
    /// near.output().add(&[0; 3000])?;
    /// far.input().readable(3000).await?;
    /// // The first 1000 bytes went at once.
    /// assert!((start.elapsed().as_secs_f64() - 2.0).abs() < 0.1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bufferevent_set_rate_limit")]
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        self.inner.command(|control| {
            let rate = control.rate.get_or_insert_default();
            rate.commands.limit = Some(limit);
        });
    }

    /// Takes `n` bytes of allowance from the rate limit of a direction and of its group, as if they had been moved. A
    /// negative `n` gives bytes back, up to the burst.
    ///
    /// Use it for bytes that the connection does not see, such as those of a side channel. Without a limit it does
    /// nothing. The allowance may become negative: the direction then waits until it is positive again.
    #[doc(alias = "bufferevent_decrement_read_limit")]
    #[doc(alias = "bufferevent_decrement_write_limit")]
    pub fn consume_rate(&self, direction: Direction, n: i64) {
        self.inner.command(|control| {
            let commands = &mut control.rate.get_or_insert_default().commands;
            let consumed = match direction {
                Direction::Read => &mut commands.consumed_read,
                Direction::Write => &mut commands.consumed_write,
            };
            *consumed = consumed.saturating_add(n);
        });
    }
}

/// What the handles share with the task, behind the lock of the connection.
#[derive(Default)]
pub(super) struct RateControl {
    commands: RateCommands,
    held: HeldDirections,
}

/// What the task has to apply, after the lock was released.
#[derive(Default)]
pub(super) struct RateCommands {
    /// Those that the builder made.
    throttles: Option<Box<Throttles>>,
    limit: Option<Option<RateLimit>>,
    consumed_read: i64,
    consumed_write: i64,
}

/// The limits that hold up each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldDirections {
    pub(super) read: Option<Held>,
    pub(super) write: Option<Held>,
}

impl RateControl {
    /// Returns `None` if nothing is limited.
    pub(super) fn new(
        limit: Option<RateLimit>,
        group: Option<&RateLimitGroup>,
    ) -> Option<Box<Self>> {
        if limit.is_none() && group.is_none() {
            return None;
        }
        let mut control = Box::<Self>::default();
        control.commands.throttles = Some(Box::new(Throttles::new(limit, group)));
        Some(control)
    }

    /// Takes the pending setting, if there is one.
    pub(super) fn take_commands(&mut self) -> Option<RateCommands> {
        let commands = &self.commands;
        let any = commands.throttles.is_some()
            || commands.limit.is_some()
            || commands.consumed_read != 0
            || commands.consumed_write != 0;
        any.then(|| std::mem::take(&mut self.commands))
    }
}

impl Control {
    /// Keeps the throttles for the next task of the connection.
    pub(super) fn keep_throttles(&mut self, throttles: Box<Throttles>) {
        if let Some(rate) = &mut self.rate {
            rate.commands.throttles = Some(throttles);
        }
    }

    /// Publishes which limits hold up the task.
    pub(super) fn set_held(&mut self, held: HeldDirections) {
        if let Some(rate) = &mut self.rate {
            rate.held = held;
        }
    }

    /// The limit that holds up a direction.
    pub(super) fn rate_pause(&self, direction: Direction) -> Option<PauseReason> {
        let held = self.rate.as_ref()?.held;
        let held = match direction {
            Direction::Read => held.read,
            Direction::Write => held.write,
        };
        Some(match held? {
            Held::Own => PauseReason::RateLimit,
            Held::Group => PauseReason::GroupRateLimit,
        })
    }
}

/// The throttles of both directions, which the task owns.
pub(super) struct Throttles {
    pub(super) read: Throttle,
    pub(super) write: Throttle,
    /// What the handles know.
    published: HeldDirections,
}

impl Throttles {
    fn new(limit: Option<RateLimit>, group: Option<&RateLimitGroup>) -> Self {
        let (read, write) = Throttle::pair(limit, group);
        Self {
            read,
            write,
            published: HeldDirections::default(),
        }
    }

    /// Applies commands, and makes the throttles for the first of them.
    pub(super) fn apply(throttles: &mut Option<Box<Self>>, commands: RateCommands) {
        if commands.throttles.is_some() {
            *throttles = commands.throttles;
        }
        let this = throttles.get_or_insert_with(|| Box::new(Self::new(None, None)));
        if let Some(limit) = commands.limit {
            Throttle::set_limit(&mut this.read, &mut this.write, limit);
        }
        if commands.consumed_read != 0 {
            this.read.consume(commands.consumed_read);
        }
        if commands.consumed_write != 0 {
            this.write.consume(commands.consumed_write);
        }
    }

    pub(super) fn held(&self) -> HeldDirections {
        HeldDirections {
            read: self.read.held(),
            write: self.write.held(),
        }
    }

    /// Returns what the handles have to know, if it has changed.
    pub(super) fn take_change(&mut self) -> Option<HeldDirections> {
        let held = self.held();
        (std::mem::replace(&mut self.published, held) != held).then_some(held)
    }
}
