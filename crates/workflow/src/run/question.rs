//! A question to the user.

use std::sync::Arc;

use vmcp_domain::StepStatus;
use vmcp_json::Json;
use vmcp_runs::RunClock;
use vmcp_runs::question::{Asked, Reaction};
use vmcp_template::Value;

use super::state::{Consequence, StepEnd, StepFailure};
use super::{Run, failed, workflow_failure};
use crate::definition::{OnRefusal, Question, Step};

impl Run<'_> {
    pub(super) async fn ask(
        &self,
        step: &Step,
        question: &Question,
        data: &Value,
        clock: &RunClock,
    ) -> StepEnd {
        // The time-out of the question holds below, while the user is asked.
        let _step_pause = clock.pause();
        let message = match question.message.render(data, self.workflow.missing_values.text()) {
            Ok(message) => message,
            Err(error) => {
                return failed(
                    step,
                    workflow_failure(step, &format!("the message cannot be evaluated: {error}")),
                );
            }
        };
        let asked = Asked::checked(&message, question.schema.clone(), Arc::clone(&question.validator));
        let _run_pause = self.state.clock.pause();
        match tokio::time::timeout(step.timeout, asked.ask(&*self.outer.client)).await {
            Err(_) => refused(step, question.on_cancel, "timeout", "elicitation request timed out"),
            Ok(Err(error)) => {
                failed(step, StepFailure::Message(format!("the user cannot be asked: {error}")))
            }
            Ok(Ok(Reaction::Accepted(content))) => accepted(content),
            Ok(Ok(Reaction::Declined)) => {
                refused(step, question.on_decline, "decline", "elicitation request was declined by user")
            }
            Ok(Ok(Reaction::Cancelled)) => {
                refused(step, question.on_cancel, "cancel", "elicitation request was cancelled by user")
            }
        }
    }
}

fn accepted(content: Json) -> StepEnd {
    let output = Value::object([("action", Value::string("accept")), ("content", Value::deferred(content))]);
    StepEnd {
        status: StepStatus::Completed,
        output,
        content: Value::object::<&str>([]),
        failure: None,
        consequence: Consequence::Continue,
    }
}

/// The end of a question that was not accepted.
fn refused(step: &Step, reaction: OnRefusal, action: &str, problem: &str) -> StepEnd {
    if reaction == OnRefusal::Abort {
        return failed(step, StepFailure::Message(format!("{problem}: step {}", step.id)));
    }
    let skips = reaction == OnRefusal::SkipRemaining;
    let mut members = vec![("action", Value::string(action))];
    if skips {
        members.push(("skipped", Value::Boolean(true)));
    }
    StepEnd {
        status: StepStatus::Completed,
        output: Value::object(members),
        content: Value::object::<&str>([]),
        failure: None,
        consequence: if skips { Consequence::SkipRemaining } else { Consequence::Continue },
    }
}
