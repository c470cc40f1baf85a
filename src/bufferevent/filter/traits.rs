//! What a filter is: a function of one direction, its modes and its answers.

use std::io;

use crate::EvBuffer;

/// What a filter is asked to do with the bytes that it holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "bufferevent_flush_mode")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a filter handles each mode of libevent"
)]
pub enum FlushMode {
    /// Convert what is there. The filter may hold bytes back until more come.
    #[doc(alias = "BEV_NORMAL")]
    Normal,
    /// Convert everything, so that the other side can use all bytes up to here.
    #[doc(alias = "BEV_FLUSH")]
    Flush,
    /// The same, and no more bytes will come.
    #[doc(alias = "BEV_FINISHED")]
    Finished,
}

/// The answer of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "bufferevent_filter_result")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a filter has made progress, or it has not"
)]
pub enum FilterStatus {
    /// The filter may have more to do: it is called again if it has moved any byte.
    #[doc(alias = "BEV_OK")]
    Ok,
    /// The filter needs more bytes in `src`: it is called again when there are.
    #[doc(alias = "BEV_NEED_MORE")]
    NeedMore,
}

/// Converts the bytes of one direction of a [filtered](crate::BufferEvent::filter) BufferEvent.
///
/// Closures with the same signature are filters.
///
/// # Examples
///
/// A filter with state, which holds back a line until it is whole:
///
/// ```
/// use std::io;
/// use tokio_evbuffer::{
///     BufferEvent, EolStyle, EvBuffer,
///     bufferevent::{Filter, FilterStatus, FlushMode},
/// };
///
/// struct Numbers {
///     last: u32,
/// }
///
/// impl Filter for Numbers {
///     fn filter(
///         &mut self,
///         src: &mut EvBuffer,
///         dst: &mut EvBuffer,
///         _limit: Option<usize>,
///         _mode: FlushMode,
///     ) -> io::Result<FilterStatus> {
///         let Some(line) = src.readln(EolStyle::Lf)? else {
///             return Ok(FilterStatus::NeedMore);
///         };
///         self.last += 1;
///         dst.add(format!("{} ", self.last))?;
///         dst.add(&line)?;
///         dst.add("\n")?;
///         Ok(FilterStatus::Ok) // called again: there may be another line
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// let unchanged = |src: &mut EvBuffer, dst: &mut EvBuffer, _, _| {
///     dst.add_buffer(src)?;
///     Ok(FilterStatus::Ok)
/// };
/// let (near, far) = BufferEvent::pair();
/// let near = near.filter(unchanged, Numbers { last: 0 });
/// near.output().add("red\nblue\ngre")?;
/// near.output().add("en\n")?;
/// assert_eq!(far.input().take_exact(21).await?, "1 red\n2 blue\n3 green\n");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "bufferevent_filter_cb")]
pub trait Filter: Send + 'static {
    /// Takes bytes from the front of `src` and adds what they become to the back of `dst`.
    ///
    /// The filter may leave bytes in `src`, for example the start of a frame, and may move whole segments. It is called
    /// again while it makes progress: it took bytes from `src`, or added some to `dst`, and returned
    /// [`FilterStatus::Ok`]. Without progress the status counts as [`NeedMore`](FilterStatus::NeedMore).
    ///
    /// `limit` is how many bytes `dst` should get at most, if that is limited. What a filter adds beyond it is not lost:
    /// it waits in `dst`, and the filter is not called until it is passed on. A filter whose output can be much larger than its
    /// input, such as a decompressor, should observe the limit.
    ///
    /// With [`FlushMode::Finished`] nothing may be left in `src` in the end. No lock is held during the call.
    ///
    /// # Errors
    ///
    /// An error ends the direction as [`Event::ReadError`](crate::Event::ReadError) or
    /// [`Event::WriteError`](crate::Event::WriteError). The filter is not called again. A panic counts as an error.
    fn filter(
        &mut self,
        src: &mut EvBuffer,
        dst: &mut EvBuffer,
        limit: Option<usize>,
        mode: FlushMode,
    ) -> io::Result<FilterStatus>;
}

impl<F> Filter for F
where
    F: FnMut(&mut EvBuffer, &mut EvBuffer, Option<usize>, FlushMode) -> io::Result<FilterStatus>
        + Send
        + 'static,
{
    fn filter(
        &mut self,
        src: &mut EvBuffer,
        dst: &mut EvBuffer,
        limit: Option<usize>,
        mode: FlushMode,
    ) -> io::Result<FilterStatus> {
        self(src, dst, limit, mode)
    }
}
