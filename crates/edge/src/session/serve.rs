//! The session era over HTTP: the handshake, requests, notifications and answers under a session, the standalone
//! stream, and the end. Which revision a message speaks has been found out before.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Abortable;
use http::{HeaderValue, Response, StatusCode};
use vmcp_domain::{Caller, ClientCapabilities, Json, ProtocolVersion};
use vmcp_wire::header;
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::method;
use vmcp_wire::server::{
    ClientNotice, ClientRequest, Refusal, RequestFault, answered_versions, read_notice, read_request,
    write_message,
};

use super::{Client, Session, Visit};
use crate::admission::CallerNumber;
use crate::body::EdgeBody;
use crate::changes::Feed;
use crate::dialogue::Route;
use crate::dispatch::{self, Task};
use crate::edge::Edge;
use crate::entrance::Head;
use crate::guard::Accepts;
use crate::observed::Asked;
use crate::port::{Logs, Outlet, Port, Way};
use crate::reply::{self, Answer, Message};
use crate::stream::{self, Hold, Reader};

/// The largest set of capabilities kept with a session, in bytes.
const CAPABILITIES_BYTES_MAX: usize = 16 << 10;

/// The client that `initialize` introduces; its version is the one both sides will speak.
pub(crate) fn introduce(caller: Caller, params: Option<&Json>) -> Result<Client, RequestFault> {
    let read = read_request(ProtocolVersion::NEWEST_WITH_SESSIONS, method::INITIALIZE, params)?;
    let (ClientRequest::Initialize(initialize), _) = read else {
        return Err(RequestFault::UnknownMethod(method::INITIALIZE.to_owned()));
    };
    let asked = ProtocolVersion::parse(&initialize.version)
        .filter(|version| version.has_sessions() && answered_versions().contains(version));
    // Copied, so that a session does not keep the whole request in memory.
    let declared = initialize.capabilities.to_json();
    if declared.as_str().len() > CAPABILITIES_BYTES_MAX {
        let text = format!("`capabilities` must not exceed {CAPABILITIES_BYTES_MAX} bytes");
        return Err(RequestFault::InvalidParams(text));
    }
    Ok(Client {
        caller,
        version: asked.unwrap_or(ProtocolVersion::NEWEST_WITH_SESSIONS),
        capabilities: ClientCapabilities { declared: declared.members().unwrap_or_default() },
    })
}

/// Writes the answer to `initialize`.
pub(crate) fn welcome(edge: &Edge, id: &Id, session: &Session) -> Answer {
    let (version, overview) = (session.version, edge.directory.overview(&session.caller));
    let write = |out: &mut Vec<u8>| edge.face.write_initialize(out, version, &overview);
    Answer::result(Message::whole(write_message(id, 1024, write)))
}

/// Answers `initialize`: a session is opened.
pub(crate) fn open(
    edge: &Arc<Edge>,
    head: &Head,
    accepts: Accepts,
    id: &Id,
    params: Option<&Json>,
) -> Response<EdgeBody> {
    let newest = ProtocolVersion::NEWEST_WITH_SESSIONS;
    let client = match introduce(head.entrant.caller.clone(), params) {
        Ok(client) => client,
        Err(fault) => {
            let (status, error) = fault.answer(newest);
            return reply::json(Answer::error(status, Some(id), &error));
        }
    };
    let version = client.version;
    let owner = CallerNumber::of(&head.entrant.caller, head.entrant.address);
    let session = match edge.sessions.open(client, owner, edge.changes.counts()) {
        Ok(session) => session,
        Err(refusal) => return reply::refuse(&refusal, Some(id)),
    };
    tracing::debug!(session = %session.name_for_log(), %version, "a session was opened");
    let answer = welcome(edge, id, &session);
    let mut response = if accepts.json {
        reply::json(answer)
    } else {
        let event = vmcp_wire::sse::event(&answer.message.into_bytes(), None);
        let once = futures_util::stream::once(std::future::ready(Bytes::from(event)));
        reply::events(Box::pin(once))
    };
    if let Ok(name) = HeaderValue::from_str(&session.name()) {
        response.headers_mut().insert(header::SESSION_ID, name);
    }
    response
}

/// Finds the session a message belongs to.
pub(crate) fn visit(edge: &Edge, head: &Head) -> Result<Visit, Refusal> {
    let name = head.parts.headers.get(header::SESSION_ID).ok_or(Refusal::SessionRequired)?;
    edge.sessions.find(name.as_bytes(), &head.entrant.caller)
}

/// Answers one request under a session.
pub(crate) async fn request(
    edge: &Arc<Edge>,
    head: Head,
    accepts: Accepts,
    id: Id,
    (name, params): (&str, Option<&Json>),
    asked: &mut Asked,
) -> Response<EdgeBody> {
    let admitted = visit(edge, &head).and_then(|visit| Ok((visit, edge.admit(&head.entrant)?)));
    let Head { parts, entrant } = head;
    let (visit, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return reply::refuse(&refusal, Some(&id)),
    };
    let session = Arc::clone(&visit.session);
    let (request, head) = match read_request(session.version, name, params) {
        Ok(read) => read,
        Err(fault) => {
            let (status, error) = fault.answer(session.version);
            return reply::json(Answer::error(status, Some(&id), &error));
        }
    };
    asked.subject(&request);
    let spool = session.new_stream();
    let outlet = accepts.events.then(|| Outlet::Stream(Arc::clone(&spool)));
    let route = Route { progress_token: head.progress_token.clone(), outlet };
    let port = Port {
        logs: Logs::Session,
        capabilities: Arc::clone(&session.capabilities),
        way: Way::Session(route, Arc::clone(&session)),
    };
    // The session's caller by name, with what this request's credential says of it.
    let ctx = edge.context(entrant, session.version, head, Some(&parts), Arc::new(port));
    let (registration, landing) = session.flights.enter(id.clone());
    let (within, params) = (Some(Arc::clone(&session)), None);
    let task = Task { edge: Arc::clone(edge), ctx, session: within, id, request, params, room: permit };
    let (caller, edge_of_call, id) = (task.room.caller(), Arc::clone(edge), task.id.clone());
    let call = Box::pin(async move {
        let answer = Abortable::new(Box::pin(dispatch::answer(task)), registration).await;
        drop((landing, visit));
        answer.ok().map(|answer| edge_of_call.answers.hold(caller, &id, answer))
    });
    stream::respond(edge, call, spool, accepts, Some(session)).await
}

/// Hears a notification under a session.
pub(crate) fn hear(edge: &Edge, head: &Head, name: &str, params: Option<&Json>) -> Response<EdgeBody> {
    match visit(edge, head) {
        Ok(visit) => {
            heed(&visit.session, name, params);
            reply::status(StatusCode::ACCEPTED)
        }
        Err(refusal) => reply::refuse(&refusal, None),
    }
}

/// Does what a notification asks for.
pub(crate) fn heed(session: &Session, name: &str, params: Option<&Json>) {
    match read_notice(name, params) {
        ClientNotice::Cancelled(id) => session.flights.cancel(&id),
        ClientNotice::Initialized
        | ClientNotice::RootsChanged
        | ClientNotice::Progress(_)
        | ClientNotice::Other => {}
    }
}

/// Takes the answer to a question of ours.
pub(crate) fn answer_question(
    edge: &Edge,
    head: &Head,
    id: Option<&Id>,
    outcome: crate::flight::Outcome,
) -> Response<EdgeBody> {
    let visit = match visit(edge, head) {
        Ok(visit) => visit,
        Err(Refusal::SessionRequired) => return reply::refuse(&Refusal::UnexpectedAnswer, None),
        Err(refusal) => return reply::refuse(&refusal, None),
    };
    // An answer that nobody waits for any more is taken and dropped: the client could not know.
    let waited = id.is_some_and(|id| visit.session.questions.answer(id, outcome));
    if !waited {
        tracing::debug!(session = %visit.session.name_for_log(), "an answer nobody waits for");
    }
    reply::status(StatusCode::ACCEPTED)
}

/// Answers GET: the stream on which the gateway speaks unasked.
pub(crate) fn listen(edge: &Arc<Edge>, head: &Head) -> Response<EdgeBody> {
    let room = || edge.admit_stream(&head.entrant.caller, head.entrant.address);
    let admitted = visit(edge, head).and_then(|visit| Ok((visit, room()?)));
    let (visit, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return reply::refuse(&refusal, None),
    };
    let session = Arc::clone(&visit.session);
    let last_event = head.parts.headers.get(header::LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let (spool, place, standalone) = match last_event.and_then(|id| session.resume(id)) {
        Some(resumed) => resumed,
        None => {
            let spool = session.new_stream();
            session.keep(&spool, None);
            (spool, 0, true)
        }
    };
    let mut reader =
        Reader::new(edge, spool, place, Hold::Session(Arc::clone(&session))).holding((permit, visit));
    if standalone {
        reader = reader.with_feed(Feed::of_session(&edge.changes, &edge.directory, &session), None).until(
            edge.stopping.clone(),
            head.entrant.until,
            None,
        );
    }
    reply::events(reader.into_events())
}

/// Answers DELETE: the session is ended.
pub(crate) fn delete(edge: &Edge, head: &Head) -> Response<EdgeBody> {
    match visit(edge, head) {
        Ok(visit) => {
            edge.sessions.close(&visit.session);
            reply::status(StatusCode::OK)
        }
        Err(refusal) => reply::refuse(&refusal, None),
    }
}
