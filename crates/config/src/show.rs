//! The output of `vmcp config show`: a file that `vmcp serve` accepts, with the values in effect and without
//! secrets. It is the file as it is written, completed from [`Settings`], so that defaults and flags are
//! visible, too.

mod limits;
mod optimizer;
mod redact;
mod scripts;
pub(crate) mod written;

use serde_json::{Map, Value, json};
use vmcp_audit::AuditSettings;
use vmcp_backends::policy::{BackendPolicy, CallerBounds, Transport};
use vmcp_edge::policy::EdgePolicy;
use vmcp_federation::policy::{
    AggregationPolicy, BreakerPolicy, ConflictPolicy, HealthPolicy, NameStyle, PinMode, Visibility,
};
use vmcp_identity::BearerPolicy;
use vmcp_wire::error_response::AnswerShape;

use super::convert::UNSUPPORTED;
use super::settings::Settings;
use crate::file::duration::format;
use crate::show::written::without_absent;

/// The effective settings as YAML. Comments at its beginning have the values that no key of the file sets.
///
/// # Errors
/// If a text cannot be written as YAML.
pub fn effective_yaml(settings: &Settings) -> Result<String, serde_saphyr::SerializeError> {
    let notes: String = notes(settings).iter().map(|note| format!("# {note}\n")).collect();
    Ok(notes + &to_yaml(&effective_settings(settings))?)
}

/// `value` as YAML with a line break at the end.
pub(super) fn to_yaml(value: &Value) -> Result<String, serde_saphyr::SerializeError> {
    let mut yaml = serde_saphyr::to_string(value)?;
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    Ok(yaml)
}

/// The effective settings as JSON with a line break at the end.
pub fn effective_json(settings: &Settings) -> String {
    format!("{:#}\n", effective_settings(settings))
}

fn effective_settings(settings: &Settings) -> Value {
    let mut shown = settings.written.clone();
    complete(&mut shown, values_in_effect(settings));
    without_absent(shown)
}

/// What is in effect and has no key in the file.
fn notes(settings: &Settings) -> Vec<String> {
    let limits = &settings.edge.limits;
    let mut notes = vec![
        format!("the namespace (`VMCP_NAMESPACE`) is `{}`", settings.namespace),
        format!("processes of stdio servers: at most {}", settings.process_count_worst_case()),
        format!(
            "fixed: lists have pages of {} items, and silent streams get a keep-alive comment every {}",
            limits.page_items_max,
            format(limits.keep_alive)
        ),
        format!(
            "not in this build: {}",
            UNSUPPORTED.iter().map(|row| row.path).collect::<Vec<_>>().join(", ")
        ),
    ];
    if let Some(folder) = settings.admin.state_folder.as_ref().filter(|_| !settings.admin.owns_state_folder) {
        notes.push(format!("the default `stateFolder` is `{}`", folder.display()));
    }
    notes
}

/// Sets every key of `values` in `shown`, recursively. A list replaces a list, except that lists of maps are
/// completed item by item.
fn complete(shown: &mut Value, values: Value) {
    match (shown, values) {
        (_, Value::Null) => {}
        (Value::Object(shown), Value::Object(values)) => {
            for (key, value) in values.into_iter().filter(|(_, value)| !value.is_null()) {
                complete(shown.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(shown), Value::Array(values)) if values.iter().all(Value::is_object) => {
            for (shown, value) in shown.iter_mut().zip(values) {
                complete(shown, value);
            }
        }
        (shown @ Value::Null, values @ Value::Object(_)) => {
            *shown = Value::Object(Map::new());
            complete(shown, values);
        }
        // A literal `${` would be read as a reference.
        (shown, Value::String(text)) => *shown = text.replace("${", "$${").into(),
        (shown, values) => *shown = values,
    }
}

fn values_in_effect(settings: &Settings) -> Value {
    let Settings {
        name,
        group,
        aggregation,
        backends,
        process_count_max,
        edge,
        admin,
        health,
        // What callers may do is as it is written.
        authz: _,
        limits,
        loop_breaker: loops,
        optimizer,
        workflows,
        scripts,
        audit,
        // The namespace comes from the environment, so it is no setting of the file.
        namespace: _,
        log_level,
        warnings: _,
        written,
    } = settings;
    let caller_bounds = backends.first().map_or(CallerBounds::DEFAULT, |backend| backend.caller_bounds);
    json!({
        "name": name,
        "groupRef": group,
        "listen": listen(edge),
        "answer": answer_form(edge.answers.shape),
        "admin": {"listen": admin.listen.map_or_else(|| "off".to_owned(), |address| address.to_string())},
        "incomingAuth": written.get("incomingAuth").is_none_or(Value::is_null).then(|| json!({"type": "anonymous"})),
        "rateLimiting": limits.as_ref().map(|limits| limits::values_in_effect(limits, edge)),
        "loopBreaker": loops.as_ref().map(|policy| json!({
            "repeats": policy.repeats,
            "within": format(policy.within),
        })),
        "optimizer": optimizer.as_ref().map(optimizer::values_in_effect),
        "workflows": (!workflows.workflows.is_empty()).then(|| json!({
            "maxRunning": workflows.policy.running_max,
            "maxRunningPerCaller": workflows.policy.running_max_per_caller,
        })),
        "codeMode": scripts.as_ref().map(scripts::values_in_effect),
        "audit": audit.as_ref().map(audit_values),
        "backends": backends.iter().map(|policy| backend(policy, written)).collect::<Value>(),
        "isolation": isolation(&caller_bounds, *process_count_max),
        "aggregation": aggregation_values(aggregation),
        "operational": {
            "logLevel": log_level.as_str(),
            "startupWait": format(health.startup_wait),
            "failureHandling": failure_handling(health),
        },
    })
}

fn answer_form(shape: AnswerShape) -> &'static str {
    match shape {
        AnswerShape::Auto => "auto",
        AnswerShape::Reference => "reference",
        AnswerShape::ToolError => "toolError",
        AnswerShape::JsonRpcError => "jsonRpcError",
        AnswerShape::Http429 => "http429",
    }
}

fn listen(edge: &EdgePolicy<BearerPolicy>) -> Value {
    let limits = &edge.limits;
    json!({
        "host": edge.listen.ip().to_string(),
        "port": edge.listen.port(),
        "path": edge.path,
        "bounds": {
            "maxBodyBytes": limits.body_bytes_max,
            "maxHeadBytes": limits.head_bytes_max,
            "headTimeout": format(limits.head_timeout),
            "bodyTimeout": format(limits.body_timeout),
            "writeTimeout": format(limits.write_stall_max),
            "maxSessions": limits.session_count_max,
            "maxSessionsPerCaller": limits.sessions_per_caller_max,
            "sessionIdleTimeout": format(limits.session_idle_max),
            "maxRequests": limits.request_count_max,
            "maxRequestsPerCaller": limits.requests_per_caller_max,
            "maxConnectionsPerAddress": limits.connections_per_address_max,
            "maxAnswerBytes": limits.answer_bytes_max,
            "maxAnswerBytesPerCaller": limits.answer_bytes_per_caller_max,
            "shutdownGrace": format(limits.shutdown_grace),
        },
    })
}

fn backend(policy: &BackendPolicy, written: &Value) -> Value {
    // A transport that is found by trying is not written.
    let is_tried = matches!(&policy.transport, Transport::StreamableHttp(http) if http.may_be_sse);
    let transport = (!is_tried).then(|| policy.transport.as_str());
    // A time-out must not be written in both places.
    let per_workload = &written["operational"]["timeouts"]["perWorkload"];
    let timeout = per_workload.get(policy.id.as_str()).is_none().then(|| format(policy.timeouts.call));
    json!({"transport": transport, "timeout": timeout})
}

fn isolation(bounds: &CallerBounds, process_count_max: usize) -> Value {
    let CallerBounds { connections_max, per_caller_max, idle_timeout, acquire_timeout } = *bounds;
    json!({
        "maxProcesses": process_count_max,
        "maxConnections": connections_max,
        "maxConnectionsPerCaller": per_caller_max,
        "idleTimeout": format(idle_timeout),
        "wait": format(acquire_timeout),
    })
}

fn aggregation_values(policy: &AggregationPolicy) -> Value {
    let (strategy, format) = match &policy.conflicts {
        ConflictPolicy::Prefix { format } => ("prefix", Some(format)),
        ConflictPolicy::Priority { order: _, format } => ("priority", Some(format)),
        ConflictPolicy::Manual => ("manual", None),
        ConflictPolicy::Auto { format } => ("auto", Some(format)),
    };
    json!({
        "conflictResolution": strategy,
        "names": match policy.names {
            NameStyle::Any => "any",
            NameStyle::Safe { .. } => "safe",
        },
        "pinTools": match policy.pin_mode {
            PinMode::Warn => "warn",
            PinMode::Hold => "hold",
        },
        "freezeLists": if policy.freezes_tools { "session" } else { "never" },
        "conflictResolutionConfig": format.map(|format| json!({"prefixFormat": format.to_string()})),
        "excludeAllTools": policy.exclude_all_tools,
        "defaultToolVisibility": match policy.default_visibility {
            Visibility::Show => "allow",
            Visibility::Hide => "deny",
        },
    })
}

fn failure_handling(health: &HealthPolicy) -> Value {
    let HealthPolicy { interval, timeout, unhealthy_threshold, breaker, startup_wait: _ } = *health;
    json!({
        "healthCheckInterval": format(interval),
        "unhealthyThreshold": unhealthy_threshold,
        "healthCheckTimeout": format(timeout),
        "circuitBreaker": breaker.map_or_else(|| json!({"enabled": false}), |breaker| {
            let BreakerPolicy { failure_threshold, timeout } = breaker;
            json!({"enabled": true, "failureThreshold": failure_threshold, "timeout": format(timeout)})
        }),
    })
}

fn audit_values(settings: &AuditSettings) -> Value {
    json!({
        "enabled": true,
        "component": settings.component,
        "includeRequestData": settings.request_data,
        "includeResponseData": settings.response_data,
        "detectApplicationErrors": settings.detect_application_errors,
        "maxDataSize": settings.data_bytes_max,
        "maxDelegationDepth": settings.delegation_depth_max,
    })
}
