//! Locks the worker in: bounds on what it may use, and a list of the system calls that it may make. Every other system
//! call ends the process.

use std::io;

/// How a worker is locked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Bounds and a list of system calls.
    Required,
    /// Bounds only, where the system has no such lists.
    Process,
}

impl Sandbox {
    /// The word on the command line of a worker.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Process => "process",
        }
    }

    /// The sandbox that a word on the command line names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Required, Self::Process].into_iter().find(|sandbox| sandbox.as_str() == word)
    }
}

/// What a worker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The address space in bytes.
    pub address_space: u64,
    /// The processor time in seconds.
    pub cpu_seconds: u64,
}

/// Locks this process in. It cannot be undone.
///
/// # Errors
/// If the system refuses a bound or the list. The worker must not run a script then.
#[cfg(target_os = "linux")]
pub(crate) fn enter(sandbox: Sandbox, bounds: Bounds) -> io::Result<()> {
    use rustix::process::{
        DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, set_parent_process_death_signal,
        setrlimit,
    };
    let limit = |resource, most: u64| {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(io::Error::from)
    };
    limit(Resource::As, bounds.address_space)?;
    limit(Resource::Cpu, bounds.cpu_seconds)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    // No descriptor beside the three that are open can be opened.
    limit(Resource::Nofile, 3)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    match sandbox {
        Sandbox::Process => Ok(()),
        Sandbox::Required => system_calls::restrict(),
    }
}

/// As on Linux, without bounds: other systems end a worker by its deadline only.
///
/// # Errors
/// If a list of system calls is required.
#[cfg(not(target_os = "linux"))]
pub(crate) fn enter(sandbox: Sandbox, _bounds: Bounds) -> io::Result<()> {
    match sandbox {
        Sandbox::Process => Ok(()),
        Sandbox::Required => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no list of system calls; `sandbox: process` does without",
        )),
    }
}

#[cfg(target_os = "linux")]
mod system_calls {
    use std::collections::BTreeMap;
    use std::io;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition,
        SeccompFilter, SeccompRule,
    };

    /// The bit of executable memory, in `mmap` and `mprotect`.
    const PROT_EXEC: u64 = 4;

    /// Allows the calls that an engine and its allocators need, without executable memory and with no other descriptor
    /// than standard input and output.
    pub(super) fn restrict() -> io::Result<()> {
        let own = u64::from(std::process::id());
        let any = Vec::new;
        let rules: BTreeMap<i64, Vec<SeccompRule>> = [
            (libc::SYS_read, only(0, Compare::Eq, 0)?),
            (libc::SYS_write, only(0, Compare::Eq, 1)?),
            (libc::SYS_mmap, only(2, Compare::MaskedEq(PROT_EXEC), 0)?),
            (libc::SYS_mprotect, only(2, Compare::MaskedEq(PROT_EXEC), 0)?),
            (libc::SYS_munmap, any()),
            (libc::SYS_mremap, any()),
            (libc::SYS_brk, any()),
            (libc::SYS_madvise, any()),
            (libc::SYS_futex, any()),
            (libc::SYS_clock_gettime, any()),
            (libc::SYS_gettimeofday, any()),
            (libc::SYS_getrandom, any()),
            (libc::SYS_sigaltstack, any()),
            (libc::SYS_rt_sigprocmask, any()),
            (libc::SYS_rt_sigaction, any()),
            (libc::SYS_rt_sigreturn, any()),
            // An allocator names its memory with it. It can grant no right after `no_new_privs`.
            (libc::SYS_prctl, any()),
            // The end of a process that aborts.
            (libc::SYS_gettid, any()),
            (libc::SYS_getpid, any()),
            (libc::SYS_tgkill, only(0, Compare::Eq, own)?),
            (libc::SYS_exit, any()),
            (libc::SYS_exit_group, any()),
        ]
        .into();
        let architecture = std::env::consts::ARCH.try_into().map_err(invalid)?;
        let filter =
            SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture);
        let program: BpfProgram = filter.map_err(invalid)?.try_into().map_err(invalid)?;
        // It sets `no_new_privs` too.
        seccompiler::apply_filter(&program).map_err(invalid)
    }

    /// A rule about one argument.
    fn only(index: u8, compare: Compare, value: u64) -> io::Result<Vec<SeccompRule>> {
        let condition = SeccompCondition::new(index, Length::Qword, compare, value).map_err(invalid)?;
        Ok(vec![SeccompRule::new(vec![condition]).map_err(invalid)?])
    }

    fn invalid(error: impl std::fmt::Display) -> io::Error {
        io::Error::other(error.to_string())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
