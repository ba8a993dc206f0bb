//! Checks what an operator wrote. Every problem is found at once, with its path.

mod data_paths;
mod keys;
mod output;
mod parts;
mod steps;
pub(crate) mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value as Data};
use vmcp_json::Json;

use crate::definition::Workflow;
use crate::fit;
use crate::graph;
use crate::policy::{RUN_TIMEOUT, STEPS_MAX};
use crate::source::WorkflowSource;

/// The longest name that common clients accept.
const NAME_LENGTH_MAX: usize = 64;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the workflow can be used.
    pub severity: Severity,
    /// The path below the workflow, such as `steps[0].condition`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity: _, path, message, hint } = self;
        write!(f, "{path}: {message}")?;
        hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// Whether a workflow with a finding can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Problem,
    /// It can, but it may not do what it should.
    Warning,
}

/// The findings of one workflow.
#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Problem, path.into(), message.into(), None);
    }

    pub(crate) fn problem_with_hint(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Problem, path.into(), message.into(), Some(hint.into()));
    }

    pub(crate) fn warning(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, path.into(), message.into(), Some(hint.into()));
    }

    fn add(&mut self, severity: Severity, path: String, message: String, hint: Option<String>) {
        self.0.push(Finding { severity, path, message, hint });
    }
}

impl Workflow {
    /// Checks what an operator wrote. The workflow is `None` if it has a problem.
    #[must_use]
    pub fn check(source: &WorkflowSource) -> (Option<Self>, Vec<Finding>) {
        let mut findings = Findings::default();
        let workflow = check(source, &mut findings);
        let findings = findings.0;
        let is_valid = !findings.iter().any(|finding| finding.severity == Severity::Problem);
        (workflow.filter(|_| is_valid), findings)
    }
}

fn check(source: &WorkflowSource, findings: &mut Findings) -> Option<Workflow> {
    if source.name.trim().is_empty() {
        findings.problem("name", "is required");
    }
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if source.name.len() > NAME_LENGTH_MAX || !source.name.chars().all(is_usual) {
        let message = format!(
            "clients may refuse a name with more than {NAME_LENGTH_MAX} characters, or others than letters, digits, `_`, `-` and `.`"
        );
        findings.warning("name", message, "choose another one");
    }
    if source.description.as_deref().is_none_or(|text| text.trim().is_empty()) {
        findings.problem("description", "is required");
    }
    let (parameters, defaults) = parameters(source.parameters.as_ref(), findings);
    let validator = parts::validator(&parameters, "parameters", findings);
    if source.steps.is_empty() {
        findings.problem("steps", "must have at least one step");
    }
    if source.steps.len() > STEPS_MAX {
        findings.problem(
            "steps",
            format!("has {} steps, and at most {STEPS_MAX} are allowed", source.steps.len()),
        );
        return None;
    }
    let mut steps = steps::check_all(&source.steps, findings);
    let output = source.output.as_ref().map(|output| output::check(output, findings));
    let known = data_paths::Known { source, parameters: &parameters };
    data_paths::check(&steps, output.as_ref(), &known, findings);
    if let Err(id) = graph::order(&mut steps) {
        findings.problem("steps", format!("dependency cycle: step \"{id}\" waits for itself"));
    }
    Some(Workflow {
        name: source.name.clone(),
        description: source.description.clone().unwrap_or_default(),
        parameters: Json::encode(&parameters).ok()?,
        validator: validator?,
        defaults,
        not_nullable: not_nullable(&parameters),
        timeout: source.timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(RUN_TIMEOUT),
        steps: steps.into_iter().flatten().collect(),
        output,
        annotations: source.annotations.clone(),
        reserves: source.reserves,
        missing_values: source.missing_values,
    })
}

/// The schema of the arguments, and the defaults of its properties.
fn parameters(source: Option<&Map<String, Data>>, findings: &mut Findings) -> (Data, BTreeMap<String, Json>) {
    let Some(source) = source.filter(|schema| !schema.is_empty()) else {
        return (serde_json::json!({"type": "object"}), BTreeMap::new());
    };
    match source.get("type") {
        None => findings.problem("parameters", "has no `type`, which must be `object`"),
        Some(Data::String(kind)) if kind == "object" => {}
        Some(other) => findings.problem("parameters", format!("`type` must be `object`, not {other}")),
    }
    let properties = source.get("properties").and_then(Data::as_object);
    let mut defaults = BTreeMap::new();
    for (name, schema) in properties.into_iter().flatten() {
        let Some(default) = schema.get("default").filter(|default| !default.is_null()) else { continue };
        let Ok(written) = Json::encode(default) else { continue };
        // A text that is written for a number becomes a number, as in the arguments of steps.
        let default = fit::constant(&written, Some(fit::Schema::new(schema)));
        if !vmcp_runs::compile(schema)
            .map_or(true, |one| default.decode().is_ok_and(|data: Data| one.is_valid(&data)))
        {
            let hint = "calls that leave it out fail";
            findings.warning(
                format!("parameters.properties.{name}.default"),
                "does not fit its own schema",
                hint,
            );
        }
        defaults.insert(name.clone(), default);
    }
    (Data::Object(source.clone()), defaults)
}

/// The properties whose schemas refuse null.
fn not_nullable(parameters: &Data) -> BTreeSet<String> {
    let properties = parameters.get("properties").and_then(Data::as_object);
    let refuses = |schema: &Data| {
        // References lead into the whole schema.
        let mut alone = serde_json::json!({"allOf": [schema]});
        for key in ["$schema", "$defs", "definitions"] {
            if let Some(value) = parameters.get(key) {
                alone[key] = value.clone();
            }
        }
        vmcp_runs::compile(&alone).is_ok_and(|validator| !validator.is_valid(&Data::Null))
    };
    let names = properties.into_iter().flatten().filter(|(_, schema)| refuses(schema));
    names.map(|(name, _)| name.clone()).collect()
}

/// A validator that is shared by the clones of a workflow.
pub(crate) type SharedValidator = Arc<jsonschema::Validator>;
