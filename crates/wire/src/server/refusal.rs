//! How a message is answered that is rejected before it becomes a request: one table of HTTP statuses and
//! JSON-RPC errors. The edge decides when to reject.

use crate::code;
use crate::header::HeaderError;
use crate::jsonrpc::{ParseError, RpcError};

/// Why a message is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not a single message.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The body is not valid UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// A header is missing, malformed or does not match the body.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The `Host` is not one that this listener serves.
    #[error("Invalid Host header")]
    InvalidHost,
    /// The `Origin` is not allowed to call from a browser.
    #[error("Invalid Origin header")]
    InvalidOrigin,
    /// The path does not exist.
    #[error("Not Found")]
    NotFound,
    /// The path does not support this HTTP method.
    #[error("Method Not Allowed")]
    MethodNotAllowed,
    /// The client accepts no content type that the answer can have.
    #[error("Not Acceptable: the client must accept {0}")]
    NotAcceptable(&'static str),
    /// The body is not declared as JSON.
    #[error("Unsupported Media Type: Content-Type must be application/json")]
    UnsupportedMediaType,
    /// The body exceeds the maximum size, in bytes.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The body took too long to arrive.
    #[error("the body took too long to arrive")]
    BodyTooSlow,
    /// The connection failed before the body was complete.
    #[error("the body could not be read")]
    BodyUnreadable,
    /// The method needs a session, and the request names none.
    #[error("Bad Request: the Mcp-Session-Id header is required")]
    SessionRequired,
    /// The client has not sent `initialize`.
    #[error("send `initialize` first")]
    NotInitialized,
    /// The named session does not exist, or it belongs to another caller.
    #[error("Session terminated")]
    SessionUnknown,
    /// The maximum number of sessions is open.
    #[error("too many sessions; try again later")]
    SessionsFull,
    /// The caller has the maximum number of sessions in use.
    #[error("too many sessions of this caller are in use; end one before opening another")]
    CallerSessionsFull,
    /// The caller has the maximum number of requests in flight.
    #[error("too many requests of this caller are in work; wait for some to end")]
    CallerRequestsFull,
    /// The caller has the maximum number of change streams open.
    #[error("too many streams are open for this caller; close one before opening another")]
    StreamsFull,
    /// The gateway is at one of its maxima.
    #[error("the gateway is overloaded; try again later")]
    Overloaded,
    /// The message is a response to a question that was never sent.
    #[error("the message is an answer, but nothing was asked")]
    UnexpectedResponse,
    /// A fault of the gateway itself.
    #[error("internal error")]
    Internal,
}

impl Refusal {
    /// The HTTP status and the JSON-RPC error of the answer.
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
