//! Records of what operators change by hand.

use std::sync::Arc;

use serde::Serialize;
use vmcp_domain::{CallContext, CallOrigin, Caller, Error, Identity, Members};

use super::record::{Data, Extra, Metadata, Record, RecordTarget};
use super::subject::{RecordSource, RecordSubjects, transport};
use super::{Audit, LIMITS_CHANGED};

/// The issuer of operators, who are known by a token of this machine alone.
const OPERATOR: &str = "vmcp:operator";

/// What was changed.
#[derive(Serialize)]
pub(crate) struct LimitsChange<'a> {
    /// `reset`, `grant`, `block` or `unblock`.
    pub(crate) act: &'static str,
    /// The tool whose limits were changed.
    pub(crate) tool: &'a str,
    /// Who vouches for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<&'a str>,
    /// Whose limits were changed; none for those of all callers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    /// How many tokens were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u32>,
    /// For how long the tool was blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
}

impl Audit {
    /// Records a change, and whether it was made.
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
            logged_at: super::time::format(self.clock.unix_us(at)),
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
