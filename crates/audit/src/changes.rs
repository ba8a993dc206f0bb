//! Records of the changes that operators make to limits.

use std::sync::Arc;

use vmcp_domain::{CallContext, CallOrigin, Caller, Error, Identity};
use vmcp_json::Members;

use crate::caller::{RecordSource, RecordSubjects, transport};
use crate::kinds::LIMITS_CHANGED;
use crate::limits_change::LimitsChange;
use crate::record::{Data, Extra, Metadata, Record, RecordTarget};
use crate::recorder::Audit;

/// The issuer of operators in records. They have no identity of their own: any holder of this machine's
/// operator token is an operator.
const OPERATOR: &str = "vmcp:operator";

impl Audit {
    /// Records a change and whether it succeeded.
    pub fn limits_changed(&self, change: &LimitsChange<'_>, outcome: Result<(), &Error>) {
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
            logged_at: crate::record_time::format(self.clock.unix_us(at)),
            outcome: if outcome.is_ok() { "success" } else { "failure" },
            component: &self.settings.component,
            source: RecordSource::of(&ctx),
            subjects: RecordSubjects::of(&ctx.caller),
            target: RecordTarget::Request {
                endpoint: &self.endpoint,
                method: "limits",
                kind: Some("tool"),
                name: Some(change.tool),
            },
            metadata: Metadata {
                extra: Extra {
                    time_us: self.clock.unix_us(at),
                    transport: transport(&ctx),
                    error: outcome.err().map(Error::class),
                    limits_change: Some(change),
                    ..Extra::default()
                },
            },
            data: Data::default(),
        };
        self.write(&record);
    }
}
