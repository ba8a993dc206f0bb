//! Checks a workflow against the tools that it calls, once these are known: the arguments that they take, and what they
//! return. What is found is suspicious only: a schema may say less than its tool does.

use serde_json::Value as Data;
use vmcp_template::{Segment, Value};

use super::data_paths::{Found, of_workflow};
use super::{Finding, Findings};
use crate::arguments::ArgumentTemplate;
use crate::definition::{Action, Call, Workflow};
use crate::fit::Schema;
use crate::run::{StepTool, StepTools};

/// What does not fit between the workflow and its tools.
pub(crate) fn check(workflow: &Workflow, tools: &StepTools) -> Vec<Finding> {
    let mut findings = Findings::default();
    for (index, step) in workflow.steps.iter().enumerate() {
        let Some(call) = step.call() else { continue };
        let Some(tool) = tools.get(call.tool.as_str()) else { continue };
        let inner = if matches!(step.action, Action::ForEach(_)) { ".step" } else { "" };
        check_arguments(call, tool, &format!("steps[{index}]{inner}.arguments"), &mut findings);
    }
    let outputs: Vec<Option<Data>> =
        workflow.steps.iter().map(|step| output_schema(&step.action, tools)).collect();
    for found in of_workflow(workflow) {
        let [Segment::Member(root), Segment::Member(id), Segment::Member(part), rest @ ..] =
            found.reference.path.as_slice()
        else {
            continue;
        };
        let index = workflow.steps.iter().position(|step| *step.id == **id);
        if root == "steps"
            && part == "output"
            && let Some(Some(schema)) = index.and_then(|index| outputs.get(index))
        {
            let defaults = index.and_then(|index| workflow.steps.get(index)?.default_results.as_ref());
            // A step that is skipped yields its defaults.
            if !has_member(defaults, rest) {
                check_result(&found, id, rest, Schema::new(schema), &mut findings);
            }
        }
    }
    findings.0
}

fn check_arguments(call: &Call, tool: &StepTool, path: &str, findings: &mut Findings) {
    let Some(schema) = tool.schema.as_ref().map(Schema::new) else { return };
    let members = match &call.arguments {
        Some(ArgumentTemplate::Object(members)) => members.as_slice(),
        Some(_) | None => &[],
    };
    let name = &call.tool;
    for (argument, _) in members {
        if schema.lacks(argument) {
            let message = format!("`{name}` has no argument `{argument}`");
            findings.warning(format!("{path}.{argument}"), message, names_of(schema.part()));
        }
    }
    let required = schema.part().get("required").and_then(Data::as_array);
    let required = required.into_iter().flatten().filter_map(Data::as_str);
    for argument in required.filter(|required| !members.iter().any(|(name, _)| name == required)) {
        let message = format!("`{name}` requires the argument `{argument}`");
        findings.warning(path, message, "the call fails without it");
    }
}

/// Whether a value has the member that a path begins with.
fn has_member(value: Option<&Value>, path: &[Segment]) -> bool {
    let (Some(Segment::Member(name)), Some(object)) = (path.first(), value.and_then(Value::as_object)) else {
        return false;
    };
    object.members().iter().any(|(known, _)| **known == **name)
}

/// The schema of what a step that calls a tool yields.
fn output_schema(action: &Action, tools: &StepTools) -> Option<Data> {
    let Action::Call(call) = action else { return None };
    tools.get(call.tool.as_str())?.output_schema.as_ref()?.decode().ok()
}

fn check_result(found: &Found, id: &str, path: &[Segment], schema: Schema<'_>, findings: &mut Findings) {
    let mut schema = schema;
    let mut read = format!(".steps.{id}.output");
    for segment in path {
        let Segment::Member(name) = segment else { return };
        read.push('.');
        read.push_str(name);
        if schema.lacks(name) {
            let message =
                format!("`{read}` is always missing: the `outputSchema` of the tool has no `{name}`");
            findings.warning(&found.path, message, names_of(schema.part()));
            return;
        }
        let Some(member) = schema.member(name) else { return };
        schema = member;
    }
}

/// The names that a schema has.
fn names_of(schema: &Data) -> String {
    let properties = schema.get("properties").and_then(Data::as_object);
    let names: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).take(12).collect();
    if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) }
}
