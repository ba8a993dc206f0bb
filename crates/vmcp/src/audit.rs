//! Audit records: one JSON line for each request, in the shape of ToolHive's audit events. `calls` records
//! each real call where it reaches the limiter. `requests` records everything else as the client requested
//! it. `log` writes on its own thread, so that no request waits for a disk.

pub(crate) mod caller;
mod calls;
mod changes;
pub(crate) mod decision_capture;
mod file;
mod log;
mod pending;
mod record;
pub(crate) mod record_time;
pub mod replay;
mod requests;
#[cfg(test)]
pub(crate) mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::{CallContext, CallOrigin};
use vmcp_timing::Clock;

pub(crate) use crate::audit::decision_capture::CapturingObserver;
use crate::audit::record_time::RecordClock;
pub(crate) use crate::audit::record_time::{format as format_time, parse as parse_time};
use crate::config::AuditSettings;
use crate::metrics::AuditCounters;
pub(crate) use calls::AuditedCalls;
pub(crate) use changes::LimitsChange;
use file::AuditFile;
use log::RecordWriter;
pub(crate) use requests::AuditedRequests;

/// The kind of record for a tool call.
pub(crate) const TOOL_CALL: &str = "mcp_tool_call";
/// The kind of record that reports how many records are missing at this point.
pub(crate) const RECORDS_LOST: &str = "vmcp_audit_lost";
/// The kind of record for a change of limits by an operator.
pub(crate) const LIMITS_CHANGED: &str = "vmcp_limits_changed";
/// All kinds of record that `audit.eventTypes` can select. [`RECORDS_LOST`] is not among them: it is always
/// written.
pub(crate) const RECORD_KINDS: [&str; 10] = [
    TOOL_CALL,
    "mcp_tools_list",
    "mcp_resources_list",
    "mcp_resource_templates_list",
    "mcp_resource_read",
    "mcp_prompts_list",
    "mcp_prompt_get",
    "mcp_completion",
    "mcp_task",
    LIMITS_CHANGED,
];

/// The output of audit records.
pub type Output = Box<dyn Write + Send>;

/// Opens the output that `settings` name. Without a file it is standard output if `stdout_is_free`, and
/// `None` otherwise.
///
/// # Errors
/// If the file cannot be opened. The text names the key and the file.
pub fn open(settings: &AuditSettings, stdout_is_free: bool) -> io::Result<Option<Output>> {
    let Some(path) = &settings.file else {
        return Ok(stdout_is_free.then(|| Box::new(io::stdout()) as Output));
    };
    let file = AuditFile::open(path).map_err(|error| {
        let path = path.display();
        let text = format!(
            "audit.logFile: {path} cannot be written; create its folder, or name another file: {error}"
        );
        io::Error::new(error.kind(), text)
    })?;
    Ok(Some(Box::new(file)))
}

/// Creates records and hands them to the writer.
pub(crate) struct Audit {
    settings: AuditSettings,
    writer: RecordWriter,
    clock: RecordClock,
    endpoint: String,
}

impl Audit {
    /// Starts the writer. `clock` must be the limiter's clock, so that a record has the time that the limiter
    /// saw. `endpoint` is the path of the MCP endpoint in records.
    pub(crate) fn start(
        settings: AuditSettings,
        output: Output,
        clock: Arc<dyn Clock>,
        counters: AuditCounters,
        endpoint: String,
    ) -> Arc<Self> {
        let time = RecordClock::start(clock);
        let log = RecordWriter::start(output, counters, settings.component.clone());
        Arc::new(Self { settings, writer: log, clock: time, endpoint })
    }

    /// Waits until the queued records are written, for at most `timeout`. Logs a warning after a time-out.
    pub(crate) fn flush(&self, timeout: Duration) {
        if !self.writer.flush(timeout) {
            tracing::warn!("the last audit records could not be written in time");
        }
    }

    /// Serialises a record and hands it to the writer.
    fn write(&self, record: &record::Record<'_>) {
        // A record contains only strings and numbers, and serialising those into memory cannot fail.
        if let Ok(mut line) = serde_json::to_vec(record) {
            line.push(b'\n');
            self.writer.enqueue(line);
        }
    }

    /// Returns whether the settings select requests of `kind`. Requests that the gateway makes for itself are
    /// never recorded, because no client made them.
    fn should_record(&self, kind: &str, ctx: &CallContext) -> bool {
        let is_listed = |names: &[String]| names.iter().any(|name| name == kind);
        let AuditSettings { event_types, excluded_event_types, .. } = &self.settings;
        ctx.origin != CallOrigin::Gateway
            && (event_types.is_empty() || is_listed(event_types))
            && !is_listed(excluded_event_types)
    }
}
