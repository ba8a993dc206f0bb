//! Which workflows are offered beside a list of tools.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ahash::AHashMap;
use serde_json::json;
use vmcp_domain::{Tool, ToolList};
use vmcp_json::Json;
use vmcp_runs::{annotation_floor, virtual_tool};

use crate::check::{Finding, tools};
use crate::definition::Workflow;
use crate::run::{StepTool, StepTools};
use crate::{hints, output};

/// A workflow, and whether it is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The name of the workflow.
    pub name: String,
    /// Why it is not offered. `None` if it is.
    pub why_not: Option<String>,
    /// What does not fit between it and its tools. Empty if it is not offered.
    pub warnings: Vec<Finding>,
}

/// The workflows beside one list.
pub(super) struct Offers {
    /// The list with the offered workflows at its end.
    list: Arc<ToolList>,
    /// For each workflow its tools, or why it is not offered.
    resolved: Vec<Result<StepTools, String>>,
    /// For each workflow what does not fit between it and its tools, found when they are asked for.
    findings: OnceLock<Vec<Vec<Finding>>>,
    is_logged: AtomicBool,
}

impl Offers {
    pub(super) fn of(list: &Arc<ToolList>, workflows: &[Workflow]) -> Self {
        let names = ToolNames::of(list);
        let mut offered = Vec::new();
        let resolved = workflows.iter().map(|workflow| {
            let (tool, tools) = offer(workflow, &names)?;
            offered.push(tool);
            Ok(tools)
        });
        let resolved = resolved.collect();
        let list = if offered.is_empty() {
            Arc::clone(list)
        } else {
            Arc::new(list.iter().cloned().chain(offered).collect())
        };
        Self { list, resolved, findings: OnceLock::new(), is_logged: AtomicBool::new(false) }
    }

    /// Whether the problems of these workflows were logged.
    pub(super) fn is_logged(&self) -> bool {
        self.is_logged.load(Ordering::Relaxed)
    }

    /// Notes that the problems are logged. False if they were before.
    pub(super) fn enter_logged(&self) -> bool {
        !self.is_logged.swap(true, Ordering::Relaxed)
    }

    pub(super) fn list(&self) -> &Arc<ToolList> {
        &self.list
    }

    /// The tools of a workflow that is offered.
    pub(super) fn tools_of(&self, index: usize) -> Option<&StepTools> {
        self.resolved.get(index)?.as_ref().ok()
    }

    pub(super) fn describe(&self, workflows: &[Workflow]) -> Vec<Offer> {
        let findings = self.findings.get_or_init(|| {
            let each = workflows.iter().zip(&self.resolved);
            each.map(|(workflow, tools)| {
                tools.as_ref().map_or_else(|_| Vec::new(), |tools| tools::check(workflow, tools))
            })
            .collect()
        });
        let each = workflows.iter().zip(&self.resolved).zip(findings);
        each.map(|((workflow, resolved), findings)| Offer {
            name: workflow.name.clone(),
            why_not: resolved.as_ref().err().cloned(),
            warnings: findings.clone(),
        })
        .collect()
    }

    /// The workflows that are not offered, and why.
    pub(super) fn missing<'a>(
        &'a self,
        workflows: &'a [Workflow],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let each = workflows.iter().zip(&self.resolved);
        each.filter_map(|(workflow, resolved)| Some((workflow.name(), resolved.as_ref().err()?.as_str())))
    }
}

/// The workflow as a tool, and the tools that it calls.
fn offer(workflow: &Workflow, names: &ToolNames<'_>) -> Result<(Tool, StepTools), String> {
    if names.advertised.contains_key(&*workflow.name) {
        return Err("a backend's tool has the same name".to_owned());
    }
    let found = workflow.tools().map(|name| match names.find(name) {
        Some(tool) => Ok((name, tool)),
        None => Err(format!("there is no tool `{name}`")),
    });
    let found: Vec<(&str, &Tool)> = found.collect::<Result<_, _>>()?;
    let floor = annotation_floor(found.iter().map(|(_, tool)| *tool));
    let annotations = hints::combined(&workflow.annotations, &floor)
        .map_err(|name| format!("`annotations.{name}` says that it is safer than the tools that it calls"))?;
    let mut definition = json!({
        "name": workflow.name,
        "description": workflow.description,
        "annotations": {
            "title": annotations.title,
            "readOnlyHint": annotations.read_only,
            "destructiveHint": annotations.destructive,
            "idempotentHint": annotations.idempotent,
            "openWorldHint": annotations.open_world,
        },
    });
    if let Some(annotations) = definition["annotations"].as_object_mut() {
        annotations.retain(|_, value| !value.is_null());
    }
    definition["inputSchema"] = workflow.parameters.decode().unwrap_or_else(|_| json!({"type": "object"}));
    if let Some(output) = &workflow.output {
        definition["outputSchema"] = output::schema(output);
    }
    let json = Json::encode(&definition).map_err(|error| error.to_string())?;
    let tool = virtual_tool(&json).ok_or_else(|| "its definition cannot be written".to_owned())?;
    let step_tool = |tool: &Tool| StepTool {
        name: tool.name.clone(),
        schema: tool.definition.get("inputSchema").and_then(|schema| schema.decode().ok()),
        output_schema: tool.definition.get("outputSchema").cloned(),
    };
    Ok((tool, found.into_iter().map(|(name, tool)| (name.to_owned(), step_tool(tool))).collect()))
}

/// The tools of a list by the names that steps may use.
struct ToolNames<'a> {
    advertised: AHashMap<&'a str, &'a Tool>,
    own: AHashMap<(&'a str, &'a str), &'a Tool>,
}

impl<'a> ToolNames<'a> {
    fn of(list: &'a ToolList) -> Self {
        let own = |tool: &'a Tool| ((tool.target.backend.as_str(), tool.target.name.as_str()), tool);
        Self {
            advertised: list.iter().map(|tool| (tool.name.as_str(), tool)).collect(),
            own: list.iter().map(own).collect(),
        }
    }

    /// The tool that a step names: by its advertised name, or as `backend.tool`.
    fn find(&self, name: &str) -> Option<&'a Tool> {
        self.advertised.get(name).or_else(|| self.own.get(&name.split_once('.')?)).copied()
    }
}
