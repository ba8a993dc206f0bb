//! The effective bounds of connections that belong to single callers, and the largest number of processes
//! that they allow.

use serde_json::{Value, json};
use vmcp_backends::policy::CallerBounds;

use crate::duration::format;
use crate::settings::Settings;

/// The section `isolation`.
pub(super) fn show(settings: &Settings) -> Value {
    let bounds = settings.backends.first().map_or(CallerBounds::DEFAULT, |backend| backend.caller_bounds);
    let CallerBounds { connections_max, per_caller_max, idle_timeout: idle_wait, acquire_timeout: wait } =
        bounds;
    json!({
        "maxProcesses": settings.process_count_max,
        "maxConnections": connections_max,
        "maxConnectionsPerCaller": per_caller_max,
        "idleTimeout": format(idle_wait),
        "wait": format(wait),
        "worstCaseProcesses": settings.process_count_worst_case(),
    })
}
