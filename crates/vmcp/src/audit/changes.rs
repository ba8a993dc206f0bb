//! Records of the changes that operators make to limits.

use std::sync::Arc;

use serde::Serialize;
use vmcp_domain::{CallContext, CallOrigin, Caller, Error, Identity};
use vmcp_json::Members;

use super::record::{Data, Extra, Metadata, Record, RecordTarget};
use super::{Audit, LIMITS_CHANGED};
use crate::audit::caller::{RecordSource, RecordSubjects, transport};

/// The issuer of operators in records. They have no identity of their own: any holder of this machine's
/// operator token is an operator.
const OPERATOR: &str = "vmcp:operator";

/// The change that was made, as the record shows it.
#[derive(Serialize)]
pub(crate) struct LimitsChange<'a> {
    /// `reset`, `grant`, `block` or `unblock`.
    pub(crate) act: &'static str,
    /// The tool whose limits were changed.
    pub(crate) tool: &'a str,
    /// The issuer of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<&'a str>,
    /// The user whose limits were changed. `None` if the change applies to the limits that all callers share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    /// The number of tokens that were granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u32>,
    /// How long the tool is blocked, in seconds. `None` if no duration was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
}

impl Audit {
    /// Records a change and whether it succeeded.
    pub(crate) fn limits_changed(&self, change: &LimitsChange<'_>, outcome: Result<(), &Error>) {
        let identity =
            Identity { issuer: OPERATOR.to_owned(), subject: "operator".to_owned(), claims: Members::new() };
        let ctx = CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Operator);
        if !self.should_record(LIMITS_CHANGED, &ctx) {
            return;
        }
        let at = self.clock.now();
        let record = Record {
            audit_id: uuid::Uuid::new_v4(),
            kind: LIMITS_CHANGED,
            logged_at: crate::audit::record_time::format(self.clock.unix_us(at)),
            outcome: if outcome.is_ok() { "success" } else { "failure" },
            component: &self.settings.component,
            source: RecordSource::of(&ctx),
            subjects: RecordSubjects::of(&ctx.caller),
            target: RecordTarget {
                endpoint: &self.endpoint,
                method: "limits",
                kind: Some("tool"),
                name: Some(change.tool),
            },
            metadata: Metadata {
                extra: Extra {
                    duration_ms: 0,
                    duration_us: 0,
                    time_us: self.clock.unix_us(at),
                    transport: transport(&ctx),
                    backend_name: None,
                    backend_tool: None,
                    via: None,
                    requested_tool: None,
                    error: outcome.err().map(Error::class),
                    rate_limit: None,
                    limits_change: Some(change),
                    delegation_chain: Vec::new(),
                    delegation_truncated: false,
                },
            },
            data: Data { request: None, response: None },
        };
        self.write(&record);
    }
}
