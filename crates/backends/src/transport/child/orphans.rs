//! Processes that a child leaves behind. A child may start processes outside its process group. When the
//! child ends, they become children of the gateway if the gateway has requested that (prctl(2),
//! `PR_SET_CHILD_SUBREAPER`). They are killed with the gateway, and reaped once they have ended.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::process::Child;

/// How often ended orphans are reaped.
const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// Processes that this program itself waits for; `None` unless [`adopt_orphans`] has succeeded.
static TRACKED: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

fn tracked() -> MutexGuard<'static, Option<HashSet<u32>>> {
    TRACKED.lock()
}

/// Runs `start` and records the process as one that is waited for.
pub(super) fn spawn_tracked(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    // The lock is held while the process starts, so that it is not taken for an orphan meanwhile.
    let mut tracked = tracked();
    let child = start()?;
    if let (Some(known), Some(id)) = (&mut *tracked, child.id()) {
        known.insert(id);
    }
    Ok(child)
}

/// Removes a process that has ended and has been waited for.
pub(super) fn untrack(id: Option<u32>) {
    if let (Some(known), Some(id)) = (&mut *tracked(), id) {
        known.remove(&id);
    }
}

/// Makes this process the parent of what its children leave behind. It is only for a program in which this
/// crate starts all children: every other child of the process counts as an orphan.
#[cfg(target_os = "linux")]
pub fn adopt_orphans() {
    use rustix::process::{getpid, set_child_subreaper};
    if set_child_subreaper(Some(getpid())).is_ok() {
        tracked().get_or_insert_default();
    }
}

/// On other systems, what a child leaves behind outside its process group keeps running.
#[cfg(not(target_os = "linux"))]
pub fn adopt_orphans() {}

/// Reaps ended orphans periodically, for ever.
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

/// Kills every orphan, and what the orphans have started. Must be called when no child is started any more.
#[cfg(target_os = "linux")]
pub(crate) fn kill_all() {
    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
    // A killed process may leave orphans of its own, so look again. Each pass ends at least one generation.
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
            // A killed process is gone within a moment. A process that hangs in the kernel is left to the
            // system.
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
pub(crate) fn kill_all() {}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::process::Pid;

    /// Maximum number of generations of processes that orphans have started.
    pub(super) const GENERATIONS_MAX: usize = 16;
    /// How often a killed process is polled for its end, and the interval between polls.
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
