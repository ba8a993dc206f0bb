//! Counters of the runs of workflows, under ToolHive's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use vmcp_domain::{CallContext, RunEvent, RunObserver, RunOutcome};

use super::{MCP_SECONDS, Metrics};

/// The name of a workflow, which only the configuration sets.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WorkflowLabels {
    workflow_name: String,
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
        let labels = WorkflowLabels { workflow_name: run.tool.to_string() };
        match event {
            RunEvent::Started { .. } => {
                self.workflows.executions.get_or_create(&labels).inc();
            }
            RunEvent::Ended { outcome, took, .. } => self.workflows.end(&labels, *outcome, *took),
            RunEvent::StepStarted { .. } | RunEvent::StepEnded(_) => {}
        }
    }
}
