//! Buffered streams: settings, callbacks, events and halves of a [`BufferEvent`].
//!
//! ```text
//!            read                     link                 remove
//!  stream ─────────▶ task's segments ──────▶ input  ──────────────▶ user: callback, waiting task, reader
//!         ◀───────── task's segments ◀────── output ◀──────────────
//!            write                    share                add
//! ```
//!
//! One task owns the stream. It links what it reads into [`input`](BufferEvent::input), up to the high watermark. It shares the
//! bytes of [`output`](BufferEvent::output), writes them, and removes them when the stream has accepted them. No buffer is locked
//! during a system call. The task is woken only for what it waits for, so lines that you add one by one leave in one
//! write.
//!
//! # From libevent
//!
//! | libevent | here |
//! |---|---|
//! | `bufferevent_socket_new` | [`BufferEvent::new`], [`Builder::spawn`]. Both directions are on from the start, because callbacks are set before |
//! | `BEV_OPT_CLOSE_ON_FREE` | not needed: the task owns the stream; [`into_inner`](BufferEvent::into_inner) returns it |
//! | `BEV_OPT_THREADSAFE` | always |
//! | `BEV_OPT_DEFER_CALLBACKS`, `BEV_OPT_UNLOCK_CALLBACKS` | always, except for [`on_watermark`](Builder::on_watermark), which is called inline, also without a lock |
//! | `bufferevent_socket_connect`, `_connect_hostname`, `bufferevent_socket_get_dns_error` | [`Builder::connect`] tries all addresses; [`Event::Connected`] or [`Event::ConnectError`] |
//! | `bufferevent_pair_new` | [`BufferEvent::pair`] |
//! | `bufferevent_pair_get_partner` | not needed, because both are returned |
//! | `bufferevent_openssl_*`, `bufferevent_mbedtls_*` | not needed, because every [`AsyncRead`] + [`AsyncWrite`] works, such as a stream of `tokio-rustls` |
//! | `bufferevent_getfd`, `_setfd`, `_replacefd` | [`into_inner`](BufferEvent::into_inner), then a new one |
//! | `bufferevent_enable`, `_disable`, `_get_enabled` | [`enable`](BufferEvent::enable), [`disable`](BufferEvent::disable), [`is_enabled`](BufferEvent::is_enabled); why nothing moves: [`paused`](BufferEvent::paused) |
//! | `bufferevent_setcb`, `_getcb` | [`set_callbacks`](BufferEvent::set_callbacks). They are called for what arrived before |
//! | `bufferevent_get_input`, `_read`, `_read_buffer` | [`input`](BufferEvent::input) and its methods |
//! | `bufferevent_get_output`, `_write`, `_write_buffer` | [`output`](BufferEvent::output) and its methods. After an error they fail |
//! | `bufferevent_setwatermark`, `_getwatermark` | [`set_watermarks`](BufferEvent::set_watermarks). Reading stops at the high watermark and resumes at the low one; writers wait at the high watermark of the output |
//! | `bufferevent_set_timeouts` | [`set_timeouts`](BufferEvent::set_timeouts); also idle, stall, linger and connect timeouts |
//! | `bufferevent_set_max_single_read`, `_write` and their getters | [`Builder::max_single_read`], [`Builder::max_single_write`] |
//! | `bufferevent_flush` | [`flush`](BufferEvent::flush), which waits until the kernel has the bytes; `BEV_FINISHED` is [`shutdown`](BufferEvent::shutdown) |
//! | `bufferevent_free` | [`close`](BufferEvent::close), [`abort`](BufferEvent::abort), or dropping the last handle, which delivers the output |
//! | `bufferevent_incref`, `_decref` | [`Clone`] and [`Drop`]; [`detach`](BufferEvent::detach) to keep the connection without a handle |
//! | `bufferevent_trigger`, `_trigger_event` | [`trigger`](BufferEvent::trigger), [`trigger_event`](BufferEvent::trigger_event) |
//! | `bufferevent_lock`, `_unlock` | [`input().lock()`](SharedEvBuffer::lock) locks a buffer; no lock covers both |
//! | `bufferevent_priority_set`, `_get_priority`, `_base_set`, `_get_base` | not needed, because Tokio schedules; [`Builder::defer_to`] gives slow callbacks a queue |
//! | `bufferevent_get_underlying` | not needed, because you wrap the stream before |

mod builder;
mod callbacks;
#[cfg(feature = "net")]
mod connect;
mod control;
mod dispatch;
mod endpoint;
pub(crate) mod event;
pub(crate) mod handle;
mod inner;
mod into_inner;
mod io;
mod pair;
mod settings;
mod split;
mod task;
mod task_waker;
mod timeouts;
mod wait;
mod waiters;

use tokio::io::{AsyncRead, AsyncWrite};

pub use builder::Builder;
pub use callbacks::Callbacks;
#[cfg(feature = "net")]
pub use connect::AddressFamily;
pub use event::{CloseReason, Direction, Metrics, PauseReason, PauseReasons, Side, Summary};
pub use into_inner::{IntoInnerError, Parts};
pub use split::{ReadHalf, WriteHalf};

#[cfg(doc)]
use crate::SharedEvBuffer;
use event::Event;
use handle::BufferEvent;

/// A stream that a [`BufferEvent`] can own.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}
