//! Writes a child's standard error to the log: whole lines, limited in length and number. It reads as fast as
//! a sensible child writes.

use std::time::Duration;

use tokio::process::ChildStderr;
use tokio::time::{Instant, sleep};
use vmcp_domain::BackendId;

use crate::transport::line_reader::{Line, LineReader};
use crate::transport::read_throttle::ReadThrottle;
use crate::transport::stdio::StdioContext;

/// Maximum number of bytes logged of one line.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Token bucket of the log lines of one backend: its size, and its refill per second.
const BURST_LINES: f64 = 100.0;
const LINES_PER_SECOND: f64 = 10.0;
/// Token bucket of the logged bytes: its size, and its refill per second.
const BURST_BYTES: f64 = 64.0 * 1024.0;
const BYTES_PER_SECOND: f64 = 16.0 * 1024.0;
/// How often the number of dropped lines is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Reads until the stream or the connection ends.
pub(super) async fn log_lines(stderr: ChildStderr, backend: BackendId, context: StdioContext) {
    let mut lines = LineReader::new(context.track_activity(stderr), LINE_BYTES_MAX);
    let mut limiter = LogRateLimiter::new(Instant::now());
    let mut throttle = ReadThrottle::new();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = sleep(REPORT_INTERVAL), if limiter.dropped_lines > 0 => {
                limiter.report_dropped(&backend);
                continue;
            }
            // A process that the child left behind may hold the stream open.
            () = context.closed.cancelled() => break,
        };
        let Ok(Some(Line::Complete(line) | Line::Truncated(line))) = line else { break };
        let text = String::from_utf8_lossy(&line);
        context.startup_activity.record_line(&text);
        if !text.trim().is_empty() && limiter.try_take(line.len(), Instant::now()) {
            tracing::info!(%backend, stderr = %text.trim_end(), "backend");
        }
        // A child that writes more has to wait for the gateway.
        throttle.record(line.len()).await;
        if limiter.reported_at.elapsed() >= REPORT_INTERVAL {
            limiter.report_dropped(&backend);
        }
    }
    limiter.report_dropped(&backend);
    context.stderr_ended.cancel();
}

/// Token buckets of log lines and bytes.
struct LogRateLimiter {
    line_tokens: f64,
    byte_tokens: f64,
    refilled_at: Instant,
    dropped_lines: u64,
    reported_at: Instant,
}

impl LogRateLimiter {
    fn new(now: Instant) -> Self {
        Self {
            line_tokens: BURST_LINES,
            byte_tokens: BURST_BYTES,
            refilled_at: now,
            dropped_lines: 0,
            reported_at: now,
        }
    }

    fn try_take(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.duration_since(self.refilled_at).as_secs_f64();
        self.refilled_at = now;
        self.line_tokens = (self.line_tokens + passed * LINES_PER_SECOND).min(BURST_LINES);
        self.byte_tokens = (self.byte_tokens + passed * BYTES_PER_SECOND).min(BURST_BYTES);
        // A line is at most 4 KiB long, so the number is exact.
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let bytes = bytes as f64;
        let admits = self.line_tokens >= 1.0 && self.byte_tokens >= bytes;
        if admits {
            self.line_tokens -= 1.0;
            self.byte_tokens -= bytes;
        } else {
            self.dropped_lines += 1;
        }
        admits
    }

    fn report_dropped(&mut self, backend: &BackendId) {
        self.reported_at = Instant::now();
        if self.dropped_lines > 0 {
            let left_out = std::mem::take(&mut self.dropped_lines);
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
        let mut limiter = LogRateLimiter::new(start);
        let at_once = (0..1000).filter(|_| limiter.try_take(10, start)).count();
        assert_eq!((at_once, limiter.dropped_lines), (100, 900));
        let later = (0..1000).filter(|_| limiter.try_take(10, start + Duration::from_secs(2))).count();
        assert_eq!(later, 20);
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let start = Instant::now();
        let mut limiter = LogRateLimiter::new(start);
        assert_eq!((0..1000).filter(|_| limiter.try_take(LINE_BYTES_MAX, start)).count(), 16);
    }
}
