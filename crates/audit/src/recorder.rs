//! [`Audit`]: creates records and hands them to the writer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::{CallContext, CallOrigin};
use vmcp_timing::Clock;

use crate::file::AuditFile;
use crate::log::{Output, RecordObserver, RecordWriter};
use crate::record;
use crate::record_time::RecordClock;
use crate::settings::AuditSettings;

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
pub struct Audit {
    pub(crate) settings: AuditSettings,
    writer: RecordWriter,
    pub(crate) clock: RecordClock,
    pub(crate) endpoint: String,
}

impl Audit {
    /// Starts the writer. `observer` counts what it writes and loses. `clock` must be the limiter's clock, so
    /// that a record has the time that the limiter saw. `endpoint` is the path of the MCP endpoint in records.
    #[must_use]
    pub fn start(
        settings: AuditSettings,
        output: Output,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn RecordObserver>,
        endpoint: String,
    ) -> Arc<Self> {
        let time = RecordClock::start(clock);
        let log = RecordWriter::start(output, observer, settings.component.clone());
        Arc::new(Self { settings, writer: log, clock: time, endpoint })
    }

    /// Waits until the queued records are written, for at most `timeout`. Logs a warning after a time-out.
    pub fn flush(&self, timeout: Duration) {
        if !self.writer.flush(timeout) {
            tracing::warn!("the last audit records could not be written in time");
        }
    }

    /// Serialises a record and hands it to the writer.
    pub(crate) fn write(&self, record: &record::Record<'_>) {
        // A record contains only strings and numbers, and serialising those into memory cannot fail.
        if let Ok(mut line) = serde_json::to_vec(record) {
            line.push(b'\n');
            self.writer.enqueue(line);
        }
    }

    /// Returns whether the settings select requests of `kind`. Requests that the gateway makes for itself are
    /// never recorded, because no client made them.
    pub(crate) fn should_record(&self, kind: &str, ctx: &CallContext) -> bool {
        let is_listed = |names: &[String]| names.iter().any(|name| name == kind);
        let AuditSettings { event_types, excluded_event_types, .. } = &self.settings;
        ctx.origin != CallOrigin::Gateway
            && (event_types.is_empty() || is_listed(event_types))
            && !is_listed(excluded_event_types)
    }
}
