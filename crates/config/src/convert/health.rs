//! Converts `operational.failureHandling`: health checks and the circuit breaker.

use std::time::Duration;

use vmcp_federation::policy::{BreakerPolicy, HealthPolicy};

use super::Findings;
use crate::file::duration::format;
use crate::file::{CallTimeouts, CircuitBreaker, FailureHandling, GoDuration, LogLevel, Operational};

const PATH: &str = "operational.failureHandling";
/// The longest `operational.startupWait`. No request waits longer for the first answer of a backend.
const STARTUP_WAIT_MAX: Duration = Duration::from_secs(15);

/// The health settings, and the other keys of the section as they are.
pub(super) fn convert(
    file: Operational,
    findings: &mut Findings<'_>,
) -> (HealthPolicy, Option<LogLevel>, Option<CallTimeouts>) {
    let Operational { log_level, startup_wait, timeouts, failure_handling } = file;
    (policy(failure_handling.unwrap_or_default(), startup_wait, findings), log_level, timeouts)
}

fn policy(
    file: FailureHandling,
    startup_wait: Option<GoDuration>,
    findings: &mut Findings<'_>,
) -> HealthPolicy {
    let FailureHandling {
        health_check_interval,
        unhealthy_threshold,
        health_check_timeout,
        status_reporting_interval,
        partial_failure_mode,
        circuit_breaker,
    } = file;
    let default = HealthPolicy::DEFAULT;
    let path = |key: &str| format!("{PATH}.{key}");
    let interval = health_check_interval
        .and_then(|interval| findings.require_positive(&path("healthCheckInterval"), interval))
        .unwrap_or(default.interval);
    let timeout = match health_check_timeout {
        Some(timeout) => findings.require_positive(&path("healthCheckTimeout"), timeout),
        None => None,
    };
    if let Some(timeout) = timeout
        && timeout >= interval
    {
        let (timeout, interval) = (format(timeout), format(interval));
        findings.add_problem(
            path("healthCheckTimeout"),
            format!(
                "must be shorter than `healthCheckInterval`, but {timeout} is not shorter than {interval}"
            ),
        );
    }
    if let Some(interval) = status_reporting_interval {
        findings.require_positive(&path("statusReportingInterval"), interval);
        findings.add_warning(path("statusReportingInterval"), "has no effect outside Kubernetes");
    }
    if partial_failure_mode.is_some() {
        findings.add_warning(
            path("partialFailureMode"),
            "has no effect: a backend that fails is left out, and the others are served",
        );
    }
    HealthPolicy {
        interval,
        timeout: timeout.unwrap_or_else(|| default.timeout.min(interval / 2)),
        unhealthy_threshold: at_least_one(
            unhealthy_threshold.unwrap_or(default.unhealthy_threshold),
            &path("unhealthyThreshold"),
            findings,
        ),
        breaker: circuit_breaker.and_then(|breaker| convert_breaker(breaker, findings)),
        startup_wait: convert_startup_wait(startup_wait, findings),
    }
}

fn convert_breaker(file: CircuitBreaker, findings: &mut Findings<'_>) -> Option<BreakerPolicy> {
    let CircuitBreaker { enabled, failure_threshold, timeout } = file;
    let path = |key: &str| format!("{PATH}.circuitBreaker.{key}");
    let default = BreakerPolicy::DEFAULT;
    let failure_threshold = at_least_one(
        failure_threshold.unwrap_or(default.failure_threshold),
        &path("failureThreshold"),
        findings,
    );
    let timeout = timeout
        .and_then(|timeout| findings.require_positive(&path("timeout"), timeout))
        .unwrap_or(default.timeout);
    if timeout < Duration::from_secs(1) {
        findings.add_problem(path("timeout"), format!("must be at least 1s, but is {}", format(timeout)));
    }
    (enabled == Some(true)).then_some(BreakerPolicy { failure_threshold, timeout })
}

fn at_least_one(number: u32, path: &str, findings: &mut Findings<'_>) -> u32 {
    if number == 0 {
        findings.add_problem(path, "must be at least 1").hint =
            Some("leave the key out for the default".to_owned());
    }
    number.max(1)
}

/// How long lists wait at the start. Zero is allowed: lists are answered at once with what is there.
fn convert_startup_wait(wait: Option<GoDuration>, findings: &mut Findings<'_>) -> Duration {
    let Some(GoDuration(wait)) = wait else { return HealthPolicy::DEFAULT.startup_wait };
    if wait > STARTUP_WAIT_MAX {
        let message = format!("must be at most {}", format(STARTUP_WAIT_MAX));
        findings.add_problem("operational.startupWait", message);
    }
    wait
}
