//! Starts workers, and keeps some of them ready.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::worker::{Worker, WorkerSettings};

/// The name of the thread that starts workers.
const THREAD: &str = "script-workers";

/// The workers that have no script yet.
pub(crate) struct Workers {
    settings: WorkerSettings,
    spare_max: usize,
    spares: Mutex<Spares>,
    starter: Mutex<Option<Sender<StartRequest>>>,
}

#[derive(Default)]
struct Spares {
    ready: VecDeque<Worker>,
    /// How many are being started.
    starting: usize,
    /// Why the last start failed.
    start_error: Option<String>,
}

struct StartRequest {
    settings: WorkerSettings,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Worker>>,
}

impl Workers {
    pub(crate) fn new(settings: WorkerSettings, spare_max: usize) -> Arc<Self> {
        Arc::new(Self { settings, spare_max, spares: Mutex::default(), starter: Mutex::default() })
    }

    /// A worker that is ready, and another one in its place. Must be called in a runtime.
    ///
    /// # Errors
    /// If the system starts no process, or does not lock it in.
    pub(crate) async fn take(self: &Arc<Self>) -> io::Result<Worker> {
        let spare = self.take_spare();
        self.fill();
        match spare {
            Some(worker) => Ok(worker),
            None => self.start().await,
        }
    }

    fn take_spare(&self) -> Option<Worker> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut worker) = spares.ready.pop_front() {
            // The system may have ended it, for example for lack of memory.
            if worker.is_running() {
                return Some(worker);
            }
        }
        None
    }

    /// Starts as many workers as are missing, in the background. Must be called in a runtime.
    pub(crate) fn fill(self: &Arc<Self>) {
        let missing = {
            let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
            let missing = self.spare_max.saturating_sub(spares.ready.len() + spares.starting);
            spares.starting += missing;
            missing
        };
        for _ in 0..missing {
            let workers = Arc::clone(self);
            tokio::spawn(async move {
                let started = workers.start().await;
                let mut spares = workers.spares.lock().unwrap_or_else(PoisonError::into_inner);
                spares.starting -= 1;
                match started {
                    Ok(worker) => spares.ready.push_back(worker),
                    // The next run tries again, and reports it.
                    Err(error) => tracing::warn!(%error, "no worker for scripts can be started"),
                }
            });
        }
    }

    /// Ends the workers that have no script.
    pub(crate) fn clear(&self) {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).ready.clear();
    }

    /// How many workers are ready, and why the last start failed.
    pub(crate) fn status(&self) -> (usize, Option<String>) {
        let spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        (spares.ready.len(), spares.start_error.clone())
    }

    async fn start(&self) -> io::Result<Worker> {
        let started = self.start_one().await;
        let error = started.as_ref().err().map(ToString::to_string);
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).start_error = error;
        started
    }

    async fn start_one(&self) -> io::Result<Worker> {
        let (reply, started) = oneshot::channel();
        let request = StartRequest { settings: self.settings.clone(), runtime: Handle::current(), reply };
        self.starter()?.send(request).map_err(|_| starter_ended())?;
        let mut worker = started.await.map_err(|_| starter_ended())??;
        worker.wait_until_ready().await?;
        Ok(worker)
    }

    /// The thread that starts workers. The system ends a worker when the thread that started it ends, and threads of a
    /// runtime may end at any time.
    fn starter(&self) -> io::Result<Sender<StartRequest>> {
        let mut starter = self.starter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(starter) = &*starter {
            return Ok(starter.clone());
        }
        let (sender, requests) = channel();
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || start_workers(&requests))?;
        *starter = Some(sender.clone());
        Ok(sender)
    }
}

fn start_workers(requests: &Receiver<StartRequest>) {
    while let Ok(StartRequest { settings, runtime, reply }) = requests.recv() {
        let _in_runtime = runtime.enter();
        // A caller that has left needs no worker, which ends when it is dropped.
        let _ = reply.send(Worker::spawn(&settings));
    }
}

fn starter_ended() -> io::Error {
    io::Error::other("the thread that starts workers has ended")
}
