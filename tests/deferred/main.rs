//! `DeferredQueue`: order, batches, panics and the end of a runtime.

mod queue;
