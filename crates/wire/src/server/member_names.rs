//! The members of requests that must be spelled exactly and occur once. A backend whose parser ignores letter
//! case, or takes another of two duplicates, would execute something else than what policies and limits
//! judged and the audit log recorded.

use vmcp_json::{Ambiguity, Json, Members};

use super::request_error::RequestError;
use crate::{meta, trace};

/// The known members of `params`, over all methods.
pub(super) const PARAMS: &[&str] = &[
    meta::META,
    "argument",
    "arguments",
    "capabilities",
    "clientInfo",
    "context",
    "cursor",
    "inputResponses",
    "level",
    "name",
    "notifications",
    "protocolVersion",
    "ref",
    "requestState",
    "task",
    "taskId",
    "uri",
];
/// The known members of `_meta`: those this hop reads, and the trace context.
pub(super) const META: &[&str] = &[
    meta::PROTOCOL_VERSION,
    meta::CLIENT_INFO,
    meta::CLIENT_CAPABILITIES,
    meta::LOG_LEVEL,
    meta::SERVER_INFO,
    meta::SUBSCRIPTION_ID,
    meta::PROGRESS_TOKEN,
    trace::TRACEPARENT,
    trace::TRACESTATE,
    trace::BAGGAGE,
];
/// The known members of `clientInfo`.
pub(super) const CLIENT_INFO: &[&str] = &["name", "title", "version"];
/// The known members inside a completion's parameters, by the member of `params` that holds them.
pub(super) const COMPLETION: [(&str, &[&str]); 3] =
    [("argument", &["name", "value"]), ("context", &["arguments"]), ("ref", &["name", "type", "uri"])];

/// Rejects members in which a name of `known` occurs twice or in another letter case. `parent` names the
/// object for the error text.
///
/// # Errors
/// [`RequestError::InvalidParams`] with the sentence to answer with.
pub(super) fn check(parent: &str, members: &Members, known: &[&str]) -> Result<(), RequestError> {
    let refused = |fault: Ambiguity| RequestError::InvalidParams(format!("in `{parent}`: {fault}"));
    members.check_member_names(known).map_err(refused)
}

/// Does the same for the member `parent` of `within`, if that is an object.
///
/// # Errors
/// [`RequestError::InvalidParams`] with the sentence to answer with.
pub(super) fn check_member(parent: &str, within: &Members, known: &[&str]) -> Result<(), RequestError> {
    match within.get(parent).map(Json::members) {
        Some(Ok(members)) => check(parent, &members, known),
        Some(Err(_)) | None => Ok(()),
    }
}
