//! How every error is answered: one table per protocol version. The printed table is kept in
//! `crates/wire/tests/error_table.txt` and is the wire contract.

use vmcp_domain::{Error, Json, Members, ProtocolVersion, RelayedError};

use crate::code;
use crate::jsonrpc::RpcError;

/// What was asked, as far as the answer's form depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `tools/call`.
    CallTool,
    /// Everything else.
    Other,
}

/// The answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, where there is one.
    pub status: u16,
    /// The body.
    pub body: Body,
}

/// The body of a failed request's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A JSON-RPC error.
    Error(RpcError),
    /// A tool result marked as failed, so that the model can read it.
    ToolResult(Members),
}

/// The answer to `error` for a client that speaks `version` and asked `verb`.
#[must_use]
pub fn answer(error: &Error, version: ProtocolVersion, verb: Verb) -> Answer {
    if version.has_sessions() {
        session_era(error, verb)
    } else {
        v2026_07_28(error)
    }
}

fn session_era(error: &Error, verb: Verb) -> Answer {
    let text = error.to_string();
    match error {
        Error::Denied => rpc(403, code::DENIED, text),
        Error::UnknownTool(_) | Error::UnknownPrompt(_) | Error::InvalidRequest(_) => {
            rpc(200, code::INVALID_PARAMS, text)
        }
        Error::UnknownResource(uri) => {
            let data = [("uri".to_owned(), Json::string(uri.as_str()))]
                .into_iter()
                .collect::<Members>();
            with_data(rpc(200, code::RESOURCE_NOT_FOUND, text), data.to_json())
        }
        Error::BackendRefused { error, .. } => relayed(error, error.code),
        // A model can act on a result; a JSON-RPC error often never reaches it.
        Error::MissingCapability(_)
        | Error::BackendUnavailable { .. }
        | Error::BackendFailed { .. }
        | Error::DeadlineExceeded
        | Error::Overloaded
        | Error::Internal(_) => match verb {
            Verb::CallTool => Answer {
                status: 200,
                body: Body::ToolResult(crate::reply::failure(&text).members),
            },
            Verb::Other => rpc(200, code::INTERNAL_ERROR, text),
        },
        Error::Cancelled => rpc(200, code::INTERNAL_ERROR, text),
    }
}

fn v2026_07_28(error: &Error) -> Answer {
    let text = error.to_string();
    match error {
        Error::Denied => rpc(403, code::DENIED, text),
        Error::UnknownTool(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::InvalidRequest(_) => rpc(400, code::INVALID_PARAMS, text),
        Error::MissingCapability(kind) => {
            let needed = [(kind.capability().to_owned(), Json::empty_object())]
                .into_iter()
                .collect::<Members>();
            let data = [("requiredCapabilities".to_owned(), needed.to_json())]
                .into_iter()
                .collect::<Members>();
            with_data(rpc(400, code::MISSING_CAPABILITY, text), data.to_json())
        }
        Error::BackendRefused { error, .. } => {
            // The session era's own codes mean nothing here, and reserved ones must not be sent.
            let code = match error.code {
                code::RESOURCE_NOT_FOUND => code::INVALID_PARAMS,
                other if code::is_forbidden_in_2026_07_28(other) => code::INTERNAL_ERROR,
                other => other,
            };
            let mut answer = relayed(error, code);
            if code == code::MISSING_CAPABILITY {
                answer.status = 400;
            }
            answer
        }
        Error::BackendUnavailable { .. }
        | Error::BackendFailed { .. }
        | Error::DeadlineExceeded
        | Error::Cancelled
        | Error::Overloaded
        | Error::Internal(_) => rpc(200, code::INTERNAL_ERROR, text),
    }
}

fn rpc(status: u16, code: i64, message: String) -> Answer {
    Answer {
        status,
        body: Body::Error(RpcError {
            code,
            message,
            data: None,
        }),
    }
}

fn with_data(mut answer: Answer, data: Json) -> Answer {
    if let Body::Error(error) = &mut answer.body {
        error.data = Some(data);
    }
    answer
}

fn relayed(error: &RelayedError, code: i64) -> Answer {
    let error = RpcError {
        code,
        message: error.message.clone(),
        data: error.data.clone(),
    };
    Answer {
        status: 200,
        body: Body::Error(error),
    }
}
