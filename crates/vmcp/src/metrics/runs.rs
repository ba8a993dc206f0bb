//! Counters of the runs of workflows, under ToolHive's names, and of scripts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_domain::{CallContext, RunEvent, RunKind, RunObserver, RunOutcome};

use super::{MCP_SECONDS, Metrics};

/// The name of a workflow, which only the configuration sets.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WorkflowLabels {
    workflow_name: String,
}

/// How a script ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ScriptLabels {
    outcome: &'static str,
}

/// Counters of scripts.
pub(super) struct ScriptMetrics {
    runs: Family<ScriptLabels, Counter>,
    calls: Counter,
    durations: Histogram,
    cpu_seconds: Counter<f64, AtomicU64>,
}

impl Default for ScriptMetrics {
    fn default() -> Self {
        Self {
            runs: Family::default(),
            calls: Counter::default(),
            durations: Histogram::new(MCP_SECONDS),
            cpu_seconds: Counter::default(),
        }
    }
}

impl ScriptMetrics {
    /// Adds every series to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("vmcp_script_runs", "Scripts that ended, by outcome", self.runs.clone());
        registry.register("vmcp_script_calls", "Calls that scripts made", self.calls.clone());
        registry.register_with_unit(
            "vmcp_script_duration",
            "How long scripts took, without the time that people needed to answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "vmcp_script_cpu",
            "The processor time of scripts",
            Unit::Seconds,
            self.cpu_seconds.clone(),
        );
    }

    fn observe(&self, event: &RunEvent<'_>) {
        let RunEvent::Ended { outcome, took, cpu_time, step_count, reply: _ } = event else { return };
        let outcome = match outcome {
            RunOutcome::Completed => "completed",
            RunOutcome::Failed => "failed",
            RunOutcome::TimedOut => "timed_out",
        };
        self.runs.get_or_create(&ScriptLabels { outcome }).inc();
        self.calls.inc_by(u64::try_from(*step_count).unwrap_or(u64::MAX));
        self.durations.observe(took.as_secs_f64());
        self.cpu_seconds.inc_by(cpu_time.unwrap_or_default().as_secs_f64());
    }
}

/// Counters of runs.
pub(super) struct WorkflowMetrics {
    executions: Family<WorkflowLabels, Counter>,
    errors: Family<WorkflowLabels, Counter>,
    durations: Family<WorkflowLabels, Histogram>,
}

impl Default for WorkflowMetrics {
    fn default() -> Self {
        Self {
            executions: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(MCP_SECONDS)),
        }
    }
}

impl WorkflowMetrics {
    /// Adds every series to the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("toolhive_vmcp_workflow_{name}");
        registry.register(name("executions"), "Runs of workflows that started", self.executions.clone());
        registry.register(name("errors"), "Runs of workflows that failed", self.errors.clone());
        registry.register_with_unit(
            name("duration"),
            "How long runs took, without the time that people needed to answer",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    fn end(&self, labels: &WorkflowLabels, outcome: RunOutcome, took: Duration) {
        if outcome != RunOutcome::Completed {
            self.errors.get_or_create(labels).inc();
        }
        self.durations.get_or_create(labels).observe(took.as_secs_f64());
    }
}

impl RunObserver for Metrics {
    fn on_event(&self, ctx: &CallContext, event: &RunEvent<'_>) {
        let Some(run) = &ctx.run else { return };
        if run.kind == RunKind::Script {
            self.scripts.observe(event);
            return;
        }
        let labels = || WorkflowLabels { workflow_name: run.tool.to_string() };
        match event {
            RunEvent::Started { .. } => {
                self.workflows.executions.get_or_create(&labels()).inc();
            }
            RunEvent::Ended { outcome, took, .. } => self.workflows.end(&labels(), *outcome, *took),
            RunEvent::StepStarted { .. } | RunEvent::StepEnded(_) => {}
        }
    }
}
