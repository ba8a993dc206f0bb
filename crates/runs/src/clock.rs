//! The time of a run, which stops while a person is asked.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often a stopped clock is looked at.
const PAUSED_CHECK: Duration = Duration::from_millis(100);

/// The clock of one run.
#[derive(Debug)]
pub struct RunClock {
    started: Instant,
    state: Mutex<Pauses>,
}

#[derive(Debug, Default)]
struct Pauses {
    /// The time of all pauses that have ended.
    past: Duration,
    /// How many pauses overlap now, and the start of the first.
    now: Option<(Instant, usize)>,
}

/// A pause, which ends when it is dropped.
#[derive(Debug)]
pub struct Pause<'a>(&'a RunClock);

impl RunClock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    /// The time that has passed without pauses.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let current = state.now.map_or(Duration::ZERO, |(start, _)| start.elapsed());
        self.started.elapsed().saturating_sub(state.past).saturating_sub(current)
    }

    /// Stops the clock.
    #[must_use]
    pub fn pause(&self) -> Pause<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, count) = state.now.unwrap_or_else(|| (Instant::now(), 0));
        state.now = Some((start, count + 1));
        Pause(self)
    }

    /// Awaits `future` for at most `limit` of this clock's time. `None` if it takes longer.
    pub async fn limit<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let begin = self.elapsed();
        let mut future = pin!(future);
        loop {
            let left = limit.saturating_sub(self.elapsed().saturating_sub(begin));
            if left.is_zero() {
                return None;
            }
            // A stopped clock would be looked at again and again shortly before its limit.
            let wait = if self.is_paused() { left.max(PAUSED_CHECK) } else { left };
            if let Ok(done) = tokio::time::timeout(wait, &mut future).await {
                return Some(done);
            }
        }
    }

    fn is_paused(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now.is_some()
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = match state.now {
            Some((start, count)) if count > 1 => Some((start, count - 1)),
            Some((start, _)) => {
                state.past += start.elapsed();
                None
            }
            None => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_pause_does_not_count() {
        let clock = RunClock::start();
        let work = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let outer = clock.pause();
            let inner = clock.pause();
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(outer);
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(inner);
            tokio::time::sleep(Duration::from_secs(3)).await;
        };
        assert_eq!(clock.limit(Duration::from_secs(7), work).await, Some(()));
        assert_eq!(clock.elapsed(), Duration::from_secs(6));
        let endless = std::future::pending::<()>();
        assert_eq!(clock.limit(Duration::from_secs(2), endless).await, None);
        assert_eq!(clock.elapsed(), Duration::from_secs(8));
    }
}
