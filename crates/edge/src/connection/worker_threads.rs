//! Threads that serve connections, each with its own single-threaded runtime. A connection stays on its
//! thread, and so does every call it carries. Its timers, its backend connection and its answer therefore
//! wake no other thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The worker threads. They stop when this is dropped.
pub(crate) struct WorkerThreads {
    workers: Vec<WorkerThread>,
    _stop_on_drop: DropGuard,
}

struct WorkerThread {
    runtime: Handle,
    /// The number of connections the thread serves now.
    connection_count: Arc<AtomicUsize>,
}

/// Counts one connection of a worker thread while it is held.
pub(crate) struct LoadGuard {
    connection_count: Arc<AtomicUsize>,
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.connection_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerThreads {
    /// Starts `count` threads. With 0, [`Self::assign`] returns `None` and connections stay on the accepting
    /// runtime.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let all =
            (0..count).map(|number| WorkerThread::start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { workers: all, _stop_on_drop: stop.drop_guard() })
    }

    /// Assigns a connection to the thread with the fewest connections; `None` if there are no threads.
    pub(crate) fn assign(&self) -> Option<(Handle, LoadGuard)> {
        let thread =
            self.workers.iter().min_by_key(|thread| thread.connection_count.load(Ordering::Relaxed))?;
        thread.connection_count.fetch_add(1, Ordering::Relaxed);
        Some((thread.runtime.clone(), LoadGuard { connection_count: Arc::clone(&thread.connection_count) }))
    }
}

impl WorkerThread {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let serve = move || runtime.block_on(stop.cancelled());
        std::thread::Builder::new().name(format!("vmcp-edge-{number}")).spawn(serve)?;
        Ok(Self { runtime: handle, connection_count: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::WorkerThreads;

    #[test]
    fn connections_are_spread_evenly() {
        let threads = WorkerThreads::start(2).unwrap();
        let (first, _held) = threads.assign().unwrap();
        let (second, load_guard) = threads.assign().unwrap();
        let name = |handle: &tokio::runtime::Handle| {
            let (sender, receiver) = std::sync::mpsc::channel();
            handle.spawn(async move { sender.send(std::thread::current().name().map(str::to_owned)) });
            receiver.recv().unwrap().unwrap()
        };
        let names = [name(&first), name(&second)];
        assert_ne!(names[0], names[1]);
        // The second thread now has fewer connections than the first.
        drop(load_guard);
        assert_eq!(name(&threads.assign().unwrap().0), names[1]);
    }

    #[test]
    fn without_threads_there_is_no_place() {
        assert!(WorkerThreads::start(0).unwrap().assign().is_none());
    }
}
