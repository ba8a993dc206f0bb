//! The delay before the next attempt. Jitter prevents many clients of one host from contacting it at the same
//! moment.

use std::time::Duration;

/// Delays that double from an initial value to a maximum.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays of at most `initial` at first and of at most `max` in the end.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, next: initial }
    }

    /// The next delay: between half of the current bound and the bound. Doubles the bound.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.max);
        let mut byte = [0_u8];
        // Without randomness the delay only lacks jitter.
        let share = getrandom::fill(&mut byte).map_or(u32::from(u8::MAX), |()| u32::from(byte[0]));
        bound / 2 + bound / 2 * share / 255
    }

    /// Starts over with the initial delay.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_between_the_bounds() {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
        for bound in [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000] {
            let delay = backoff.next_delay();
            let bound = Duration::from_millis(bound);
            assert!(delay >= bound / 2 && delay <= bound, "{delay:?} of {bound:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(250));
    }
}
