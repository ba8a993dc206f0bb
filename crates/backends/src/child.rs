//! The process behind a stdio backend: started as the leader of its own process group, its standard error read
//! into the log, and ended with everything it started.

mod environment;
mod launcher;
mod orphans;
mod program;
mod starter;
mod stderr;

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

pub use self::environment::Environment;
pub use self::launcher::{Launcher, start_child_if_asked};
pub use self::orphans::adopt_orphans;
pub(crate) use self::orphans::{kill as kill_orphans, reap_regularly as reap_orphans};
use crate::duplex::Duplex;
use crate::failure::{Class, Failure};
use crate::life::Loss;
use crate::policy::{ProcessPolicy, StdioPolicy};
use crate::stdio::{self, ORPHAN_GRACE, Wiring};

/// A process that ends this early has most likely not found what it needs.
const EARLY_END: Duration = Duration::from_secs(2);

/// Starts the process and opens the link to it.
pub(crate) async fn start(
    policy: &StdioPolicy,
    processes: &ProcessPolicy,
    wiring: &Wiring,
) -> Result<Arc<Duplex>, Failure> {
    let command = command(policy, processes).map_err(|error| Failure::not_sent(Class::Spawn, error))?;
    let started = starter::start(command).await;
    let mut child = started.map_err(|error| Failure::not_sent(Class::Spawn, error))?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
        return Err(Failure::not_sent(Class::Spawn, "the process has no streams"));
    };
    let backend = wiring.ears.backend().clone();
    tracing::debug!(%backend, pid = child.id(), "started the backend's process");
    let link = stdio::open(stdout, stdin, wiring);
    wiring.tasks.spawn(stderr::log(stderr, backend, wiring.clone()));
    wiring.tasks.spawn(keep(child, wiring.clone()));
    Ok(link)
}

/// The command that becomes the backend's process.
fn command(policy: &StdioPolicy, processes: &ProcessPolicy) -> std::io::Result<Command> {
    let passed = processes.environment.passed(&policy.inherit_env);
    let mut variables: Vec<(&OsStr, &OsStr)> = passed.collect();
    variables.extend(policy.env.iter().map(|(name, value)| (name.as_ref(), value.expose().as_ref())));
    let path = variables.iter().rev().find(|(name, _)| *name == "PATH").map(|(_, value)| *value);
    let program = program::find(&policy.command, policy.cwd.as_deref(), path)?;
    let name = OsString::from(&policy.command);
    let mut command = match &processes.launcher {
        Some(launcher) => launcher.command(&program, &name),
        None => {
            let mut command = std::process::Command::new(&program);
            std::os::unix::process::CommandExt::arg0(&mut command, &name);
            command
        }
    };
    command.args(&policy.args).env_clear().envs(variables);
    if let Some(folder) = &policy.cwd {
        command.current_dir(folder);
    }
    let mut command = Command::from(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

/// Waits for the process to end, or ends it.
async fn keep(mut child: Child, wiring: Wiring) {
    let (id, began) = (child.id(), Instant::now());
    let group = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
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
            if began.elapsed() < EARLY_END {
                tracing::warn!(
                    %backend, status,
                    "the backend's process ended right after its start; if it needs variables of the gateway's \
                     environment, name them in `inheritEnv`"
                );
            } else {
                tracing::warn!(%backend, status, "the backend's process ended");
            }
            // What it wrote last is still being read.
            let _ = timeout(ORPHAN_GRACE, lost.cancelled()).await;
        }
        None => end(&mut child, group, &wiring).await,
    }
    // Whatever the process started and left behind.
    signal(group, Signal::KILL);
    orphans::ended(id);
    orphans::reap();
    wiring.life.lose(Loss::Failed(Class::Exited));
    wiring.closed.cancel();
}

/// Ends the process within its grace: by the end of its input, which is closed by now, then by SIGTERM, then by force.
async fn end(child: &mut Child, group: Option<Pid>, wiring: &Wiring) {
    let grace = *wiring.grace.lock();
    let by_itself = grace / 2;
    if timeout(by_itself, child.wait()).await.is_ok() {
        return;
    }
    signal(group, Signal::TERM);
    if timeout(grace - by_itself, child.wait()).await.is_ok() {
        return;
    }
    tracing::warn!(backend = %wiring.ears.backend(), "the backend's process ignores SIGTERM; killing it");
    signal(group, Signal::KILL);
    let _ = child.wait().await;
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // No such group: everything has ended.
        let _ = kill_process_group(group, signal);
    }
}
