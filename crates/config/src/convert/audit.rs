//! Converts the section `audit`: which requests are recorded, how, and where.

use vmcp_audit::{AuditSettings, RECORD_KINDS};

use super::Findings;
use crate::file::Audit;
use crate::report::item_path;

const PATH: &str = "audit";
const COMPONENT: &str = "vmcp-server";
const DATA_BYTES: u64 = 1024;
/// The largest `maxDataSize`, in bytes. Records wait in memory to be written, so one record must not be
/// large.
const DATA_BYTES_MAX: u64 = 1 << 20;
const DELEGATION_DEPTH: u32 = 10;

/// The settings of audit records, or `None` if they are off. A section turns them on unless `enabled` is
/// false; `flag` (`--enable-audit`) takes precedence over both.
pub(super) fn convert(file: Option<Audit>, flag: bool, findings: &mut Findings<'_>) -> Option<AuditSettings> {
    let is_on = flag || file.as_ref().is_some_and(|file| file.enabled != Some(false));
    let Audit {
        enabled: _,
        component,
        event_types,
        exclude_event_types,
        include_request_data,
        include_response_data,
        detect_application_errors,
        max_data_size,
        max_delegation_depth,
        log_file,
    } = file.unwrap_or_default();
    for (key, kinds) in [("eventTypes", &event_types), ("excludeEventTypes", &exclude_event_types)] {
        for (index, kind) in
            kinds.iter().enumerate().filter(|(_, kind)| !RECORD_KINDS.contains(&kind.as_str()))
        {
            let message = format!("no record is of the kind `{kind}`; there are {}", RECORD_KINDS.join(", "));
            findings.add_warning(item_path(&format!("{PATH}.{key}"), index), message);
        }
    }
    if !event_types.is_empty() && !event_types.iter().any(|kind| RECORD_KINDS.contains(&kind.as_str())) {
        findings
            .add_problem(
                format!("{PATH}.eventTypes"),
                "names no kind of record there is, so nothing would be recorded",
            )
            .hint = Some(format!("name some of {}, or leave the key out for all", RECORD_KINDS.join(", ")));
    }
    let data_bytes = max_data_size.unwrap_or(DATA_BYTES);
    if data_bytes > DATA_BYTES_MAX {
        findings
            .add_problem(format!("{PATH}.maxDataSize"), format!("must be at most {DATA_BYTES_MAX}"))
            .hint = Some("records wait in memory to be written".to_owned());
    }
    if log_file.as_ref().is_some_and(|file| file.trim().is_empty()) {
        findings.add_problem(format!("{PATH}.logFile"), "must not be empty").hint =
            Some("leave the key out for standard output".to_owned());
    }
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    is_on.then(|| AuditSettings {
        component: component.filter(|name| !name.is_empty()).unwrap_or_else(|| COMPONENT.to_owned()),
        event_types,
        excluded_event_types: exclude_event_types,
        request_data: include_request_data.unwrap_or(false),
        response_data: include_response_data.unwrap_or(false),
        detect_application_errors: detect_application_errors.unwrap_or(true),
        data_bytes_max: size(data_bytes.min(DATA_BYTES_MAX)),
        delegation_depth_max: size(max_delegation_depth.unwrap_or(DELEGATION_DEPTH).into()),
        file: log_file.map(Into::into),
    })
}
