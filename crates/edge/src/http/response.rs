//! Builds HTTP responses: status, headers and body. Other modules decide the content.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use vmcp_wire::jsonrpc::{self, Id, RpcError};
use vmcp_wire::server::Refusal;

use crate::http::body::{EventBytes, ResponseBody};
use crate::request::memory_permit::{MemoryPermit, attach_permit};

/// One JSON-RPC message. It has several pieces, so that a list page shared by many clients is not copied for
/// each. The memory permit is present once the message counts towards the answer memory.
#[derive(Clone, Debug)]
pub(crate) struct MessageBytes([Bytes; 3], Option<Arc<MemoryPermit>>);

impl MessageBytes {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self([bytes.into(), Bytes::new(), Bytes::new()], None)
    }

    /// Inserts `shared` into `written` at the byte index `offset`.
    pub(crate) fn with_shared_at(written: Bytes, offset: usize, shared: Bytes) -> Self {
        let offset = offset.min(written.len());
        Self([written.slice(..offset), shared, written.slice(offset..)], None)
    }

    /// Builds a message from its start, a shared middle and its end.
    pub(crate) fn wrap_shared(start: Vec<u8>, shared: Bytes, end: &'static [u8]) -> Self {
        Self([start.into(), shared, Bytes::from_static(end)], None)
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Attaches a memory permit, which is held until all pieces are dropped.
    pub(crate) fn with_permit(self, offset: &Arc<MemoryPermit>) -> Self {
        Self(self.0.map(|part| attach_permit(part, offset)), Some(Arc::clone(offset)))
    }

    pub(crate) fn into_body(self) -> ResponseBody {
        ResponseBody::pieces(self.0)
    }

    /// The message as contiguous bytes. Copies only if there is more than one piece.
    pub(crate) fn into_bytes(self) -> Bytes {
        let [start, shared, end] = self.0;
        if shared.is_empty() && end.is_empty() {
            return start;
        }
        let whole = [start, shared, end].concat().into();
        match &self.1 {
            Some(offset) => attach_permit(whole, offset),
            None => whole,
        }
    }
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The HTTP status; stdio ignores it.
    pub(crate) status: u16,
    /// Further HTTP headers; stdio and event streams ignore them.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The JSON-RPC response.
    pub(crate) message: MessageBytes,
}

impl Answer {
    pub(crate) fn result(message: MessageBytes) -> Self {
        Self { status: 200, headers: Vec::new(), message }
    }

    pub(crate) fn error(status: u16, id: Option<&Id>, error: &RpcError) -> Self {
        Self { status, headers: Vec::new(), message: MessageBytes::whole(jsonrpc::write_error(id, error)) }
    }

    pub(crate) fn refusal(refusal: &Refusal, id: Option<&Id>) -> Self {
        let (status, error) = refusal.answer();
        Self::error(status, id, &error)
    }
}

/// Builds a response with the answer as a JSON body.
pub(crate) fn json_response(answer: Answer) -> Response<ResponseBody> {
    let mut response = Response::new(answer.message.into_body());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    match answer.status {
        503 => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // The rest of the request body is not read, so the connection cannot be used again.
        408 | 413 => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Builds the response for a refused message.
pub(crate) fn refusal_response(refusal: &Refusal, id: Option<&Id>) -> Response<ResponseBody> {
    json_response(Answer::refusal(refusal, id))
}

/// Builds a response with an event stream as its body.
pub(crate) fn event_stream_response(events: EventBytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::events(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Builds a response without a body.
pub(crate) fn empty_response(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}

/// Builds a 405 response; `methods` is the value of `Allow`.
pub(crate) fn method_not_allowed(methods: &'static str) -> Response<ResponseBody> {
    let mut response = refusal_response(&Refusal::MethodNotAllowed, None);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
