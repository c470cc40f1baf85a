//! `SharedEvBuffer`: changes, waits, readers and writers, and threads that share one buffer.

mod adapters;
mod changes;
mod stress;
mod wait;
