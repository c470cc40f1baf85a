//! The task that runs a queue, and how it ends.

use std::{future::poll_fn, sync::Arc};

use tokio::{runtime, task};

use super::{
    Anchor,
    queue::{Batch, Core},
    registry,
};

/// Closes the queue when it is dropped.
///
/// It is made before the task is spawned and moved into it: a spawn on a runtime that is gone drops the future inside
/// the spawn, and the queue has to be closed then, too.
pub(super) struct Closing {
    core: Arc<Core>,
    /// The queue of a runtime lives, handles or not, until the runtime does no more.
    registered: Option<(runtime::Id, Arc<Anchor>)>,
}

impl Closing {
    /// For a queue that ends with its last handle.
    pub(super) fn unregistered(anchor: &Anchor) -> Self {
        Self {
            core: Arc::clone(&anchor.core),
            registered: None,
        }
    }

    /// For the queue of the runtime that `id` names.
    pub(super) fn registered(id: runtime::Id, anchor: &Arc<Anchor>) -> Self {
        Self {
            core: Arc::clone(&anchor.core),
            registered: Some((id, Arc::clone(anchor))),
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.core.close();
        if let Some((id, anchor)) = &self.registered {
            registry::remove(*id, anchor);
        }
    }
}

pub(super) async fn run(closing: Closing) {
    while poll_fn(|cx| closing.core.poll_batch(cx)).await == Batch::Full {
        task::yield_now().await;
    }
}
