//! Counters for `/metrics`, under ToolHive's names where ToolHive has the same series. No label holds a user,
//! a URI or any other value that a client could invent without bound.

pub(crate) mod auth_metrics;
pub(crate) mod backend_metrics;
pub(crate) mod observe;

mod audit;
mod backend_calls;
mod backends;
mod limiter;
mod limits;
mod optimizer;
pub(crate) mod prometheus_text;
mod requests;
mod runs;
pub(crate) mod series_table;
mod waiting;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_domain::LimitScope;
use vmcp_edge::{ObservedRequest, RequestObserver};
use vmcp_federation::BackendReport;
use vmcp_ratelimit::{DecisionEvent, LimiterStatus, Observer, StoreFailure, WaitOutcome};

pub(crate) use audit::AuditCounters;
use backend_calls::BackendCallMetrics;
pub(crate) use backend_calls::{Action, BackendCounters, CallSeries};
use backends::BackendMetrics;
use limiter::LimiterGauges;
use limits::LimitMetrics;
use optimizer::OptimizerMetrics;
use requests::RequestMetrics;
use runs::{ScriptMetrics, WorkflowMetrics};
use waiting::WaitMetrics;

/// Upper bounds of the duration buckets, in seconds: from one table look-up to a slow tool.
const SECONDS: [f64; 12] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Upper bounds of the duration buckets of the series with ToolHive's names, in seconds. OpenTelemetry's
/// semantic conventions for MCP suggest these buckets.
const MCP_SECONDS: [f64; 14] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The labels `method` and `outcome` of most requests.
const COMMON_CASE: (&str, &str) = ("tools/call", "ok");

/// Every counter of the process, and the registry that `/metrics` encodes.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<MethodLabels, Histogram>,
    /// The series of [`COMMON_CASE`], once one request has been counted.
    common_case: OnceLock<(Counter, Histogram)>,
    limits: LimitMetrics,
    limiter: LimiterGauges,
    waiting: WaitMetrics,
    optimizer: OptimizerMetrics,
    authentications: Family<OutcomeLabels, Counter>,
    groups_unknown: Counter,
    backends: BackendMetrics,
    http: RequestMetrics,
    backend_calls: BackendCallMetrics,
    audit: AuditCounters,
    workflows: WorkflowMetrics,
    scripts: ScriptMetrics,
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
struct MethodLabels {
    method: &'static str,
}

impl Metrics {
    /// Registers all series, with counters at zero. `namespace` and `server` are labels of the series of the
    /// limiter, and `server` of the series of HTTP requests.
    pub(crate) fn new(namespace: &str, server: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let metrics = Self {
            requests: Family::default(),
            common_case: OnceLock::new(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            limits: LimitMetrics::new(namespace, server),
            limiter: LimiterGauges::default(),
            waiting: WaitMetrics::default(),
            optimizer: OptimizerMetrics::default(),
            authentications: Family::default(),
            groups_unknown: Counter::default(),
            backends: BackendMetrics::default(),
            http: RequestMetrics::new(server),
            backend_calls: BackendCallMetrics::default(),
            audit: AuditCounters::default(),
            workflows: WorkflowMetrics::default(),
            scripts: ScriptMetrics::default(),
            registry: Registry::default(),
        };
        registry.register("vmcp_requests", "Requests that went through the stack", metrics.requests.clone());
        registry.register_with_unit(
            "vmcp_request_duration",
            "How long requests took",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "vmcp_authz_groups_unknown",
            "Decisions that denied because the caller's groups could not be read from its token",
            metrics.groups_unknown.clone(),
        );
        registry.register(
            "vmcp_authentications",
            "Credentials that were shown at the door",
            metrics.authentications.clone(),
        );
        metrics.limits.register(&mut registry);
        metrics.limiter.register(&mut registry);
        metrics.backends.register(&mut registry);
        metrics.http.register(&mut registry);
        metrics.backend_calls.register(&mut registry);
        metrics.waiting.register(&mut registry);
        metrics.audit.register(&mut registry);
        metrics.optimizer.register(&mut registry);
        metrics.workflows.register(&mut registry);
        metrics.scripts.register(&mut registry);
        Arc::new(Self { registry, ..metrics })
    }

    /// Counts one request by method and outcome, and records its duration.
    pub(crate) fn count_request(&self, method: &'static str, outcome: &'static str, took: Duration) {
        let requests = || self.requests.get_or_create_owned(&RequestLabels { method, outcome });
        let durations = || self.durations.get_or_create_owned(&MethodLabels { method });
        let count = |counter: &Counter, duration: &Histogram| {
            counter.inc();
            duration.observe(took.as_secs_f64());
        };
        if (method, outcome) == COMMON_CASE {
            // Skips the look-up in the label tables, which all threads share.
            let (counter, duration) = self.common_case.get_or_init(|| (requests(), durations()));
            count(counter, duration);
        } else {
            count(&requests(), &durations());
        }
    }

    /// Sets the check that separates listed names from names that a client invented. `is_listed` receives the
    /// MCP method and the name.
    pub(crate) fn set_name_check(&self, is_listed: impl Fn(&str, &str) -> bool + Send + Sync + 'static) {
        self.http.set_name_check(Box::new(is_listed));
    }

    /// Creates the counters of a backend.
    pub(crate) fn backend_counters(&self, id: &str, url: &str, transport: &'static str) -> BackendCounters {
        self.backend_calls.for_backend(id, url, transport)
    }

    /// Sets the counter to the number that the policies have counted.
    pub(crate) fn set_groups_unknown(&self, count: u64) {
        self.groups_unknown.inner().store(count, std::sync::atomic::Ordering::Relaxed);
    }

    /// Sets the limiter's gauges, just before the page is encoded.
    pub(crate) fn set_limiter(&self, state: &LimiterStatus) {
        self.limiter.set(state);
    }

    /// Sets the gauges of the backends, just before the page is encoded.
    pub(crate) fn set_backends(&self, reports: &[BackendReport]) {
        self.backends.set(reports);
    }

    /// Counts the outcome of one authentication. `outcome` is a class from a fixed set.
    pub(crate) fn count_authentication(&self, outcome: &'static str) {
        self.authentications.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The counters of the audit records.
    pub(crate) fn audit_counters(&self) -> AuditCounters {
        self.audit.clone()
    }

    /// Encodes the page and returns its content type and text. The format is OpenMetrics, or the older
    /// Prometheus text format if `accept` names only that one.
    pub(crate) fn page(&self, accept: &str) -> (&'static str, String) {
        let mut page = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        if prometheus_text::is_wanted(accept) {
            ("text/plain; version=0.0.4; charset=utf-8", prometheus_text::from_openmetrics(&page))
        } else {
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", page)
        }
    }
}

impl RequestObserver for Metrics {
    fn on_start(&self) {
        self.http.on_start();
    }

    fn on_end(&self, request: &ObservedRequest<'_>) {
        self.http.on_end(request);
    }
}

impl Observer for Metrics {
    fn on_decision(&self, event: &DecisionEvent<'_>) {
        let scope = event.scope.map_or("", LimitScope::as_str);
        self.limits.decided(event);
        // Records all fields in one call, because every call looks the span up.
        tracing::record_all!(
            tracing::Span::current(),
            rate_limit.decision = if event.allowed { "allowed" } else { "rejected" },
            rate_limit.rejected_by = scope,
            rate_limit.fail_open = event.fail_open
        );
        for rule in &event.would_refuse {
            tracing::info!(tool = %event.limited, %rule, "a rule in shadow mode would have refused");
        }
        if !event.allowed {
            let rule = event.refusal.map_or("", |refusal| &*refusal.rule);
            tracing::info!(tool = %event.limited, scope, rule, "call limited");
        }
    }

    fn on_store_failure(&self, failure: StoreFailure) {
        self.limits.store_failed(failure);
    }

    fn on_refund(&self, reason: &'static str) {
        self.limits.refunded(reason);
    }

    fn on_wait_start(&self) {
        self.waiting.began();
    }

    fn on_wait_end(&self, end: WaitOutcome, waited: Duration) {
        self.waiting.ended(end, waited);
    }
}
