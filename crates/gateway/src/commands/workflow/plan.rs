//! `vmcp workflow plan`: shows what a workflow does.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use vmcp::config::Settings;
use vmcp_domain::{BudgetNeed, CallContext, CallOrigin, Caller, StepAction};
use vmcp_workflow::{StepPlan, WorkflowPlan};

use super::{find_workflow, start};
use crate::{commands, terminal};

/// How long a step and a question may take if the file says nothing.
const USUAL_TIMEOUT: Duration = Duration::from_secs(300);

/// Prints the steps, in the order in which they can start, and the limits.
pub(super) async fn run(settings: Settings, name: &str) -> anyhow::Result<ExitCode> {
    find_workflow(&settings, name)?;
    let gateway = start(settings).await?;
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Operator);
    let workflows = gateway.workflows.as_ref().context("there are no workflows")?;
    let plan = workflows.plan(&ctx, name).await?.context("the workflow is gone")?;
    terminal::print(&describe(name, &plan))?;
    let is_incomplete = commands::report_missing_backends(&gateway);
    gateway.stop().await;
    Ok(if plan.why_not.is_some() || is_incomplete { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(name: &str, plan: &WorkflowPlan) -> String {
    let mut out = match &plan.why_not {
        Some(reason) => format!("{name}: not offered: {reason}\n"),
        None => format!("{name}: at most {}\n", text_of(plan.timeout)),
    };
    let deepest = plan.steps.iter().map(|step| step.depth).max().unwrap_or(0);
    for depth in 0..=deepest {
        for step in plan.steps.iter().filter(|step| step.depth == depth) {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{:>3}  {}: {}", depth + 1, step.id, action(step));
            for line in details(step) {
                let _ = writeln!(out, "       {line}");
            }
        }
    }
    out.push_str(&limits(plan));
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn action(step: &StepPlan) -> String {
    let tool = step.tool.as_deref().unwrap_or_default();
    let tool = match step.advertised.as_deref().filter(|advertised| *advertised != tool) {
        Some(advertised) => format!("{tool} ({advertised})"),
        None => tool.to_owned(),
    };
    match step.action {
        StepAction::Call => tool,
        StepAction::Ask => "asks the user".to_owned(),
        StepAction::ForEach => {
            let (items, parallel) = step.items.unwrap_or_default();
            format!("{tool} for each item of a list, at most {items} items, {parallel} at once")
        }
    }
}

fn details(step: &StepPlan) -> Vec<String> {
    let mut lines = Vec::new();
    if !step.after.is_empty() {
        lines.push(format!("after {}", step.after.join(", ")));
    }
    lines.extend(step.condition.as_ref().map(|condition| format!("if {condition}")));
    match (step.retries, step.continues) {
        (0, false) => {}
        (0, true) => lines.push("the workflow continues if it fails".to_owned()),
        (retries, false) => lines.push(format!("repeated {retries} times if it fails")),
        (retries, true) => {
            lines.push(format!("repeated {retries} times if it fails, and then the workflow continues"));
        }
    }
    if step.timeout != USUAL_TIMEOUT {
        lines.push(format!("at most {}", text_of(step.timeout)));
    }
    lines
}

fn limits(plan: &WorkflowPlan) -> String {
    let mut out = String::new();
    if !plan.own_needs.is_empty() {
        out.push_str("The call of the workflow is charged:\n");
        plan.own_needs.iter().for_each(|need| out.push_str(&need_line(need)));
    }
    if !plan.needs.is_empty() {
        let when = if plan.reserves { "in one decision, before the first step" } else { "call by call" };
        let _ = writeln!(out, "The steps are charged {when}:");
        plan.needs.iter().for_each(|need| out.push_str(&need_line(need)));
    }
    let lists = plan.steps.iter().filter(|step| step.items.is_some() && !step.needs.is_empty());
    for step in lists {
        let _ = writeln!(out, "Each item of {} is charged:", step.id);
        step.needs.iter().for_each(|need| out.push_str(&need_line(need)));
    }
    out
}

fn need_line(need: &BudgetNeed) -> String {
    let BudgetNeed { rule, scope, needed, capacity, is_enforced, is_minimum, has_overrides } = need;
    let shadow = if *is_enforced { "" } else { ", in shadow mode" };
    let overrides = if *has_overrides { ", other limits for some callers" } else { "" };
    let least = if *is_minimum { "at least " } else { "" };
    format!("  {rule}: {least}{needed} of {capacity} tokens (scope {}{shadow}{overrides})\n", scope.as_str())
}

fn text_of(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(60) && duration.subsec_nanos() == 0 => {
            format!("{} min", seconds / 60)
        }
        _ => format!("{duration:?}"),
    }
}
