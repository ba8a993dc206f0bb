//! Records of the runs of workflows, with the names and members of ToolHive's workflow events.

use std::time::Duration;

use vmcp_domain::{CallContext, CallRun, RunEvent, RunObserver, RunOutcome, StepReport, StepStatus};

use crate::caller::{RecordSource, RecordSubjects, delegation, transport};
use crate::kinds;
use crate::record::{Data, Extra, Metadata, Record, RecordTarget, RecordedValue};
use crate::recorder::Audit;

/// One record of a run, without what all records have.
struct RunRecord<'a> {
    kind: &'static str,
    target: RecordTarget<'a>,
    /// How long the run or the step took. Zero for a start.
    took: Duration,
    extra: Extra<'a>,
    data: Data,
}

impl RunObserver for Audit {
    fn on_event(&self, ctx: &CallContext, event: &RunEvent<'_>) {
        let Some(run) = &ctx.run else { return };
        let record = self.run_record(run, event);
        if self.should_record(record.kind, ctx) {
            self.write_run_record(ctx, record);
        }
    }
}

impl Audit {
    fn run_record<'a>(&self, run: &'a CallRun, event: &'a RunEvent<'a>) -> RunRecord<'a> {
        match event {
            RunEvent::Started { parameters, timeout } => RunRecord {
                kind: kinds::WORKFLOW_STARTED,
                target: run_target(run),
                took: Duration::ZERO,
                extra: Extra { timeout_ms: Some(millis(*timeout)), ..Extra::default() },
                data: Data { request: self.request_data(parameters), response: None },
            },
            RunEvent::StepStarted { step, action, tool } => RunRecord {
                kind: kinds::STEP_STARTED,
                target: RecordTarget::Run {
                    kind: "workflow_step",
                    workflow_id: &run.id,
                    workflow_name: &run.tool,
                    step_id: Some(step),
                    step_type: Some(action.as_str()),
                    tool_name: *tool,
                },
                took: Duration::ZERO,
                extra: Extra::default(),
                data: Data::default(),
            },
            RunEvent::StepEnded(report) => step_record(run, report),
            RunEvent::Ended { outcome, took, step_count, reply } => {
                let response = reply.and_then(|reply| self.response_data(reply));
                RunRecord {
                    kind: match outcome {
                        RunOutcome::Completed => kinds::WORKFLOW_COMPLETED,
                        RunOutcome::Failed => kinds::WORKFLOW_FAILED,
                        RunOutcome::TimedOut => kinds::WORKFLOW_TIMED_OUT,
                    },
                    target: run_target(run),
                    took: *took,
                    extra: Extra { step_count: Some(*step_count), ..Extra::default() },
                    data: Data { request: None, response },
                }
            }
        }
    }

    fn write_run_record(&self, ctx: &CallContext, record: RunRecord<'_>) {
        let RunRecord { kind, target, took, extra, data } = record;
        let now = self.clock.now();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (delegation_chain, delegation_truncated) =
            delegation(&ctx.caller, self.settings.delegation_depth_max);
        let fails = [kinds::WORKFLOW_FAILED, kinds::WORKFLOW_TIMED_OUT, kinds::STEP_FAILED];
        self.write(&Record {
            audit_id: uuid::Uuid::new_v4(),
            kind,
            logged_at: crate::record_time::format(self.clock.unix_us(now)),
            outcome: if fails.contains(&kind) { "failure" } else { "success" },
            component: &self.settings.component,
            source: RecordSource::of(ctx),
            subjects: RecordSubjects::of(&ctx.caller),
            target,
            metadata: Metadata {
                extra: Extra {
                    duration_ms: took_us / 1000,
                    duration_us: took_us,
                    time_us: self.clock.unix_us(now).saturating_sub(took_us),
                    transport: transport(ctx),
                    delegation_chain,
                    delegation_truncated,
                    ..extra
                },
            },
            data,
        });
    }

    /// The arguments of a request, if they are recorded.
    pub(crate) fn request_data(&self, arguments: &vmcp_json::Json) -> Option<RecordedValue> {
        let settings = &self.settings;
        settings.request_data.then(|| RecordedValue::truncated(arguments, settings.data_bytes_max)).flatten()
    }

    /// The result of a request, if it is recorded.
    pub(crate) fn response_data(&self, reply: &vmcp_domain::Reply) -> Option<RecordedValue> {
        let settings = &self.settings;
        if !settings.response_data || reply.members.is_empty() {
            return None;
        }
        RecordedValue::truncated(&reply.members.to_json(), settings.data_bytes_max)
    }
}

fn step_record<'a>(run: &'a CallRun, report: &'a StepReport<'a>) -> RunRecord<'a> {
    let StepReport { step, status, took, retries, condition, error } = report;
    RunRecord {
        kind: match status {
            StepStatus::Completed => kinds::STEP_COMPLETED,
            StepStatus::Failed => kinds::STEP_FAILED,
            StepStatus::Skipped => kinds::STEP_SKIPPED,
        },
        target: RecordTarget::Run {
            kind: "workflow_step",
            workflow_id: &run.id,
            workflow_name: &run.tool,
            step_id: Some(step),
            step_type: None,
            tool_name: None,
        },
        took: *took,
        extra: Extra {
            retry_count: (*status != StepStatus::Skipped).then_some(*retries),
            condition: *condition,
            error: *error,
            ..Extra::default()
        },
        data: Data::default(),
    }
}

fn run_target(run: &CallRun) -> RecordTarget<'_> {
    RecordTarget::Run {
        kind: "workflow",
        workflow_id: &run.id,
        workflow_name: &run.tool,
        step_id: None,
        step_type: None,
        tool_name: None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
