//! Progress notifications for a client that asked for progress, while its call waits for a limit.
//!
//! The progress value of one request must increase, and after the wait the backend reports its own progress
//! from zero or more. So the values sent here stay below zero: minus one over the seconds that the limiter's
//! clock has run, plus one. This value rises with time, independent of the sender. So two waits of one
//! request (for a virtual tool, then for the tool that it calls) keep the order too. There is no total, so
//! clients that draw a progress bar draw an indeterminate one.

use vmcp_domain::ClientPort;
use vmcp_json::{Json, Members};

use vmcp_timing::Micros;

/// One second in microseconds: the first pause between notifications, and the growth of each following pause.
const SECOND: u64 = 1_000_000;
/// The longest pause in microseconds: shorter than the time after which clients and proxies consider a silent
/// call lost.
const PAUSE_MAX: u64 = 10 * SECOND;

/// Sends progress notifications to one client while its call waits.
pub(crate) struct WaitProgress<'a> {
    client: Option<&'a dyn ClientPort>,
    next_report_at: Micros,
    pause: u64,
}

impl<'a> WaitProgress<'a> {
    /// Begins now. A client that asked for no progress receives nothing.
    pub(crate) fn new(client: &'a dyn ClientPort, now: Micros) -> Self {
        Self {
            client: client.wants_progress().then_some(client),
            next_report_at: now.plus(SECOND),
            pause: SECOND,
        }
    }

    /// When the next notification is due; `None` for a client that asked for no progress.
    pub(crate) fn next_report_at(&self) -> Option<Micros> {
        self.client.map(|_| self.next_report_at)
    }

    /// Sends a notification if one is due: the call waits for `rule`, for about `wait` microseconds more.
    /// `wait` is `None` where the time cannot be estimated.
    pub(crate) fn report_if_due(&mut self, now: Micros, rule: &str, wait: impl FnOnce() -> Option<u64>) {
        let Some(client) = self.client.filter(|_| now >= self.next_report_at) else { return };
        self.pause = (self.pause + SECOND).min(PAUSE_MAX);
        self.next_report_at = now.plus(self.pause);
        let message = match wait() {
            Some(wait) => format!("waiting for rate limit {rule}, about {} s", wait.div_ceil(SECOND).max(1)),
            None => format!("waiting for rate limit {rule}, until a call that runs has ended"),
        };
        let Ok(progress) = Json::encode(&progress_value(now)) else { return };
        let told = [("progress".to_owned(), progress), ("message".to_owned(), Json::string(&message))];
        client.progress(told.into_iter().collect::<Members>());
    }
}

/// Below zero, and greater than at any moment a second or more ago. A double distinguishes the seconds for
/// centuries.
fn progress_value(now: Micros) -> f64 {
    -1.0 / (1.0 + now.0 as f64 / SECOND as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_rises_and_stays_below_zero() {
        let year = 365 * 86_400 * SECOND;
        let moments = [0, SECOND, 2 * SECOND, 3600 * SECOND, 3601 * SECOND, 10 * year, 10 * year + SECOND];
        let values: Vec<f64> = moments.iter().map(|moment| progress_value(Micros(*moment))).collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
        assert!(values.iter().all(|value| (-1.0..0.0).contains(value)), "{values:?}");
    }
}
