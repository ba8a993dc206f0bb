//! What observers learn of a run. A run that started has an end, also if its caller leaves.

use std::time::Duration;

use vmcp_domain::{Reply, RunEvent, RunObserver, RunOutcome};
use vmcp_json::{Json, Members};

use crate::host::RunHost;

/// A run that was reported.
pub(crate) struct RunReport<'a, 'h> {
    observer: Option<&'a dyn RunObserver>,
    host: &'a RunHost<'h>,
    has_ended: bool,
}

impl<'a, 'h> RunReport<'a, 'h> {
    /// Reports that a run starts. The script is not a part of it, because it may contain secrets.
    pub(crate) fn start(
        observer: Option<&'a dyn RunObserver>,
        host: &'a RunHost<'h>,
        script_bytes: usize,
    ) -> Self {
        let mut parameters = Members::new();
        parameters.insert("scriptBytes", Json::integer(i64::try_from(script_bytes).unwrap_or(i64::MAX)));
        let report = Self { observer, host, has_ended: false };
        let parameters = parameters.to_json();
        report.send(&RunEvent::Started { parameters: &parameters, timeout: host.policy.timeout });
        report
    }

    /// Reports the end.
    pub(crate) fn end(mut self, outcome: RunOutcome, cpu_time: Option<Duration>, reply: &Reply) {
        self.report_end(outcome, cpu_time, Some(reply));
    }

    fn report_end(&mut self, outcome: RunOutcome, cpu_time: Option<Duration>, reply: Option<&Reply>) {
        self.has_ended = true;
        let step_count = self.host.record.calls().len();
        let took = self.host.clock.elapsed();
        self.send(&RunEvent::Ended { outcome, took, cpu_time, step_count, reply });
    }

    fn send(&self, event: &RunEvent<'_>) {
        if let Some(observer) = self.observer {
            observer.on_event(&self.host.ctx, event);
        }
    }
}

impl Drop for RunReport<'_, '_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.report_end(RunOutcome::Failed, None, None);
        }
    }
}
