//! The process of a stdio backend. It is started as the leader of its own process group, its standard error
//! is written to the log, and it is stopped with everything that it started.

mod orphans;
pub(crate) mod program;
pub(crate) mod spawner;
mod stderr;

use std::ffi::{OsStr, OsString};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

pub use self::orphans::adopt_orphans;
pub(crate) use self::orphans::{kill_all as kill_orphans, reap_periodically as reap_orphans};
use crate::connection::close_signal::CloseReason;
use crate::failure::{Failure, FailureClass};
use crate::policy::{ProcessPolicy, StdioPolicy};
use crate::transport::duplex::DuplexLink;
use crate::transport::stdio::{self, LOST_CONNECTION_GRACE, StdioContext};

/// How long a failed attempt waits for the exit status and the last lines of the process.
const EXIT_STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// A process that ends this early has most likely not found something that it needs.
const EARLY_EXIT: Duration = Duration::from_secs(2);

/// Starts the process and opens the link to it.
pub(crate) async fn start(
    policy: &StdioPolicy,
    processes: &ProcessPolicy,
    context: &StdioContext,
) -> Result<Arc<DuplexLink>, Failure> {
    let command =
        build_command(policy, processes).map_err(|error| Failure::not_sent(FailureClass::Spawn, error))?;
    let spawned = spawner::spawn(command).await;
    let mut child = spawned.map_err(|error| Failure::not_sent(FailureClass::Spawn, error))?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
        return Err(Failure::not_sent(FailureClass::Spawn, "the process has no streams"));
    };
    let backend = context.event_sender.backend().clone();
    tracing::debug!(%backend, pid = child.id(), "started the backend's process");
    let link = stdio::open(stdout, stdin, context);
    context.tasks.spawn(stderr::log_lines(stderr, backend, context.clone()));
    context.tasks.spawn(watch_process(child, context.clone()));
    Ok(link)
}

/// The command that becomes the backend's process.
fn build_command(policy: &StdioPolicy, processes: &ProcessPolicy) -> std::io::Result<Command> {
    let inherited = processes.environment.inherited(&policy.inherit_env);
    let mut variables: Vec<(&OsStr, &OsStr)> = inherited.collect();
    variables.extend(policy.env.iter().map(|(name, value)| (name.as_ref(), value.expose().as_ref())));
    if let Some(folder) = policy.cwd.as_deref().filter(|folder| !folder.is_dir()) {
        let text = format!("the folder of `cwd` does not exist: {}", folder.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, text));
    }
    let path = variables.iter().rev().find(|(name, _)| *name == "PATH").map(|(_, value)| *value);
    let program = program::find_program(&policy.command, policy.cwd.as_deref(), path)?;
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

/// Waits for the process to end, or stops it when the connection closes.
async fn watch_process(mut child: Child, context: StdioContext) {
    let (id, started_at) = (child.id(), Instant::now());
    let group = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let closed = context.close_signal.token();
    let exit_status = tokio::select! {
        status = child.wait() => Some(status),
        () = context.closing.cancelled() => None,
        () = closed.cancelled() => None,
    };
    let backend = context.event_sender.backend();
    let text = |status: std::io::Result<ExitStatus>| {
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    };
    match exit_status {
        Some(status) => {
            let status = text(status);
            if started_at.elapsed() < EARLY_EXIT {
                // The failed attempt to connect is logged with the status.
                tracing::debug!(%backend, status, "the backend's process ended right after its start");
            } else {
                tracing::warn!(%backend, status, "the backend's process ended");
            }
            // It is set once: a process ends once.
            let _ = context.exit_status.set(status);
            // The reader may still be processing the last output.
            let _ = timeout(LOST_CONNECTION_GRACE, closed.cancelled()).await;
        }
        None => {
            if let Some(status) = stop_process(&mut child, group, &context).await {
                let _ = context.exit_status.set(text(status));
            }
        }
    }
    // Kills what the process started and left behind in its group.
    signal_group(group, Signal::KILL);
    orphans::untrack(id);
    orphans::reap();
    context.close_signal.close(CloseReason::Failed(FailureClass::Exited));
    context.closed.cancel();
}

/// Adds the exit status to the failure of a connection whose process has ended. Waits until the last lines of
/// the process have been read.
pub(crate) async fn explain_exit(failure: Failure, context: &StdioContext) -> Failure {
    if failure.class() != FailureClass::Exited {
        return failure;
    }
    let ended = async {
        context.stderr_ended.cancelled().await;
        context.closed.cancelled().await;
    };
    // A process may close its output without ending, and a grandchild may hold standard error open.
    let _ = timeout(EXIT_STATUS_TIMEOUT, ended).await;
    match (context.exit_status.get(), failure) {
        (Some(status), Failure::NotSent(class, _)) => Failure::NotSent(class, exit_text(status)),
        (Some(status), Failure::Indeterminate(class, _)) => Failure::Indeterminate(class, exit_text(status)),
        (_, failure) => failure,
    }
}

fn exit_text(status: &str) -> String {
    format!("the process ended during its start ({status})")
}

/// Stops the process within its grace: by the end of its input, which is closed by now, then by SIGTERM, then
/// by SIGKILL. Returns the exit status of a process that ended without a signal.
async fn stop_process(
    child: &mut Child,
    group: Option<Pid>,
    context: &StdioContext,
) -> Option<std::io::Result<ExitStatus>> {
    let grace = *context.grace.lock();
    let exit_grace = grace / 2;
    if let Ok(status) = timeout(exit_grace, child.wait()).await {
        return Some(status);
    }
    signal_group(group, Signal::TERM);
    if timeout(grace - exit_grace, child.wait()).await.is_ok() {
        return None;
    }
    tracing::warn!(backend = %context.event_sender.backend(), "the backend's process ignores SIGTERM; killing it");
    signal_group(group, Signal::KILL);
    let _ = child.wait().await;
    None
}

fn signal_group(group: Option<Pid>, signal_group: Signal) {
    if let Some(group) = group {
        // An error means that the group no longer exists: everything has ended.
        let _ = kill_process_group(group, signal_group);
    }
}
