//! Audit records: one JSON line for each request, in the shape that users of ToolHive know. What really reached the
//! limiter is recorded right there, as the call it is (`calls`); everything else as its client asked for it
//! (`requests`). A thread of its own writes (`log`), so that no request waits for a disk.

mod calls;
mod changes;
mod file;
mod log;
mod overheard;
mod pending;
mod record;
pub mod replay;
mod requests;
mod subject;
#[cfg(test)]
pub(crate) mod tests;
mod time;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::{CallContext, CallOrigin};
use vmcp_ratelimit::Clock;

use crate::config::AuditSettings;
use crate::metrics::AuditCounters;

pub(crate) use calls::AuditedCalls;
pub(crate) use changes::LimitsChange;
pub(crate) use overheard::CapturingObserver;
pub(crate) use requests::AuditedRequests;
pub(crate) use time::{format as format_time, parse as parse_time};

use file::AuditFile;
use log::RecordWriter;
use time::RecordClock;

/// A call of a tool.
pub(crate) const TOOL_CALL: &str = "mcp_tool_call";
/// A note that records are missing here, with their count.
pub(crate) const RECORDS_LOST: &str = "vmcp_audit_lost";
/// An operator has changed limits by hand.
pub(crate) const LIMITS_CHANGED: &str = "vmcp_limits_changed";
/// Every kind of record there is.
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

/// Where records go.
pub type Output = Box<dyn Write + Send>;

/// Opens what these settings name. `None` without a file, unless standard output is free.
///
/// # Errors
/// When the file cannot be opened; the text names the key and the file.
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

/// Makes records and hands them to the writer.
pub(crate) struct Audit {
    settings: AuditSettings,
    writer: RecordWriter,
    clock: RecordClock,
    endpoint: String,
}

impl Audit {
    /// Starts the writer. The clock must be the limiter's, so that a record says when the limiter decided.
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

    /// Waits for the last records to be written, but not for ever.
    pub(crate) fn flush(&self, wait: Duration) {
        if !self.writer.flush(wait) {
            tracing::warn!("the last audit records could not be written in time");
        }
    }

    /// Hands a record to the writer.
    fn write(&self, record: &record::Record<'_>) {
        // A record is made of texts and numbers, and writing those into memory does not fail.
        if let Ok(mut line) = serde_json::to_vec(record) {
            line.push(b'\n');
            self.writer.enqueue(line);
        }
    }

    /// Whether such requests are recorded. What the gateway asks for its own upkeep is nobody's request.
    fn should_record(&self, kind: &str, ctx: &CallContext) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == kind);
        let AuditSettings { event_types, excluded_event_types, .. } = &self.settings;
        ctx.origin != CallOrigin::Gateway
            && (event_types.is_empty() || named(event_types))
            && !named(excluded_event_types)
    }
}
