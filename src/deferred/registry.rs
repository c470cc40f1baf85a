//! The queue of each runtime, and the executors that run the queues.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Weak},
};

use tokio::{
    runtime::{Handle, Id},
    task,
};

use super::jobs::{Batch, JobQueue};
use crate::sync::Global;

/// The queue of each runtime, by the id of the runtime.
///
/// The references are weak, and none is a `Handle`: the executor, a task of the runtime, keeps the queue alive.
static QUEUES: Global<HashMap<Id, Weak<DetachOnDrop>>> = Global::new();

/// Shared by the handles of a queue: notifies the executor when the last one is dropped.
pub(super) struct DetachOnDrop {
    pub(super) jobs: Arc<JobQueue>,
}

impl DetachOnDrop {
    pub(super) fn new() -> Self {
        Self {
            jobs: Arc::new(JobQueue::new()),
        }
    }
}

impl Drop for DetachOnDrop {
    fn drop(&mut self) {
        self.jobs.detach();
    }
}

/// Returns the queue of the runtime of `handle`, and makes it at the first call. It is closed if the runtime is gone.
pub(super) fn queue_of(handle: &Handle) -> Arc<DetachOnDrop> {
    let id = handle.id();
    if let Some(queue) = QUEUES.lock().get(&id).and_then(open) {
        return queue;
    }
    let queue = Arc::new(DetachOnDrop::new());
    if let Err(earlier) = insert(id, &queue) {
        return earlier;
    }
    // With no lock held: a runtime that is gone drops the future, and with it the entry, in this call.
    handle.spawn(run(CloseOnDrop {
        jobs: Arc::clone(&queue.jobs),
        registered: Some((id, Arc::clone(&queue))),
    }));
    queue
}

/// Makes a separate queue on the runtime of `handle`. It ends with its last handle.
pub(super) fn spawn_on(handle: &Handle) -> Arc<DetachOnDrop> {
    let queue = DetachOnDrop::new();
    handle.spawn(run(CloseOnDrop {
        jobs: Arc::clone(&queue.jobs),
        registered: None,
    }));
    Arc::new(queue)
}

/// Makes `queue` the queue of the runtime, unless it has one.
fn insert(id: Id, queue: &Arc<DetachOnDrop>) -> Result<(), Arc<DetachOnDrop>> {
    let mut queues = QUEUES.lock();
    if let Some(earlier) = queues.get(&id).and_then(open) {
        return Err(earlier);
    }
    queues.insert(id, Arc::downgrade(queue));
    Ok(())
}

/// Ignores closed queues: their runtime is gone, and a new one may have its id.
fn open(entry: &Weak<DetachOnDrop>) -> Option<Arc<DetachOnDrop>> {
    entry.upgrade().filter(|queue| !queue.jobs.is_closed())
}

/// Removes the entry of `queue`, unless another queue has replaced it.
fn remove(id: Id, queue: &Arc<DetachOnDrop>) {
    let mut queues = QUEUES.lock();
    if queues
        .get(&id)
        .is_some_and(|entry| std::ptr::eq(entry.as_ptr(), Arc::as_ptr(queue)))
    {
        queues.remove(&id);
    }
}

/// Closes the queue when its executor is dropped.
///
/// It is made before the executor is spawned and moved into it: to spawn on a runtime that is gone drops the future at
/// once, and the queue has to be closed then, too.
struct CloseOnDrop {
    jobs: Arc<JobQueue>,
    /// The queue of a runtime lives as long as its executor, with or without other handles.
    registered: Option<(Id, Arc<DetachOnDrop>)>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.jobs.close();
        if let Some((id, queue)) = &self.registered {
            remove(*id, queue);
        }
    }
}

/// Runs the jobs of a queue until there will be no more: the executor.
async fn run(queue: CloseOnDrop) {
    while poll_fn(|cx| queue.jobs.poll_batch(cx)).await == Batch::Full {
        task::yield_now().await;
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
        let queue = queue_of(&handle);
        assert!(QUEUES.lock().contains_key(&handle.id()));
        drop(runtime);
        assert!(queue.jobs.is_closed());
        assert!(!QUEUES.lock().contains_key(&handle.id()));

        assert!(queue_of(&handle).jobs.is_closed());
        assert!(!QUEUES.lock().contains_key(&handle.id()));
    }
}
