//! Finds keys of a step that have no effect on a step of its kind.

use super::Findings;
use crate::source::{ErrorSource, StepKindSource, StepSource};

/// Warns of keys that are set and have no effect.
pub(super) fn check(source: &StepSource, path: &str, findings: &mut Findings) {
    let kind = source.kind.unwrap_or(StepKindSource::Tool);
    for (key, is_set, kinds) in keys(source) {
        if is_set && !kinds.contains(&kind) {
            let message = format!("has no effect on {}", description(kind));
            findings.warning(
                format!("{path}.{key}"),
                message,
                format!("`type: {}` has it", type_name(kinds[0])),
            );
        }
    }
    if let Some(error) = &source.on_error {
        let path = format!("{path}.onError");
        check_error(error, &path, findings);
        if error.action.as_deref() == Some("retry") && kind != StepKindSource::Tool {
            let hint = match kind {
                StepKindSource::ForEach => "write it in `step`, so that the call of each item is repeated",
                StepKindSource::Tool | StepKindSource::Elicitation => "remove it",
            };
            let message = format!("has no effect on {}: nothing is repeated", description(kind));
            findings.warning(format!("{path}.action"), message, hint);
        }
    }
}

/// Warns of keys of the step inside a `forEach` that have no effect there.
pub(super) fn check_inner(source: &StepSource, path: &str, findings: &mut Findings) {
    check(source, path, findings);
    if !source.depends_on.is_empty() {
        let hint = "write it at the `forEach`";
        findings.warning(format!("{path}.dependsOn"), "has no effect on the step of a `forEach`", hint);
    }
}

/// The keys that only some kinds of steps have, and whether they are set.
fn keys(source: &StepSource) -> [(&'static str, bool, &'static [StepKindSource]); 10] {
    use StepKindSource::{Elicitation, ForEach, Tool};
    [
        ("arguments", source.arguments.is_some(), &[Tool]),
        ("message", source.message.is_some(), &[Elicitation]),
        ("schema", source.schema.is_some(), &[Elicitation]),
        ("onDecline", source.on_decline.is_some(), &[Elicitation]),
        ("onCancel", source.on_cancel.is_some(), &[Elicitation]),
        ("collection", source.collection.is_some(), &[ForEach]),
        ("itemVar", source.item_var.is_some(), &[ForEach]),
        ("maxParallel", source.max_parallel.is_some(), &[ForEach]),
        ("maxIterations", source.max_iterations.is_some(), &[ForEach]),
        ("step", source.step.is_some(), &[ForEach]),
    ]
}

fn description(kind: StepKindSource) -> &'static str {
    match kind {
        StepKindSource::Tool => "a step that calls a tool",
        StepKindSource::Elicitation => "a question",
        StepKindSource::ForEach => "a `forEach`",
    }
}

fn type_name(kind: StepKindSource) -> &'static str {
    match kind {
        StepKindSource::Tool => "tool",
        StepKindSource::Elicitation => "elicitation",
        StepKindSource::ForEach => "forEach",
    }
}

fn check_error(error: &ErrorSource, path: &str, findings: &mut Findings) {
    if error.action.as_deref() == Some("retry") {
        return;
    }
    for (key, is_set) in
        [("retryCount", error.retry_count.is_some()), ("retryDelay", error.retry_delay.is_some())]
    {
        if is_set {
            let message = "has no effect without `action: retry`, so nothing is repeated";
            findings.warning(format!("{path}.{key}"), message, "write `action: retry`, or remove it");
        }
    }
}
