//! The section `operational`: the log level, the time-outs of calls, and health checks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// The log level, the time-outs of calls, health checks and the circuit breaker.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operational {
    /// The log level: `error`, `warn`, `info` or `debug`. The flag `--debug` takes precedence. Left out:
    /// `info`.
    pub(crate) log_level: Option<LogLevel>,
    /// How long the first lists wait for backends that have not answered since the start, at most 15s. Clients learn of
    /// later backends by `list_changed`. Left out: 2s.
    pub(crate) startup_wait: Option<GoDuration>,
    /// The time-outs of calls to backends. Left out: the defaults of its keys.
    pub(crate) timeouts: Option<CallTimeouts>,
    /// Health checks and the circuit breaker. Left out: the defaults of its keys.
    pub(crate) failure_handling: Option<FailureHandling>,
}

/// The log level. Each level includes the levels before it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// The time-outs of calls to backends.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallTimeouts {
    /// The time-out of one call, for every backend without a time-out of its own. Zero is refused. Left out:
    /// 30s.
    pub(crate) default: Option<GoDuration>,
    /// The longest time of a call that reports progress; each report starts the call's time-out again. Zero
    /// is refused. Left out: 10m.
    pub(crate) max: Option<GoDuration>,
    /// Time-outs for calls to single backends, by the name of the backend. Refused together with `timeout` of
    /// the same backend. Left out: none.
    #[serde(default)]
    pub(crate) per_workload: BTreeMap<String, GoDuration>,
}

/// Health checks and the circuit breaker.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FailureHandling {
    /// The time between two health checks of a backend. Zero is refused. Left out: 30s.
    pub(crate) health_check_interval: Option<GoDuration>,
    /// After how many failed health checks in a row a backend is withdrawn from the lists, at least 1.
    /// Left out: 3.
    pub(crate) unhealthy_threshold: Option<u32>,
    /// The time-out of one health check. It must be shorter than `healthCheckInterval`. Left out: 10s, or
    /// half of an interval shorter than 20s.
    pub(crate) health_check_timeout: Option<GoDuration>,
    /// The time between two status reports to Kubernetes. It has no effect, with a warning.
    pub(crate) status_reporting_interval: Option<GoDuration>,
    /// Accepted for files of ToolHive. It has no effect, with a warning: the gateway always serves the
    /// backends that work.
    pub(crate) partial_failure_mode: Option<PartialFailureMode>,
    /// The circuit breaker, which refuses calls to a backend that keeps failing. Left out: off.
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
}

/// What ToolHive does when some backends fail. It has no effect here.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartialFailureMode {
    Fail,
    BestEffort,
}

/// The circuit breaker, which refuses calls to a backend that keeps failing.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CircuitBreaker {
    /// Turns the circuit breaker on. Left out: false.
    pub(crate) enabled: Option<bool>,
    /// After how many failed calls in a row the circuit opens, at least 1. Left out: 5.
    pub(crate) failure_threshold: Option<u32>,
    /// How long an open circuit refuses calls before it lets one call through, at least 1s. Left out: 60s.
    pub(crate) timeout: Option<GoDuration>,
}
