//! Records of the runs of workflows and scripts. Those of workflows have the names and members of ToolHive's workflow
//! events.

use std::time::Duration;

use vmcp_domain::{CallContext, CallRun, RunEvent, RunKind, RunObserver, RunOutcome, StepReport, StepStatus};

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
        let kind = kind_of(run.kind, event);
        if self.should_record(kind, ctx) {
            self.write_run_record(ctx, self.run_record(kind, run, event));
        }
    }
}

/// The kind of the record of an event.
fn kind_of(run: RunKind, event: &RunEvent<'_>) -> &'static str {
    let (started, completed, failed, timed_out) = match run {
        RunKind::Workflow => (
            kinds::WORKFLOW_STARTED,
            kinds::WORKFLOW_COMPLETED,
            kinds::WORKFLOW_FAILED,
            kinds::WORKFLOW_TIMED_OUT,
        ),
        RunKind::Script => {
            (kinds::SCRIPT_STARTED, kinds::SCRIPT_COMPLETED, kinds::SCRIPT_FAILED, kinds::SCRIPT_TIMED_OUT)
        }
    };
    match event {
        RunEvent::Started { .. } => started,
        RunEvent::StepStarted { .. } => kinds::STEP_STARTED,
        RunEvent::StepEnded(report) => match report.status {
            StepStatus::Completed => kinds::STEP_COMPLETED,
            StepStatus::Failed => kinds::STEP_FAILED,
            StepStatus::Skipped => kinds::STEP_SKIPPED,
        },
        RunEvent::Ended { outcome, .. } => match outcome {
            RunOutcome::Completed => completed,
            RunOutcome::Failed => failed,
            RunOutcome::TimedOut => timed_out,
        },
    }
}

impl Audit {
    fn run_record<'a>(&self, kind: &'static str, run: &'a CallRun, event: &'a RunEvent<'a>) -> RunRecord<'a> {
        match event {
            RunEvent::Started { parameters, timeout } => RunRecord {
                kind,
                target: run_target(run),
                took: Duration::ZERO,
                extra: Extra { timeout_ms: Some(millis(*timeout)), ..Extra::default() },
                data: Data { request: self.request_data(parameters), response: None },
            },
            RunEvent::StepStarted { step, action, tool } => RunRecord {
                kind,
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
            RunEvent::StepEnded(report) => step_record(kind, run, report),
            RunEvent::Ended { outcome: _, took, cpu_time, step_count, reply } => {
                let response = reply.and_then(|reply| self.response_data(reply));
                let is_script = run.kind == RunKind::Script;
                RunRecord {
                    kind,
                    target: run_target(run),
                    took: *took,
                    extra: Extra {
                        step_count: (!is_script).then_some(*step_count),
                        call_count: is_script.then_some(*step_count),
                        cpu_ms: cpu_time.map(millis),
                        ..Extra::default()
                    },
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
        let fails = [
            kinds::WORKFLOW_FAILED,
            kinds::WORKFLOW_TIMED_OUT,
            kinds::STEP_FAILED,
            kinds::SCRIPT_FAILED,
            kinds::SCRIPT_TIMED_OUT,
        ];
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

fn step_record<'a>(kind: &'static str, run: &'a CallRun, report: &'a StepReport<'a>) -> RunRecord<'a> {
    let StepReport { step, status, took, retries, condition, error } = report;
    RunRecord {
        kind,
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
    if run.kind == RunKind::Script {
        return RecordTarget::Script { kind: "script", run_id: &run.id, name: &run.tool };
    }
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
