//! The state of each backend: the rows of `/status`, and `/api/backends/health` in the shape of ToolHive's
//! vMCP, which ToolHive's dashboards and operator read.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use vmcp_domain::{ProtocolVersion, StartupProgress};
use vmcp_federation::{BackendReport, Health};
use vmcp_timing::CircuitState;

/// Go's zero time, which ToolHive writes for an unknown time.
const UNKNOWN_TIME: &str = "0001-01-01T00:00:00Z";

/// One row of `/status`. `shows_output` adds texts that may quote the server or name its address; only readers on
/// this machine see them.
pub(super) fn status_row(report: &BackendReport, shows_output: bool) -> Value {
    let status = &report.status;
    json!({
        "name": report.id.as_str(),
        "health": report.health().as_str(),
        "state": status.state.as_str(),
        "transport": status.transport,
        "auth_type": status.auth_type,
        "mcp_revision": status.protocol.map(ProtocolVersion::as_str),
        "listed": report.is_listed,
        "stale": report.is_stale,
        "tools": report.tool_count,
        "resources": report.resource_count,
        "prompts": report.prompt_count,
        "callers": report.caller_count,
        "isolation": status.isolation,
        "caller_connections": status.caller_connections,
        "last_error": report.last_error(),
        "failure_code": status.connect_failure.as_ref().map(|failure| failure.code),
        "failure": status.connect_failure.as_ref().filter(|_| shows_output).map(ToString::to_string),
        "failing_lists": report.list_failures.iter().map(|one| json!({"list": one.list, "class": one.class})).collect::<Vec<_>>(),
        "circuit": report.circuit.map(|circuit| circuit_state(circuit.state)),
        "starting": status.startup.as_ref().map(|starting| describe_start(starting, shows_output)),
        "reconnects": status.reconnect_count,
    })
}

/// Describes the start of a backend: `starting for 40 s: npm installs …`.
fn describe_start(starting: &StartupProgress, shows_output: bool) -> String {
    let seconds = starting.elapsed.as_secs();
    match starting.last_line.as_ref().filter(|_| shows_output) {
        Some(line) => format!("starting for {seconds} s: {line}"),
        None => format!("starting for {seconds} s"),
    }
}

fn circuit_state(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::Open => "open",
        CircuitState::HalfOpen => "half-open",
    }
}

/// The number of backends with each health, under the name of the health.
pub(super) fn health_counts(reports: &[BackendReport]) -> Map<String, Value> {
    Health::ALL
        .into_iter()
        .map(|health| (health.as_str().to_owned(), count_with_health(reports, health).into()))
        .collect()
}

fn count_with_health(reports: &[BackendReport], health: Health) -> usize {
    reports.iter().filter(|report| report.health() == health).count()
}

/// The body of `/api/backends/health`.
pub(super) fn health(reports: &[BackendReport]) -> Value {
    let count = |health| count_with_health(reports, health);
    let backends: Map<String, Value> =
        reports.iter().map(|report| (report.id.as_str().to_owned(), health_row(report))).collect();
    json!({
        "monitoring_enabled": true,
        "summary": {
            "Total": reports.len(),
            "Healthy": count(Health::Healthy),
            "Degraded": count(Health::Degraded),
            "Unhealthy": count(Health::Unhealthy),
            "Unknown": count(Health::Unknown),
            "Unauthenticated": count(Health::Unauthenticated),
        },
        "backends": backends,
    })
}

fn health_row(report: &BackendReport) -> Value {
    let is_working = matches!(report.health(), Health::Healthy | Health::Degraded);
    let circuit = report.circuit;
    json!({
        "Status": report.health().as_str(),
        "ConsecutiveFailures": report.checks.failures_in_a_row,
        "LastCheckTime": format_time(report.checks.checked_at),
        "LastErrorCategory": if is_working { "" } else { report.last_error().map_or("", error_category) },
        "LastTransitionTime": format_time(report.checks.changed_at),
        "CircuitState": circuit.map_or("closed", |circuit| circuit_state(circuit.state)),
        "CircuitLastChanged": format_time(circuit.and_then(|circuit| circuit.changed_at)),
        "MCPRevision": report.status.protocol.map_or("", ProtocolVersion::as_str),
    })
}

/// ToolHive's category for a class of failures.
fn error_category(class: &str) -> &'static str {
    match class {
        "auth" | "credential" => "authentication_failed",
        "timeout" => "timeout",
        "connect" => "connection_failed",
        "exited" | "spawn" => "backend_unavailable",
        _ => "health_check_failed",
    }
}

/// The time of day of `moment`. If the clock was set after `moment`, the result follows the clock of now.
fn format_time(moment: Option<Instant>) -> String {
    let text = moment.and_then(|moment| {
        let nanos = u128::from(vmcp_timing::time_of_day().0) * 1000;
        let nanos = i128::try_from(nanos.checked_sub(moment.elapsed().as_nanos())?).ok()?;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
    });
    text.unwrap_or_else(|| UNKNOWN_TIME.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_go_writes_them() {
        assert_eq!(format_time(None), "0001-01-01T00:00:00Z");
        let now = format_time(Some(Instant::now()));
        assert!(now.starts_with("20") && now.ends_with('Z') && now.contains('T'), "{now}");
    }
}
