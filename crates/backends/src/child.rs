//! The process behind a stdio backend: started as the leader of its own process group, its standard error read
//! into the log, and ended with everything it started.
//!
//! The process inherits the gateway's environment, with the policy's variables added. When the gateway itself is
//! killed without a chance to clean up, the process sees the end of its standard input.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use vmcp_domain::BackendId;

use crate::duplex::Duplex;
use crate::failure::{Class, Failure};
use crate::life::Loss;
use crate::lines::{Line, Lines};
use crate::policy::StdioPolicy;
use crate::stdio::{self, ORPHAN_GRACE, Wiring};

/// How much of one line of standard error is logged.
const STDERR_LINE_BYTES_MAX: usize = 4 << 10;
/// How long a process may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// Starts the process and opens the link to it.
pub(crate) fn start(policy: &StdioPolicy, wiring: &Wiring) -> Result<Arc<Duplex>, Failure> {
    let mut command = Command::new(&policy.command);
    command
        .args(&policy.args)
        .envs(policy.env.iter().map(|(name, value)| (name, value.expose())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(folder) = &policy.cwd {
        command.current_dir(folder);
    }
    let mut child = command.spawn().map_err(|error| Failure::not_sent(Class::Spawn, error))?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
        return Err(Failure::not_sent(Class::Spawn, "the process has no streams"));
    };
    let backend = wiring.ears.backend().clone();
    tracing::debug!(%backend, pid = child.id(), "started the backend's process");
    let link = stdio::open(stdout, stdin, wiring);
    wiring.tasks.spawn(log_stderr(stderr, backend, wiring.clone()));
    wiring.tasks.spawn(keep(child, wiring.clone()));
    Ok(link)
}

async fn log_stderr(stderr: ChildStderr, backend: BackendId, wiring: Wiring) {
    let mut lines = Lines::new(stderr, STDERR_LINE_BYTES_MAX);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            // Something the process left behind may hold the stream open.
            () = wiring.closed.cancelled() => return,
        };
        let Ok(Some(Line::Whole(line) | Line::Cut(line))) = line else {
            return;
        };
        wiring.alive.cancel();
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            tracing::info!(%backend, stderr = %text.trim_end(), "backend");
        }
    }
}

/// Waits for the process to end, or ends it.
async fn keep(mut child: Child, wiring: Wiring) {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let lost = wiring.life.token();
    let alone = tokio::select! {
        status = child.wait() => Some(status),
        () = wiring.closing.cancelled() => None,
        () = lost.cancelled() => None,
    };
    let backend = wiring.ears.backend();
    match alone {
        Some(status) => {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::warn!(%backend, status, "the backend's process ended");
            // What it wrote last is still being read.
            let _ = timeout(ORPHAN_GRACE, lost.cancelled()).await;
        }
        None => {
            // Standard input is closed by now, which asks the process to end.
            let grace = *wiring.grace.lock();
            if timeout(grace, child.wait()).await.is_err() {
                signal(group, Signal::TERM);
                if timeout(TERM_GRACE, child.wait()).await.is_err() {
                    tracing::warn!(%backend, "the backend's process ignores SIGTERM; killing it");
                    signal(group, Signal::KILL);
                    let _ = child.wait().await;
                }
            }
        }
    }
    // Whatever the process started and left behind.
    signal(group, Signal::KILL);
    wiring.life.lose(Loss::Failed(Class::Exited));
    wiring.closed.cancel();
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // No such group: everything has ended.
        let _ = kill_process_group(group, signal);
    }
}
