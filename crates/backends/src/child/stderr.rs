//! A child's standard error on its way into the log: whole lines, of bounded length and number, and read as fast as a
//! sensible child writes them.

use std::time::Duration;

use tokio::process::ChildStderr;
use tokio::time::{Instant, sleep};
use vmcp_domain::BackendId;

use crate::lines::{Line, Lines};
use crate::pace::Pace;
use crate::stdio::Wiring;

/// How much of one line is logged.
const LINE_BYTES_MAX: usize = 4 << 10;
/// How many lines of one backend are logged at once, and how many a second for longer.
const BURST: f64 = 100.0;
const LINES_PER_SECOND: f64 = 10.0;
/// How much is logged at once, and a second for longer.
const BURST_BYTES: f64 = 64.0 * 1024.0;
const BYTES_PER_SECOND: f64 = 16.0 * 1024.0;
/// How often a line tells how many were left out.
const TELL_WAIT: Duration = Duration::from_secs(1);

/// Reads until the stream or the connection ends.
pub(super) async fn log(stderr: ChildStderr, backend: BackendId, wiring: Wiring) {
    let mut lines = Lines::new(wiring.noticed(stderr), LINE_BYTES_MAX);
    let mut bound = Bound::new(Instant::now());
    let mut pace = Pace::new();
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = sleep(TELL_WAIT), if bound.left_out > 0 => {
                bound.tell(&backend);
                continue;
            }
            // Something the process left behind may hold the stream open.
            () = wiring.closed.cancelled() => break,
        };
        let Ok(Some(Line::Whole(line) | Line::Cut(line))) = line else { break };
        let text = String::from_utf8_lossy(&line);
        wiring.signs.line(&text);
        if !text.trim().is_empty() && bound.admits(line.len(), Instant::now()) {
            tracing::info!(%backend, stderr = %text.trim_end(), "backend");
        }
        // A child that writes more waits for the gateway.
        pace.keep(line.len()).await;
        if bound.told.elapsed() >= TELL_WAIT {
            bound.tell(&backend);
        }
    }
    bound.tell(&backend);
}

/// How much may be logged now.
struct Bound {
    lines: f64,
    bytes: f64,
    filled: Instant,
    left_out: u64,
    told: Instant,
}

impl Bound {
    fn new(now: Instant) -> Self {
        Self { lines: BURST, bytes: BURST_BYTES, filled: now, left_out: 0, told: now }
    }

    fn admits(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.lines = (self.lines + passed * LINES_PER_SECOND).min(BURST);
        self.bytes = (self.bytes + passed * BYTES_PER_SECOND).min(BURST_BYTES);
        // A line is at most 4 KiB long, so the number is exact.
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let bytes = bytes as f64;
        let admits = self.lines >= 1.0 && self.bytes >= bytes;
        if admits {
            self.lines -= 1.0;
            self.bytes -= bytes;
        } else {
            self.left_out += 1;
        }
        admits
    }

    fn tell(&mut self, backend: &BackendId) {
        self.told = Instant::now();
        if self.left_out > 0 {
            let left_out = std::mem::take(&mut self.left_out);
            tracing::info!(%backend, lines = left_out, "left out lines of the backend's standard error");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_logged_and_then_a_few_lines_a_second() {
        let start = Instant::now();
        let mut bound = Bound::new(start);
        let at_once = (0..1000).filter(|_| bound.admits(10, start)).count();
        assert_eq!((at_once, bound.left_out), (100, 900));
        let later = (0..1000).filter(|_| bound.admits(10, start + Duration::from_secs(2))).count();
        assert_eq!(later, 20);
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let start = Instant::now();
        let mut bound = Bound::new(start);
        assert_eq!((0..1000).filter(|_| bound.admits(LINE_BYTES_MAX, start)).count(), 16);
    }
}
