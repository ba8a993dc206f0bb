//! Waiting by polling, always with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a process may take to start, or a change to arrive, before a test fails. Generous:
/// it is only waited for in full when something is broken.
pub const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until `probe` gives a value. Fails with `what` after [`TIMEOUT`].
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    until_within(TIMEOUT, what, probe)
}

/// As [`until`], with a limit of its own.
pub fn until_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
