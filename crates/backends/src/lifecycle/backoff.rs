//! Back-off between attempts. The delay doubles after every failure. Jitter prevents many backends of one
//! host from being contacted at the same moment.

use std::time::Duration;

/// Delays that double from an initial value to a maximum.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, next: initial }
    }

    /// The delays between attempts to connect: from 250 ms to 30 s.
    pub(crate) fn for_connecting() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }

    /// The delays between attempts to open a background stream: from 1 s to 60 s.
    pub(crate) fn for_streams() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// The next delay: between half of the current bound and the bound.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.max);
        let mut byte = [0_u8];
        // Without randomness the delay only lacks jitter.
        let share = getrandom::fill(&mut byte).map_or(u32::from(u8::MAX), |()| u32::from(byte[0]));
        bound / 2 + bound / 2 * share / 255
    }

    /// Starts over with the initial delay.
    pub(crate) fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_between_the_bounds() {
        let mut backoff = Backoff::for_connecting();
        for bound in [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000] {
            let wait = backoff.next_delay();
            let bound = Duration::from_millis(bound);
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(250));
    }
}
