//! `compositeTools`: workflows of operators, each offered as one tool, and `workflows`: the bounds of all of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GoDuration, ToolAnnotations};

/// A workflow written by the operator, offered as one tool.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CompositeTool {
    /// The name of the tool, unique in this list.
    pub(crate) name: String,
    /// The description of the tool.
    pub(crate) description: Option<String>,
    /// The JSON Schema of the arguments; its type must be `object`.
    pub(crate) parameters: Option<Map<String, Value>>,
    /// The time-out of the whole workflow, without the time that it waits for people. Left out or zero: 30m.
    pub(crate) timeout: Option<GoDuration>,
    /// The steps of the workflow, 100 at most. A step starts when those of its `dependsOn` have ended, and those that its
    /// templates read.
    pub(crate) steps: Vec<WorkflowStep>,
    /// The result of the tool.
    pub(crate) output: Option<WorkflowOutput>,
    /// Annotations of the tool. One that says that it is safer than the tools that it calls hides the workflow. Left
    /// out: those that follow from the tools.
    pub(crate) annotations: Option<ToolAnnotations>,
    /// When limits are charged: `plan` charges all calls of steps before the first one, and nothing is called if they
    /// do not suffice; `none` charges each call when it is made. Left out: `plan`.
    pub(crate) reserve: Option<WorkflowReserve>,
    /// What a template yields for data that does not exist: `omit` leaves out an argument that is nothing else, and
    /// prints nothing inside a longer text; `text` prints `<no value>`, as ToolHive does. Left out: `omit`.
    pub(crate) missing_values: Option<MissingValues>,
}

/// When limits are charged for the calls of a workflow.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum WorkflowReserve {
    /// All before the first call.
    Plan,
    /// Each when it is made.
    None,
}

/// What a template yields for data that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum MissingValues {
    /// Nothing.
    Omit,
    /// `<no value>`.
    Text,
}

/// Bounds of all workflows together.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowBounds {
    /// How many workflows may run at once, at least 1. A further call is refused. Left out: 100.
    pub(crate) max_running: Option<u32>,
    /// How many workflows of one user may run at once, at least 1. It does not hold for callers without identity.
    /// Left out: 10.
    pub(crate) max_running_per_caller: Option<u32>,
}

/// One step of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowStep {
    /// The id of the step, unique in the workflow.
    pub(crate) id: String,
    /// What the step does: `tool`, `elicitation` or `forEach`. Left out: `tool`, if `tool` is written.
    #[serde(rename = "type")]
    pub(crate) kind: Option<StepKind>,
    /// The tool that is called, as `workload.tool` or by its advertised name.
    pub(crate) tool: Option<String>,
    /// The arguments of the call. Texts may be templates.
    pub(crate) arguments: Option<Map<String, Value>>,
    /// A template. The step is skipped unless it yields `true`.
    pub(crate) condition: Option<String>,
    /// The ids of the steps that must end before this one starts.
    #[serde(default)]
    pub(crate) depends_on: Vec<String>,
    /// What happens if the step fails.
    pub(crate) on_error: Option<StepErrorHandling>,
    /// The text that is shown to the user (`elicitation`).
    pub(crate) message: Option<String>,
    /// The JSON Schema of the user's answer (`elicitation`).
    pub(crate) schema: Option<Map<String, Value>>,
    /// The time-out of the step; for `elicitation` at most 10m. Left out or zero: 5m.
    pub(crate) timeout: Option<GoDuration>,
    /// What happens if the user declines (`elicitation`).
    pub(crate) on_decline: Option<ElicitationResponse>,
    /// What happens if the user cancels (`elicitation`).
    pub(crate) on_cancel: Option<ElicitationResponse>,
    /// The results to use if the step is skipped, or if it fails and the workflow continues.
    pub(crate) default_results: Option<Map<String, Value>>,
    /// A template that yields the list of items (`forEach`).
    pub(crate) collection: Option<String>,
    /// The name of the current item in templates (`forEach`).
    pub(crate) item_var: Option<String>,
    /// How many items are processed at the same time, 0 to 50 (`forEach`).
    pub(crate) max_parallel: Option<u32>,
    /// The largest number of items, 0 to 1000 (`forEach`).
    pub(crate) max_iterations: Option<u32>,
    /// The step that is run for each item (`forEach`).
    pub(crate) step: Option<Box<WorkflowStep>>,
}

/// What a step does: call a tool, ask the user, or run a step for each item of a list.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StepKind {
    Tool,
    Elicitation,
    ForEach,
}

/// What happens if a step fails.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StepErrorHandling {
    /// `abort`, `continue` or `retry`. Left out: `abort`.
    pub(crate) action: Option<String>,
    /// How many times a failed call is retried, with `retry`: 1 to 10.
    pub(crate) retry_count: Option<u32>,
    /// How long to wait before the first retry; each further wait is longer by half. Left out: 1s.
    pub(crate) retry_delay: Option<GoDuration>,
    /// What happens when all retries failed, with `retry`: `abort` or `continue`. Left out: `abort`.
    pub(crate) then: Option<String>,
    /// The kinds of failures that are retried, with `retry`: `tool` (the tool says that it failed), `backend` (it is away
    /// or failed), `busy` (it, or a limit, asks for a pause), `timeout`. Left out: all of them.
    pub(crate) retry_on: Option<Vec<String>>,
}

/// What happens if the user does not accept.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ElicitationResponse {
    /// `skip_remaining`, `abort` or `continue`. Left out: `abort`.
    pub(crate) action: Option<String>,
}

/// The result of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkflowOutput {
    /// The properties of the result, by name.
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    /// The names of the properties that are required.
    #[serde(default)]
    pub(crate) required: Vec<String>,
}

/// One property of the result of a workflow.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutputProperty {
    /// The JSON type: `string`, `integer`, `number`, `boolean`, `object` or `array`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The description of the property.
    pub(crate) description: Option<String>,
    /// A template that yields the value. Not together with `properties`.
    pub(crate) value: Option<String>,
    /// The properties of an `object`.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    /// The value to use if the template yields nothing.
    pub(crate) default: Option<Value>,
}
