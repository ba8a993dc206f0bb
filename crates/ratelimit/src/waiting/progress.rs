//! What a client that asked for progress hears while its call waits.
//!
//! Progress of one request has to increase, and after the wait the backend reports its own, from zero or more. So what
//! is told here stays below zero: minus one over the seconds that the limiter's clock has run. That rises with time
//! whoever tells it, so two waits of one request (for a virtual tool, then for the tool it calls) keep the order too.
//! There is no total, so clients that draw a bar draw one without an end.

use vmcp_domain::{ClientPort, Json, Members};

use crate::clock::Micros;

/// A second, which is the first pause, and what every pause is longer than the one before.
const STEP: u64 = 1_000_000;
/// The longest pause: shorter than the time after which clients and proxies take a silent call for lost.
const PAUSE_MAX: u64 = 10 * STEP;

/// Tells one client how its call waits.
pub(crate) struct Telling<'a> {
    client: Option<&'a dyn ClientPort>,
    next: Micros,
    pause: u64,
}

impl<'a> Telling<'a> {
    /// Begins now. A client that wants no progress is told nothing.
    pub(crate) fn begin(client: &'a dyn ClientPort, now: Micros) -> Self {
        Self { client: client.wants_progress().then_some(client), next: now.plus(STEP), pause: STEP }
    }

    /// When there is something to tell next, if ever.
    pub(crate) fn next(&self) -> Option<Micros> {
        self.client.map(|_| self.next)
    }

    /// Tells that the call waits for `rule`, for about `wait` microseconds more, if it is time to.
    pub(crate) fn tell(&mut self, now: Micros, rule: &str, wait: impl FnOnce() -> Option<u64>) {
        let Some(client) = self.client.filter(|_| now >= self.next) else { return };
        self.pause = (self.pause + STEP).min(PAUSE_MAX);
        self.next = now.plus(self.pause);
        let message = match wait() {
            Some(wait) => format!("waiting for rate limit {rule}, about {} s", wait.div_ceil(STEP).max(1)),
            None => format!("waiting for rate limit {rule}, until a call that runs has ended"),
        };
        let Ok(progress) = Json::encode(&value(now)) else { return };
        let told = [("progress".to_owned(), progress), ("message".to_owned(), Json::string(&message))];
        client.progress(told.into_iter().collect::<Members>());
    }
}

/// Below zero, and more than at any moment a second ago or earlier. Doubles keep the seconds apart for centuries.
fn value(now: Micros) -> f64 {
    -1.0 / (1.0 + now.0 as f64 / STEP as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_rises_and_stays_below_zero() {
        let year = 365 * 86_400 * STEP;
        let moments = [0, STEP, 2 * STEP, 3600 * STEP, 3601 * STEP, 10 * year, 10 * year + STEP];
        let values: Vec<f64> = moments.iter().map(|moment| value(Micros(*moment))).collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
        assert!(values.iter().all(|value| (-1.0..0.0).contains(value)), "{values:?}");
    }
}
