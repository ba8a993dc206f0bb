//! Limits the rate at which connections of single callers are opened: a burst, then a fixed rate. Without the
//! limit, many new callers would start a hundred processes at one moment.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A token bucket of starts.
#[derive(Debug)]
pub(super) struct StartRateLimiter {
    burst: u32,
    interval: Duration,
    /// When the bucket is full if nothing more is taken.
    full_at: Mutex<Instant>,
}

impl StartRateLimiter {
    /// Creates a bucket with `burst` tokens; one more is added each `interval`.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: Mutex::new(Instant::now()) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The time until the next token.
    pub(super) fn try_take(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut full_at = self.full_at.lock();
        let next = (*full_at).max(now) + self.interval;
        let ahead = next.duration_since(now);
        let ahead_max = self.interval * self.burst;
        if ahead > ahead_max {
            return Err(ahead - ahead_max);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_at_once_and_then_one_each_interval() {
        let rate = StartRateLimiter::new(3, Duration::from_secs(1));
        assert_eq!((0..10).filter(|_| rate.try_take().is_ok()).count(), 3);
        assert_eq!(rate.try_take(), Err(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(rate.try_take(), Err(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(rate.try_take(), Ok(()));
        tokio::time::advance(Duration::from_mins(10)).await;
        assert_eq!((0..10).filter(|_| rate.try_take().is_ok()).count(), 3);
    }
}
