//! `DeferredQueue`: order, batches, panics and the end of a runtime.

#[path = "../support/mod.rs"]
mod support;

mod queue;
mod rebinding;
