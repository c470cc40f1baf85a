//! The `tracing` events of a `BufferEvent`, and that they cost nothing without a subscriber.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_evbuffer::{BufferEvent, Event};
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// An error that counts how often it is formatted.
#[derive(Clone, Default)]
struct Printed(Arc<AtomicUsize>);

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, Relaxed);
        f.write_str("printed")
    }
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Printed {}

/// A `tracing` subscriber that records everything up to `level`.
#[derive(Clone)]
struct Listener {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    fn new(level: Level) -> Self {
        Self {
            level,
            lines: Arc::default(),
        }
    }

    fn write(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("{} {}", metadata.level(), metadata.name()));
        record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn has(&self, parts: &[&str]) -> bool {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tokio_evbuffer") && *metadata.level() <= self.level
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.write(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.write(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Serialises the tests, since `tracing` caches for the whole process whether a call site is enabled.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs a short connection and returns how often its error was formatted.
async fn live() -> usize {
    let printed = Printed::default();
    let (near, mut far) = duplex(64);
    let bev = BufferEvent::builder().name("short").spawn(near);
    bev.trigger_event(Event::ReadError(Arc::new(io::Error::other(
        printed.clone(),
    ))));
    bev.output().add(b"secret").unwrap();
    far.read_exact(&mut [0; 6]).await.unwrap();
    far.write_all(b"secret").await.unwrap();
    bev.input().readable(6).await.unwrap();
    bev.abort();
    bev.closed().await;
    printed.0.load(Relaxed)
}

#[tokio::test]
async fn nothing_is_formatted_without_a_subscriber() {
    let _turn = TURN.lock().await;
    assert_eq!(live().await, 0);
    let listener = Listener::new(Level::ERROR);
    let _listening = tracing::subscriber::set_default(listener.clone());
    assert_eq!(live().await, 0);
    assert!(listener.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_is_a_span_with_state_changes_and_byte_counts_but_no_contents() {
    let _turn = TURN.lock().await;
    let listener = Listener::new(Level::TRACE);
    let _listening = tracing::subscriber::set_default(listener.clone());
    assert!(live().await > 0);
    let lines = listener.lines.lock().unwrap().clone();
    for parts in [
        &["DEBUG", "name=\"short\""][..],
        &["DEBUG", "ReadError"],
        &["TRACE", "read", "n=6"],
        &["TRACE", "written", "n=6"],
        &["DEBUG", "closed", "Aborted"],
    ] {
        assert!(listener.has(parts), "{parts:?} not in {lines:#?}");
    }
    assert!(!listener.has(&["secret"]), "{lines:#?}");
}
