//! What a client is told when its message is turned away before it has become a request: one table of
//! HTTP statuses and JSON-RPC errors. When to turn a message away is the edge's.

use crate::code;
use crate::header::HeaderError;
use crate::jsonrpc::{ParseError, RpcError};

/// Why a message is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not one message.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// A header is missing, malformed or disagrees with the body.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The `Host` is not one this listener answers to.
    #[error("Invalid Host header")]
    InvalidHost,
    /// The `Origin` is not one that may call from a browser.
    #[error("Invalid Origin header")]
    InvalidOrigin,
    /// There is nothing under this path.
    #[error("Not Found")]
    NotFound,
    /// The path does not take this HTTP method.
    #[error("Method Not Allowed")]
    MethodNotAllowed,
    /// The client takes no form the answer could have.
    #[error("Not Acceptable: the client must accept {0}")]
    NotAcceptable(&'static str),
    /// The body is not declared as JSON.
    #[error("Unsupported Media Type: Content-Type must be application/json")]
    UnsupportedMediaType,
    /// The body is too large.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The body took too long to arrive.
    #[error("the body took too long to arrive")]
    BodyTooSlow,
    /// The body broke off.
    #[error("the body could not be read")]
    BodyUnreadable,
    /// A session is needed and none was named.
    #[error("Bad Request: the Mcp-Session-Id header is required")]
    SessionRequired,
    /// The handshake has not been made.
    #[error("send `initialize` first")]
    NotInitialized,
    /// The session named does not exist, or not for this caller.
    #[error("Session terminated")]
    SessionUnknown,
    /// There is no room for another session.
    #[error("too many sessions; try again later")]
    SessionsFull,
    /// The caller has as many sessions in use as one may.
    #[error("too many sessions of this caller are in use; end one before opening another")]
    CallerSessionsFull,
    /// The caller has as many requests in work as one may.
    #[error("too many requests of this caller are in work; wait for some to end")]
    CallerRequestsFull,
    /// The caller holds as many streams of changes as one may.
    #[error("too many streams are open for this caller; close one before opening another")]
    StreamsFull,
    /// There is too much to do.
    #[error("the gateway is overloaded; try again later")]
    Overloaded,
    /// An answer to a question that was never asked.
    #[error("the message is an answer, but nothing was asked")]
    UnexpectedResponse,
    /// A fault of the gateway itself.
    #[error("internal error")]
    Internal,
}

impl Refusal {
    /// The HTTP status and the error the client gets.
    #[must_use]
    pub fn answer(&self) -> (u16, RpcError) {
        let (status, code) = match self {
            Self::Parse(fault) => (400, fault.code()),
            Self::NotUtf8 => (400, code::PARSE_ERROR),
            Self::Header(_) => (400, code::HEADER_MISMATCH),
            Self::InvalidHost | Self::InvalidOrigin => (403, code::INVALID_REQUEST),
            Self::NotFound | Self::SessionUnknown => (404, code::INVALID_REQUEST),
            Self::MethodNotAllowed => (405, code::INVALID_REQUEST),
            Self::NotAcceptable(_) => (406, code::INVALID_REQUEST),
            Self::BodyTooSlow => (408, code::INVALID_REQUEST),
            Self::BodyTooLarge(_) => (413, code::INVALID_REQUEST),
            Self::UnsupportedMediaType => (415, code::INVALID_REQUEST),
            Self::BodyUnreadable
            | Self::SessionRequired
            | Self::NotInitialized
            | Self::UnexpectedResponse => (400, code::INVALID_REQUEST),
            Self::StreamsFull | Self::CallerSessionsFull | Self::CallerRequestsFull => {
                (429, code::INTERNAL_ERROR)
            }
            Self::SessionsFull | Self::Overloaded => (503, code::INTERNAL_ERROR),
            Self::Internal => (500, code::INTERNAL_ERROR),
        };
        let error = RpcError::new(code, self.to_string());
        let data = if let Self::Header(fault) = self { Some(fault.data()) } else { None };
        (status, RpcError { data, ..error })
    }
}
