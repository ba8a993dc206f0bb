//! Checks the steps.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value as Data};
use vmcp_json::Json;
use vmcp_runs::question::SCHEMA_BYTES_MAX;
use vmcp_template::Value;

use super::{Findings, keys, parts};
use crate::arguments::ArgumentTemplate;
use crate::definition::{
    Action, Call, Condition, ForEach, OnFailure, OnRefusal, Question, Retry, RetryKinds, Step,
};
use crate::policy::{
    ITEMS, ITEMS_MAX, PARALLEL_ITEMS, PARALLEL_ITEMS_MAX, QUESTION_TIMEOUT_MAX, RETRIES_MAX, RETRY_DELAY,
    STEP_TIMEOUT,
};
use crate::source::{ErrorSource, ReplySource, StepKindSource, StepSource};

/// Checks each step. A step with a problem is `None`, so that the indices of the others stay.
pub(super) fn check_all(sources: &[StepSource], findings: &mut Findings) -> Vec<Option<Step>> {
    let mut ids = HashSet::new();
    let mut steps = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let path = format!("steps[{index}]");
        if !source.id.is_empty() && !ids.insert(source.id.as_str()) {
            findings
                .problem(format!("{path}.id"), format!("\"{}\" is the id of another step too", source.id));
        }
        let mut step = check(source, &path, findings);
        for (place, id) in source.depends_on.iter().enumerate() {
            match sources.iter().position(|other| other.id == *id) {
                Some(before) => step.iter_mut().for_each(|step| step.after.push(before)),
                None => {
                    findings
                        .problem(format!("{path}.dependsOn[{place}]"), format!("there is no step \"{id}\""));
                }
            }
        }
        steps.push(step);
    }
    steps
}

fn check(source: &StepSource, path: &str, findings: &mut Findings) -> Option<Step> {
    if source.id.is_empty() {
        findings.problem(format!("{path}.id"), "is required");
    }
    if source.tool.is_some() && source.message.is_some() && source.kind.is_none() {
        findings.problem_with_hint(
            path,
            "has both `tool` and `message`",
            "write `type` to say which is meant",
        );
    }
    keys::check(source, path, findings);
    let action = match source.kind.unwrap_or(StepKindSource::Tool) {
        StepKindSource::Tool => call(source, path, findings).map(Action::Call),
        StepKindSource::Elicitation => question(source, path, findings).map(Action::Ask),
        StepKindSource::ForEach => for_each(source, path, findings).map(|one| Action::ForEach(Box::new(one))),
    };
    Some(Step {
        id: source.id.as_str().into(),
        condition: condition(source, path, findings),
        after: Vec::new(),
        on_failure: on_failure(source.on_error.as_ref()),
        default_results: default_results(source.default_results.as_ref()),
        timeout: match action {
            Some(Action::Ask(_)) => timeout(source.timeout).min(QUESTION_TIMEOUT_MAX),
            Some(Action::Call(_) | Action::ForEach(_)) | None => timeout(source.timeout),
        },
        action: action?,
    })
}

fn timeout(source: Option<Duration>) -> Duration {
    source.filter(|timeout| !timeout.is_zero()).unwrap_or(STEP_TIMEOUT)
}

fn default_results(source: Option<&Map<String, Data>>) -> Option<Value> {
    source.and_then(|members| Json::encode(members).ok()).map(|json| Value::decode(&json))
}

fn condition(source: &StepSource, path: &str, findings: &mut Findings) -> Option<Condition> {
    let text = source.condition.as_deref().filter(|text| !text.is_empty())?;
    let path = format!("{path}.condition");
    let template = parts::template(text, &path, findings)?;
    if let Some(plain) = template.plain_text()
        && crate::run::parse_condition(plain).is_none()
    {
        let message = format!("is never `true` or `false`, but always `{plain}`");
        findings.warning(&path, message, "the step fails when it runs; write a template in {{ }}");
    }
    Some(Condition { template, text: text.to_owned() })
}

fn on_failure(source: Option<&ErrorSource>) -> OnFailure {
    let Some(source) = source else { return OnFailure::Abort };
    let continues = match source.action.as_deref() {
        Some("retry") => source.then.as_deref() == Some("continue"),
        action => action == Some("continue"),
    };
    if continues { OnFailure::Continue } else { OnFailure::Abort }
}

fn call(source: &StepSource, path: &str, findings: &mut Findings) -> Option<Call> {
    let retry = retry(source.on_error.as_ref(), path, findings);
    let arguments = source.arguments.as_ref().map(|members| {
        let mut errors = Vec::new();
        let arguments = ArgumentTemplate::object(members, &format!("{path}.arguments"), &mut errors);
        for (path, error) in errors {
            findings.problem(path, format!("the template has an error at {error}"));
        }
        arguments
    });
    let Some(tool) = source.tool.clone().filter(|tool| !tool.is_empty()) else {
        findings.problem(format!("{path}.tool"), "is required for a step that calls a tool");
        return None;
    };
    if !parts::is_tool_name(&tool) {
        let message = format!("`{tool}` is no name of a tool: letters, digits, `.`, `_` and `-`");
        findings.problem(format!("{path}.tool"), message);
    }
    let reads_results = arguments.as_ref().is_some_and(ArgumentTemplate::reads_results);
    Some(Call { tool, arguments, reads_results, retry })
}

fn retry(source: Option<&ErrorSource>, path: &str, findings: &mut Findings) -> Retry {
    let none = Retry {
        count: 0,
        delay: RETRY_DELAY,
        kinds: RetryKinds { tool: true, backend: true, busy: true, timeout: true },
    };
    let Some(source) = source else { return none };
    let path = format!("{path}.onError");
    match source.action.as_deref() {
        None | Some("" | "abort" | "continue" | "retry") => {}
        Some(other) => {
            findings.problem(
                format!("{path}.action"),
                format!("`{other}` must be `abort`, `continue` or `retry`"),
            );
        }
    }
    if !matches!(source.then.as_deref(), None | Some("abort" | "continue")) {
        findings.problem(format!("{path}.then"), "must be `abort` or `continue`");
    }
    if source.action.as_deref() != Some("retry") {
        for (key, is_set) in [("then", source.then.is_some()), ("retryOn", source.retry_on.is_some())] {
            if is_set {
                findings.problem(format!("{path}.{key}"), "has no effect without `action: retry`");
            }
        }
        return none;
    }
    let count = source.retry_count.unwrap_or(0);
    if count == 0 {
        findings.problem(format!("{path}.retryCount"), "must be at least 1 with `action: retry`");
    }
    if count > RETRIES_MAX {
        let message = format!("a call is repeated {RETRIES_MAX} times at most, not {count} times");
        findings.warning(format!("{path}.retryCount"), message, format!("write {RETRIES_MAX}"));
    }
    Retry {
        count: count.min(RETRIES_MAX),
        delay: source.retry_delay.filter(|delay| !delay.is_zero()).unwrap_or(RETRY_DELAY),
        kinds: retry_kinds(source.retry_on.as_deref(), &path, findings).unwrap_or(none.kinds),
    }
}

fn retry_kinds(source: Option<&[String]>, path: &str, findings: &mut Findings) -> Option<RetryKinds> {
    let names = source?;
    if names.is_empty() {
        findings.problem(format!("{path}.retryOn"), "is empty, so nothing would be repeated");
    }
    for (index, name) in names.iter().enumerate() {
        if !["tool", "backend", "busy", "timeout"].contains(&name.as_str()) {
            let message = format!("`{name}` must be `tool`, `backend`, `busy` or `timeout`");
            findings.problem(format!("{path}.retryOn[{index}]"), message);
        }
    }
    let has = |kind: &str| names.iter().any(|name| name == kind);
    Some(RetryKinds {
        tool: has("tool"),
        backend: has("backend"),
        busy: has("busy"),
        timeout: has("timeout"),
    })
}

fn question(source: &StepSource, path: &str, findings: &mut Findings) -> Option<Question> {
    let on_decline = on_refusal(source.on_decline.as_ref(), &format!("{path}.onDecline"), findings);
    let on_cancel = on_refusal(source.on_cancel.as_ref(), &format!("{path}.onCancel"), findings);
    if source.timeout.is_some_and(|timeout| timeout > QUESTION_TIMEOUT_MAX) {
        let minutes = QUESTION_TIMEOUT_MAX.as_secs() / 60;
        let message = format!("a question waits {minutes} minutes at most");
        findings.warning(format!("{path}.timeout"), message, format!("write {minutes}m"));
    }
    let message = match source.message.as_deref().filter(|message| !message.is_empty()) {
        Some(message) => parts::template(message, &format!("{path}.message"), findings),
        None => {
            findings.problem(format!("{path}.message"), "is required for a question");
            None
        }
    };
    let Some(schema) = &source.schema else {
        findings
            .problem(format!("{path}.schema"), "is required for a question: the JSON Schema of the answer");
        return None;
    };
    let data = Data::Object(schema.clone());
    let json = Json::encode(&data).ok()?;
    if json.as_str().len() > SCHEMA_BYTES_MAX {
        findings.problem(format!("{path}.schema"), format!("is longer than {SCHEMA_BYTES_MAX} bytes"));
    }
    let validator = parts::validator(&data, &format!("{path}.schema"), findings);
    Some(Question { message: message?, schema: json, validator: validator?, on_decline, on_cancel })
}

fn on_refusal(source: Option<&ReplySource>, path: &str, findings: &mut Findings) -> OnRefusal {
    match source.and_then(|source| source.action.as_deref()) {
        None | Some("" | "abort") => OnRefusal::Abort,
        Some("continue") => OnRefusal::Continue,
        Some("skip_remaining") => OnRefusal::SkipRemaining,
        Some(other) => {
            let message = format!("`{other}` must be `abort`, `continue` or `skip_remaining`");
            findings.problem(format!("{path}.action"), message);
            OnRefusal::Abort
        }
    }
}

fn for_each(source: &StepSource, path: &str, findings: &mut Findings) -> Option<ForEach> {
    if source.tool.is_some() {
        findings.problem_with_hint(
            format!("{path}.tool"),
            "has no place in a `forEach`",
            "write it in `step`",
        );
    }
    let item_name =
        source.item_var.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "item".to_owned());
    if item_name == "index" {
        findings.problem(format!("{path}.itemVar"), "cannot be `index`, the number of the item");
    } else if !parts::is_identifier(&item_name) {
        findings.problem(format!("{path}.itemVar"), format!("`{item_name}` must be letters, digits and `_`"));
    }
    let parallel = bounded(
        source.max_parallel,
        (PARALLEL_ITEMS, PARALLEL_ITEMS_MAX),
        &format!("{path}.maxParallel"),
        findings,
    );
    let items_max =
        bounded(source.max_iterations, (ITEMS, ITEMS_MAX), &format!("{path}.maxIterations"), findings);
    let collection = match source.collection.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => parts::template(text, &format!("{path}.collection"), findings),
        None => {
            findings.problem(format!("{path}.collection"), "is required for a `forEach`");
            None
        }
    };
    let Some(inner) = source.step.as_deref() else {
        findings.problem(format!("{path}.step"), "is required for a `forEach`");
        return None;
    };
    let inner_path = format!("{path}.step");
    if inner.id.is_empty() {
        findings.problem(format!("{inner_path}.id"), "is required");
    }
    if inner.kind.is_some_and(|kind| kind != StepKindSource::Tool) {
        findings.problem(format!("{inner_path}.type"), "the step of a `forEach` must call a tool");
        return None;
    }
    keys::check_inner(inner, &inner_path, findings);
    let call = call(inner, &inner_path, findings);
    Some(ForEach {
        collection: collection?,
        item_name,
        parallel,
        items_max,
        call: call?,
        condition: condition(inner, &inner_path, findings),
        on_failure: on_failure(inner.on_error.as_ref()),
        default_results: default_results(inner.default_results.as_ref()),
        timeout: timeout(inner.timeout),
    })
}

/// A number with a default, and an upper bound.
fn bounded(source: Option<u32>, (default, most): (u32, u32), path: &str, findings: &mut Findings) -> usize {
    let value = source.filter(|value| *value > 0).unwrap_or(default);
    if value > most {
        findings.problem(path, format!("must be at most {most}, not {value}"));
    }
    usize::try_from(value.min(most)).unwrap_or(usize::MAX)
}
