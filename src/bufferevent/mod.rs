//! Buffered streams: settings, callbacks, events and halves of a [`BufferEvent`](crate::BufferEvent).
//!
//! ```text
//!            read                     link                 remove
//!  stream ─────────▶ task's segments ──────▶ input  ──────────────▶ user: callback, waiting task, reader
//!         ◀───────── task's segments ◀────── output ◀──────────────
//!            write                    share                add
//! ```
//!
//! One task owns the stream. It links what it reads into [`input`](crate::BufferEvent::input), up to the high watermark. It shares the
//! bytes of [`output`](crate::BufferEvent::output), writes them, and removes them when the stream has accepted them. No buffer is locked
//! during a system call. The task is woken only for what it waits for, so lines that you add one by one leave in one
//! write.
//!
//! # From libevent
//!
//! | libevent | here |
//! |---|---|
//! | `bufferevent_socket_new` | [`BufferEvent::new`](crate::BufferEvent::new), [`Builder::spawn`]. Both directions are on from the start, because callbacks are set before |
//! | `BEV_OPT_CLOSE_ON_FREE` | not needed: the task owns the stream; [`into_inner`](crate::BufferEvent::into_inner) returns it |
//! | `BEV_OPT_THREADSAFE` | always |
//! | `BEV_OPT_DEFER_CALLBACKS`, `BEV_OPT_UNLOCK_CALLBACKS` | always, except for [`on_watermark`](Builder::on_watermark), which is called inline, also without a lock |
//! | `bufferevent_socket_connect`, `_connect_hostname`, `bufferevent_socket_get_dns_error` | `Builder::connect` tries all addresses; [`Event::Connected`](crate::Event::Connected) or [`Event::ConnectError`](crate::Event::ConnectError) |
//! | `bufferevent_pair_new` | [`BufferEvent::pair`](crate::BufferEvent::pair) |
//! | `bufferevent_pair_get_partner` | not needed, because both are returned |
//! | `bufferevent_openssl_*`, `bufferevent_mbedtls_*` | not needed, because every [`AsyncRead`](tokio::io::AsyncRead) + [`AsyncWrite`](tokio::io::AsyncWrite) works, such as a stream of `tokio-rustls` |
//! | `bufferevent_getfd` | [`with_stream`](crate::BufferEvent::with_stream), [`into_inner`](crate::BufferEvent::into_inner) |
//! | `bufferevent_setfd`, `_replacefd`, `bufferevent_openssl_filter_new` | [`upgrade`](crate::BufferEvent::upgrade) |
//! | `bufferevent_enable`, `_disable`, `_get_enabled` | [`enable`](crate::BufferEvent::enable), [`disable`](crate::BufferEvent::disable), [`is_enabled`](crate::BufferEvent::is_enabled); why nothing moves: [`paused`](crate::BufferEvent::paused) |
//! | `bufferevent_setcb`, `_getcb` | [`set_callbacks`](crate::BufferEvent::set_callbacks). They are called for what arrived before |
//! | `bufferevent_get_input`, `_read`, `_read_buffer` | [`input`](crate::BufferEvent::input) and its methods |
//! | `bufferevent_get_output`, `_write`, `_write_buffer` | [`output`](crate::BufferEvent::output) and its methods. After an error they fail |
//! | `bufferevent_setwatermark`, `_getwatermark` | [`set_watermarks`](crate::BufferEvent::set_watermarks). Reading stops at the high watermark and resumes at the low one; writers wait at the high watermark of the output |
//! | `bufferevent_set_timeouts` | [`set_timeouts`](crate::BufferEvent::set_timeouts); also idle, stall, linger and connect timeouts |
//! | `bufferevent_set_max_single_read`, `_write` and their getters | [`Builder::max_single_read`], [`Builder::max_single_write`] |
//! | `bufferevent_flush` | [`flush`](crate::BufferEvent::flush), which waits until the kernel has the bytes; `BEV_FINISHED` is [`shutdown`](crate::BufferEvent::shutdown) |
//! | `bufferevent_free` | [`close`](crate::BufferEvent::close), [`abort`](crate::BufferEvent::abort), or dropping the last handle, which delivers the output |
//! | `bufferevent_incref`, `_decref` | [`Clone`] and [`Drop`]; [`detach`](crate::BufferEvent::detach) to keep the connection without a handle |
//! | `bufferevent_trigger`, `_trigger_event` | [`trigger`](crate::BufferEvent::trigger), [`trigger_event`](crate::BufferEvent::trigger_event) |
//! | `bufferevent_lock`, `_unlock` | [`input().lock()`](crate::SharedEvBuffer::lock) locks a buffer; no lock covers both |
//! | `bufferevent_priority_set`, `_get_priority`, `_base_set`, `_get_base` | not needed, because Tokio schedules; [`Builder::defer_to`] gives slow callbacks a queue |
//! | `bufferevent_get_underlying` | not needed, because you wrap the stream before |

mod builder;
mod callbacks;
#[cfg(feature = "net")]
mod connect;
mod control;
mod dispatch;
mod endpoint;
mod establish;
pub(crate) mod event;
mod filter;
mod handle;
pub(crate) mod inner;
mod into_inner;
mod io;
mod joined;
mod pair;
mod rate;
mod settings;
mod spawn;
mod split;
mod stream_cell;
mod task;
mod task_waker;
mod throttles;
mod timeouts;
mod transitions;
mod upgrade;
mod wait;
mod waiters;

pub use builder::Builder;
pub use callbacks::Callbacks;
#[cfg(feature = "net")]
pub use connect::AddressFamily;
pub use endpoint::Transport;
pub use event::{CloseReason, Direction, Metrics, PauseReason, PauseReasons, Side, Summary};
pub use filter::{Filter, FilterStatus, FlushMode};
pub use into_inner::{IntoInnerError, Parts};
pub use split::{ReadHalf, WriteHalf};
pub use upgrade::UpgradeError;
