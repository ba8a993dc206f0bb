//! How fast connections of single callers are made: a burst at once, then some a second, so that many new callers do not
//! start a hundred processes in one moment.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::Guarded;

/// A bucket of starts.
#[derive(Debug)]
pub(super) struct StartRate {
    burst: u32,
    interval: Duration,
    /// When the bucket would be full if nothing more were taken.
    full_at: Guarded<Instant>,
}

impl StartRate {
    /// `burst` starts at once, and one more each `interval`.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: Guarded::new(Instant::now()) }
    }

    /// Takes one start, or says how long to wait for the next.
    pub(super) fn take(&self) -> Result<(), Duration> {
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
        let rate = StartRate::new(3, Duration::from_secs(1));
        assert_eq!((0..10).filter(|_| rate.take().is_ok()).count(), 3);
        assert_eq!(rate.take(), Err(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(rate.take(), Err(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(rate.take(), Ok(()));
        tokio::time::advance(Duration::from_mins(10)).await;
        assert_eq!((0..10).filter(|_| rate.take().is_ok()).count(), 3);
    }
}
