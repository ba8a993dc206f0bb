//! The table of features whose keys are known but which this build does not have. A section of such a feature
//! is refused with a message and never skipped: a limit or a policy that is not enforced must not look as if
//! it were. A feature that is built loses its row here.

use serde_json::{Map, Value};

use super::Findings;
use crate::file::{File, Telemetry};
use crate::report::{Problem, ProblemCode, item_path};

/// A feature that this build does not have.
pub(crate) struct UnsupportedFeature {
    /// The top-level key of the feature's section.
    pub(crate) path: &'static str,
    /// The name of the feature in messages.
    pub(crate) feature: &'static str,
    is_requested: fn(&File) -> bool,
    remedy: &'static str,
}

const REMOVE: &str = "remove the section";

/// All features that this build does not have.
pub(crate) const UNSUPPORTED: &[UnsupportedFeature] = &[
    UnsupportedFeature {
        path: "telemetry",
        feature: "traces and OTLP",
        is_requested: |file| file.telemetry.as_ref().is_some_and(exports_telemetry),
        remedy: REMOVE,
    },
    UnsupportedFeature {
        path: "authServerConfig",
        feature: "an authorization server",
        is_requested: |file| file.auth_server_config.is_some(),
        remedy: "write `incomingAuth` with the issuer that callers log in to, and remove the section",
    },
];

/// False if the section only asks for `/metrics`. With a collector, traces and metrics are on unless they are
/// turned off; without one, metrics are on `/metrics` only.
fn exports_telemetry(telemetry: &Telemetry) -> bool {
    let has_collector = telemetry.endpoint.is_some();
    telemetry.tracing_enabled.unwrap_or(has_collector)
        || (has_collector && telemetry.metrics_enabled.unwrap_or(true))
}

/// Removes the sections of the table from a configuration, and returns a remark for each.
///
/// # Errors
/// If the configuration does not have the shape of a config file.
pub(crate) fn remove_unsupported(root: &mut Map<String, Value>) -> Result<Vec<Problem>, Problem> {
    let file: File = serde_json::from_value(Value::Object(root.clone()))
        .map_err(|error| Problem::new("", error.to_string()))?;
    let requested = UNSUPPORTED.iter().filter(|row| (row.is_requested)(&file));
    let removed = requested.filter(|row| root.shift_remove(row.path).is_some());
    let message =
        |row: &UnsupportedFeature| format!("this build does not have {} yet: left out", row.feature);
    Ok(removed.map(|row| Problem::new(row.path, message(row)).with_code(ProblemCode::NotBuilt)).collect())
}

/// Reports the sections of the table, and the keys that only the Kubernetes operator can resolve.
pub(super) fn refuse(file: &File, findings: &mut Findings<'_>) {
    for row in UNSUPPORTED {
        if (row.is_requested)(file) {
            let message = format!("this build does not have {} yet", row.feature);
            let problem = Problem::new(row.path, message).with_code(ProblemCode::NotBuilt);
            findings.push(problem.with_hint(row.remedy));
        }
    }
    if !file.composite_tool_refs.is_empty() {
        let message = "names Kubernetes objects, which are not read here";
        findings.push(
            Problem::new("compositeToolRefs", message).with_hint("write the tools under `compositeTools`"),
        );
    }
    let tools = file.aggregation.iter().flat_map(|aggregation| &aggregation.tools);
    for (index, tool) in tools.enumerate() {
        if tool.tool_config_ref.is_some() {
            let path = format!("{}.toolConfigRef", item_path("aggregation.tools", index));
            let message = "names a Kubernetes object, which is not read here";
            findings
                .push(Problem::new(path, message).with_hint("write `filter` and `overrides` in its place"));
        }
    }
}
