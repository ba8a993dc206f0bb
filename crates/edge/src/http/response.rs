//! HTTP responses as every part of the edge writes them: status, headers, body. What is answered is decided elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use vmcp_wire::jsonrpc::{self, Id, RpcError};
use vmcp_wire::server::Refusal;

use crate::http::body::{EventBytes, ResponseBody};
use crate::request::answer_memory::{MemoryPermit, attach_permit};

/// One JSON-RPC message, in pieces so that a page many clients share is not copied for each.
#[derive(Clone, Debug)]
pub(crate) struct MessageBytes([Bytes; 3], Option<Arc<MemoryPermit>>);

impl MessageBytes {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self([bytes.into(), Bytes::new(), Bytes::new()], None)
    }

    /// A message in which `shared` belongs at `place`.
    pub(crate) fn with_shared_at(written: Bytes, place: usize, shared: Bytes) -> Self {
        let place = place.min(written.len());
        Self([written.slice(..place), shared, written.slice(place..)], None)
    }

    /// A message whose middle is shared.
    pub(crate) fn wrap_shared(start: Vec<u8>, shared: Bytes, end: &'static [u8]) -> Self {
        Self([start.into(), shared, Bytes::from_static(end)], None)
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// The message, holding room as long as any part of it is there.
    pub(crate) fn with_permit(self, place: &Arc<MemoryPermit>) -> Self {
        Self(self.0.map(|part| attach_permit(part, place)), Some(Arc::clone(place)))
    }

    pub(crate) fn into_body(self) -> ResponseBody {
        ResponseBody::pieces(self.0)
    }

    /// The message as one text.
    pub(crate) fn into_bytes(self) -> Bytes {
        let [start, shared, end] = self.0;
        if shared.is_empty() && end.is_empty() {
            return start;
        }
        let whole = [start, shared, end].concat().into();
        match &self.1 {
            Some(place) => attach_permit(whole, place),
            None => whole,
        }
    }
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The HTTP status, where there is one.
    pub(crate) status: u16,
    /// Further HTTP headers, where there are any to be had.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The message.
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

/// An answer as one JSON body.
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
        // The rest of the body is not wanted, so the connection is of no further use.
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

/// A message turned away.
pub(crate) fn refusal_response(refusal: &Refusal, id: Option<&Id>) -> Response<ResponseBody> {
    json_response(Answer::refusal(refusal, id))
}

/// A stream of events.
pub(crate) fn event_stream_response(events: EventBytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::events(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A bare status.
pub(crate) fn empty_response(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}

/// A method that the path does not have.
pub(crate) fn method_not_allowed(methods: &'static str) -> Response<ResponseBody> {
    let mut response = refusal_response(&Refusal::MethodNotAllowed, None);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
