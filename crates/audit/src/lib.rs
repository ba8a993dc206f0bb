//! Audit records: one JSON line for each request, in the shape of ToolHive's audit events.
//!
//! [`AuditedCalls`] records each real call where it reaches the limiter, with the limiter's decision, which
//! `vmcp` passes to [`capture_decision`]. [`AuditedRequests`] records everything else as the client requested
//! it. [`Audit`] itself records the runs of workflows, as their observer. The records are written on a thread of their own, so that no request waits for a disk.

mod caller;
mod calls;
mod changes;
mod decision_capture;
mod file;
mod kinds;
mod limits_change;
mod log;
mod pending;
mod record;
mod record_time;
mod recorder;
mod requests;
mod runs;
mod settings;

pub use calls::AuditedCalls;
pub use decision_capture::{CapturedDecision, capture_decision, capture_refund};
pub use kinds::{RECORD_KINDS, RECORDS_LOST, TOOL_CALL};
pub use limits_change::LimitsChange;
pub use log::{Output, RecordObserver};
pub use record_time::{format as format_time, parse as parse_time};
pub use recorder::{Audit, open};
pub use requests::AuditedRequests;
pub use settings::AuditSettings;
