//! The effective audit settings.

use serde_json::{Value, json};

use vmcp_audit::AuditSettings;

/// The section `audit`, or `null` if nothing is recorded.
pub(super) fn show(settings: Option<&AuditSettings>) -> Value {
    let Some(settings) = settings else { return Value::Null };
    let AuditSettings {
        component,
        event_types,
        excluded_event_types,
        request_data,
        response_data,
        detect_application_errors,
        data_bytes_max,
        delegation_depth_max,
        file,
    } = settings;
    json!({
        "component": component,
        "eventTypes": if event_types.is_empty() { Value::from("all") } else { json!(event_types) },
        "excludeEventTypes": excluded_event_types,
        "includeRequestData": request_data,
        "includeResponseData": response_data,
        "detectApplicationErrors": detect_application_errors,
        "maxDataSize": data_bytes_max,
        "maxDelegationDepth": delegation_depth_max,
        "logFile": file.as_ref().map_or_else(|| "standard output".into(), |file| file.to_string_lossy()),
    })
}
