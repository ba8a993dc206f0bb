//! Spawns the limiter's background tasks on the runtime on which the limiter was made. A call may come from a
//! runtime that ends before the process does, and debts to the store must not end with that runtime.

use std::future::Future;

use tokio::runtime::Handle;

/// The runtime of the limiter's tasks.
#[derive(Clone, Debug)]
pub(crate) struct TaskSpawner(Option<Handle>);

impl TaskSpawner {
    /// The current runtime. If this is called outside of a runtime, each task runs on the runtime from which
    /// it is spawned.
    pub(crate) fn current() -> Self {
        Self(Handle::try_current().ok())
    }

    /// Spawns a task.
    ///
    /// # Panics
    /// If neither `current` nor this function was called inside a runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some(runtime) => drop(runtime.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::TaskSpawner;

    #[tokio::test]
    async fn a_task_outlives_the_runtime_that_begins_it() {
        let upkeep = TaskSpawner::current();
        let (done, end) = oneshot::channel();
        let begin = move || {
            let passing = Builder::new_current_thread().build().unwrap();
            passing.block_on(async {
                upkeep.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let _ = done.send(());
                });
            });
        };
        std::thread::spawn(begin).join().unwrap();
        end.await.unwrap();
    }
}
