//! The results of runs as clients see them.

use std::time::Duration;

use serde_json::{Map, json};
use vmcp_domain::{Error, Reply, RunOutcome, StepStatus};
use vmcp_json::{Json, Members};
use vmcp_runs::is_limit_refusal;
use vmcp_wire::tool_result;

use crate::definition::Workflow;
use crate::output;
use crate::run::state::{ItemCount, RunState, StepFailure, StepRecord};
use crate::run::{Run, RunEnd};

/// The key of the steps in `_meta`.
const META_KEY: &str = "vmcp/run";
/// The largest report in `_meta`, in bytes. Errors are left out of a larger one.
const META_BYTES_MAX: usize = 16 << 10;

/// The answer to the call of a workflow.
///
/// # Errors
/// The refusal of a limit, if nothing was called before it.
pub(crate) fn answer(run: &Run<'_>, end: RunEnd) -> Result<Reply, Error> {
    let state = &run.state;
    let (outcome, mut reply) = match end {
        RunEnd::Completed => completed(run.workflow, state),
        RunEnd::TimedOut => {
            (RunOutcome::TimedOut, failure(run.workflow, state, "Workflow execution timeout exceeded"))
        }
        RunEnd::Failed { failure: StepFailure::Refused(error, _), .. }
            if is_limit_refusal(&error) && !state.has_called() =>
        {
            return Err(error);
        }
        RunEnd::Failed { step, failure: StepFailure::TimedOut } => {
            let id = &run.workflow.steps[step].id;
            let text = format!("Workflow execution timeout exceeded in step \"{id}\"");
            (RunOutcome::TimedOut, failure(run.workflow, state, &text))
        }
        RunEnd::Failed { failure: told, .. } => {
            let text = format!("Workflow execution failed: {}", told.text());
            (RunOutcome::Failed, failure(run.workflow, state, &text))
        }
    };
    let mut meta = Members::new();
    meta.insert(META_KEY, report(run.workflow, state));
    reply.members.insert("_meta", meta.to_json());
    run.report_end(outcome, Some(&reply));
    Ok(reply)
}

fn completed(workflow: &Workflow, state: &RunState) -> (RunOutcome, Reply) {
    let value = match &workflow.output {
        Some(output) => {
            match output::build(output, &state.data("completed", None), workflow.missing_values) {
                Ok(value) => value,
                Err(problem) => {
                    let text = format!("Workflow execution failed: output construction failed: {problem}");
                    return (RunOutcome::Failed, failure(workflow, state, &text));
                }
            }
        }
        None => state.last_output().map_or_else(Json::null, |output| output.to_json()),
    };
    let reply = if value.is_object() {
        let text = value.as_str().to_owned();
        tool_result::structured(value, &text)
    } else {
        tool_result::text(value.as_str())
    };
    (RunOutcome::Completed, reply)
}

/// A failed result that says what was done.
fn failure(workflow: &Workflow, state: &RunState, text: &str) -> Reply {
    let records = state.records();
    let ids = |wanted: &dyn Fn(usize, Option<&StepRecord>) -> bool| {
        let steps = workflow.steps.iter().zip(&records).enumerate();
        let wanted = steps.filter(|(index, (_, record))| wanted(*index, record.as_ref()));
        wanted.map(|(_, (step, _))| step.id.to_string()).collect::<Vec<_>>()
    };
    let mut done = ids(&|_, record| record.is_some_and(|record| record.status == StepStatus::Completed));
    // A list that was not gone through to its end did something too.
    for (index, step) in workflow.steps.iter().enumerate() {
        let is_complete = matches!(&records[index], Some(record) if record.status == StepStatus::Completed);
        if let Some(ItemCount { total, completed }) = state.items(index).filter(|items| items.completed > 0)
            && !is_complete
        {
            done.push(format!("{} ({completed} of {total} items)", step.id));
        }
    }
    let interrupted = ids(&|index, record| record.is_none() && state.has_started(index));
    let not_done = ids(&|index, record| record.is_none() && !state.has_started(index));
    let mut text = text.to_owned();
    for (title, ids) in [("Done", done), ("Interrupted", interrupted), ("Not done", not_done)] {
        if !ids.is_empty() {
            text.push_str(&format!(". {title}: {}", ids.join(", ")));
        }
    }
    tool_result::failure(&text)
}

/// What became of each step.
fn report(workflow: &Workflow, state: &RunState) -> Json {
    let (records, under_way) = (state.records(), state.under_way());
    let with_items = |mut report: serde_json::Value, index: usize| {
        if let Some(ItemCount { total, completed }) = state.items(index) {
            report["items"] = json!({"completed": completed, "total": total});
        }
        report
    };
    let write = |with_errors: bool| {
        let steps = workflow.steps.iter().zip(&records).enumerate().map(|(index, (step, record))| {
            let Some(record) = record else {
                let under_way = under_way.iter().find(|(step, ..)| *step == index);
                let report = under_way.map_or_else(
                    || json!({"status": "not run"}),
                    |(_, took, retries)| {
                        let ms = millis(*took);
                        json!({"status": "failed", "ms": ms, "retries": retries, "error": "interrupted"})
                    },
                );
                return (step.id.to_string(), with_items(report, index));
            };
            let mut report = json!({
                "status": record.status.as_str(),
                "ms": millis(record.took),
                "retries": record.retries,
            });
            if let Some(error) = record.error.as_ref().filter(|_| with_errors) {
                report["error"] = error.clone().into();
            }
            (step.id.to_string(), with_items(report, index))
        });
        let report = json!({"id": state.id, "steps": steps.collect::<Map<_, _>>()});
        Json::encode(&report).unwrap_or_else(|_| Json::empty_object())
    };
    let report = write(true);
    if report.as_str().len() <= META_BYTES_MAX { report } else { write(false) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
