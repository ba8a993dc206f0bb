//! A checked workflow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jsonschema::Validator;
use vmcp_domain::{RoutingTarget, StepAction, Tool, ToolHints, ToolOverride};
use vmcp_json::Json;
use vmcp_template::{Template, Value};

use crate::arguments::ArgumentTemplate;
use crate::kind::JsonKind;
use crate::policy::MissingValues;

/// A checked workflow.
#[derive(Clone, Debug)]
pub struct Workflow {
    pub(crate) name: String,
    pub(crate) description: String,
    /// The JSON Schema of the arguments.
    pub(crate) parameters: Json,
    pub(crate) validator: Arc<Validator>,
    /// The defaults of parameters, by their names.
    pub(crate) defaults: BTreeMap<String, Json>,
    /// The declared parameters that cannot be null.
    pub(crate) not_nullable: BTreeSet<String>,
    pub(crate) timeout: Duration,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: Option<Output>,
    pub(crate) annotations: ToolHints,
    pub(crate) reserves: bool,
    pub(crate) missing_values: MissingValues,
}

impl Workflow {
    /// The name of the tool.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The workflow as a tool, without what depends on the tools that it calls. Limits count calls of it.
    #[must_use]
    pub fn as_tool(&self) -> Tool {
        Tool {
            name: self.name.as_str().into(),
            contested_name: None,
            target: RoutingTarget::for_virtual(self.name.as_str().into()),
            description: Some(self.description.clone()),
            hints: self.annotations.clone(),
            definition: Arc::default(),
            overrides: ToolOverride::default(),
        }
    }

    /// The tools that the steps call, as the operator names them, in the order of the steps.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.call()).map(|call| call.tool.as_str())
    }

    /// The identifiers of the steps, what they do, and whether every run takes them.
    pub fn step_kinds(&self) -> impl Iterator<Item = (&str, StepAction, bool)> {
        self.steps.iter().map(|step| (&*step.id, step.kind(), step.condition.is_none()))
    }

    /// As [`Self::tools`], each with the path of the key that names it, such as `steps[0].tool`.
    pub fn tool_paths(&self) -> impl Iterator<Item = (String, &str)> {
        self.steps.iter().enumerate().filter_map(|(index, step)| {
            let inner = if step.kind() == StepAction::ForEach { ".step" } else { "" };
            Some((format!("steps[{index}]{inner}.tool"), step.call()?.tool.as_str()))
        })
    }
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) id: Arc<str>,
    pub(crate) action: Action,
    pub(crate) condition: Option<Condition>,
    /// The indices of the steps that end before this one starts.
    pub(crate) after: Vec<usize>,
    pub(crate) on_failure: OnFailure,
    /// The output of a step that is skipped or fails.
    pub(crate) default_results: Option<Value>,
    pub(crate) timeout: Duration,
}

impl Step {
    /// The call of the step, or of each of its items.
    pub(crate) fn call(&self) -> Option<&Call> {
        match &self.action {
            Action::Call(call) => Some(call),
            Action::ForEach(for_each) => Some(&for_each.call),
            Action::Ask(_) => None,
        }
    }

    /// What the step does, for observers.
    pub(crate) fn kind(&self) -> StepAction {
        match self.action {
            Action::Call(_) => StepAction::Call,
            Action::Ask(_) => StepAction::Ask,
            Action::ForEach(_) => StepAction::ForEach,
        }
    }
}

/// Decides whether a step, or an item, is skipped.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) template: Template,
    /// What the operator wrote.
    pub(crate) text: String,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Call(Call),
    Ask(Question),
    ForEach(Box<ForEach>),
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) tool: String,
    pub(crate) arguments: Option<ArgumentTemplate>,
    /// Whether the arguments read what other steps yield.
    pub(crate) reads_results: bool,
    pub(crate) retry: Retry,
}

/// A question to the user.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) message: Template,
    pub(crate) schema: Json,
    pub(crate) validator: Arc<Validator>,
    pub(crate) on_decline: OnRefusal,
    pub(crate) on_cancel: OnRefusal,
}

/// A call for each item of a list.
#[derive(Clone, Debug)]
pub(crate) struct ForEach {
    pub(crate) collection: Template,
    pub(crate) item_name: String,
    pub(crate) parallel: usize,
    pub(crate) items_max: usize,
    pub(crate) call: Call,
    pub(crate) condition: Option<Condition>,
    pub(crate) on_failure: OnFailure,
    pub(crate) default_results: Option<Value>,
    pub(crate) timeout: Duration,
}

/// What follows a failed step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnFailure {
    #[default]
    Abort,
    Continue,
}

/// What follows a question that is not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnRefusal {
    #[default]
    Abort,
    Continue,
    SkipRemaining,
}

/// How a failed call is repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) count: u32,
    pub(crate) delay: Duration,
    pub(crate) kinds: RetryKinds,
}

/// The kinds of failures that are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryKinds {
    /// The tool says that it failed.
    pub(crate) tool: bool,
    /// The backend failed or is unavailable.
    pub(crate) backend: bool,
    /// The backend or a limit asks for a pause.
    pub(crate) busy: bool,
    /// There was no answer in time.
    pub(crate) timeout: bool,
}

/// The result of a workflow.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) properties: BTreeMap<String, OutputProperty>,
    pub(crate) required: Vec<String>,
}

/// A property of the result.
#[derive(Clone, Debug)]
pub(crate) struct OutputProperty {
    pub(crate) kind: JsonKind,
    pub(crate) description: String,
    pub(crate) source: OutputSource,
    pub(crate) default: Option<Json>,
}

/// Where the value of a property comes from.
#[derive(Clone, Debug)]
pub(crate) enum OutputSource {
    Template(Template),
    Properties(BTreeMap<String, OutputProperty>),
}
