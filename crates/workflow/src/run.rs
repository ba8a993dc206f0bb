//! One run of a workflow: steps start when the steps before them have ended.

mod call;
mod events;
mod for_each;
mod question;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value as Data;
use vmcp_domain::{
    CallContext, Error, PlannedCall, Reservation, ReserveBudget, RunObserver, SharedGateway, StepStatus,
    ToolName,
};
use vmcp_json::Json;
use vmcp_runs::{RunClock, RunPort};
use vmcp_template::Value;

use crate::definition::{Action, Condition, OnFailure, Step, Workflow};
use crate::policy::PARALLEL_STEPS_MAX;
use crate::run::state::{Consequence, RunState, StepEnd, StepFailure};

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
    /// The calls that were charged in advance, by the indices of their steps.
    pub(crate) planned: Vec<Option<PlannedCall>>,
    /// Learns what happens.
    pub(crate) observer: Option<&'a dyn RunObserver>,
}

/// The place of a call in its run.
#[derive(Clone, Copy)]
pub(crate) struct CallPlace {
    /// The index of the step.
    pub(crate) step: usize,
    /// The number of the item in a `forEach`, from 0.
    pub(crate) item: Option<usize>,
}

/// The tools of a workflow by the names in its steps.
pub(crate) type StepTools = AHashMap<String, StepTool>;

/// A tool that steps call.
pub(crate) struct StepTool {
    /// The advertised name.
    pub(crate) name: ToolName,
    /// The JSON Schema of its arguments, decoded once for all calls.
    pub(crate) schema: Option<Data>,
    /// The JSON Schema of its result.
    pub(crate) output_schema: Option<Json>,
}

impl Run<'_> {
    /// Charges limits for these calls in one decision.
    pub(crate) async fn reserve(&self, calls: &[PlannedCall]) -> Result<Option<Reservation>, Error> {
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
            let Some((index, end, took)) = running.next().await else { return RunEnd::Completed };
            ended_count += 1;
            self.record(index, &end, took);
            self.report_progress(ended_count, &steps[index]);
            match end.consequence {
                Consequence::Continue => {}
                Consequence::Abort(failure) => return RunEnd::Failed { step: index, failure },
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
        mut running: FuturesUnordered<impl Future<Output = (usize, StepEnd, Duration)>>,
        mut ended_count: usize,
    ) -> RunEnd {
        while let Some((index, end, took)) = running.next().await {
            ended_count += 1;
            self.record(index, &end, took);
            self.report_progress(ended_count, &self.workflow.steps[index]);
            if let Consequence::Abort(failure) = end.consequence {
                return RunEnd::Failed { step: index, failure };
            }
        }
        let records = self.state.records();
        let left = self.workflow.steps.iter().enumerate().filter(|(index, _)| records[*index].is_none());
        for (index, step) in left {
            self.record(index, &skipped(step), Duration::ZERO);
        }
        RunEnd::Completed
    }

    async fn run_step(&self, index: usize) -> (usize, StepEnd, Duration) {
        let step = &self.workflow.steps[index];
        self.state.start(index);
        // A question of another step does not stop this clock.
        let clock = Arc::new(RunClock::start());
        let end = clock.limit(step.timeout, Box::pin(self.act(index, &clock))).await;
        (index, end.unwrap_or_else(|| failed(step, StepFailure::TimedOut)), clock.elapsed())
    }

    async fn act(&self, index: usize, clock: &Arc<RunClock>) -> StepEnd {
        let step = &self.workflow.steps[index];
        let data = self.state.data("pending", None);
        match self.holds(step.condition.as_ref(), &data) {
            Ok(true) => self.report_step_start(step),
            Ok(false) => {
                self.release(index).await;
                return skipped(step);
            }
            Err(text) => return failed(step, workflow_failure(step, &text)),
        }
        match &step.action {
            Action::Call(call) => {
                let request = match self.request(call, &data) {
                    Ok(request) => request,
                    Err(text) => return failed(step, workflow_failure(step, &text)),
                };
                // A call may take long, and does not need the data.
                drop(data);
                let ctx = self.context_of_call(&[clock], self.ctx.reservation.clone());
                let place = CallPlace { step: index, item: None };
                let outcome = self.call(call, request, place, &ctx).await;
                outcome.map_or_else(|failure| failed(step, failure), completed)
            }
            // Boxed, because a call shall not have room for what it does not do.
            Action::Ask(question) => Box::pin(self.ask(step, question, &data, clock)).await,
            Action::ForEach(for_each) => Box::pin(self.for_each(index, for_each, &data, clock)).await,
        }
    }

    /// Gives back what was charged for the call of a step that is skipped.
    async fn release(&self, index: usize) {
        let planned = self.planned.get(index).and_then(Option::as_ref);
        if let (Some(planned), Some(reserver), Some(reservation)) =
            (planned, self.reserver, &self.ctx.reservation)
        {
            reserver.release(&self.ctx, reservation, planned).await;
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
    pub(crate) fn holds(&self, condition: Option<&Condition>, data: &Value) -> Result<bool, String> {
        let Some(condition) = condition else { return Ok(true) };
        let text = condition
            .template
            .render(data, self.workflow.missing_values.text())
            .map_err(|error| format!("the condition cannot be evaluated: {error}"))?;
        parse_condition(&text).ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            format!("the condition must print `true` or `false`, and not `{text}`")
        })
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
        consequence: if continues { Consequence::Continue } else { Consequence::Abort(failure.clone()) },
        failure: Some(failure),
    }
}
