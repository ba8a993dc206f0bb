//! POST to the MCP endpoint: one message is taken in, the revision it speaks is found out, and it is handed to the
//! rules of that revision.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use vmcp_domain::{Json, ProtocolVersion};
use vmcp_wire::header::{self, HeaderFault};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::method;
use vmcp_wire::server::{Refusal, RequestFault, Speaks, named_version, speaks};

use crate::body::EdgeBody;
use crate::edge::Edge;
use crate::entrance::Head;
use crate::guard::{self, Accepts};
use crate::named;
use crate::observed::Asked;
use crate::reply::{self, Answer};
use crate::{session, stateless};

/// Answers one POST.
pub(crate) async fn serve<B: Body<Data = Bytes>>(
    edge: &Arc<Edge>,
    head: Head,
    body: B,
    asked: &mut Asked,
) -> Response<EdgeBody> {
    let headers = &head.parts.headers;
    let accepts = guard::accepts(headers);
    if !accepts.json && !accepts.events {
        let both = "application/json and text/event-stream";
        return reply::refuse(&Refusal::NotAcceptable(both), None);
    }
    if !guard::is_json(headers) {
        return reply::refuse(&Refusal::MediaType, None);
    }
    let taken = match edge.intake.take(headers, body).await {
        Ok(taken) => taken,
        Err(refusal) => return reply::refuse(&refusal, None),
    };
    message(edge, head, accepts, &taken.text, asked).await
}

async fn message(
    edge: &Arc<Edge>,
    head: Head,
    accepts: Accepts,
    text: &ByteString,
    asked: &mut Asked,
) -> Response<EdgeBody> {
    let message = match jsonrpc::parse(text) {
        Ok(message) => message,
        Err(fault) => return reply::refuse(&Refusal::Parse(fault), None),
    };
    let headers = &head.parts.headers;
    let date = match date(headers) {
        Ok(date) => date,
        Err(fault) => return reply::refuse(&Refusal::Header(fault), id_of(&message)),
    };
    match message {
        Message::Request { id, method, params } => {
            asked.method(&method);
            let speaks = era(headers, date, &method, params.as_ref());
            let request = (&*method, params.as_ref());
            match speaks {
                Era::Stateless => stateless::serve(edge, head, accepts, id, request, asked).await,
                Era::Handshake => session::open(edge, &head, accepts, &id, params.as_ref()),
                Era::Session => Box::pin(session::request(edge, head, accepts, id, request, asked)).await,
                Era::Refused(answer) => reply::json(answer(&id)),
            }
        }
        Message::Notification { method, params } => {
            asked.method(&method);
            match speaks(date, &method, params.as_ref()) {
                // Nothing that this revision lets a client tell over HTTP asks for anything.
                Speaks::Stateless => reply::status(StatusCode::ACCEPTED),
                Speaks::Session(_) => session::hear(edge, &head, &method, params.as_ref()),
                Speaks::Unknown(date) => reply::json(unsupported(date, None)),
            }
        }
        Message::Response { id, outcome } => session::answer_question(edge, &head, id.as_ref(), outcome),
    }
}

fn id_of(message: &Message) -> Option<&Id> {
    match message {
        Message::Request { id, .. } => Some(id),
        Message::Notification { .. } | Message::Response { .. } => None,
    }
}

/// The revision the header names.
pub(crate) fn date(headers: &HeaderMap) -> Result<Option<&str>, HeaderFault> {
    let malformed = HeaderFault::Malformed(header::PROTOCOL_VERSION);
    match named::PROTOCOL_VERSION.single(headers)? {
        None => Ok(None),
        Some(value) => std::str::from_utf8(value).map(Some).map_err(|_| malformed),
    }
}

enum Era {
    Stateless,
    Handshake,
    Session,
    Refused(Box<dyn FnOnce(&Id) -> Answer + Send>),
}

fn era(headers: &HeaderMap, date: Option<&str>, name: &str, params: Option<&Json>) -> Era {
    let in_session = named::SESSION_ID.is_in(headers);
    match speaks(date, name, params) {
        Speaks::Stateless => Era::Stateless,
        Speaks::Session(_) if name == method::INITIALIZE => Era::Handshake,
        Speaks::Session(_) if in_session => Era::Session,
        // Without a session a request of this shape can only be meant for 2026-07-28, and its headers are wrong.
        Speaks::Session(None) if named::METHOD.is_in(headers) => Era::Stateless,
        Speaks::Session(Some(version)) => match named_version(params) {
            Some(named) if named != version.as_str() => mismatch(version.as_str(), named),
            _ => Era::Session,
        },
        Speaks::Session(None) => Era::Session,
        Speaks::Unknown(date) => match named_version(params) {
            Some(named) if named != date => mismatch(&date, named),
            _ => Era::Refused(Box::new(move |id| unsupported(date, Some(id)))),
        },
    }
}

fn mismatch(found: &str, expected: String) -> Era {
    let fault = HeaderFault::Differs { header: header::PROTOCOL_VERSION, found: found.to_owned(), expected };
    Era::Refused(Box::new(move |id| Answer::refusal(&Refusal::Header(fault), Some(id))))
}

fn unsupported(date: String, id: Option<&Id>) -> Answer {
    let (status, error) = RequestFault::UnsupportedVersion(date).answer(ProtocolVersion::V2026_07_28);
    Answer::error(status, id, &error)
}
