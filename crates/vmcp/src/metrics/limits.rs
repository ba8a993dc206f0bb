//! The limiter's decisions, refunds and store errors, with the series and label values of ToolHive's vMCP.

use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_domain::{LimitScope, LimitedOperation};
use vmcp_ratelimit::{DecisionEvent, StoreFailure};

/// Upper bounds of the durations of decisions, in seconds. A decision in memory takes microseconds.
const SECONDS: [f64; 10] = [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 1.0];

/// The series of the limiter's decisions.
pub(super) struct LimitMetrics {
    server_labels: ServerLabels,
    decisions: Family<DecisionLabels, Counter>,
    /// The series of `decisions` for allowed tool calls, one for each [`LimitScope`], because nearly every call counts here.
    allowed: [OnceLock<Counter>; 8],
    refused: Family<RuleLabels, Counter>,
    would_deny: Family<RuleLabels, Counter>,
    refunds: Family<ReasonLabels, Counter>,
    fail_open: Family<ServerLabels, Counter>,
    store_errors: Family<StoreLabels, Counter>,
    latency: Family<ServerLabels, Histogram>,
    /// The only series of `latency`.
    server_latency: Histogram,
}

/// The label of refunds: the reason why the tokens of a call were refunded.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// The label that names a rule as the configuration does.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServerLabels {
    namespace: String,
    server: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecisionLabels {
    namespace: String,
    server: String,
    decision: &'static str,
    scope: &'static str,
    operation_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StoreLabels {
    namespace: String,
    server: String,
    error_type: &'static str,
}

impl LimitMetrics {
    /// Creates the counters at zero.
    pub(super) fn new(namespace: &str, server: &str) -> Self {
        let server_labels = ServerLabels { namespace: namespace.to_owned(), server: server.to_owned() };
        let latency = Family::<ServerLabels, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let fail_open = Family::<ServerLabels, Counter>::default();
        // Creates the series, so that it appears on the page with the value zero.
        drop(fail_open.get_or_create(&server_labels));
        Self {
            decisions: Family::default(),
            allowed: Default::default(),
            refused: Family::default(),
            would_deny: Family::default(),
            refunds: Family::default(),
            fail_open,
            store_errors: Family::default(),
            server_latency: latency.get_or_create_owned(&server_labels),
            latency,
            server_labels,
        }
    }

    /// Adds the counters to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "toolhive_rate_limit_decisions",
            "Decisions of the rate limiter, one for each bucket of an allowed call",
            self.decisions.clone(),
        );
        registry.register(
            "vmcp_rate_limit_refunds",
            "Calls of which the tokens were given back",
            self.refunds.clone(),
        );
        registry.register(
            "vmcp_rate_limit_refused",
            "Calls that a rule has refused; `rule` is empty where none did",
            self.refused.clone(),
        );
        registry.register(
            "vmcp_rate_limit_would_deny",
            "Rules in shadow mode that would have refused a call",
            self.would_deny.clone(),
        );
        registry.register(
            "toolhive_rate_limit_fail_open",
            "Calls let through because the shared store did not answer",
            self.fail_open.clone(),
        );
        registry.register(
            "toolhive_rate_limit_redis_errors",
            "Decisions that the shared store did not answer",
            self.store_errors.clone(),
        );
        registry.register_with_unit(
            "toolhive_rate_limit_check_latency",
            "How long decisions took",
            Unit::Seconds,
            self.latency.clone(),
        );
    }

    fn labels(
        &self,
        decision: &'static str,
        scope: Option<LimitScope>,
        limited: &LimitedOperation,
    ) -> DecisionLabels {
        let (scope, operation) = scope.map_or(("none", "server"), label_values);
        let operation_type = match limited {
            LimitedOperation::Tool(_) => operation,
            LimitedOperation::Method(name) => name,
        };
        let ServerLabels { namespace, server } = self.server_labels.clone();
        DecisionLabels { namespace, server, decision, scope, operation_type }
    }

    /// Counts one decision.
    pub(super) fn decided(&self, event: &DecisionEvent<'_>) {
        if event.allowed {
            for scope in &event.checked_scopes {
                self.count_allowed(*scope, event.limited);
            }
        } else {
            self.decisions.get_or_create(&self.labels("rejected", event.scope, event.limited)).inc();
            let rule = event.refusal.map_or_else(String::new, |refusal| refusal.rule.clone());
            self.refused.get_or_create(&RuleLabels { rule }).inc();
        }
        self.server_latency.observe(event.decision_time.as_secs_f64());
        if event.fail_open {
            self.fail_open.get_or_create(&self.server_labels).inc();
        }
        for rule in &event.would_refuse {
            self.would_deny.get_or_create(&RuleLabels { rule: rule.to_string() }).inc();
        }
    }

    /// Counts a call whose tokens were refunded.
    pub(super) fn refunded(&self, reason: &'static str) {
        self.refunds.get_or_create(&ReasonLabels { reason }).inc();
    }

    fn count_allowed(&self, scope: LimitScope, limited: &LimitedOperation) {
        let make = || self.decisions.get_or_create_owned(&self.labels("allowed", Some(scope), limited));
        match (limited, self.allowed.get(scope as usize)) {
            // Skips the look-up in the label table, which all threads share.
            (LimitedOperation::Tool(_), Some(known)) => known.get_or_init(make).inc(),
            _ => make().inc(),
        };
    }

    /// Counts a decision that the store did not answer.
    pub(super) fn store_failed(&self, failure: StoreFailure) {
        let ServerLabels { namespace, server } = self.server_labels.clone();
        self.store_errors
            .get_or_create(&StoreLabels { namespace, server, error_type: failure.label() })
            .inc();
    }
}

/// The values of ToolHive's labels `scope` and `operation_type` for a scope. ToolHive has no value for scopes
/// by claim or by value; `per_claim` and `per_value` are vmcp's own.
fn label_values(scope: LimitScope) -> (&'static str, &'static str) {
    match scope {
        LimitScope::Server => ("shared", "server"),
        LimitScope::Tool => ("shared", "tool"),
        LimitScope::User => ("per_user", "server"),
        LimitScope::UserTool => ("per_user", "tool"),
        LimitScope::Claim => ("per_claim", "server"),
        LimitScope::ClaimTool => ("per_claim", "tool"),
        LimitScope::Value => ("per_value", "server"),
        LimitScope::ValueTool => ("per_value", "tool"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text;
    use vmcp_timing::Micros;

    use super::*;

    #[test]
    fn decisions_are_counted_in_the_words_of_the_reference() {
        let metrics = LimitMetrics::new("ns", "gate");
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let limited = LimitedOperation::Tool("search".into());
        let mut event = DecisionEvent::new(&limited, Micros(0));
        event.allowed = true;
        event.checked_scopes = [LimitScope::User, LimitScope::Tool].into_iter().collect();
        metrics.decided(&event);
        metrics.decided(&event);
        let mut event = DecisionEvent::new(&limited, Micros(0));
        event.scope = Some(LimitScope::UserTool);
        event.decision_time = Duration::from_micros(3);
        metrics.decided(&event);
        metrics.decided(&DecisionEvent::new(&limited, Micros(0)));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for (decision, scope, operation, count) in [
            ("allowed", "per_user", "server", 2),
            ("allowed", "shared", "tool", 2),
            ("rejected", "per_user", "tool", 1),
            ("rejected", "none", "server", 1),
        ] {
            let line = format!(
                "toolhive_rate_limit_decisions_total{{namespace=\"ns\",server=\"gate\",decision=\"{decision}\",\
                 scope=\"{scope}\",operation_type=\"{operation}\"}} {count}"
            );
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        for line in [
            r#"toolhive_rate_limit_check_latency_seconds_count{namespace="ns",server="gate"} 4"#,
            r#"toolhive_rate_limit_fail_open_total{namespace="ns",server="gate"} 0"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
    }
}
