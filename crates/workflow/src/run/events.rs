//! What observers and the client learn of a run.

use std::time::Duration;

use vmcp_domain::{Reply, RunEvent, RunOutcome, StepReport, StepStatus};
use vmcp_json::{Json, Members};

use super::Run;
use super::state::{StepEnd, StepFailure};
use crate::definition::Step;

/// The error of a step that did not end before its run.
const INTERRUPTED: &str = "interrupted";

impl Run<'_> {
    fn report(&self, event: &RunEvent<'_>) {
        if let Some(observer) = self.observer {
            observer.on_event(&self.ctx, event);
        }
    }

    /// Reports that the run starts. From here on its end is reported too, at the latest when it is dropped.
    pub(crate) fn report_start(&self, parameters: &Json) {
        self.state.enter_running();
        self.report(&RunEvent::Started { parameters, timeout: self.workflow.timeout });
    }

    pub(super) fn report_step_start(&self, step: &Step) {
        let tool = step.call().map(|call| call.tool.as_str());
        self.report(&RunEvent::StepStarted { step: &step.id, action: step.kind(), tool });
    }

    /// Records and reports the end of a step.
    pub(super) fn record(&self, index: usize, end: &StepEnd, took: Duration) {
        let step = &self.workflow.steps[index];
        let condition = step.condition.as_ref().filter(|_| {
            // A step that did not start was skipped by a question.
            end.status == StepStatus::Skipped && self.state.has_started(index)
        });
        let retries = self.state.record(index, &step.id, end, took);
        let error = end.failure.as_ref().map(StepFailure::text);
        self.report(&RunEvent::StepEnded(StepReport {
            step: &step.id,
            status: end.status,
            took,
            retries,
            condition: condition.map(|condition| condition.text.as_str()),
            error: error.as_deref(),
        }));
    }

    /// Reports that the run ended, and before it the steps that are under way as interrupted.
    pub(crate) fn report_end(&self, outcome: RunOutcome, reply: Option<&Reply>) {
        if !self.state.enter_ended() {
            return;
        }
        for (index, took, retries) in self.state.under_way() {
            self.report(&RunEvent::StepEnded(StepReport {
                step: &self.workflow.steps[index].id,
                status: StepStatus::Failed,
                took,
                retries,
                condition: None,
                error: Some(INTERRUPTED),
            }));
        }
        let (took, step_count) = (self.state.clock.elapsed(), self.workflow.steps.len());
        self.report(&RunEvent::Ended { outcome, took, cpu_time: None, step_count, reply });
    }

    /// Tells the client how many steps have ended, if it wants to know.
    pub(super) fn report_progress(&self, ended: usize, step: &Step) {
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

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // The caller left, or the answer is an error.
        self.report_end(RunOutcome::Failed, None);
    }
}
