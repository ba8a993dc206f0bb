//! `operational`: timeouts, health checks and the log level.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// Timeouts, health checks and log level.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operational {
    /// How much is logged. Left out: `info`.
    pub(crate) log_level: Option<LogLevel>,
    /// How long calls to backends may take.
    pub(crate) timeouts: Option<CallTimeouts>,
    /// Health checks and the circuit breaker.
    pub(crate) failure_handling: Option<FailureHandling>,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// How long calls to backends may take.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallTimeouts {
    /// For every backend. Left out: 30s.
    pub(crate) default: Option<GoDuration>,
    /// For a call that keeps reporting progress, which otherwise may take as long again with each report. Left out: 10m.
    pub(crate) max: Option<GoDuration>,
    /// For single backends, by name.
    #[serde(default)]
    pub(crate) per_workload: BTreeMap<String, GoDuration>,
}

/// Health checks and the circuit breaker.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FailureHandling {
    /// How often backends are checked. Left out: 30s.
    pub(crate) health_check_interval: Option<GoDuration>,
    /// How many failed checks in a row make a backend unhealthy. Left out: 3.
    pub(crate) unhealthy_threshold: Option<u32>,
    /// How long one check may take, less than the interval. Left out: 10s, or half of a shorter interval.
    pub(crate) health_check_timeout: Option<GoDuration>,
    /// How often the status is reported to Kubernetes.
    pub(crate) status_reporting_interval: Option<GoDuration>,
    /// Accepted for the reference's sake. It has no effect: a backend that fails is left out.
    pub(crate) partial_failure_mode: Option<PartialFailureMode>,
    /// Stops calling a backend that keeps failing.
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
}

/// What happens when some backends fail.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartialFailureMode {
    Fail,
    BestEffort,
}

/// Stops calling a backend that keeps failing.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CircuitBreaker {
    /// Turns it on. Left out: off.
    pub(crate) enabled: Option<bool>,
    /// How many failures in a row open it. Left out: 5.
    pub(crate) failure_threshold: Option<u32>,
    /// How long it stays open before one attempt is made, at least 1s. Left out: 60s.
    pub(crate) timeout: Option<GoDuration>,
}
