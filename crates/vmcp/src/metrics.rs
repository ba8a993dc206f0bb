//! Counters for `/metrics`, the reference's names where it has them. No label holds a user, a URI or anything else
//! that a client can make up without bound.

mod audit;
mod backends;
mod optimizer;
mod waiting;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_domain::{LimitScope, Limited};
use vmcp_federation::BackendReport;
use vmcp_ratelimit::{DecisionEvent, Observer, StoreFailure, WaitEnd};

pub(crate) use audit::AuditCounters;
use backends::BackendMetrics;
use optimizer::OptimizerMetrics;
use waiting::WaitMetrics;

/// Upper bounds of duration buckets, in seconds: from one table look-up to a slow tool.
const SECONDS: [f64; 12] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
/// The same for decisions, which take microseconds in memory.
const DECISION_SECONDS: [f64; 10] = [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 1.0];

/// What most requests are, and how they end.
const USUAL: (&str, &str) = ("tools/call", "ok");

/// Every counter of the process.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<VerbLabels, Histogram>,
    /// Those of [`USUAL`].
    usual: OnceLock<(Counter, Histogram)>,
    decisions: Family<DecisionLabels, Counter>,
    /// The one of `decisions` that nearly every call counts in.
    allowed: OnceLock<Counter>,
    would_deny: Counter,
    fail_open: Counter,
    store_errors: Family<StoreLabels, Counter>,
    latency: Histogram,
    waiting: WaitMetrics,
    optimizer: OptimizerMetrics,
    authentications: Family<OutcomeLabels, Counter>,
    groups_unknown: Counter,
    backends: BackendMetrics,
    audit: AuditCounters,
    namespace: String,
    server: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabels {
    method: &'static str,
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
    error_type: &'static str,
}

impl Metrics {
    /// Counters at zero.
    pub(crate) fn new(namespace: &str, server: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let metrics = Self {
            requests: Family::default(),
            usual: OnceLock::new(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            decisions: Family::default(),
            allowed: OnceLock::new(),
            would_deny: Counter::default(),
            fail_open: Counter::default(),
            store_errors: Family::default(),
            latency: Histogram::new(DECISION_SECONDS),
            waiting: WaitMetrics::default(),
            optimizer: OptimizerMetrics::default(),
            authentications: Family::default(),
            groups_unknown: Counter::default(),
            backends: BackendMetrics::default(),
            audit: AuditCounters::default(),
            registry: Registry::default(),
            namespace: namespace.to_owned(),
            server: server.to_owned(),
        };
        registry.register("vmcp_requests", "Requests that went through the stack", metrics.requests.clone());
        registry.register_with_unit(
            "vmcp_request_duration",
            "How long requests took",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "toolhive_rate_limit_decisions",
            "Decisions of the rate limiter",
            metrics.decisions.clone(),
        );
        registry.register(
            "vmcp_authz_groups_unknown",
            "Decisions that denied because the caller's groups could not be read from its token",
            metrics.groups_unknown.clone(),
        );
        registry.register(
            "vmcp_rate_limit_would_deny",
            "Rules in shadow mode that would have refused a call",
            metrics.would_deny.clone(),
        );
        registry.register(
            "toolhive_rate_limit_fail_open",
            "Calls let through because the shared store did not answer",
            metrics.fail_open.clone(),
        );
        registry.register(
            "toolhive_rate_limit_redis_errors",
            "Decisions that the shared store did not answer",
            metrics.store_errors.clone(),
        );
        registry.register_with_unit(
            "toolhive_rate_limit_check_latency",
            "How long decisions took",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register(
            "vmcp_authentications",
            "Credentials that were shown at the door",
            metrics.authentications.clone(),
        );
        metrics.backends.register(&mut registry);
        metrics.waiting.register(&mut registry);
        metrics.audit.register(&mut registry);
        metrics.optimizer.register(&mut registry);
        Arc::new(Self { registry, ..metrics })
    }

    fn decision(&self, event: &DecisionEvent<'_>) -> DecisionLabels {
        DecisionLabels {
            namespace: self.namespace.clone(),
            server: self.server.clone(),
            decision: if event.allowed { "allowed" } else { "rejected" },
            scope: event.scope.map_or("", LimitScope::as_str),
            operation_type: match event.limited {
                Limited::Tool(_) => "tool_call",
                Limited::Method(name) => name,
            },
        }
    }

    /// Counts one request.
    pub(crate) fn request(&self, method: &'static str, outcome: &'static str, took: Duration) {
        let requests = || self.requests.get_or_create_owned(&RequestLabels { method, outcome });
        let durations = || self.durations.get_or_create_owned(&VerbLabels { method });
        let count = |counter: &Counter, duration: &Histogram| {
            counter.inc();
            duration.observe(took.as_secs_f64());
        };
        if (method, outcome) == USUAL {
            // Without a look into the tables, which all threads share.
            let (counter, duration) = self.usual.get_or_init(|| (requests(), durations()));
            count(counter, duration);
        } else {
            count(&requests(), &durations());
        }
    }

    /// Takes over what the policies have counted.
    pub(crate) fn set_groups_unknown(&self, count: u64) {
        self.groups_unknown.inner().store(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// Takes over how the backends are doing.
    pub(crate) fn set_backends(&self, reports: &[BackendReport]) {
        self.backends.set(reports);
    }

    /// Counts what became of one credential, by a class out of a fixed set.
    pub(crate) fn authentication(&self, outcome: &'static str) {
        self.authentications.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The counters of the audit records.
    pub(crate) fn audit(&self) -> AuditCounters {
        self.audit.clone()
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

impl Observer for Metrics {
    fn decided(&self, event: &DecisionEvent<'_>) {
        let scope = event.scope.map_or("", LimitScope::as_str);
        if event.allowed && event.scope.is_none() && matches!(event.limited, Limited::Tool(_)) {
            let make = || self.decisions.get_or_create_owned(&self.decision(event));
            self.allowed.get_or_init(make).inc();
        } else {
            self.decisions.get_or_create(&self.decision(event)).inc();
        }
        self.latency.observe(event.took.as_secs_f64());
        // All at once: each time something is recorded the span is looked up.
        tracing::record_all!(
            tracing::Span::current(),
            rate_limit.decision = if event.allowed { "allowed" } else { "rejected" },
            rate_limit.rejected_by = scope,
            rate_limit.fail_open = event.fail_open
        );
        if event.fail_open {
            self.fail_open.inc();
        }
        if event.would_refuse > 0 {
            self.would_deny.inc_by(event.would_refuse as u64);
            tracing::info!(tool = %event.limited, rules = event.would_refuse, "a rule in shadow mode would have refused");
        }
        if !event.allowed {
            tracing::info!(tool = %event.limited, scope, "call limited");
        }
    }

    fn store_failed(&self, failure: StoreFailure) {
        self.store_errors.get_or_create(&StoreLabels { error_type: failure.label() }).inc();
    }

    fn refunded(&self) {}

    fn wait_began(&self) {
        self.waiting.began();
    }

    fn wait_ended(&self, end: WaitEnd, waited: Duration) {
        self.waiting.ended(end, waited);
    }
}
