//! The launcher of a child: the gateway's own program, in a process that then becomes the child. Two things
//! can only be set from inside that process: that it ends with the gateway, and its resource limits.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The first argument by which the program recognises that it must start a child.
const START_CHILD_ARG: &str = "__start-child";
/// The argument that sets no limit.
const NO_LIMIT: &str = "-";
/// The exit code if the child's program was found and cannot be run, as in shells.
const EXIT_NOT_STARTED: u8 = 126;

/// How to start a program so that it ends with the gateway, however the gateway ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    program: PathBuf,
    descriptors_max: Option<u64>,
}

impl Launcher {
    /// Starts children through this program. Its `main` must call [`exec_child_if_requested`] before anything
    /// else. `descriptors_max` is the soft limit on open files of children; `None` keeps the gateway's limit.
    ///
    /// # Errors
    /// If the system does not report where the program's file is.
    pub fn of_this_program(descriptors_max: Option<u64>) -> std::io::Result<Self> {
        // This path leads to the running program even after its file has been replaced.
        let program = PathBuf::from("/proc/self/exe");
        let program = if program.exists() { program } else { std::env::current_exe()? };
        Ok(Self { program, descriptors_max })
    }

    /// The command that becomes `program`, which receives `name` as its own name (`argv[0]`).
    pub(crate) fn command(&self, program: &Path, name: &OsStr) -> Command {
        let mut command = Command::new(&self.program);
        let descriptors_max =
            self.descriptors_max.map_or_else(|| NO_LIMIT.to_owned(), |bound| bound.to_string());
        command
            .arg(START_CHILD_ARG)
            .arg(std::process::id().to_string())
            .arg(descriptors_max)
            .arg(program)
            .arg(name);
        command
    }
}

/// Becomes the child process that the arguments of this process request. `None` if they request none.
/// Otherwise the code to exit with, because the child's program could not be started.
#[must_use]
pub fn exec_child_if_requested(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != START_CHILD_ARG {
        return None;
    }
    let error = match exec_child(args) {
        Some(error) => error.to_string(),
        None => "this command is for the gateway's own use".to_owned(),
    };
    eprintln!("vmcp: the program cannot be started: {error}");
    Some(ExitCode::from(EXIT_NOT_STARTED))
}

/// Returns only if it fails; `None` if the arguments are invalid.
fn exec_child(mut args: impl Iterator<Item = OsString>) -> Option<std::io::Error> {
    let parent: i32 = args.next()?.to_str()?.parse().ok()?;
    let descriptors_max = args.next()?;
    let (program, name) = (args.next()?, args.next()?);
    if !die_with_parent(parent) {
        return Some(std::io::Error::other("the gateway has ended"));
    }
    if let Some(descriptors_max) = descriptors_max.to_str().and_then(|bound| bound.parse().ok()) {
        limit_descriptors(descriptors_max);
    }
    Some(Command::new(program).arg0(name).args(args).exec())
}

/// Asks the system to kill this process when the thread that started it ends. Returns false if the parent
/// process has already ended.
#[cfg(target_os = "linux")]
fn die_with_parent(parent: i32) -> bool {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    // If the system refuses, the end of standard input remains the sign that the gateway has ended.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have ended before the request.
    getppid().map(Pid::as_raw_nonzero).is_some_and(|found| found.get() == parent)
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: i32) -> bool {
    true
}

/// Sets the soft limit on open files. Programs that use `select` fail with descriptors beyond 1024.
fn limit_descriptors(descriptors_max: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(descriptors_max);
    // Lowering a soft limit cannot fail. A program that gets the gateway's limit works as well.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_word_starts_a_child() {
        let asked = |args: &[&str]| exec_child_if_requested(args.iter().map(OsString::from)).is_some();
        assert!(!asked(&["vmcp"]));
        assert!(!asked(&["vmcp", "serve"]));
        assert!(!asked(&["vmcp", "serve", START_CHILD_ARG]));
        assert!(asked(&["vmcp", START_CHILD_ARG]));
        assert!(asked(&["vmcp", START_CHILD_ARG, "1", NO_LIMIT, "/nowhere"]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_is_not_started_for_a_gateway_that_has_ended() {
        let args = ["vmcp", START_CHILD_ARG, "1", NO_LIMIT, "/bin/true", "true"].map(OsString::from);
        // The process of this test is not a child of process 1.
        assert!(exec_child_if_requested(args).is_some());
    }
}
