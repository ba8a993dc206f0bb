//! Processes that a child leaves behind. A child may start others outside its process group, and what it leaves when it
//! ends becomes a child of the gateway where the gateway asks for that (prctl(2), `PR_SET_CHILD_SUBREAPER`). They are
//! ended with the gateway, and those that have ended are taken off the system's table.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::Child;

/// How often ended orphans are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// Processes that somebody in this process waits for.
static TRACKED: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

fn tracked() -> MutexGuard<'static, Option<HashSet<u32>>> {
    TRACKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `start` and remembers the process as one that is waited for.
pub(super) fn spawn_tracked(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    // Held while the process starts, so that nobody takes it for an orphan meanwhile.
    let mut tracked = tracked();
    let child = start()?;
    if let (Some(known), Some(id)) = (&mut *tracked, child.id()) {
        known.insert(id);
    }
    Ok(child)
}

/// The process has ended and has been waited for.
pub(super) fn untrack(id: Option<u32>) {
    if let (Some(known), Some(id)) = (&mut *tracked(), id) {
        known.remove(&id);
    }
}

/// Makes this process the parent of what its children leave behind. Only for a program whose children are all started
/// by this crate: every other child of the process counts as left behind.
#[cfg(target_os = "linux")]
pub fn adopt_orphans() {
    use rustix::process::{getpid, set_child_subreaper};
    if set_child_subreaper(Some(getpid())).is_ok() {
        tracked().get_or_insert_default();
    }
}

/// Elsewhere what a child leaves behind outside its process group stays.
#[cfg(not(target_os = "linux"))]
pub fn adopt_orphans() {}

/// Reaps from time to time, for ever.
pub(crate) async fn reap_periodically() {
    loop {
        tokio::time::sleep(REAP_INTERVAL).await;
        reap();
    }
}

/// Waits for orphans that have ended, without blocking.
#[cfg(target_os = "linux")]
pub(super) fn reap() {
    let guard = tracked();
    let Some(known) = &*guard else { return };
    for orphan in
        linux::children().into_iter().filter(|id| !known.contains(&id.as_raw_nonzero().get().unsigned_abs()))
    {
        let _ = rustix::process::waitpid(Some(orphan), rustix::process::WaitOptions::NOHANG);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reap() {}

/// Kills every orphan, and what these have started. To be called once no child is started any more.
#[cfg(target_os = "linux")]
pub(crate) fn kill_all() {
    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
    // What is killed may leave orphans of its own, so look again. Each turn ends a generation at least.
    for _ in 0..linux::GENERATIONS_MAX {
        let guard = tracked();
        let Some(known) = &*guard else { return };
        let is_known = |id: &rustix::process::Pid| known.contains(&id.as_raw_nonzero().get().unsigned_abs());
        let orphans: Vec<_> = linux::children().into_iter().filter(|id| !is_known(id)).collect();
        if orphans.is_empty() {
            return;
        }
        tracing::info!(count = orphans.len(), "ending processes that backends left behind");
        for orphan in orphans {
            let _ = kill_process(orphan, Signal::KILL);
            // A killed process is gone within a moment; one that hangs in the system is left to it.
            for _ in 0..linux::EXIT_POLLS_MAX {
                if waitpid(Some(orphan), WaitOptions::NOHANG).is_ok_and(|ended| ended.is_none()) {
                    std::thread::sleep(linux::EXIT_POLL_INTERVAL);
                } else {
                    break;
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn kill() {}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::process::Pid;

    /// How deep left processes may have started others.
    pub(super) const GENERATIONS_MAX: usize = 16;
    /// How often it is looked whether a killed process has ended, and how far apart.
    pub(super) const EXIT_POLLS_MAX: usize = 20;
    pub(super) const EXIT_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(2);

    /// The children of this process, of all its threads.
    pub(super) fn children() -> Vec<Pid> {
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_ascii_whitespace().filter_map(parse_pid).collect::<Vec<_>>())
            .collect()
    }

    fn parse_pid(text: &str) -> Option<Pid> {
        Pid::from_raw(text.parse().ok()?)
    }
}
