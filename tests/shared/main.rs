//! `SharedEvBuffer`: changes, waits, readers and writers, and threads that share one buffer.

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod changes;
mod stress;
mod wait;
