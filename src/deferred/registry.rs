//! From the id of a runtime to its queue.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use tokio::runtime::{Handle, Id};

use super::{
    Anchor, DeferredQueue,
    executor::{self, Closing},
};
use crate::sync::Global;

/// Weak, and without a `Handle`: what keeps a queue is its executor, a task of the runtime.
static QUEUES: Global<HashMap<Id, Weak<Anchor>>> = Global::new();

/// The queue of the runtime of `handle`, made when it is first asked for. Closed if the runtime is gone.
pub(super) fn queue_of(handle: &Handle) -> DeferredQueue {
    let id = handle.id();
    if let Some(anchor) = QUEUES.lock().get(&id).and_then(open) {
        return DeferredQueue { anchor };
    }
    let anchor = Arc::new(Anchor::new());
    if let Err(earlier) = insert(id, &anchor) {
        return earlier;
    }
    // With no lock held: a runtime that is gone drops the future, and with it the entry, in here.
    handle.spawn(executor::run(Closing::registered(id, &anchor)));
    DeferredQueue { anchor }
}

/// Makes `anchor` the queue of the runtime, unless there is one.
fn insert(id: Id, anchor: &Arc<Anchor>) -> Result<(), DeferredQueue> {
    let mut queues = QUEUES.lock();
    if let Some(anchor) = queues.get(&id).and_then(open) {
        return Err(DeferredQueue { anchor });
    }
    queues.insert(id, Arc::downgrade(anchor));
    Ok(())
}

/// Ids may be used again: a closed queue belongs to a runtime that was. To drop it runs no foreign code.
fn open(entry: &Weak<Anchor>) -> Option<Arc<Anchor>> {
    entry.upgrade().filter(|anchor| !anchor.core.is_closed())
}

/// Takes the entry away if it is still that of `anchor`.
pub(super) fn remove(id: Id, anchor: &Arc<Anchor>) {
    let mut queues = QUEUES.lock();
    if queues
        .get(&id)
        .is_some_and(|entry| std::ptr::eq(entry.as_ptr(), Arc::as_ptr(anchor)))
    {
        queues.remove(&id);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_is_gone_leaves_no_entry() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let queue = DeferredQueue::of(&handle);
        assert!(QUEUES.lock().contains_key(&handle.id()));
        drop(runtime);
        assert!(queue.is_closed());
        assert!(!QUEUES.lock().contains_key(&handle.id()));

        assert!(DeferredQueue::of(&handle).is_closed());
        assert!(!QUEUES.lock().contains_key(&handle.id()));
    }
}
