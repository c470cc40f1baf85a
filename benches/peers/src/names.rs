//! Names of rows and columns that more than one table or plot uses.

/// Rows of proxies.
pub const RELAY: &str = "tokio-evbuffer relay";
pub const RELAY_CURRENT_THREAD: &str = "tokio-evbuffer relay, current-thread";
pub const RELAY_NO_SPLICE: &str = "tokio-evbuffer relay, splice off";
pub const RELAY_NO_SPLICE_CURRENT_THREAD: &str = "tokio-evbuffer relay, splice off, current-thread";
pub const COPY_8_CURRENT_THREAD: &str = "tokio copy 8 KiB, current-thread";
pub const COPY_8: &str = "tokio copy 8 KiB";
pub const COPY_256: &str = "tokio copy 256 KiB";
pub const LIBEVENT: &str = "libevent bufferevent";
pub const NGINX: &str = "nginx stream";
pub const HAPROXY: &str = "haproxy";
pub const HAPROXY_SPLICE: &str = "haproxy, splice forced";
pub const SPLICE_LOOP: &str = "bare splice loop";
pub const SPLICE_EPOLL: &str = "bare splice loop, epoll in C";

/// Rows of line servers.
pub const BATCH: &str = "BufferEvent, one guard a batch";
pub const BATCH_CURRENT_THREAD: &str = "BufferEvent, one guard a batch, current-thread";
pub const CALLBACK: &str = "BufferEvent, read callback";
pub const PLAIN: &str = "BufferEvent, readln and add per line";
pub const READ_LINES: &str = "BufferEvent, read_lines under one guard";
pub const NEXT_LINE: &str = "BufferEvent, next_line and add";
pub const STREAM: &str = "BufferEvent, AsyncBufRead and AsyncWrite";
pub const OVER: &str = "BytesMut by hand, over a BufferEvent";
pub const BY_HAND: &str = "BytesMut by hand";

/// Columns of proxies.
pub const CPU_BULK_1: &str = "CPU s/GiB, 1 connection";
pub const CPU_BULK_16: &str = "CPU s/GiB, 16 connections";
pub const THROUGHPUT_1: &str = "GiB/s, 1";
pub const THROUGHPUT_16: &str = "GiB/s, 16";
pub const CPU_MESSAGE: &str = "CPU µs/message";
pub const CPU_MESSAGE_1: &str = "CPU µs/message, 1 connection";
pub const P99: &str = "p99 µs";

/// Columns of idle pairs.
pub const FRESH: &str = "B/pair, nothing sent yet";
pub const USED: &str = "B/pair, after 256 KiB each way";

/// Columns of fairness.
pub const LONGEST_TURN: &str = "ms CPU between two turns of the driver";
pub const P99_BESIDE_BULK: &str = "p99 µs of 64 B beside bulk";

/// Columns of line servers.
pub const DEEP: &str = "CPU µs/request, 32 at a time";
pub const SINGLE: &str = "CPU µs/request, one at a time";

/// The last rows of the table of buffer operations.
pub const MEAN: &str = "geometric mean";
pub const WORST: &str = "highest ratio";
pub const HEAP: &str = "heap bytes held for 100 B";
