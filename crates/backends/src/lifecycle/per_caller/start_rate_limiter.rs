//! How fast connections of single callers are made: a burst at once, then some a second, so that many new callers do not
//! start a hundred processes in one moment.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::UnpoisonedMutex;

/// A bucket of starts.
#[derive(Debug)]
pub(super) struct StartRateLimiter {
    burst: u32,
    interval: Duration,
    /// When the bucket would be full if nothing more were taken.
    full_at: UnpoisonedMutex<Instant>,
}

impl StartRateLimiter {
    /// `burst` starts at once, and one more each `interval`.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: UnpoisonedMutex::new(Instant::now()) }
    }

    /// Takes one start, or says how long to wait for the next.
    pub(super) fn try_take(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut full_at = self.full_at.lock();
        let next = (*full_at).max(now) + self.interval;
        let ahead = next.duration_since(now);
        let most = self.interval * self.burst;
        if ahead > most {
            return Err(ahead - most);
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
