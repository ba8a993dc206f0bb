//! Versions with sessions over HTTP: the handshake, requests, notifications and responses in a session, the
//! standalone stream, and the end of a session. `http::post` has detected the version before.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Abortable;
use http::{HeaderValue, Response, StatusCode};
use vmcp_domain::ProtocolVersion;
use vmcp_json::Json;
use vmcp_wire::header;
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::{Refusal, read_request};

use crate::http::authentication::AuthenticatedHead;
use crate::http::body::ResponseBody;
use crate::http::event_stream::{self, EventStream, OnDisconnect};
use crate::http::guard::Accepts;
use crate::http::request_observer::ObservedMessage;
use crate::http::response::{self, Answer};
use crate::request::admission::CallerHash;
use crate::request::changes::change_stream::ChangeStream;
use crate::request::client_port::{Delivery, LogLevelSource, RequestClientPort};
use crate::request::dispatch::{self, RequestJob};
use crate::request::message_sender::MessageSender;
use crate::request::session_messages::{handle_notification, initialize_answer, read_initialize};
use crate::sessions::session_table::SessionGuard;
use crate::state::EdgeState;
use crate::v2026_07_28::round_state::RoundOutput;

/// Serves `initialize`: opens a session.
pub(crate) fn open_session(
    edge: &Arc<EdgeState>,
    head: &AuthenticatedHead,
    accepts: Accepts,
    id: &Id,
    params: Option<&Json>,
) -> Response<ResponseBody> {
    let newest = ProtocolVersion::NEWEST_WITH_SESSIONS;
    let client = match read_initialize(head.peer.caller.clone(), params) {
        Ok(client) => client,
        Err(fault) => {
            let (status, error) = fault.answer(newest);
            return response::json_response(Answer::error(status, Some(id), &error));
        }
    };
    let version = client.version;
    let owner = CallerHash::of(&head.peer.caller, head.peer.address);
    let session = match edge.sessions.open(client, owner, edge.changes.list_versions()) {
        Ok(session) => session,
        Err(refusal) => return response::refusal_response(&refusal, Some(id)),
    };
    tracing::debug!(session = %session.short_id(), %version, "a session was opened");
    let answer = initialize_answer(edge, id, &session);
    let mut response = if accepts.json {
        response::json_response(answer)
    } else {
        let event = vmcp_wire::sse::write_event(&answer.message.into_bytes(), None);
        let once = futures_util::stream::once(std::future::ready(Bytes::from(event)));
        response::event_stream_response(Box::pin(once))
    };
    if let Ok(name) = HeaderValue::from_str(&session.id()) {
        response.headers_mut().insert(header::SESSION_ID, name);
    }
    response
}

/// Finds the session of a message by its `Mcp-Session-Id` header.
pub(crate) fn find_session(edge: &EdgeState, head: &AuthenticatedHead) -> Result<SessionGuard, Refusal> {
    let name = head.parts.headers.get(header::SESSION_ID).ok_or(Refusal::SessionRequired)?;
    edge.sessions.find(name.as_bytes(), &head.peer.caller)
}

/// Serves one request in a session.
pub(crate) async fn serve_request(
    edge: &Arc<EdgeState>,
    head: AuthenticatedHead,
    accepts: Accepts,
    id: Id,
    (name, params): (&str, Option<&Json>),
    requested: &mut ObservedMessage,
) -> Response<ResponseBody> {
    let admitted =
        find_session(edge, &head).and_then(|session_guard| Ok((session_guard, edge.admit(&head.peer)?)));
    let AuthenticatedHead { parts, peer } = head;
    let (session_guard, slot) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return response::refusal_response(&refusal, Some(&id)),
    };
    let session = Arc::clone(&session_guard.session);
    let (request, head) = match read_request(session.version, name, params) {
        Ok(read) => read,
        Err(fault) => {
            let (status, error) = fault.answer(session.version);
            return response::json_response(Answer::error(status, Some(&id), &error));
        }
    };
    requested.set_subject(&request);
    let buffer = session.new_stream();
    let sender = accepts.events.then(|| MessageSender::Stream(Arc::clone(&buffer)));
    let output = RoundOutput { progress_token: head.progress_token.clone(), sender };
    let client_port = RequestClientPort {
        log_level_source: LogLevelSource::Session,
        capabilities: Arc::clone(&session.capabilities),
        delivery: Delivery::Session(output, Arc::clone(&session)),
    };
    // `find_session` has checked that this caller is the session's. The claims of this request's credential
    // count, not those of the handshake's.
    let ctx = edge.call_context(peer, session.version, head, Some(&parts), Arc::new(client_port));
    let (registration, in_flight_guard) = session.in_flight.insert(id.clone());
    let (within, params) = (Some(Arc::clone(&session)), None);
    let job =
        RequestJob { edge: Arc::clone(edge), ctx, session: within, id, request, param_headers: params, slot };
    let (caller, edge_of_call, id) = (job.slot.caller(), Arc::clone(edge), job.id.clone());
    let call = Box::pin(async move {
        let answer = Abortable::new(Box::pin(dispatch::run_to_answer(job)), registration).await;
        drop((in_flight_guard, session_guard));
        answer.ok().map(|answer| edge_of_call.answer_memory.charge(caller, &id, answer))
    });
    event_stream::respond(edge, call, buffer, accepts, Some(session)).await
}

/// Serves a notification in a session.
pub(crate) fn serve_notification(
    edge: &EdgeState,
    head: &AuthenticatedHead,
    name: &str,
    params: Option<&Json>,
) -> Response<ResponseBody> {
    match find_session(edge, head) {
        Ok(session_guard) => {
            handle_notification(&session_guard.session, name, params);
            response::empty_response(StatusCode::ACCEPTED)
        }
        Err(refusal) => response::refusal_response(&refusal, None),
    }
}

/// Serves the client's response to a question of the gateway.
pub(crate) fn serve_response(
    edge: &EdgeState,
    head: &AuthenticatedHead,
    id: Option<&Id>,
    outcome: crate::request::in_flight::QuestionResult,
) -> Response<ResponseBody> {
    let session_guard = match find_session(edge, head) {
        Ok(session_guard) => session_guard,
        Err(Refusal::SessionRequired) => {
            return response::refusal_response(&Refusal::UnexpectedResponse, None);
        }
        Err(refusal) => return response::refusal_response(&refusal, None),
    };
    // The client cannot know that the question is no longer open, so a late response is accepted and dropped.
    let was_expected = id.is_some_and(|id| session_guard.session.questions.answer(id, outcome));
    if !was_expected {
        tracing::debug!(session = %session_guard.session.short_id(), "a response that no request waits for");
    }
    response::empty_response(StatusCode::ACCEPTED)
}

/// Serves GET: opens a standalone stream, which carries messages outside a request, or resumes a stream.
pub(crate) fn open_standalone_stream(
    edge: &Arc<EdgeState>,
    head: &AuthenticatedHead,
) -> Response<ResponseBody> {
    let acquire_slot = || edge.admit_stream(&head.peer.caller, head.peer.address);
    let admitted = find_session(edge, head).and_then(|session_guard| Ok((session_guard, acquire_slot()?)));
    let (session_guard, slot) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return response::refusal_response(&refusal, None),
    };
    let session = Arc::clone(&session_guard.session);
    let last_event = head.parts.headers.get(header::LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let (buffer, index, standalone) = match last_event.and_then(|id| session.resume_stream(id)) {
        Some(resumed) => resumed,
        None => {
            let buffer = session.new_stream();
            session.add_stream(&buffer, None);
            (buffer, 0, true)
        }
    };
    let mut reader = EventStream::new(edge, buffer, index, OnDisconnect::DetachStream(Arc::clone(&session)))
        .with_guard((slot, session_guard));
    if standalone {
        reader = reader
            .with_changes(ChangeStream::for_session(&edge.changes, &edge.gateway_info, &session), None)
            .ending_at(edge.stopping.clone(), head.peer.expires_at, None);
    }
    response::event_stream_response(reader.into_events())
}

/// Serves DELETE: ends the session.
pub(crate) fn close_session(edge: &EdgeState, head: &AuthenticatedHead) -> Response<ResponseBody> {
    match find_session(edge, head) {
        Ok(session_guard) => {
            edge.sessions.close(&session_guard.session);
            response::empty_response(StatusCode::OK)
        }
        Err(refusal) => response::refusal_response(&refusal, None),
    }
}
