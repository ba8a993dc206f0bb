//! Threads that serve connections, each with a runtime of its own. A connection stays on its thread, and so does every
//! call that comes by it: its timers, its backend's connection and its answer wake no other thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The threads. They end when this is dropped.
pub(crate) struct Threads {
    all: Vec<Thread>,
    _end: DropGuard,
}

struct Thread {
    handle: Handle,
    /// How many connections it serves.
    load: Arc<AtomicUsize>,
}

/// A place on a thread, to be held as long as the connection lasts.
pub(crate) struct Place {
    load: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Starts so many. With none, connections are served where they are accepted.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let all = (0..count).map(|number| Thread::start(number, end.clone())).collect::<io::Result<_>>()?;
        Ok(Self { all, _end: end.drop_guard() })
    }

    /// A place on the thread that has least to do; `None` if there are no threads.
    pub(crate) fn place(&self) -> Option<(Handle, Place)> {
        let thread = self.all.iter().min_by_key(|thread| thread.load.load(Ordering::Relaxed))?;
        thread.load.fetch_add(1, Ordering::Relaxed);
        Some((thread.handle.clone(), Place { load: Arc::clone(&thread.load) }))
    }
}

impl Thread {
    fn start(number: usize, end: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let serve = move || runtime.block_on(end.cancelled());
        std::thread::Builder::new().name(format!("vmcp-edge-{number}")).spawn(serve)?;
        Ok(Self { handle, load: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::Threads;

    #[test]
    fn connections_are_spread_evenly() {
        let threads = Threads::start(2).unwrap();
        let (first, _held) = threads.place().unwrap();
        let (second, place) = threads.place().unwrap();
        let name = |handle: &tokio::runtime::Handle| {
            let (sender, receiver) = std::sync::mpsc::channel();
            handle.spawn(async move { sender.send(std::thread::current().name().map(str::to_owned)) });
            receiver.recv().unwrap().unwrap()
        };
        let names = [name(&first), name(&second)];
        assert_ne!(names[0], names[1]);
        // The second thread has room again, the first has not.
        drop(place);
        assert_eq!(name(&threads.place().unwrap().0), names[1]);
    }

    #[test]
    fn without_threads_there_is_no_place() {
        assert!(Threads::start(0).unwrap().place().is_none());
    }
}
