//! What the writer of audit records counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use vmcp_audit::RecordObserver;

/// The counters. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditCounters {
    /// Records that were written.
    pub(crate) written: Counter,
    /// Records that were not.
    pub(crate) lost: Counter,
}

impl AuditCounters {
    /// Puts the counters on the page.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("vmcp_audit_records", "Audit records that were written", self.written.clone());
        registry.register(
            "vmcp_audit_lost",
            "Audit records that were lost: the queue was full, or the file could not be written",
            self.lost.clone(),
        );
    }
}

impl RecordObserver for AuditCounters {
    fn on_written(&self, count: u64) {
        self.written.inc_by(count);
    }

    fn on_lost(&self, count: u64) {
        self.lost.inc_by(count);
    }
}
