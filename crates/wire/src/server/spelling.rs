//! Members of requests that may be written in one way only. A backend whose reader ignores letter case, or takes another
//! of two members of one name, would run something else than what was judged, limited and recorded here.

use vmcp_domain::{Ambiguity, Json, Members};

use super::request::RequestError;
use crate::{meta, trace};

/// Members of `params`, over all methods.
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
/// Members of `_meta`: what this hop reads, and trace context.
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
/// Members of `clientInfo`.
pub(super) const CLIENT_INFO: &[&str] = &["name", "title", "version"];
/// Members of what a completion is asked for, by the member of `params` that holds them.
pub(super) const COMPLETION: [(&str, &[&str]); 3] =
    [("argument", &["name", "value"]), ("context", &["arguments"]), ("ref", &["name", "type", "uri"])];

/// Refuses members of which a name of `known` is given twice or in another letter case. `holder` is what they are
/// members of.
///
/// # Errors
/// The sentence to answer with.
pub(super) fn check(holder: &str, members: &Members, known: &[&str]) -> Result<(), RequestError> {
    let refused = |fault: Ambiguity| RequestError::InvalidParams(format!("in `{holder}`: {fault}"));
    members.check_member_names(known).map_err(refused)
}

/// The same for a member that may hold an object.
///
/// # Errors
/// The sentence to answer with.
pub(super) fn check_member(holder: &str, within: &Members, known: &[&str]) -> Result<(), RequestError> {
    match within.get(holder).map(Json::members) {
        Some(Ok(members)) => check(holder, &members, known),
        Some(Err(_)) | None => Ok(()),
    }
}
