//! The call of a tool, with its repetitions.

use std::time::Duration;

use tracing::Instrument as _;
use vmcp_domain::{CallContext, CallTool, Error, Reply, RunStep};
use vmcp_json::Json;
use vmcp_runs::was_not_made;
use vmcp_template::Value;

use super::state::StepFailure;
use super::{CallPlace, Run};
use crate::definition::{Call, Retry};
use crate::fit::Schema;
use crate::results::{self, StepResult};

/// The largest wait between two tries, as a multiple of the first.
const DELAY_GROWTH_MAX: u32 = 60;

/// Why a call failed, and whether it may be repeated.
struct CallFailure {
    failure: StepFailure,
    /// The kind of failure is one that the operator repeats.
    may_repeat: bool,
    /// The wait that was asked for.
    pause: Option<Duration>,
}

impl Run<'_> {
    /// Calls a tool until it succeeds or is not to be repeated.
    pub(super) async fn call(
        &self,
        call: &Call,
        request: CallTool,
        place: CallPlace,
        ctx: &CallContext,
    ) -> Result<StepResult, StepFailure> {
        let step = &self.workflow.steps[place.step].id;
        let mut repetition = 0;
        loop {
            let run_step = RunStep { step: step.clone(), item: place.item, attempt: repetition + 1 };
            let ctx = CallContext {
                run: self.ctx.run.as_ref().map(|run| run.at(run_step)),
                // The plan has one call of each step. A repetition is charged as any call.
                reservation: ctx.reservation.clone().filter(|_| repetition == 0),
                ..ctx.clone()
            };
            // The limiter fills in its decision, under the field names of the outer span.
            let span = tracing::info_span!(
                "workflow.step",
                step = %step,
                tool = %request.name,
                item = place.item,
                attempt = repetition + 1,
                rate_limit.decision = tracing::field::Empty,
                rate_limit.rejected_by = tracing::field::Empty,
                rate_limit.fail_open = tracing::field::Empty,
            );
            let calling = self.call_once(call, (step, place.item), request.clone(), &ctx);
            let failed = match calling.instrument(span).await {
                Ok(result) => return Ok(result),
                Err(failed) => failed,
            };
            if !failed.may_repeat || repetition >= call.retry.count {
                return Err(failed.failure);
            }
            tokio::time::sleep(failed.pause.unwrap_or_else(|| delay(&call.retry, repetition))).await;
            repetition += 1;
            self.state.count_retry(place.step);
        }
    }

    /// The request of a call, with its arguments fitted to the schema of the tool.
    pub(crate) fn request(&self, call: &Call, data: &Value) -> Result<CallTool, String> {
        let Some(tool) = self.tools.get(call.tool.as_str()) else {
            return Err(format!("there is no tool `{}`, or this caller may not use it", call.tool));
        };
        let arguments = match &call.arguments {
            None => None,
            Some(template) => {
                let rendered = template.render(
                    data,
                    tool.schema.as_ref().map(Schema::new),
                    self.workflow.missing_values,
                );
                let rendered =
                    rendered.map_err(|error| format!("the arguments cannot be evaluated: {error}"))?;
                Some(rendered.unwrap_or_else(Json::empty_object))
            }
        };
        Ok(CallTool::new(tool.name.clone(), arguments))
    }

    async fn call_once(
        &self,
        call: &Call,
        (step, item): (&str, Option<usize>),
        request: CallTool,
        ctx: &CallContext,
    ) -> Result<StepResult, CallFailure> {
        self.state.count_call();
        let outcome = self.inner.call_tool(ctx, request).await;
        if matches!(&outcome, Err(error) if was_not_made(error)) {
            self.state.uncount_call();
        }
        let tool = &call.tool;
        match outcome {
            Ok(reply) if reply.is_error => Err(CallFailure {
                failure: StepFailure::Message(self.tool_failure(&reply, tool, step, item)),
                may_repeat: call.retry.kinds.tool,
                pause: None,
            }),
            Ok(reply) => {
                let result = results::read(&reply);
                match self.state.keep(result.size) {
                    None => Ok(result),
                    Some(problem) => Err(CallFailure {
                        failure: StepFailure::Message(problem),
                        may_repeat: false,
                        pause: None,
                    }),
                }
            }
            Err(error) => Err(call_failure(error, call, step)),
        }
    }

    /// The words of ToolHive, because templates may show them.
    fn tool_failure(&self, reply: &Reply, tool: &str, step: &str, item: Option<usize>) -> String {
        let text = results::first_text(reply).unwrap_or_else(|| "the tool failed without a text".to_owned());
        match item {
            None => format!("tool call failed: tool {tool} in step {step}: tool execution failed: {text}"),
            Some(_) => format!("tool execution failed: {text}"),
        }
    }
}

fn call_failure(error: Error, call: &Call, step: &str) -> CallFailure {
    let kinds = call.retry.kinds;
    let (may_repeat, pause) = match &error {
        Error::BackendUnavailable { .. } | Error::BackendFailed { .. } => (kinds.backend, None),
        Error::BackendBusy { retry_after, .. } => (kinds.busy, Some(*retry_after)),
        Error::BackendFull { .. } | Error::LimitsUnavailable | Error::Overloaded => (kinds.busy, None),
        Error::RateLimited(limit) => (kinds.busy && limit.retry_after().is_some(), limit.retry_after()),
        Error::BackendTimedOut { .. } | Error::DeadlineExceeded => (kinds.timeout, None),
        // The server answered with an error of the protocol.
        Error::BackendRefused { .. } => (kinds.tool, None),
        Error::Denied
        | Error::IdentityRequired(_)
        | Error::Looping(_)
        | Error::UnknownTool(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::UnknownTask
        | Error::InvalidRequest(_)
        | Error::MissingCapability(_)
        | Error::BackendUnauthorized { .. }
        | Error::Cancelled
        | Error::Internal(_) => (false, None),
    };
    let text = format!("tool call failed: tool {} in step {step}: {error}", call.tool);
    CallFailure { failure: StepFailure::Refused(error, text), may_repeat, pause }
}

/// The wait before a repetition: it grows by half each time, and varies by half, so that callers do not come together.
fn delay(retry: &Retry, repetition: u32) -> Duration {
    let grown = retry.delay.mul_f64(1.5_f64.powi(i32::try_from(repetition).unwrap_or(i32::MAX)));
    let grown = grown.min(retry.delay.saturating_mul(DELAY_GROWTH_MAX));
    // The random bytes of an identifier need no generator of their own.
    let [byte, ..] = *uuid::Uuid::new_v4().as_bytes();
    grown.mul_f64(0.5 + f64::from(byte) / 255.0)
}
