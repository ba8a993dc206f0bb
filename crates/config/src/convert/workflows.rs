//! Converts `compositeTools` and `workflows`. The workflows themselves are checked in `vmcp-workflow`.

use std::collections::BTreeMap;

use vmcp_domain::ToolHints;
use vmcp_workflow::{
    ErrorSource, MissingValues as Missing, OutputPropertySource, OutputSource, ReplySource, Severity,
    StepKindSource, StepSource, Workflow, WorkflowPolicy, WorkflowSource,
};

use super::Findings;
use super::aggregation::convert_annotations;
use crate::file::{
    CompositeTool, ElicitationResponse, MissingValues, OutputProperty, StepErrorHandling, StepKind,
    WorkflowBounds, WorkflowOutput, WorkflowReserve, WorkflowStep,
};
use crate::report::item_path;
use crate::settings::{OptimizerSettings, WorkflowSettings};

const PATH: &str = "compositeTools";
/// The most workflows of one gateway.
const WORKFLOWS_MAX: usize = 1000;

pub(super) fn convert(
    (files, bounds): (Vec<CompositeTool>, Option<WorkflowBounds>),
    optimizer: Option<&OptimizerSettings>,
    findings: &mut Findings<'_>,
) -> WorkflowSettings {
    if files.len() > WORKFLOWS_MAX {
        let message = format!("has {} workflows, and at most {WORKFLOWS_MAX} are allowed", files.len());
        findings.add_problem(PATH, message);
    }
    let taken = optimizer.map_or_else(Vec::new, OptimizerSettings::virtual_tools);
    let mut names: Vec<String> = Vec::new();
    let mut workflows = Vec::new();
    for (index, file) in files.into_iter().enumerate() {
        let path = item_path(PATH, index);
        if taken.contains(&file.name) {
            findings
                .add_problem(format!("{path}.name"), format!("`{}` is a tool of the optimizer", file.name));
        } else if names.contains(&file.name) {
            findings.add_problem(
                format!("{path}.name"),
                format!("`{}` is the name of another workflow too", file.name),
            );
        }
        names.push(file.name.clone());
        workflows.extend(check(file, &path, findings).map(|workflow| (path, workflow)));
    }
    for (path, workflow) in &workflows {
        for (key, tool) in workflow.tool_paths().filter(|(_, tool)| names.iter().any(|name| name == tool)) {
            let message = format!(
                "`{tool}` is a workflow, and steps cannot call workflows: this one is not offered unless a server has such a tool"
            );
            findings.add_warning(format!("{path}.{key}"), message);
        }
    }
    let workflows: Vec<Workflow> = workflows.into_iter().map(|(_, workflow)| workflow).collect();
    WorkflowSettings { workflows: workflows.into(), policy: policy(bounds.as_ref(), findings) }
}

fn check(file: CompositeTool, path: &str, findings: &mut Findings<'_>) -> Option<Workflow> {
    let (workflow, found) = Workflow::check(&source(file));
    for finding in found {
        let path = format!("{path}.{}", finding.path);
        match finding.severity {
            Severity::Problem => findings.add_problem(path, finding.message).hint = finding.hint,
            Severity::Warning => {
                let hint = finding.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                findings.add_warning(path, finding.message + &hint);
            }
        }
    }
    workflow
}

fn policy(bounds: Option<&WorkflowBounds>, findings: &mut Findings<'_>) -> WorkflowPolicy {
    let default = WorkflowPolicy::default();
    let Some(bounds) = bounds else { return default };
    let mut bound = |key: &str, value: Option<u32>, default: usize| match value {
        None => default,
        Some(0) => {
            findings.add_problem(format!("workflows.{key}"), "must be at least 1");
            default
        }
        Some(value) => usize::try_from(value).unwrap_or(usize::MAX),
    };
    WorkflowPolicy {
        running_max: bound("maxRunning", bounds.max_running, default.running_max),
        running_max_per_caller: bound(
            "maxRunningPerCaller",
            bounds.max_running_per_caller,
            default.running_max_per_caller,
        ),
    }
}

fn source(file: CompositeTool) -> WorkflowSource {
    let CompositeTool {
        name,
        description,
        parameters,
        timeout,
        steps,
        output,
        annotations,
        reserve,
        missing_values,
    } = file;
    WorkflowSource {
        name,
        description,
        parameters,
        timeout: timeout.map(|timeout| timeout.0),
        steps: steps.into_iter().map(step).collect(),
        output: output.map(|WorkflowOutput { properties, required }| OutputSource {
            properties: self::properties(properties),
            required,
        }),
        annotations: annotations.map_or_else(ToolHints::default, convert_annotations),
        reserves: reserve != Some(WorkflowReserve::None),
        missing_values: match missing_values {
            None | Some(MissingValues::Omit) => Missing::Omit,
            Some(MissingValues::Text) => Missing::Text,
        },
    }
}

fn step(file: WorkflowStep) -> StepSource {
    let WorkflowStep {
        id,
        kind,
        tool,
        arguments,
        condition,
        depends_on,
        on_error,
        message,
        schema,
        timeout,
        on_decline,
        on_cancel,
        default_results,
        collection,
        item_var,
        max_parallel,
        max_iterations,
        step: inner,
    } = file;
    let reply = |ElicitationResponse { action }: ElicitationResponse| ReplySource { action };
    StepSource {
        id,
        kind: kind.map(|kind| match kind {
            StepKind::Tool => StepKindSource::Tool,
            StepKind::Elicitation => StepKindSource::Elicitation,
            StepKind::ForEach => StepKindSource::ForEach,
        }),
        tool,
        arguments,
        condition,
        depends_on,
        on_error: on_error.map(error),
        message,
        schema,
        timeout: timeout.map(|timeout| timeout.0),
        on_decline: on_decline.map(reply),
        on_cancel: on_cancel.map(reply),
        default_results,
        collection,
        item_var,
        max_parallel,
        max_iterations,
        step: inner.map(|inner| Box::new(self::step(*inner))),
    }
}

fn error(file: StepErrorHandling) -> ErrorSource {
    let StepErrorHandling { action, retry_count, retry_delay, then, retry_on } = file;
    ErrorSource { action, retry_count, retry_delay: retry_delay.map(|delay| delay.0), then, retry_on }
}

fn properties(files: BTreeMap<String, OutputProperty>) -> BTreeMap<String, OutputPropertySource> {
    let each = files.into_iter().map(|(name, file)| {
        let OutputProperty { kind, description, value, properties, default } = file;
        let properties = self::properties(properties);
        (name, OutputPropertySource { kind, description, value, properties, default })
    });
    each.collect()
}
