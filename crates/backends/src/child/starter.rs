//! The thread that starts every child process. A child that asked to end with its parent is killed when the *thread* that
//! started it ends (prctl(2), `PR_SET_PDEATHSIG`), so this one ends with the process and no earlier.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::orphans;

/// One process to start, and who waits for it.
struct Order {
    command: Command,
    runtime: Handle,
    started: oneshot::Sender<io::Result<Child>>,
}

/// Starts a process, which is then the present runtime's.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn start(command: Command) -> io::Result<Child> {
    let (started, waiting) = oneshot::channel();
    orders()?
        .send(Order { command, runtime: Handle::current(), started })
        .map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
    waiting.await.map_err(|_| io::Error::other("the thread that starts processes has ended"))?
}

fn orders() -> io::Result<Sender<Order>> {
    static ORDERS: Mutex<Option<Sender<Order>>> = Mutex::new(None);
    let mut started = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(orders) = &*started {
        return Ok(orders.clone());
    }
    let (orders, receiver) = channel();
    thread::Builder::new().name("children".to_owned()).spawn(move || run(&receiver))?;
    Ok(started.insert(orders).clone())
}

fn run(orders: &Receiver<Order>) {
    while let Ok(Order { mut command, runtime, started }) = orders.recv() {
        let _entered = runtime.enter();
        let child = orphans::started(|| command.spawn());
        // Whoever asked may have gone; dropping the child ends it.
        drop(started.send(child));
    }
}
