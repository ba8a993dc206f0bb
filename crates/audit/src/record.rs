//! The JSON of one record. Its members are a public interface: users process them with other programs, and
//! `vmcp limits replay` reads them.

use serde::Serialize;
use uuid::Uuid;
use vmcp_domain::{CallRun, Error, RateLimit, Reply, Retry};
use vmcp_json::Json;

use crate::caller::{DelegationActor, RecordSource, RecordSubjects};
use crate::decision_capture::DecisionCapture;
use crate::limits_change::LimitsChange;

/// One record.
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) audit_id: Uuid,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) logged_at: String,
    pub(crate) outcome: &'static str,
    pub(crate) component: &'a str,
    pub(crate) source: RecordSource,
    pub(crate) subjects: RecordSubjects<'a>,
    pub(crate) target: RecordTarget<'a>,
    pub(crate) metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Data::is_empty")]
    pub(crate) data: Data,
}

/// What the record is about.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum RecordTarget<'a> {
    /// A request: the endpoint, the method and the object.
    Request {
        endpoint: &'a str,
        method: &'static str,
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
    },
    /// The run of a script.
    Script {
        #[serde(rename = "type")]
        kind: &'static str,
        run_id: &'a str,
        name: &'a str,
    },
    /// The run of a workflow, or a step of it.
    Run {
        #[serde(rename = "type")]
        kind: &'static str,
        workflow_id: &'a str,
        workflow_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        step_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        step_type: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_name: Option<&'a str>,
    },
}

/// The envelope of [`Extra`], which ToolHive's records have.
#[derive(Serialize)]
pub(crate) struct Metadata<'a> {
    pub(crate) extra: Extra<'a>,
}

/// Timing, transport, backend, error and limit decision of the request.
#[derive(Default, Serialize)]
pub(crate) struct Extra<'a> {
    pub(crate) duration_ms: u64,
    pub(crate) duration_us: u64,
    /// The start of the request in microseconds since 1970. For a real call it is when the call reached the
    /// limiter, before any wait.
    pub(crate) time_us: u64,
    pub(crate) transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backend_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backend_tool: Option<&'a str>,
    /// The virtual tool that made the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<&'static str>,
    /// The workflow or script that made the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<RecordParent<'a>>,
    /// The tool that `call_tool` was asked to call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requested_tool: Option<String>,
    /// The class of the error. For a step of a workflow it is the sentence that templates read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
    /// How long a run may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    /// How many steps a workflow has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step_count: Option<usize>,
    /// How many calls a script made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) call_count: Option<usize>,
    /// The processor time of a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<u64>,
    /// How many calls of a step were repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_count: Option<u32>,
    /// The condition that skipped a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<RateLimitOutcome>,
    /// The change of limits that an operator made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits_change: Option<&'a LimitsChange<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) delegation_chain: Vec<DelegationActor>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) delegation_truncated: bool,
}

/// The run that a call is a part of, and its place in it.
#[derive(Serialize)]
pub(crate) struct RecordParent<'a> {
    id: &'a str,
    tool: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iteration: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
}

impl<'a> RecordParent<'a> {
    pub(crate) fn of(run: &'a CallRun) -> Self {
        let step = run.step.as_ref();
        Self {
            id: &run.id,
            tool: &run.tool,
            step: step.map(|step| &*step.step),
            iteration: step.and_then(|step| step.item),
            attempt: step.map(|step| step.attempt),
        }
    }
}

/// The limiter's decision. A call that no limit applies to has none.
#[derive(Serialize)]
pub(crate) struct RateLimitOutcome {
    pub(crate) decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) would_refuse: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fail_open: bool,
    pub(crate) waited_us: u64,
    pub(crate) refunded: bool,
}

impl RateLimitOutcome {
    /// From the decision that the observer captured. `None` if the limiter made no decision.
    pub(crate) fn from_capture(capture: &DecisionCapture) -> Option<Self> {
        let decision = capture.decision()?;
        let refusal = decision.refusal.as_ref();
        Some(Self {
            decision: if decision.allowed { "admitted" } else { "refused" },
            would_refuse: decision.would_refuse,
            fail_open: decision.fail_open,
            waited_us: decision.waited_us,
            refunded: capture.is_refunded(),
            ..Self::from_refusal(refusal)
        })
    }

    /// From the error of the answer. `None` if the answer is no refusal by a limit.
    pub(crate) fn from_error(outcome: &Result<(), &Error>) -> Option<Self> {
        let Err(Error::RateLimited(refusal)) = outcome else { return None };
        Some(Self::from_refusal(Some(refusal)))
    }

    fn from_refusal(refusal: Option<&RateLimit>) -> Self {
        let retry = |refusal: &RateLimit| match refusal.retry {
            // Rounded up, so that a call after this time is admitted.
            Retry::After(wait) => Some(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)),
            Retry::WhenReleased | Retry::Never | Retry::NeverTogether | Retry::Blocked => None,
        };
        Self {
            decision: "refused",
            rule: refusal.map(|refusal| refusal.rule.clone()),
            scope: refusal.map(|refusal| refusal.scope.as_str()),
            retry_after_ms: refusal.and_then(retry),
            would_refuse: 0,
            fail_open: false,
            waited_us: 0,
            refunded: false,
        }
    }
}

/// The arguments and the reply, if the settings ask for them.
#[derive(Default, Serialize)]
pub(crate) struct Data {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<RecordedValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<RecordedValue>,
}

impl Data {
    fn is_empty(&self) -> bool {
        self.request.is_none() && self.response.is_none()
    }
}

/// The JSON value unchanged, or the beginning of its text.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum RecordedValue {
    Whole(Json),
    Truncated(String),
}

impl RecordedValue {
    /// Returns the value if its text has at most `bytes_max` bytes, and the beginning of its text otherwise.
    /// The text ends between two characters. Returns `None` if nothing would be left of it.
    pub(crate) fn truncated(value: &Json, bytes_max: usize) -> Option<Self> {
        let text = value.as_str();
        if text.len() <= bytes_max {
            return Some(Self::Whole(value.clone()));
        }
        let truncated = &text[..text.floor_char_boundary(bytes_max)];
        (!truncated.is_empty()).then(|| Self::Truncated(truncated.to_owned()))
    }
}

/// Returns the outcome in ToolHive's words, and the class of the error. With `detects_application_errors`, a tool that failed and
/// a backend that answered with an error count as `application_error`; without it they count as `success`.
pub(crate) fn outcome(
    outcome: &Result<&Reply, &Error>,
    detects_application_errors: bool,
) -> (&'static str, Option<&'static str>) {
    let application_outcome = if detects_application_errors { "application_error" } else { "success" };
    match outcome {
        Ok(reply) if reply.is_error => (application_outcome, None),
        Ok(_) => ("success", None),
        Err(error) => (failure_outcome(error, application_outcome), Some(error.class())),
    }
}

fn failure_outcome(error: &Error, application_outcome: &'static str) -> &'static str {
    match error {
        Error::Denied | Error::IdentityRequired(_) => "denied",
        Error::RateLimited(_) => "rate_limited",
        Error::BackendRefused { .. } => application_outcome,
        Error::Looping(_)
        | Error::UnknownTool(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::UnknownTask
        | Error::InvalidRequest(_)
        | Error::MissingCapability(_)
        | Error::Cancelled => "failure",
        Error::LimitsUnavailable
        | Error::BackendUnavailable { .. }
        | Error::BackendBusy { .. }
        | Error::BackendFull { .. }
        | Error::BackendFailed { .. }
        | Error::BackendUnauthorized { .. }
        | Error::BackendTimedOut { .. }
        | Error::DeadlineExceeded
        | Error::Overloaded
        | Error::Internal(_) => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_cut_between_characters() {
        let value = Json::parse(r#"{"a":"äöü"}"#).unwrap();
        let shown = |max| serde_json::to_string(&RecordedValue::truncated(&value, max)).unwrap();
        assert_eq!(shown(14), r#"{"a":"äöü"}"#);
        assert_eq!(shown(9), r#""{\"a\":\"ä""#, "the tenth byte is the middle of a character");
        assert_eq!(shown(0), "null");
    }
}
