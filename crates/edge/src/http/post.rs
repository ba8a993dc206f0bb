//! POST to the MCP endpoint: reads one message, detects its protocol version, and passes it to the module of
//! that version: `sessions` or `v2026_07_28`.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use vmcp_domain::ProtocolVersion;
use vmcp_json::Json;
use vmcp_wire::header::{self, HeaderError};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::method;
use vmcp_wire::server::{ProtocolFamily, Refusal, RequestError, detect_protocol, meta_version};

use crate::http::authentication::AuthenticatedHead;
use crate::http::body::ResponseBody;
use crate::http::guard::{self, Accepts};
use crate::http::protocol_headers;
use crate::http::request_observer::ObservedMessage;
use crate::http::response::{self, Answer};
use crate::http::session_requests;
use crate::state::EdgeState;
use crate::v2026_07_28::handler;

/// Serves one POST.
pub(crate) async fn serve<B: Body<Data = Bytes>>(
    edge: &Arc<EdgeState>,
    head: AuthenticatedHead,
    body: B,
    observed: &mut ObservedMessage,
) -> Response<ResponseBody> {
    let headers = &head.parts.headers;
    let accepts = guard::parse_accept(headers);
    if !accepts.json && !accepts.events {
        let both = "application/json and text/event-stream";
        return response::refusal_response(&Refusal::NotAcceptable(both), None);
    }
    if !guard::has_json_body(headers) {
        return response::refusal_response(&Refusal::UnsupportedMediaType, None);
    }
    let request_body = match edge.body_reader.read(headers, body).await {
        Ok(request_body) => request_body,
        Err(refusal) => return response::refusal_response(&refusal, None),
    };
    serve_message(edge, head, accepts, &request_body.text, observed).await
}

async fn serve_message(
    edge: &Arc<EdgeState>,
    head: AuthenticatedHead,
    accepts: Accepts,
    text: &ByteString,
    observed: &mut ObservedMessage,
) -> Response<ResponseBody> {
    let message = match jsonrpc::parse(text) {
        Ok(message) => message,
        Err(fault) => return response::refusal_response(&Refusal::Parse(fault), None),
    };
    let headers = &head.parts.headers;
    let date = match protocol_version(headers) {
        Ok(date) => date,
        Err(fault) => return response::refusal_response(&Refusal::Header(fault), request_id(&message)),
    };
    match message {
        Message::Request { id, method, params } => {
            observed.set_method(&method);
            let route = route(headers, date, &method, params.as_ref());
            let request = (&*method, params.as_ref());
            match route {
                PostRoute::Stateless => handler::serve(edge, head, accepts, id, request, observed).await,
                PostRoute::Handshake => {
                    session_requests::open_session(edge, &head, accepts, &id, params.as_ref())
                }
                PostRoute::Session => {
                    Box::pin(session_requests::serve_request(edge, head, accepts, id, request, observed))
                        .await
                }
                PostRoute::Refused(answer) => response::json_response(answer(&id)),
            }
        }
        Message::Notification { method, params } => {
            observed.set_method(&method);
            match detect_protocol(date, &method, params.as_ref()) {
                // In 2026-07-28, no notification that a client sends over HTTP requires an action.
                ProtocolFamily::Stateless => response::empty_response(StatusCode::ACCEPTED),
                ProtocolFamily::Sessions(_) => {
                    session_requests::serve_notification(edge, &head, &method, params.as_ref())
                }
                ProtocolFamily::Unknown(date) => response::json_response(unsupported_version(date, None)),
            }
        }
        Message::Response { id, outcome } => {
            session_requests::serve_response(edge, &head, id.as_ref(), outcome)
        }
    }
}

fn request_id(message: &Message) -> Option<&Id> {
    match message {
        Message::Request { id, .. } => Some(id),
        Message::Notification { .. } | Message::Response { .. } => None,
    }
}

/// The value of the `MCP-Protocol-Version` header; `None` without the header.
///
/// # Errors
///
/// If the header occurs twice or is not UTF-8.
pub(crate) fn protocol_version(headers: &HeaderMap) -> Result<Option<&str>, HeaderError> {
    let malformed = HeaderError::Malformed(header::PROTOCOL_VERSION);
    match protocol_headers::PROTOCOL_VERSION.single_value(headers)? {
        None => Ok(None),
        Some(value) => std::str::from_utf8(value).map(Some).map_err(|_| malformed),
    }
}

enum PostRoute {
    Stateless,
    Handshake,
    Session,
    Refused(Box<dyn FnOnce(&Id) -> Answer + Send>),
}

fn route(headers: &HeaderMap, date: Option<&str>, name: &str, params: Option<&Json>) -> PostRoute {
    let in_session = protocol_headers::SESSION_ID.is_in(headers);
    match detect_protocol(date, name, params) {
        ProtocolFamily::Stateless => PostRoute::Stateless,
        ProtocolFamily::Sessions(_) if name == method::INITIALIZE => PostRoute::Handshake,
        ProtocolFamily::Sessions(_) if in_session => PostRoute::Session,
        // Without a session id, a request with an `Mcp-Method` header can only be meant for 2026-07-28. That
        // module reports what is missing.
        ProtocolFamily::Sessions(None) if protocol_headers::METHOD.is_in(headers) => PostRoute::Stateless,
        ProtocolFamily::Sessions(Some(version)) => match meta_version(params) {
            Some(named) if named != version.as_str() => version_mismatch(version.as_str(), named),
            _ => PostRoute::Session,
        },
        ProtocolFamily::Sessions(None) => PostRoute::Session,
        ProtocolFamily::Unknown(date) => match meta_version(params) {
            Some(named) if named != date => version_mismatch(&date, named),
            _ => PostRoute::Refused(Box::new(move |id| unsupported_version(date, Some(id)))),
        },
    }
}

fn version_mismatch(found: &str, expected: String) -> PostRoute {
    let fault = HeaderError::Mismatch { header: header::PROTOCOL_VERSION, found: found.to_owned(), expected };
    PostRoute::Refused(Box::new(move |id| Answer::refusal(&Refusal::Header(fault), Some(id))))
}

fn unsupported_version(date: String, id: Option<&Id>) -> Answer {
    let (status, error) = RequestError::UnsupportedVersion(date).answer(ProtocolVersion::V2026_07_28);
    Answer::error(status, id, &error)
}
