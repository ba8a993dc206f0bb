//! Checks what the templates read: the roots, the steps, the parameters, and the defaults of steps that may be skipped.

use serde_json::Value as Data;
use vmcp_template::{DataPath, Segment};

use super::Findings;
use crate::definition::{Action, Output, OutputProperty, OutputSource, Step, Workflow};
use crate::fit::Schema;
use crate::source::{StepKindSource, StepSource, WorkflowSource};

/// The members of a step in templates.
const STEP_MEMBERS: [&str; 4] = ["output", "content", "status", "error"];
/// The members of the output of a `forEach`.
const FOR_EACH_MEMBERS: [&str; 4] = ["iterations", "count", "completed", "failed"];
/// The members of the output of a question.
const QUESTION_MEMBERS: [&str; 3] = ["action", "content", "skipped"];
/// The members of `.workflow`.
const WORKFLOW_MEMBERS: [&str; 5] = ["id", "start_time", "duration_ms", "step_count", "status"];

/// What templates may read.
pub(super) struct Known<'a> {
    pub(super) source: &'a WorkflowSource,
    pub(super) parameters: &'a Data,
}

/// A reference with the path of its template, and whether ToolHive looks at it for defaults.
pub(super) struct Found {
    pub(super) path: String,
    pub(super) reference: DataPath,
    /// A template of a nested argument, a list, or an inner step, which ToolHive does not look at.
    is_nested: bool,
}

/// Checks all data paths.
pub(super) fn check(
    steps: &[Option<Step>],
    output: Option<&Output>,
    known: &Known<'_>,
    findings: &mut Findings,
) {
    for (index, step) in steps.iter().enumerate() {
        let Some(step) = step else { continue };
        for found in of_step(step, &format!("steps[{index}]")) {
            let item = match &step.action {
                Action::ForEach(for_each) if found.path.contains(".step.") => {
                    Some(for_each.item_name.as_str())
                }
                Action::ForEach(_) | Action::Call(_) | Action::Ask(_) => None,
            };
            check_one(&found, item, known, findings);
        }
    }
    let mut of_output = Vec::new();
    if let Some(output) = output {
        each_output(&output.properties, "output.properties", &mut of_output);
    }
    for found in &of_output {
        check_one(found, None, known, findings);
    }
}

/// All data paths of a workflow.
pub(super) fn of_workflow(workflow: &Workflow) -> Vec<Found> {
    let steps = workflow.steps.iter().enumerate();
    let mut found: Vec<Found> =
        steps.flat_map(|(index, step)| of_step(step, &format!("steps[{index}]"))).collect();
    if let Some(output) = &workflow.output {
        each_output(&output.properties, "output.properties", &mut found);
    }
    found
}

/// The data paths of a step.
fn of_step(step: &Step, path: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut add = |path: String, paths: Vec<DataPath>| {
        found.extend(paths.into_iter().map(|reference| Found {
            path: path.clone(),
            reference,
            is_nested: false,
        }));
    };
    if let Some(condition) = &step.condition {
        add(format!("{path}.condition"), condition.template.data_paths());
    }
    match &step.action {
        Action::Call(_) => {}
        Action::Ask(question) => add(format!("{path}.message"), question.message.data_paths()),
        Action::ForEach(for_each) => {
            add(format!("{path}.collection"), for_each.collection.data_paths());
            if let Some(condition) = &for_each.condition {
                add(format!("{path}.step.condition"), condition.template.data_paths());
            }
        }
    }
    if let Some(arguments) = step.call().and_then(|call| call.arguments.as_ref()) {
        let base = if matches!(step.action, Action::ForEach(_)) { ".step.arguments" } else { ".arguments" };
        let mut of_arguments = Vec::new();
        arguments.data_paths(&format!("{path}{base}"), &mut of_arguments);
        found.extend(of_arguments.into_iter().map(|(path, reference)| Found {
            is_nested: path.contains(".step.")
                || path.split(".arguments").nth(1).is_some_and(|rest| rest.matches('[').count() > 1),
            path,
            reference,
        }));
    }
    found
}

fn each_output(
    properties: &std::collections::BTreeMap<String, OutputProperty>,
    path: &str,
    found: &mut Vec<Found>,
) {
    for (name, property) in properties {
        match &property.source {
            OutputSource::Template(template) => {
                let paths = template.data_paths().into_iter();
                found.extend(paths.map(|reference| Found {
                    path: format!("{path}.{name}.value"),
                    reference,
                    is_nested: false,
                }));
            }
            OutputSource::Properties(inner) => {
                each_output(inner, &format!("{path}.{name}.properties"), found)
            }
        }
    }
}

fn check_one(found: &Found, item: Option<&str>, known: &Known<'_>, findings: &mut Findings) {
    let Found { path, reference, is_nested } = found;
    let member = |index: usize| match reference.path.get(index) {
        Some(Segment::Member(name)) => Some(name.as_str()),
        Some(Segment::Computed) | None => None,
    };
    let Some(root) = member(0) else { return };
    match root {
        "params" => check_parameter(path, member(1), known, findings),
        "steps" => {
            let Some(id) = member(1) else { return };
            let Some(step) = known.source.steps.iter().find(|step| step.id == id) else {
                findings.warning(
                    path,
                    format!("there is no step \"{id}\", so this is always missing"),
                    "correct the id",
                );
                return;
            };
            check_part(path, step, (member(2), member(3), member(4)), findings);
            if let (Some("output"), Some(field)) = (member(2), member(3)) {
                let is_checked_there = reference.is_direct && !*is_nested;
                check_default(path, step, field, is_checked_there, findings);
            }
        }
        "forEach" if item.is_none() => {
            findings.warning(
                path,
                "`.forEach` exists in the step of a `forEach` only",
                "it is always missing here",
            );
        }
        "forEach" => {
            if let Some(name) = member(1)
                && name != "index"
                && Some(name) != item
            {
                let names = format!("there are `.forEach.{}` and `.forEach.index`", item.unwrap_or_default());
                findings.warning(path, format!("there is no `.forEach.{name}`"), names);
            }
        }
        "workflow" => {
            if let Some(name) = member(1).filter(|name| !WORKFLOW_MEMBERS.contains(name)) {
                warn_missing(path, &format!(".workflow.{name}"), &WORKFLOW_MEMBERS, findings);
            }
        }
        "vars" => {}
        other => {
            let names = "there are `.params`, `.steps`, `.workflow`, `.vars` and `.forEach`";
            findings.warning(path, format!("there is no `.{other}`, so this is always missing"), names);
        }
    }
}

/// Checks the members of a step that are known before it runs.
fn check_part(
    path: &str,
    step: &StepSource,
    (part, field, inner): (Option<&str>, Option<&str>, Option<&str>),
    findings: &mut Findings,
) {
    let base = format!(".steps.{}", step.id);
    let Some(part) = part else { return };
    if !STEP_MEMBERS.contains(&part) {
        return warn_missing(path, &format!("{base}.{part}"), &STEP_MEMBERS, findings);
    }
    let Some(field) = field.filter(|_| part == "output") else { return };
    if step.default_results.as_ref().is_some_and(|defaults| defaults.contains_key(field)) {
        return;
    }
    let members: &[&str] = match step.kind.unwrap_or(StepKindSource::Tool) {
        StepKindSource::Tool => return,
        StepKindSource::ForEach => &FOR_EACH_MEMBERS,
        StepKindSource::Elicitation => &QUESTION_MEMBERS,
    };
    if !members.contains(&field) {
        return warn_missing(path, &format!("{base}.output.{field}"), members, findings);
    }
    if let (Some(schema), "content", Some(name)) = (&step.schema, field, inner) {
        let schema = Data::Object(schema.clone());
        if Schema::new(&schema).lacks(name) {
            let names: Vec<&str> = schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            warn_missing(path, &format!("{base}.output.content.{name}"), &names, findings);
        }
    }
}

fn warn_missing(path: &str, read: &str, members: &[&str], findings: &mut Findings) {
    let names = members.join("`, `");
    findings.warning(
        path,
        format!("there is no `{read}`, so this is always missing"),
        format!("there are `{names}`"),
    );
}

fn check_parameter(path: &str, name: Option<&str>, known: &Known<'_>, findings: &mut Findings) {
    let Some(name) = name else { return };
    if Schema::new(known.parameters).lacks(name) {
        let message = format!("`parameters` declares no `{name}`");
        findings.warning(path, message, "declare it, so that clients know of it");
    }
}

/// A step that may be skipped needs a default for what others read of its output.
/// It is a problem where ToolHive refuses it, and a warning elsewhere.
fn check_default(
    path: &str,
    step: &StepSource,
    field: &str,
    is_checked_there: bool,
    findings: &mut Findings,
) {
    let continues = step.on_error.as_ref().and_then(|error| error.action.as_deref()) == Some("continue");
    let may_be_skipped =
        step.condition.as_deref().is_some_and(|condition| !condition.is_empty()) || continues;
    if !may_be_skipped || step.default_results.as_ref().is_some_and(|defaults| defaults.contains_key(field)) {
        return;
    }
    let message = format!("step \"{}\" may be skipped, and has no `defaultResults` for `{field}`", step.id);
    let hint = format!("write `defaultResults: {{{field}: …}}` at that step");
    if is_checked_there {
        findings.problem_with_hint(path, message, hint);
    } else {
        findings.warning(path, message, hint);
    }
}
