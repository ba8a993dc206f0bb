//! Which requests are recorded, and where.

use std::path::PathBuf;

/// Which requests are recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The name of this gateway in the records.
    pub component: String,
    /// The types of records that are written; empty for all.
    pub event_types: Vec<String>,
    /// The types of records that are not written.
    pub excluded_event_types: Vec<String>,
    /// Whether arguments are recorded.
    pub request_data: bool,
    /// Whether results are recorded.
    pub response_data: bool,
    /// Whether failed tool results and JSON-RPC errors of backends are recorded as `application_error`.
    pub detect_application_errors: bool,
    /// The largest number of bytes recorded of the request data, and of the response data.
    pub data_bytes_max: usize,
    /// The largest number of links recorded of a delegation chain.
    pub delegation_depth_max: usize,
    /// The file that records are appended to; `None` for standard output.
    pub file: Option<PathBuf>,
}
