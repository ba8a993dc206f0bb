//! What a workflow does, as far as it is known before it runs.

use std::time::Duration;

use vmcp_domain::{BudgetNeed, CallContext, CallTool, Error, PlannedCall, StepAction};
use vmcp_template::Value;

use super::Workflows;
use crate::check::{Finding, Severity};
use crate::definition::{Action, Call, OnFailure, Step, Workflow};
use crate::fit::Schema;
use crate::run::{StepTool, StepTools};

/// What a workflow does.
#[derive(Clone, Debug)]
pub struct WorkflowPlan {
    /// Why the workflow is not offered. `None` if it is.
    pub why_not: Option<String>,
    /// What does not fit between it and its tools.
    pub warnings: Vec<Finding>,
    /// How long a run may take.
    pub timeout: Duration,
    /// The steps, in the order of the file.
    pub steps: Vec<StepPlan>,
    /// What the call of the workflow itself spends. Empty without limits that name it.
    pub own_needs: Vec<BudgetNeed>,
    /// What the steps spend together, without the items of lists. Empty without limits.
    pub needs: Vec<BudgetNeed>,
    /// Whether `needs` is charged before the first step.
    pub reserves: bool,
}

/// What a step does.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// The identifier.
    pub id: String,
    /// What it does.
    pub action: StepAction,
    /// The tool that it calls, as the operator names it.
    pub tool: Option<String>,
    /// The advertised name of that tool. `None` if the workflow is not offered.
    pub advertised: Option<String>,
    /// The steps that end before it starts.
    pub after: Vec<String>,
    /// The number of steps that end one after the other before it starts.
    pub depth: usize,
    /// The template that decides whether it is skipped.
    pub condition: Option<String>,
    /// How many times a failed call is repeated at most.
    pub retries: u32,
    /// Whether the workflow continues if it fails.
    pub continues: bool,
    /// How long it may take.
    pub timeout: Duration,
    /// For a list: how many items it may have, and how many run at once.
    pub items: Option<(usize, usize)>,
    /// What one call spends. Empty without limits.
    pub needs: Vec<BudgetNeed>,
}

impl Workflows {
    /// What a workflow does for this caller. `None` if there is no workflow of this name.
    ///
    /// # Errors
    /// When the tools cannot be listed.
    pub async fn plan(&self, ctx: &CallContext, name: &str) -> Result<Option<WorkflowPlan>, Error> {
        let list = self.inner.list_tools(ctx).await?;
        let offers = self.offers_of(&list);
        let Some(index) = self.workflows.iter().position(|workflow| workflow.name == name) else {
            return Ok(None);
        };
        let (workflow, tools) = (&self.workflows[index], offers.tools_of(index));
        let mut steps: Vec<StepPlan> = Vec::with_capacity(workflow.steps.len());
        let depths = depths(&workflow.steps);
        for (step, depth) in workflow.steps.iter().zip(depths) {
            let called =
                step.call().zip(tools).and_then(|(call, tools)| Some((call, tools.get(call.tool.as_str())?)));
            let mut plan = step_plan(workflow, step, depth);
            plan.advertised = called.map(|(_, tool)| tool.name.to_string());
            let planned = called.map(|(call, tool)| call_of(workflow, call, tool));
            plan.needs = self.needs(ctx, planned.as_slice()).await;
            steps.push(plan);
        }
        let offer = offers.describe(&self.workflows).swap_remove(index);
        let calls = tools.map_or_else(Vec::new, |tools| calls_of(workflow, tools));
        let needs = self.needs(ctx, &calls).await;
        let own = CallTool::new(workflow.name.as_str().into(), None);
        let own_needs = self.needs(ctx, &[PlannedCall { call: own, arguments_known: false }]).await;
        let mut warnings = offer.warnings;
        warnings.extend(exceeded_limit(workflow, &needs));
        Ok(Some(WorkflowPlan {
            why_not: offer.why_not,
            warnings,
            timeout: workflow.timeout,
            steps,
            own_needs,
            needs,
            reserves: workflow.reserves && self.reserver.is_some(),
        }))
    }

    /// What these calls spend. Empty without limits, and for callers that limits refuse in any case.
    pub(super) async fn needs(&self, ctx: &CallContext, calls: &[PlannedCall]) -> Vec<BudgetNeed> {
        match &self.reserver {
            Some(reserver) => reserver.needs(ctx, calls).await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

fn step_plan(workflow: &Workflow, step: &Step, depth: usize) -> StepPlan {
    let ids = step.after.iter().filter_map(|index| workflow.steps.get(*index));
    let items = match &step.action {
        Action::ForEach(for_each) => Some((for_each.items_max, for_each.parallel)),
        Action::Call(_) | Action::Ask(_) => None,
    };
    StepPlan {
        id: step.id.to_string(),
        action: step.kind(),
        tool: step.call().map(|call| call.tool.clone()),
        advertised: None,
        after: ids.map(|step| step.id.to_string()).collect(),
        depth,
        condition: step.condition.as_ref().map(|condition| condition.text.clone()),
        retries: step.call().map_or(0, |call| call.retry.count),
        continues: step.on_failure == OnFailure::Continue,
        timeout: step.timeout,
        items,
        needs: Vec::new(),
    }
}

/// For each step the length of the longest chain of steps before it.
fn depths(steps: &[Step]) -> Vec<usize> {
    let mut depths = vec![0; steps.len()];
    // A chain has at most as many steps as the workflow.
    for _ in 0..steps.len() {
        for (index, step) in steps.iter().enumerate() {
            depths[index] = step.after.iter().map(|before| depths[*before] + 1).max().unwrap_or(0);
        }
    }
    depths
}

/// The calls of the steps, as far as their arguments are known before a run.
pub(super) fn calls_of(workflow: &Workflow, tools: &StepTools) -> Vec<PlannedCall> {
    let calls = workflow.steps.iter().filter_map(|step| match &step.action {
        Action::Call(call) => Some(call_of(workflow, call, tools.get(call.tool.as_str())?)),
        Action::Ask(_) | Action::ForEach(_) => None,
    });
    calls.collect()
}

fn call_of(workflow: &Workflow, call: &Call, tool: &StepTool) -> PlannedCall {
    // Arguments without templates are the same in every run.
    let arguments = call.arguments.as_ref().filter(|arguments| arguments.is_constant());
    let schema = tool.schema.as_ref().map(Schema::new);
    let arguments = arguments.and_then(|arguments| {
        arguments.render(&Value::Missing, schema, workflow.missing_values).ok().flatten()
    });
    let arguments_known = arguments.is_some() || call.arguments.is_none();
    PlannedCall { call: CallTool::new(tool.name.clone(), arguments), arguments_known }
}

/// A limit that the plan always exceeds.
pub(super) fn exceeded_limit(workflow: &Workflow, needs: &[BudgetNeed]) -> Option<Finding> {
    let exceeded = needs.iter().find(|need| workflow.reserves && need.exceeds_capacity())?;
    let BudgetNeed { rule, needed, capacity, .. } = exceeded;
    Some(Finding {
        severity: Severity::Warning,
        path: "steps".to_owned(),
        message: format!(
            "the workflow can never run: its steps need {needed} tokens of `{rule}`, which holds {capacity}"
        ),
        hint: Some("raise the limit, or write `reserve: none`".to_owned()),
    })
}
