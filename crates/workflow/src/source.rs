//! A workflow as an operator writes it, before it is checked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use vmcp_domain::ToolHints;

use crate::policy::MissingValues;

/// A workflow.
#[derive(Clone, Debug, Default)]
pub struct WorkflowSource {
    /// The name of the tool.
    pub name: String,
    /// The description of the tool.
    pub description: Option<String>,
    /// The JSON Schema of the arguments.
    pub parameters: Option<Map<String, Value>>,
    /// How long a run may take without the time that it waits for people. `None` and zero: the default.
    pub timeout: Option<Duration>,
    /// The steps.
    pub steps: Vec<StepSource>,
    /// The result. `None`: the output of the step that completes last.
    pub output: Option<OutputSource>,
    /// What the operator says about the tool's behaviour.
    pub annotations: ToolHints,
    /// Whether limits are charged for all calls before the first one.
    pub reserves: bool,
    /// What a template renders for data that does not exist.
    pub missing_values: MissingValues,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKindSource {
    /// It calls a tool.
    Tool,
    /// It asks the user.
    Elicitation,
    /// It runs a step for each item of a list.
    ForEach,
}

/// One step.
#[derive(Clone, Debug, Default)]
pub struct StepSource {
    /// The id, unique in the workflow.
    pub id: String,
    /// What the step does. `None`: it calls a tool.
    pub kind: Option<StepKindSource>,
    /// The tool.
    pub tool: Option<String>,
    /// The arguments of the call. Texts at any depth may be templates.
    pub arguments: Option<Map<String, Value>>,
    /// A template that prints `true` or `false`.
    pub condition: Option<String>,
    /// The steps that end before this one starts.
    pub depends_on: Vec<String>,
    /// What follows a failure.
    pub on_error: Option<ErrorSource>,
    /// The template of a question.
    pub message: Option<String>,
    /// The JSON Schema of the answer to a question.
    pub schema: Option<Map<String, Value>>,
    /// How long the step may take. `None` and zero: the default.
    pub timeout: Option<Duration>,
    /// What follows if the user declines.
    pub on_decline: Option<ReplySource>,
    /// What follows if the user cancels, or does not answer in time.
    pub on_cancel: Option<ReplySource>,
    /// The output of a step that is skipped, or that fails without ending the workflow.
    pub default_results: Option<Map<String, Value>>,
    /// A template that prints a JSON list.
    pub collection: Option<String>,
    /// The name of the item in templates.
    pub item_var: Option<String>,
    /// How many items run at once.
    pub max_parallel: Option<u32>,
    /// The most items.
    pub max_iterations: Option<u32>,
    /// The step that runs for each item.
    pub step: Option<Box<StepSource>>,
}

/// What follows a failure.
#[derive(Clone, Debug, Default)]
pub struct ErrorSource {
    /// `abort`, `continue` or `retry`.
    pub action: Option<String>,
    /// How many times a failed call is repeated.
    pub retry_count: Option<u32>,
    /// How long to wait before the first repetition.
    pub retry_delay: Option<Duration>,
    /// What follows when all repetitions failed: `abort` or `continue`.
    pub then: Option<String>,
    /// The kinds of failures that are repeated.
    pub retry_on: Option<Vec<String>>,
}

/// What follows a question that is not accepted.
#[derive(Clone, Debug, Default)]
pub struct ReplySource {
    /// `abort`, `continue` or `skip_remaining`.
    pub action: Option<String>,
}

/// The result of a workflow.
#[derive(Clone, Debug, Default)]
pub struct OutputSource {
    /// The properties.
    pub properties: BTreeMap<String, OutputPropertySource>,
    /// The properties that must have a value.
    pub required: Vec<String>,
}

/// One property of a result.
#[derive(Clone, Debug, Default)]
pub struct OutputPropertySource {
    /// The JSON type.
    pub kind: String,
    /// What it means.
    pub description: Option<String>,
    /// The template of the value.
    pub value: Option<String>,
    /// The properties of an object.
    pub properties: BTreeMap<String, OutputPropertySource>,
    /// The value if the template yields nothing.
    pub default: Option<Value>,
}
