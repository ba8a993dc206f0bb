//! What the gateway reads from the process and the operating system: environment variables and the user.
//! No other module of the product reads the environment.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::OnceLock;

pub use vmcp_backends::adopt_orphans;
use vmcp_backends::policy::ProcessPolicy;
use vmcp_backends::{Environment, Launcher, exec_child_if_requested};
pub use vmcp_script::WorkerProgram;

/// How child processes are started. Set by [`prepare`].
static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
/// The program that runs scripts. Set by [`prepare`].
static SCRIPT_WORKER: OnceLock<WorkerProgram> = OnceLock::new();

/// Prepares this process for backends that are child processes, and for scripts, each of which runs in a child process
/// too. Call it first in `main`, with the arguments of the process, before any thread is started.
///
/// After this call, child processes end with this process, however it ends. The soft limit on open files is
/// raised to the hard limit. `Some` means that this process was started to become a child and could not:
/// `main` must return that code.
///
/// Without this call, a child process only sees the end of its standard input when its gateway is killed.
#[must_use]
pub fn prepare(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(code) = vmcp_script::run_worker_if_requested(args.iter().cloned()) {
        return Some(code);
    }
    if let Some(code) = exec_child_if_requested(args) {
        return Some(code);
    }
    if let Ok(program) = WorkerProgram::of_this_process() {
        let _ = SCRIPT_WORKER.set(program);
    }
    // If the system does not report the path of the program, child processes are started directly.
    if let Ok(launcher) = Launcher::of_this_program(raise_open_files_limit()) {
        let _ = LAUNCHER.set(launcher);
    }
    None
}

/// The program that runs scripts: this one, if [`prepare`] was called.
pub(crate) fn script_worker() -> Option<WorkerProgram> {
    SCRIPT_WORKER.get().cloned()
}

/// Raises the soft limit on open files to the hard limit and returns the previous soft limit. Child processes
/// get the previous limit back, because a program that uses `select` fails with descriptors beyond 1024.
fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut raised_limit = getrlimit(Resource::Nofile);
    raised_limit.current = raised_limit.maximum;
    // If the system refuses, the limit stays unchanged.
    let _ = setrlimit(Resource::Nofile, raised_limit);
    limit.current
}

/// How this process starts child processes. `count_max` is the most processes of all stdio backends together.
pub(crate) fn process_policy(count_max: usize) -> ProcessPolicy {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    let variables = std::env::vars_os();
    ProcessPolicy { environment: Environment::new(variables), launcher: LAUNCHER.get().cloned(), count_max }
}

/// The value of an environment variable, if it is set and is UTF-8.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    std::env::var(name).ok()
}

/// The name of the operating-system user who runs the gateway: `USER`, or `LOGNAME`. Services are often
/// started without these variables; the name is then `uid-` and the number of the user.
#[must_use]
pub fn user() -> String {
    environment("USER")
        .or_else(|| environment("LOGNAME"))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}
