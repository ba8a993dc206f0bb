//! A question to the user.

use vmcp_domain::{AskError, Question as ClientQuestion, QuestionKind, StepStatus};
use vmcp_json::{Json, Members};
use vmcp_template::Value;

use super::clock::RunClock;
use super::state::{Consequence, StepEnd, StepFailure};
use super::{Run, failed, workflow_failure};
use crate::definition::{OnRefusal, Question, Step};
use crate::policy::ANSWER_BYTES_MAX;
use crate::schema::schema_problem;

/// How the user reacted.
enum Reaction {
    Accepted(Json),
    Declined,
    Cancelled,
    /// The answer does not fit the schema.
    Invalid(String),
}

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
        match tokio::time::timeout(step.timeout, self.ask_until_valid(question, &message)).await {
            Err(_) => refused(step, question.on_cancel, "timeout", "elicitation request timed out"),
            Ok(Err(error)) => {
                failed(step, StepFailure::Message(format!("the user cannot be asked: {error}")))
            }
            Ok(Ok(Reaction::Accepted(content))) => accepted(content),
            Ok(Ok(Reaction::Declined)) => {
                refused(step, question.on_decline, "decline", "elicitation request was declined by user")
            }
            Ok(Ok(Reaction::Cancelled | Reaction::Invalid(_))) => {
                refused(step, question.on_cancel, "cancel", "elicitation request was cancelled by user")
            }
        }
    }

    /// Asks once more if the answer does not fit the schema.
    async fn ask_until_valid(&self, question: &Question, message: &str) -> Result<Reaction, AskError> {
        let reaction = self.ask_once(question, message).await?;
        let Reaction::Invalid(problem) = &reaction else { return Ok(reaction) };
        self.ask_once(question, &format!("{message}\n\nThe last answer cannot be used: {problem}")).await
    }

    async fn ask_once(&self, question: &Question, message: &str) -> Result<Reaction, AskError> {
        let mut params = Members::new();
        params.insert("message", Json::string(message));
        params.insert("requestedSchema", question.schema.clone());
        let asked = ClientQuestion { kind: QuestionKind::Elicitation, params: params.to_json() };
        let _pause = self.state.clock.pause();
        let answer = self.outer.client.ask(asked).await?;
        if answer.as_str().len() > ANSWER_BYTES_MAX {
            return Ok(Reaction::Invalid(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        let members = answer.members().unwrap_or_default();
        let action = members.get("action").and_then(Json::decode_string);
        Ok(match action.as_deref() {
            Some("accept") => {
                let content = members.get("content").cloned().unwrap_or_else(Json::empty_object);
                let data = content.decode::<serde_json::Value>().unwrap_or_default();
                match schema_problem(&question.validator, &data) {
                    None => Reaction::Accepted(content),
                    Some(problem) => Reaction::Invalid(problem),
                }
            }
            Some("decline") => Reaction::Declined,
            Some(_) | None => Reaction::Cancelled,
        })
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
