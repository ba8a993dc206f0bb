//! Counters of the optimizer, under ToolHive's names.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_optimizer::{CallEvent, CallOutcome, FindEvent, Observer};

use super::{Metrics, SECONDS};

/// Upper bounds of the number of tools that a search returned.
const RESULTS: [f64; 7] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 50.0];
/// Upper bounds of the tokens that a search saved, in percent of the whole list.
const PERCENT: [f64; 8] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0];

/// Counters of `find_tool` and `call_tool`.
pub(super) struct OptimizerMetrics {
    finds: Counter,
    find_errors: Counter,
    find_words_only: Counter,
    find_seconds: Histogram,
    find_results: Histogram,
    savings: Histogram,
    calls: Counter,
    call_errors: Counter,
    calls_not_found: Counter,
    call_seconds: Histogram,
}

impl Default for OptimizerMetrics {
    fn default() -> Self {
        Self {
            finds: Counter::default(),
            find_errors: Counter::default(),
            find_words_only: Counter::default(),
            find_seconds: Histogram::new(SECONDS),
            find_results: Histogram::new(RESULTS),
            savings: Histogram::new(PERCENT),
            calls: Counter::default(),
            call_errors: Counter::default(),
            calls_not_found: Counter::default(),
            call_seconds: Histogram::new(SECONDS),
        }
    }
}

impl OptimizerMetrics {
    /// Adds every series to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("find_tool_requests", "Searches", &self.finds),
            ("find_tool_errors", "Searches that failed", &self.find_errors),
            ("find_tool_words_only", "Searches that compared words alone", &self.find_words_only),
            ("call_tool_requests", "Calls by name", &self.calls),
            ("call_tool_errors", "Calls by name that failed", &self.call_errors),
            ("call_tool_not_found", "Calls by a name that the caller sees no tool of", &self.calls_not_found),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("toolhive_vmcp_optimizer_{name}"), help, counter.clone());
        }
        let durations = [
            ("find_tool_duration", "How long searches took", &self.find_seconds),
            ("call_tool_duration", "How long calls by name took", &self.call_seconds),
        ];
        for (name, help, histogram) in durations {
            let name = format!("toolhive_vmcp_optimizer_{name}");
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        let sizes = [
            ("find_tool_results", "How many tools searches returned", &self.find_results),
            ("token_savings_percent", "How much smaller results were than the whole list", &self.savings),
        ];
        for (name, help, histogram) in sizes {
            registry.register(format!("toolhive_vmcp_optimizer_{name}"), help, histogram.clone());
        }
    }
}

impl Observer for Metrics {
    fn found(&self, event: &FindEvent) {
        let of = &self.optimizer;
        of.finds.inc();
        of.find_seconds.observe(event.took.as_secs_f64());
        let Some(count) = event.result_count else {
            of.find_errors.inc();
            return;
        };
        // A search returns fifty tools at most, so the conversion never saturates.
        of.find_results.observe(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        of.savings.observe(event.savings_percent);
        if !event.semantic {
            of.find_words_only.inc();
        }
    }

    fn called(&self, event: &CallEvent<'_>) {
        let of = &self.optimizer;
        of.calls.inc();
        of.call_seconds.observe(event.took.as_secs_f64());
        match event.outcome {
            CallOutcome::Answered => {}
            CallOutcome::NotFound => {
                of.calls_not_found.inc();
            }
            CallOutcome::Failed => {
                of.call_errors.inc();
            }
        }
        tracing::Span::current().record("resolved_tool", tracing::field::display(event.tool));
    }
}
