//! `SharedEvBuffer`: changes, waits, readers and writers, and threads that share one buffer.

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod borrows;
mod changes;
mod ends;
mod short_forms;
mod stress;
mod take;
mod turns;
mod user_code;
mod wait;
