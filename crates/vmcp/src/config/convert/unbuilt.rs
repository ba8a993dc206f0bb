//! The table of features whose keys are known but which this build does not have. Their sections are refused
//! in so many words, never skipped: a limit or a policy that is not enforced must not look as if it were.
//! Whoever builds a feature deletes its row.

use super::Findings;
use crate::config::file::{File, StorageProvider, Telemetry};
use crate::config::report::{Problem, item};

/// A feature this build does not have.
pub(in crate::config) struct Unbuilt {
    /// The key that asks for it.
    pub(in crate::config) path: &'static str,
    /// What it is called in a sentence.
    pub(in crate::config) feature: &'static str,
    asked_for: fn(&File) -> bool,
    remedy: &'static str,
}

const REMOVE: &str = "remove the section";

/// Every feature this build does not have.
pub(in crate::config) const UNBUILT: &[Unbuilt] = &[
    Unbuilt {
        path: "compositeTools",
        feature: "composite tools",
        asked_for: |file| !file.composite_tools.is_empty(),
        remedy: REMOVE,
    },
    Unbuilt {
        path: "telemetry",
        feature: "telemetry",
        asked_for: |file| file.telemetry.as_ref().is_some_and(sends_something),
        remedy: REMOVE,
    },
    Unbuilt {
        path: "codeMode",
        feature: "code mode",
        asked_for: |file| file.code_mode.as_ref().is_some_and(|mode| mode.enabled == Some(true)),
        remedy: REMOVE,
    },
    Unbuilt {
        path: "sessionStorage.provider",
        feature: "sessions in Redis",
        asked_for: |file| {
            let storage = file.session_storage.as_ref();
            // With limits the section also says where they are kept, which this build has.
            file.rate_limiting.is_none()
                && storage.is_some_and(|storage| storage.provider == StorageProvider::Redis)
        },
        remedy: "use `memory` and one replica",
    },
];

/// True unless the section only says who may read `/metrics`. With a collector, traces and metrics are on where nothing
/// else is written.
fn sends_something(telemetry: &Telemetry) -> bool {
    let kinds = [telemetry.tracing_enabled, telemetry.metrics_enabled];
    let collector = telemetry.endpoint.is_some();
    kinds.iter().any(|on| on.unwrap_or(collector))
}

/// Refuses what the table names, and what only the Kubernetes operator can resolve.
pub(super) fn refuse(file: &File, findings: &mut Findings<'_>) {
    for row in UNBUILT {
        if (row.asked_for)(file) {
            let message = format!("this build does not have {} yet", row.feature);
            findings.add(Problem::new(row.path, message).hint(row.remedy));
        }
    }
    if !file.composite_tool_refs.is_empty() {
        let message = "names Kubernetes objects, which are not read here";
        findings
            .add(Problem::new("compositeToolRefs", message).hint("write the tools under `compositeTools`"));
    }
    let tools = file.aggregation.iter().flat_map(|aggregation| &aggregation.tools);
    for (index, tool) in tools.enumerate() {
        if tool.tool_config_ref.is_some() {
            let path = format!("{}.toolConfigRef", item("aggregation.tools", index));
            let message = "names a Kubernetes object, which is not read here";
            findings.add(Problem::new(path, message).hint("write `filter` and `overrides` in its place"));
        }
    }
}
