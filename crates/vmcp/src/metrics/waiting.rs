//! Counts the calls that wait for a limit, and how long they wait.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_ratelimit::WaitOutcome;

/// Upper bounds of waits, in seconds: from the timer's resolution to the longest wait that can be configured.
const SECONDS: [f64; 11] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// The queue length and the durations of waits.
pub(super) struct WaitMetrics {
    queue: Gauge,
    waited: Family<EndLabels, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndLabels {
    end: &'static str,
}

impl Default for WaitMetrics {
    fn default() -> Self {
        Self { queue: Gauge::default(), waited: Family::new_with_constructor(|| Histogram::new(SECONDS)) }
    }
}

impl WaitMetrics {
    /// Adds the series to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("vmcp_rate_limit_queue", "Calls that wait for a limit now", self.queue.clone());
        registry.register_with_unit(
            "vmcp_rate_limit_waited",
            "How long calls waited for limits, by how that ended",
            Unit::Seconds,
            self.waited.clone(),
        );
    }

    /// Counts a call that starts to wait.
    pub(super) fn began(&self) {
        self.queue.inc();
    }

    /// Counts a call that stops waiting, with the outcome and the duration of the wait.
    pub(super) fn ended(&self, end: WaitOutcome, waited: Duration) {
        self.queue.dec();
        self.waited.get_or_create(&EndLabels { end: end.label() }).observe(waited.as_secs_f64());
    }
}
