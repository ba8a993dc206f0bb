//! What is read from the process and its system: environment variables, the user, and the time of day. Nothing else in
//! the product reads the environment or the time of day.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

pub use vmcp_backends::adopt_orphans;
use vmcp_backends::policy::ProcessPolicy;
use vmcp_backends::{Environment, Launcher, exec_child_if_requested};

/// How children are started, once [`prepare`] has been called.
static LAUNCHER: OnceLock<Launcher> = OnceLock::new();

/// Prepares this process for backends that are child processes. To be called first in `main`, with the arguments of
/// the process, before any thread is started. From then on children end with this process, however it ends, and its
/// soft bound on open files is the hard one. `Some` tells that this process was started in order to become a child
/// and could not: `main` has to return that code.
///
/// Without this call a child whose gateway is killed only sees the end of its standard input.
#[must_use]
pub fn prepare(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    if let Some(code) = exec_child_if_requested(args) {
        return Some(code);
    }
    // A system that does not say where the program is leaves children to be started directly.
    if let Ok(launcher) = Launcher::of_this_program(raise_open_files_limit()) {
        let _ = LAUNCHER.set(launcher);
    }
    None
}

/// Raises the soft bound on open files to the hard one. Returns the bound before, which children get back: a program
/// that uses `select` fails with descriptors beyond 1024.
fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut raised = getrlimit(Resource::Nofile);
    raised.current = raised.maximum;
    // A system that refuses leaves the bound as it is.
    let _ = setrlimit(Resource::Nofile, raised);
    limit.current
}

/// How this process starts children.
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

/// The operating-system user who runs the gateway. Services are often started without the usual variables; the user is
/// then named by number.
#[must_use]
pub fn user() -> String {
    environment("USER")
        .or_else(|| environment("LOGNAME"))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

/// The time of day: tokens and keys say in it when they end, and signatures when they were made.
pub(crate) fn wall_time() -> SystemTime {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    SystemTime::now()
}

/// The same in seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    wall_time().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
