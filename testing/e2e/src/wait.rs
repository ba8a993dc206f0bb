//! Waiting by polling with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Time-out for the start of a process or the arrival of a change. It is generous, because a test waits for
/// all of it only when something is broken.
pub const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until `probe` returns a value. After [`TIMEOUT`] it fails with `what`.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    until_within(TIMEOUT, what, probe)
}

/// As [`until`], with its own time-out.
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
