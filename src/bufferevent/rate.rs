//! Rate limits: the methods of a `BufferEvent`, and what the task publishes.

use super::{
    event::{Direction, PauseReason},
    inner::{BufferEvent, Control},
    throttles::{HeldDirections, RateControl, Throttles},
};
use crate::limits::{Held, RateLimit};

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
    #[doc(alias("bufferevent_set_rate_limit", "bufferevent_get_token_bucket_cfg"))]
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        self.inner.command(|control| {
            let rate = control.extras_mut().rate.get_or_insert_default();
            rate.commands.limit = Some(limit);
        });
    }

    /// Takes `n` bytes of allowance from the rate limit of a direction and of its group, as if they had been moved. A
    /// negative `n` gives bytes back, up to the burst.
    ///
    /// Use it for bytes that the connection does not see, such as those of a side channel. Without a limit it does
    /// nothing. The allowance may become negative: the direction then waits until it is positive again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::time::Instant;
    /// use tokio_evbuffer::{BufferEvent, bufferevent::Direction, limits::RateLimit};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = BufferEvent::pair();
    /// near.set_rate_limit(Some(RateLimit::write(1000)?));
    /// near.consume_rate(Direction::Write, 4000);
    /// let start = Instant::now();
    /// near.output().add("after three seconds")?;
    /// far.input().readable(1).await?;
    /// assert!((start.elapsed().as_secs_f64() - 3.0).abs() < 0.1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias(
        "bufferevent_decrement_read_limit",
        "bufferevent_decrement_write_limit"
    ))]
    #[doc(alias = "bufferevent_rate_limit_group_decrement_read")]
    #[doc(alias = "bufferevent_rate_limit_group_decrement_write")]
    pub fn consume_rate(&self, direction: Direction, n: i64) {
        self.inner.command(|control| {
            let commands = &mut control.extras_mut().rate.get_or_insert_default().commands;
            let consumed = match direction {
                Direction::Read => &mut commands.consumed_read,
                Direction::Write => &mut commands.consumed_write,
            };
            *consumed = consumed.saturating_add(n);
        });
    }
}

impl Control {
    pub(super) fn rate_mut(&mut self) -> Option<&mut RateControl> {
        self.extras.as_mut()?.rate.as_deref_mut()
    }

    /// Keeps the throttles for the next task of the connection.
    pub(super) fn keep_throttles(&mut self, throttles: Box<Throttles>) {
        if let Some(rate) = self.rate_mut() {
            rate.commands.throttles = Some(throttles);
        }
    }

    /// Publishes which limits hold up the task.
    pub(super) fn set_held(&mut self, held: HeldDirections) {
        if let Some(rate) = self.rate_mut() {
            rate.held = held;
        }
    }

    /// Returns the limit that holds up a direction.
    pub(super) fn rate_pause(&self, direction: Direction) -> Option<PauseReason> {
        let held = self.extras()?.rate.as_ref()?.held;
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
