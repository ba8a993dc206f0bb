//! One run of a workflow: steps start when the steps before them have ended.

mod call;
pub(crate) mod clock;
mod for_each;
mod question;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value as Data;
use vmcp_domain::{CallContext, CallTool, Error, Reservation, ReserveBudget, SharedGateway, ToolName};
use vmcp_json::{Json, Members};
use vmcp_template::{Template, Value};

use crate::definition::{Action, OnFailure, Step, Workflow};
use crate::policy::PARALLEL_STEPS_MAX;
use crate::port::RunPort;
use crate::run::clock::RunClock;
use crate::run::state::{Consequence, RunState, StepEnd, StepFailure, StepStatus};

/// How a run ended.
pub(crate) enum RunEnd {
    /// All steps ended, or were skipped.
    Completed,
    /// A step ended the run.
    Failed { step: usize, failure: StepFailure },
    /// The run took too long.
    TimedOut,
}

/// A run.
pub(crate) struct Run<'a> {
    pub(crate) workflow: &'a Workflow,
    pub(crate) inner: &'a SharedGateway,
    /// The context of the calls.
    pub(crate) ctx: CallContext,
    /// The context of the request, whose client is asked and told of progress.
    pub(crate) outer: &'a CallContext,
    /// The tools that the steps name.
    pub(crate) tools: &'a StepTools,
    pub(crate) state: RunState,
    /// Charges limits in advance. `None` if calls are charged when they are made.
    pub(crate) reserver: Option<&'a dyn ReserveBudget>,
}

/// The tools of a workflow by the names in its steps.
pub(crate) type StepTools = AHashMap<String, StepTool>;

/// A tool that steps call.
pub(crate) struct StepTool {
    /// The advertised name.
    pub(crate) name: ToolName,
    /// The JSON Schema of its arguments, decoded once for all calls.
    pub(crate) schema: Option<Data>,
}

/// The end of a step with its cost.
pub(crate) struct Ended {
    pub(crate) end: StepEnd,
    pub(crate) retries: u32,
}

impl Run<'_> {
    /// Charges limits for these calls in one decision.
    pub(crate) async fn reserve(&self, calls: &[CallTool]) -> Result<Option<Reservation>, Error> {
        match self.reserver.filter(|_| !calls.is_empty()) {
            Some(reserver) => reserver.reserve(&self.ctx, calls).await.map(Some),
            None => Ok(None),
        }
    }

    /// Runs all steps.
    pub(crate) async fn run(&self) -> RunEnd {
        let clock = Arc::clone(&self.state.clock);
        clock.limit(self.workflow.timeout, self.run_steps()).await.unwrap_or(RunEnd::TimedOut)
    }

    async fn run_steps(&self) -> RunEnd {
        let steps = &self.workflow.steps;
        let mut waiting: Vec<usize> = steps.iter().map(|step| step.after.len()).collect();
        // The last is started first.
        let mut ready: Vec<usize> =
            (0..steps.len()).rev().filter(|index| steps[*index].after.is_empty()).collect();
        let mut running = FuturesUnordered::new();
        let mut ended_count = 0;
        loop {
            while running.len() < PARALLEL_STEPS_MAX
                && let Some(index) = ready.pop()
            {
                running.push(self.run_step(index));
            }
            let Some((index, ended, took)) = running.next().await else { return RunEnd::Completed };
            ended_count += 1;
            let Ended { end, retries } = ended;
            self.state.record(index, &steps[index].id, &end, took, retries);
            self.report_progress(ended_count, &steps[index]);
            match end.consequence {
                Consequence::Continue => {}
                Consequence::Abort => {
                    let failure =
                        end.failure.unwrap_or_else(|| StepFailure::Message("the step failed".to_owned()));
                    return RunEnd::Failed { step: index, failure };
                }
                Consequence::SkipRemaining => {
                    return self.skip_remaining(running, ended_count).await;
                }
            }
            for (next, step) in steps.iter().enumerate().rev() {
                if step.after.contains(&index)
                    && let Some(left) = waiting.get_mut(next)
                {
                    *left -= 1;
                    if *left == 0 {
                        ready.push(next);
                    }
                }
            }
        }
    }

    /// Awaits the steps that run, and records all others as skipped. A step that fails ends the run as ever.
    async fn skip_remaining(
        &self,
        mut running: FuturesUnordered<impl Future<Output = (usize, Ended, Duration)>>,
        mut ended_count: usize,
    ) -> RunEnd {
        while let Some((index, Ended { end, retries }, took)) = running.next().await {
            ended_count += 1;
            self.state.record(index, &self.workflow.steps[index].id, &end, took, retries);
            self.report_progress(ended_count, &self.workflow.steps[index]);
            if let (Consequence::Abort, Some(failure)) = (end.consequence, end.failure) {
                return RunEnd::Failed { step: index, failure };
            }
        }
        let records = self.state.records();
        let left = self.workflow.steps.iter().enumerate().filter(|(index, _)| records[*index].is_none());
        for (index, step) in left {
            self.state.record(index, &step.id, &skipped(step), Duration::ZERO, 0);
        }
        RunEnd::Completed
    }

    async fn run_step(&self, index: usize) -> (usize, Ended, Duration) {
        let step = &self.workflow.steps[index];
        self.state.start(index);
        // A question of another step does not stop this clock.
        let clock = Arc::new(RunClock::start());
        let ended = match clock.limit(step.timeout, Box::pin(self.act(step, &clock))).await {
            Some(ended) => ended,
            None => Ended { end: failed(step, StepFailure::TimedOut), retries: 0 },
        };
        (index, ended, clock.elapsed())
    }

    async fn act(&self, step: &Step, clock: &Arc<RunClock>) -> Ended {
        let data = self.state.data("pending", None);
        match self.holds(step.condition.as_ref(), &data) {
            Ok(true) => {}
            Ok(false) => return Ended { end: skipped(step), retries: 0 },
            Err(text) => return Ended { end: failed(step, workflow_failure(step, &text)), retries: 0 },
        }
        match &step.action {
            Action::Call(call) => {
                let request = match self.request(call, &data) {
                    Ok(request) => request,
                    Err(text) => {
                        return Ended { end: failed(step, workflow_failure(step, &text)), retries: 0 };
                    }
                };
                let ctx = self.context_of_call(&[clock], self.ctx.reservation.clone());
                let (outcome, retries) = self.call(call, request, (&step.id, None), &ctx).await;
                let end = outcome.map_or_else(|failure| failed(step, failure), completed);
                Ended { end, retries }
            }
            Action::Ask(question) => Ended { end: self.ask(step, question, &data, clock).await, retries: 0 },
            Action::ForEach(for_each) => self.for_each(step, for_each, &data, clock).await,
        }
    }

    /// The context of a call. A question to a person stops the clock of the run and these.
    pub(crate) fn context_of_call(
        &self,
        clocks: &[&Arc<RunClock>],
        reservation: Option<Reservation>,
    ) -> CallContext {
        let stopped = clocks.iter().copied().chain([&self.state.clock]).cloned().collect();
        let client = Arc::new(RunPort::new(Arc::clone(&self.outer.client), stopped));
        CallContext { client, reservation, ..self.ctx.clone() }
    }

    /// Whether a condition holds.
    pub(crate) fn holds(&self, condition: Option<&Template>, data: &Value) -> Result<bool, String> {
        let Some(template) = condition else { return Ok(true) };
        let text = template
            .render(data, self.workflow.missing_values.text())
            .map_err(|error| format!("the condition cannot be evaluated: {error}"))?;
        parse_condition(&text).ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            format!("the condition must print `true` or `false`, and not `{text}`")
        })
    }

    fn report_progress(&self, ended: usize, step: &Step) {
        if !self.outer.client.wants_progress() {
            return;
        }
        let number = |count: usize| Json::integer(i64::try_from(count).unwrap_or(i64::MAX));
        let mut params = Members::new();
        params.insert("progress", number(ended));
        params.insert("total", number(self.workflow.steps.len()));
        params.insert("message", Json::string(&format!("{} has ended", step.id)));
        self.outer.client.progress(params);
    }
}

/// The truth that a condition prints.
pub(crate) fn parse_condition(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A failure of the workflow itself, with the step that has it.
fn workflow_failure(step: &Step, text: &str) -> StepFailure {
    StepFailure::Message(format!("step {}: {text}", step.id))
}

fn completed(result: crate::results::StepResult) -> StepEnd {
    StepEnd {
        status: StepStatus::Completed,
        output: result.output,
        content: result.content,
        failure: None,
        consequence: Consequence::Continue,
    }
}

fn skipped(step: &Step) -> StepEnd {
    StepEnd {
        status: StepStatus::Skipped,
        output: step.default_results.clone().unwrap_or(Value::Missing),
        content: Value::object::<&str>([]),
        failure: None,
        consequence: Consequence::Continue,
    }
}

fn failed(step: &Step, failure: StepFailure) -> StepEnd {
    let continues = step.on_failure == OnFailure::Continue;
    StepEnd {
        status: StepStatus::Failed,
        output: step.default_results.clone().filter(|_| continues).unwrap_or(Value::Missing),
        content: Value::object::<&str>([]),
        failure: Some(failure),
        consequence: if continues { Consequence::Continue } else { Consequence::Abort },
    }
}
