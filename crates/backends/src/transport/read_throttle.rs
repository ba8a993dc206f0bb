//! Limits how fast a backend is read that sends much and answers little: log lines on standard output,
//! endless lines, floods of notifications and questions. Above the limit its stream is not read for a moment.
//! The backend then waits, and the gateway's processor is not overloaded.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Limits for everything except answers within one window, in bytes and in messages.
const BYTES_MAX: usize = 2 << 20;
const MESSAGES_MAX: usize = 1000;
const WINDOW: Duration = Duration::from_millis(200);

/// What has been received in the current window.
#[derive(Debug)]
pub(crate) struct ReadThrottle {
    window_start: Instant,
    bytes: usize,
    messages: usize,
}

impl ReadThrottle {
    pub(crate) fn new() -> Self {
        Self { window_start: Instant::now(), bytes: 0, messages: 0 }
    }

    /// Counts one message or line of `bytes` bytes, and waits if the limit is reached. The count stays if the
    /// future is dropped.
    pub(crate) async fn record(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.messages += 1;
        if self.bytes < BYTES_MAX && self.messages < MESSAGES_MAX {
            return;
        }
        let remaining = WINDOW.saturating_sub(self.window_start.elapsed());
        if !remaining.is_zero() {
            sleep(remaining).await;
        }
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let mut throttle = ReadThrottle::new();
        let start = Instant::now();
        for _ in 0..MESSAGES_MAX - 1 {
            throttle.record(10).await;
        }
        assert!(start.elapsed().is_zero());
        for _ in 0..MESSAGES_MAX * 10 {
            throttle.record(10).await;
        }
        assert_eq!(start.elapsed(), WINDOW * 10);
        let (start, mut throttle) = (Instant::now(), ReadThrottle::new());
        for _ in 0..100 {
            throttle.record(64 << 10).await;
        }
        assert_eq!(start.elapsed(), WINDOW * 3);
    }
}
