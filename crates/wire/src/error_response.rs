//! How every error is answered: one table per protocol version. The printed table is in
//! `crates/wire/tests/it/error_table.txt` and is the wire contract. `tool_refusal` is what models read.

mod tool_refusal;

pub use tool_refusal::unknown_tool;

use vmcp_domain::{Capability, Error, ProtocolVersion, RateLimit, RelayedError, ResourceUri};
use vmcp_json::{Json, Members};

use crate::code;
use crate::jsonrpc::RpcError;

/// What was requested, as far as the form of the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `tools/call`. `may_be_structured` is true if the client knows the tool without an `outputSchema`: some
    /// clients validate `structuredContent` against the schema even in failed results.
    CallTool {
        /// Whether a failed result may have `structuredContent`.
        may_be_structured: bool,
    },
    /// All other methods.
    Other,
}

/// The answer to a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, on transports that have one.
    pub status: u16,
    /// Additional HTTP headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: AnswerBody,
}

/// The body of the answer to a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerBody {
    /// A JSON-RPC error.
    Error(RpcError),
    /// A tool result marked as failed, so that the model can read it.
    ToolResult(Members),
}

/// How failed requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerPolicy {
    /// The form of the answer to a failed tool call that no limit refused.
    pub shape: AnswerShape,
    /// The answer to a rate-limited request.
    pub limit: LimitAnswer,
}

impl AnswerPolicy {
    /// Answers that models can read.
    pub const DEFAULT: Self = Self::with_shape(AnswerShape::Auto);
    /// The answers of the reference implementation.
    pub const REFERENCE: Self = Self::with_shape(AnswerShape::Reference);

    /// This form for all failed tool calls, with the usual code for limits.
    #[must_use]
    pub const fn with_shape(shape: AnswerShape) -> Self {
        Self { shape, limit: LimitAnswer { shape, code: code::RATE_LIMITED } }
    }

    /// True if an answer to a failed tool call depends on [`RequestKind::CallTool`]'s `may_be_structured`.
    #[must_use]
    pub fn may_be_structured(self) -> bool {
        [self.shape, self.limit.shape]
            .iter()
            .any(|shape| matches!(shape, AnswerShape::Auto | AnswerShape::ToolError))
    }
}

/// How a rate-limited request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitAnswer {
    /// The form of the answer.
    pub shape: AnswerShape,
    /// The error code, in every form.
    pub code: i64,
}

/// The form in which a failed tool call is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerShape {
    /// What models can read: a failed tool result in every version, with a sentence that says what to do next.
    #[default]
    Auto,
    /// What the reference implementation sends. A limit: a failed tool result with sessions, a JSON-RPC error
    /// with HTTP 200 in 2026-07-28. A denial: HTTP 403. An unknown tool: -32602.
    Reference,
    /// A failed tool result, as `Auto`.
    ToolError,
    /// A JSON-RPC error, with HTTP 200 where the specification has no other status.
    JsonRpcError,
    /// For limits, a JSON-RPC error with HTTP 429, `Retry-After`, `RateLimit` and `RateLimit-Policy`;
    /// otherwise as `Reference`.
    Http429,
}

/// The answer to `error` for a client that speaks `version` and sent a request of kind `kind`, in the form
/// that models can read.
#[must_use]
pub fn answer(error: &Error, version: ProtocolVersion, kind: RequestKind) -> Answer {
    answer_with(error, version, kind, AnswerPolicy::DEFAULT)
}

/// The answer to `error` for a client that speaks `version` and sent a request of kind `kind`.
#[must_use]
pub fn answer_with(
    error: &Error,
    version: ProtocolVersion,
    kind: RequestKind,
    policy: AnswerPolicy,
) -> Answer {
    if let Error::RateLimited(refusal) = error {
        return rate_limited_answer(refusal, version, kind, policy.limit);
    }
    let kind = match (policy.shape, kind) {
        (AnswerShape::Auto | AnswerShape::ToolError, RequestKind::CallTool { may_be_structured }) => {
            if let Some(result) = tool_refusal::tool_result(error, may_be_structured) {
                return result;
            }
            kind
        }
        (AnswerShape::JsonRpcError, RequestKind::CallTool { .. }) => RequestKind::Other,
        (AnswerShape::Reference | AnswerShape::Http429, RequestKind::CallTool { .. })
        | (_, RequestKind::Other) => kind,
    };
    if version.has_sessions() { with_sessions(error, kind) } else { v2026_07_28(error, kind) }
}

/// The message of a rate-limited call, which ToolHive's programs compare literally. The explanation is in
/// `data.detail`, and in the text of a failed tool result.
const RATE_LIMITED_MESSAGE: &str = "Rate limit exceeded";

fn rate_limited_answer(
    refusal: &RateLimit,
    version: ProtocolVersion,
    kind: RequestKind,
    limit: LimitAnswer,
) -> Answer {
    let text = refusal.to_string();
    // One configured code serves all versions. Where 2026-07-28 forbids it, the reference implementation's
    // code replaces it.
    let forbidden = !version.has_sessions() && code::is_forbidden_in_2026_07_28(limit.code);
    let code = if forbidden { code::RATE_LIMITED } else { limit.code };
    let mut data = Members::new();
    if let Some(wait) = refusal.retry_after() {
        tool_refusal::insert_retry_after(&mut data, wait);
    }
    if let Some(resets) = &refusal.resets_at {
        data.insert("resetsAt", Json::string(resets));
    }
    data.insert("rule", Json::string(&refusal.rule));
    data.insert("scope", Json::string(refusal.scope.as_str()));
    data.insert("detail", Json::string(&text));
    match (limit.shape, kind) {
        (AnswerShape::Auto | AnswerShape::ToolError, RequestKind::CallTool { may_be_structured }) => {
            let refusal = tool_refusal::Refusal { code, message: RATE_LIMITED_MESSAGE, data };
            return refusal.into_result(&text, may_be_structured);
        }
        // The reference implementation ignores `outputSchema`.
        (AnswerShape::Reference, RequestKind::CallTool { .. }) if version.has_sessions() => {
            let mut members = crate::tool_result::failure(&text).members;
            let structured = tool_refusal::Refusal { code, message: RATE_LIMITED_MESSAGE, data };
            members.insert("structuredContent", structured.members().to_json());
            return Answer { status: 200, headers: Vec::new(), body: AnswerBody::ToolResult(members) };
        }
        (
            AnswerShape::Reference | AnswerShape::JsonRpcError | AnswerShape::Http429,
            RequestKind::CallTool { .. },
        )
        | (_, RequestKind::Other) => {}
    }
    let mut answer = with_data(rpc_error(200, code, RATE_LIMITED_MESSAGE.to_owned()), data.to_json());
    if limit.shape == AnswerShape::Http429 {
        answer.status = 429;
        answer.headers = limit_headers(refusal);
    }
    answer
}

/// `Retry-After` (RFC 9110, whole seconds) and the two fields of draft-ietf-httpapi-ratelimit-headers-10.
fn limit_headers(refusal: &RateLimit) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    // A structured-field string: printable ASCII, with quotes and backslashes escaped.
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '_' };
    let name: String =
        refusal.rule.chars().map(plain).collect::<String>().replace('\\', "\\\\").replace('"', "\\\"");
    if let Some(seconds) = refusal.retry_after_seconds() {
        headers.push(("retry-after", seconds.to_string()));
        headers.push(("ratelimit", format!("\"{name}\";r=0;t={seconds}")));
    }
    if let Some((tokens, period)) = refusal.allowance {
        let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
        headers.push(("ratelimit-policy", format!("\"{name}\";q={tokens};w={seconds}")));
    }
    headers
}

fn with_sessions(error: &Error, kind: RequestKind) -> Answer {
    let text = error.to_string();
    match error {
        Error::Denied | Error::IdentityRequired(_) => rpc_error(403, code::DENIED, text),
        // `answer_with` has answered it.
        Error::RateLimited(refusal) => {
            let limit = AnswerPolicy::REFERENCE.limit;
            rate_limited_answer(refusal, ProtocolVersion::NEWEST_WITH_SESSIONS, kind, limit)
        }
        Error::UnknownTool(_) | Error::UnknownPrompt(_) | Error::UnknownTask | Error::InvalidRequest(_) => {
            rpc_error(200, code::INVALID_PARAMS, text)
        }
        Error::UnknownResource(uri) => {
            with_data(rpc_error(200, code::RESOURCE_NOT_FOUND, text), uri_data(uri))
        }
        Error::BackendRefused { error, .. } => relayed_error(error, error.code),
        // A model can act on a result, but a JSON-RPC error often never reaches it.
        Error::Looping(_)
        | Error::MissingCapability(_)
        | Error::BackendUnavailable { .. }
        | Error::BackendBusy { .. }
        | Error::BackendFull { .. }
        | Error::BackendFailed { .. }
        | Error::BackendUnauthorized { .. }
        | Error::BackendTimedOut { .. }
        | Error::DeadlineExceeded
        | Error::Overloaded
        | Error::LimitsUnavailable
        | Error::Internal(_) => match kind {
            RequestKind::CallTool { .. } => Answer {
                status: 200,
                headers: Vec::new(),
                body: AnswerBody::ToolResult(crate::tool_result::failure(&text).members),
            },
            RequestKind::Other => rpc_error(200, code::INTERNAL_ERROR, text),
        },
        Error::Cancelled => rpc_error(200, code::INTERNAL_ERROR, text),
    }
}

fn v2026_07_28(error: &Error, kind: RequestKind) -> Answer {
    let text = error.to_string();
    match error {
        Error::Denied | Error::IdentityRequired(_) => rpc_error(403, code::DENIED, text),
        // `answer_with` has answered it.
        Error::RateLimited(refusal) => {
            let limit = AnswerPolicy::REFERENCE.limit;
            rate_limited_answer(refusal, ProtocolVersion::V2026_07_28, RequestKind::Other, limit)
        }
        // The specification requires a status of 400 only for other codes. The Go SDK (1.7.0) ends its client
        // on any such status.
        Error::UnknownTool(_) | Error::UnknownPrompt(_) | Error::UnknownTask | Error::InvalidRequest(_) => {
            rpc_error(200, code::INVALID_PARAMS, text)
        }
        Error::UnknownResource(uri) => with_data(rpc_error(200, code::INVALID_PARAMS, text), uri_data(uri)),
        Error::MissingCapability(capability) => {
            let needed = single_member(&capability.to_string(), Json::empty_object());
            let needed = match capability {
                Capability::Question(_) => needed,
                Capability::Tasks => single_member("extensions", needed.to_json()),
            };
            let data = single_member("requiredCapabilities", needed.to_json());
            with_data(rpc_error(400, code::MISSING_CAPABILITY, text), data.to_json())
        }
        Error::BackendRefused { error, .. } => {
            // The codes of versions with sessions have no meaning here, and reserved ones must not be sent.
            let code = match error.code {
                code::RESOURCE_NOT_FOUND => code::INVALID_PARAMS,
                other if code::is_forbidden_in_2026_07_28(other) => code::INTERNAL_ERROR,
                other => other,
            };
            let mut answer = relayed_error(error, code);
            if code == code::MISSING_CAPABILITY {
                answer.status = 400;
            }
            answer
        }
        // Only a model can stop the repetition, so the answer must reach it.
        Error::Looping(_) if matches!(kind, RequestKind::CallTool { .. }) => Answer {
            status: 200,
            headers: Vec::new(),
            body: AnswerBody::ToolResult(crate::tool_result::failure(&text).members),
        },
        Error::Looping(_)
        | Error::BackendUnavailable { .. }
        | Error::BackendBusy { .. }
        | Error::BackendFull { .. }
        | Error::BackendFailed { .. }
        | Error::BackendUnauthorized { .. }
        | Error::BackendTimedOut { .. }
        | Error::DeadlineExceeded
        | Error::Cancelled
        | Error::Overloaded
        | Error::LimitsUnavailable
        | Error::Internal(_) => rpc_error(200, code::INTERNAL_ERROR, text),
    }
}

fn uri_data(uri: &ResourceUri) -> Json {
    single_member("uri", Json::string(uri.as_str())).to_json()
}

/// Builds an object with one member.
fn single_member(name: &str, value: Json) -> Members {
    [(name.to_owned(), value)].into_iter().collect()
}

fn rpc_error(status: u16, code: i64, message: String) -> Answer {
    Answer { status, headers: Vec::new(), body: AnswerBody::Error(RpcError { code, message, data: None }) }
}

fn with_data(mut answer: Answer, data: Json) -> Answer {
    if let AnswerBody::Error(error) = &mut answer.body {
        error.data = Some(data);
    }
    answer
}

fn relayed_error(error: &RelayedError, code: i64) -> Answer {
    let error = RpcError { code, message: error.message.clone(), data: error.data.clone() };
    Answer { status: 200, headers: Vec::new(), body: AnswerBody::Error(error) }
}
