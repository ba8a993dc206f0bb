//! A program that starts a child on the gateway's behalf: the gateway's own program, in a process that becomes the
//! child. Two things can only be set from inside that process: that it ends with the gateway, and its bounds.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The first argument by which a program knows that it is to start a child.
const WORD: &str = "__start-child";
/// No bound is to be set.
const UNSET: &str = "-";
/// The child's program was found and cannot be run, as shells say it.
const EXIT_NOT_STARTED: u8 = 126;

/// How to start a program so that it ends with the gateway, however the gateway ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    program: PathBuf,
    descriptors_max: Option<u64>,
}

impl Launcher {
    /// Starts children through this program, whose `main` has to call [`start_child_if_asked`] before anything else.
    /// `descriptors_max` is the soft bound on open files that children get; `None` leaves the gateway's.
    ///
    /// # Errors
    /// When the system does not say where the program's file is.
    pub fn of_this_program(descriptors_max: Option<u64>) -> std::io::Result<Self> {
        // This name leads to the program that runs even after its file has been replaced.
        let program = PathBuf::from("/proc/self/exe");
        let program = if program.exists() { program } else { std::env::current_exe()? };
        Ok(Self { program, descriptors_max })
    }

    /// The command that becomes `program`, which sees itself called as `name`.
    pub(super) fn command(&self, program: &Path, name: &OsStr) -> Command {
        let mut command = Command::new(&self.program);
        let bound = self.descriptors_max.map_or_else(|| UNSET.to_owned(), |bound| bound.to_string());
        command.arg(WORD).arg(std::process::id().to_string()).arg(bound).arg(program).arg(name);
        command
    }
}

/// Becomes the child process that the arguments of this process ask for. `None` when they ask for none; otherwise the
/// code to exit with, because the child's program could not be started.
#[must_use]
pub fn start_child_if_asked(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let error = match start(args) {
        Some(error) => error.to_string(),
        None => "this command is for the gateway's own use".to_owned(),
    };
    eprintln!("vmcp: the program cannot be started: {error}");
    Some(ExitCode::from(EXIT_NOT_STARTED))
}

/// Returns only when that fails; `None` when the arguments make no sense.
fn start(mut args: impl Iterator<Item = OsString>) -> Option<std::io::Error> {
    let parent: i32 = args.next()?.to_str()?.parse().ok()?;
    let bound = args.next()?;
    let (program, name) = (args.next()?, args.next()?);
    if !end_with_parent(parent) {
        return Some(std::io::Error::other("the gateway has ended"));
    }
    if let Some(bound) = bound.to_str().and_then(|bound| bound.parse().ok()) {
        bound_descriptors(bound);
    }
    Some(Command::new(program).arg0(name).args(args).exec())
}

/// Asks the system to kill this process when the thread that started it ends. False when its process has ended already.
#[cfg(target_os = "linux")]
fn end_with_parent(parent: i32) -> bool {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    // A system that refuses leaves the end of standard input as the sign that the gateway has ended.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have ended before it was asked.
    getppid().map(Pid::as_raw_nonzero).is_some_and(|found| found.get() == parent)
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_parent: i32) -> bool {
    true
}

/// Sets the soft bound on open files. Programs that use `select` fail with descriptors beyond 1024.
fn bound_descriptors(bound: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(bound);
    // Lowering a soft bound cannot fail; a program that gets the gateway's bound works as well.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_word_starts_a_child() {
        let asked = |args: &[&str]| start_child_if_asked(args.iter().map(OsString::from)).is_some();
        assert!(!asked(&["vmcp"]));
        assert!(!asked(&["vmcp", "serve"]));
        assert!(!asked(&["vmcp", "serve", WORD]));
        assert!(asked(&["vmcp", WORD]));
        assert!(asked(&["vmcp", WORD, "1", UNSET, "/nowhere"]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_is_not_started_for_a_gateway_that_has_ended() {
        let args = ["vmcp", WORD, "1", UNSET, "/bin/true", "true"].map(OsString::from);
        // The process of this test is not a child of process 1.
        assert!(start_child_if_asked(args).is_some());
    }
}
