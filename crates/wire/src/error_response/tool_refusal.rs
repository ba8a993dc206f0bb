//! Failed tool calls as models read them: a failed tool result with one sentence that says what to do next.
//!
//! Many clients and frameworks hide JSON-RPC errors and HTTP errors from the model, and some end their session
//! on them (docs/refusals.md). A tool result reaches the model in all of them.

use std::time::Duration;

use vmcp_domain::{Error, Reply};
use vmcp_json::{Json, Members};

use super::{Answer, AnswerBody};
use crate::code;

/// The key of the refusal in `_meta`.
const META_KEY: &str = "vmcp/refusal";
/// The reason of a refusal of a tool that is absent or that policy denies.
const UNKNOWN_TOOL: &str = "unknown_tool";
/// The sentence for a tool that is absent and for one that policy denies. Both have the same words and the
/// same code, so that the answer does not reveal which tools exist.
const NOT_CALLABLE: &str =
    "There is no such tool here, or you may not call it. List the tools again, and call one that is listed";
/// The advice after a failure that leaves open whether the tool ran.
const MAY_HAVE_RUN: &str = "the call may have taken effect, so check before you repeat it";

/// What a program can read of a refusal.
pub(super) struct Refusal<'a> {
    pub(super) code: i64,
    pub(super) message: &'a str,
    pub(super) data: Members,
}

impl Refusal<'_> {
    /// `code`, `message` and `data`.
    pub(super) fn members(&self) -> Members {
        let mut members = Members::new();
        members.insert("code", Json::integer(self.code));
        members.insert("message", Json::string(self.message));
        members.insert("data", self.data.to_json());
        members
    }

    /// A failed tool result with `text` for the model. The refusal is in `_meta`, with the members of `data` that
    /// programs look for beside `code`, and in `structuredContent` if the result may have that.
    pub(super) fn into_result(self, text: &str, may_be_structured: bool) -> Answer {
        let members = self.into_reply(text, may_be_structured).members;
        Answer { status: 200, headers: Vec::new(), body: AnswerBody::ToolResult(members) }
    }

    fn into_reply(self, text: &str, may_be_structured: bool) -> Reply {
        let mut reply = crate::tool_result::failure(text);
        let members = &mut reply.members;
        let mut refusal = self.members();
        if may_be_structured {
            members.insert("structuredContent", refusal.to_json());
        }
        for name in ["rule", "retryAfterSeconds", "retryAfterMs"] {
            if let Some(value) = self.data.get(name) {
                refusal.insert(name, value.clone());
            }
        }
        let meta: Members = [(META_KEY.to_owned(), refusal.to_json())].into_iter().collect();
        members.insert("_meta", meta.to_json());
        reply
    }
}

/// The failed result of `call_tool` for a name that no tool has, with `text` for the model. In every shape of
/// answers it is a tool result, so that the model can correct the name.
#[must_use]
pub fn unknown_tool(text: &str) -> Reply {
    let mut data = Members::new();
    data.insert("reason", Json::string(UNKNOWN_TOOL));
    Refusal { code: code::INVALID_PARAMS, message: text, data }.into_reply(text, false)
}

/// The failed tool result for `error`. `None` for errors that the protocol or the backend itself defines, and
/// for requests that are malformed: these stay JSON-RPC errors.
pub(super) fn tool_result(error: &Error, may_be_structured: bool) -> Option<Answer> {
    let mut text = error.to_string();
    let (mut code, mut reason) = (code::INTERNAL_ERROR, error.class());
    let mut retry_after = None;
    match error {
        Error::Denied | Error::UnknownTool(_) => {
            NOT_CALLABLE.clone_into(&mut text);
            (code, reason) = (code::INVALID_PARAMS, UNKNOWN_TOOL);
        }
        Error::IdentityRequired(_) => code = code::DENIED,
        Error::Looping(repeated) => retry_after = Some(repeated.retry_after),
        Error::BackendBusy { retry_after: pause, .. } => retry_after = Some(*pause),
        Error::BackendFailed { .. } | Error::BackendTimedOut { .. } | Error::DeadlineExceeded => {
            text = format!("{text}; {MAY_HAVE_RUN}");
        }
        Error::BackendUnavailable { .. } => text.push_str(", or use another tool"),
        Error::BackendUnauthorized { .. } => text.push_str("; tell the user, and use another tool meanwhile"),
        Error::Internal(_) => text.push_str("; try once more, then tell the user"),
        Error::LimitsUnavailable | Error::BackendFull { .. } | Error::Overloaded => {}
        Error::RateLimited(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::UnknownTask
        | Error::InvalidRequest(_)
        | Error::MissingCapability(_)
        | Error::BackendRefused { .. }
        | Error::Cancelled => return None,
    }
    let mut data = Members::new();
    data.insert("reason", Json::string(reason));
    if let Some(wait) = retry_after {
        insert_retry_after(&mut data, wait);
    }
    Some(Refusal { code, message: &text, data }.into_result(&text, may_be_structured))
}

/// Inserts the wait in whole seconds, rounded up and never zero, and in milliseconds, rounded up.
pub(super) fn insert_retry_after(data: &mut Members, wait: Duration) {
    let integer = |number: u128| Json::integer(i64::try_from(number).unwrap_or(i64::MAX));
    data.insert("retryAfterSeconds", integer(wait.as_nanos().div_ceil(1_000_000_000).max(1)));
    data.insert("retryAfterMs", integer(wait.as_micros().div_ceil(1000)));
}
