//! The thread that starts every child process. A child that asked to end with its parent is killed when the
//! *thread* that started it ends (prctl(2), `PR_SET_PDEATHSIG`). This thread therefore runs until the process
//! ends.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::orphans;

/// One process to start, and the channel for the result.
struct SpawnRequest {
    command: Command,
    runtime: Handle,
    result_sender: oneshot::Sender<io::Result<Child>>,
}

/// Starts a process, which then belongs to the current runtime.
///
/// # Errors
/// If it cannot be started.
pub(super) async fn spawn(command: Command) -> io::Result<Child> {
    let (started, result) = oneshot::channel();
    request_sender()?
        .send(SpawnRequest { command, runtime: Handle::current(), result_sender: started })
        .map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
    result.await.map_err(|_| io::Error::other("the thread that starts processes has ended"))?
}

fn request_sender() -> io::Result<Sender<SpawnRequest>> {
    static SENDER: Mutex<Option<Sender<SpawnRequest>>> = Mutex::new(None);
    let mut started = SENDER.lock();
    if let Some(sender) = &*started {
        return Ok(sender.clone());
    }
    let (sender, receiver) = channel();
    thread::Builder::new().name("children".to_owned()).spawn(move || run_spawner(&receiver))?;
    Ok(started.insert(sender).clone())
}

fn run_spawner(sender: &Receiver<SpawnRequest>) {
    while let Ok(SpawnRequest { mut command, runtime, result_sender: started }) = sender.recv() {
        let _entered = runtime.enter();
        let child = orphans::spawn_tracked(|| command.spawn());
        // The receiver may be gone; dropping the child kills it.
        drop(started.send(child));
    }
}
