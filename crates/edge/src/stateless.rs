//! Requests of 2026-07-28 over HTTP: everything stands in the request, and the headers have to repeat parts of it
//! truthfully (Streamable HTTP, "Request Metadata"). Sessions are never looked at.

use std::sync::Arc;

use http::{HeaderMap, Response};
use vmcp_domain::{ClientCapabilities, Json, ProtocolVersion};
use vmcp_wire::header::{self, HeaderFault};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::method;
use vmcp_wire::server::{ClientRequest, Refusal, RequestFault, RequestHead, name_header, read_request};

use crate::body::EdgeBody;
use crate::dialogue::{Dialogue, Route};
use crate::dispatch::{self, Task};
use crate::edge::Edge;
use crate::entrance::Head;
use crate::guard::Accepts;
use crate::listen;
use crate::named;
use crate::observed::Asked;
use crate::port::{Logs, Outlet, Port, Way};
use crate::reply::{self, Answer};
use crate::rounds;
use crate::spool::Spool;
use crate::stream;

const VERSION: ProtocolVersion = ProtocolVersion::V2026_07_28;

/// Answers one request.
pub(crate) async fn serve(
    edge: &Arc<Edge>,
    head: Head,
    accepts: Accepts,
    id: Id,
    (name, params): (&str, Option<&Json>),
    asked: &mut Asked,
) -> Response<EdgeBody> {
    let Head { parts, entrant } = head;
    let (request, head) = match read(&parts.headers, name, params) {
        Ok(read) => read,
        Err(Fault::Header(fault)) => return reply::refuse(&Refusal::Header(fault), Some(&id)),
        // Without `_meta` it is not a request of this revision. The Go SDK asks so, and ends its client on a refusal.
        Err(Fault::Request(RequestFault::InvalidHead(_))) if name == method::PING => {
            return reply::json(dispatch::empty_result(edge, VERSION, &id));
        }
        Err(Fault::Request(fault)) => {
            let (status, error) = fault.answer(VERSION);
            return reply::json(Answer::error(status, Some(&id), &error));
        }
    };
    asked.subject(&request);
    if let ClientRequest::Listen(filter) = request {
        return Box::pin(listen::open(edge, accepts, &id, (filter, head), &entrant)).await;
    }
    let permit = match edge.admit(&entrant) {
        Ok(permit) => permit,
        Err(refusal) => return reply::refuse(&refusal, Some(&id)),
    };
    let spool = Arc::new(Spool::once());
    let outlet = accepts.events.then(|| Outlet::Stream(Arc::clone(&spool)));
    let (port, dialogue) = port(&head, outlet);
    let ctx = edge.context(entrant, VERSION, head, Some(&parts), Arc::new(port));
    let params = Some(parts.headers);
    let task = Task { edge: Arc::clone(edge), ctx, session: None, id, request, params, room: permit };
    let (caller, edge_of_call, id) = (task.room.caller(), Arc::clone(edge), task.id.clone());
    let call = Box::pin(async move {
        let answer = rounds::answer(task, dialogue).await;
        Some(edge_of_call.answers.hold(caller, &id, answer))
    });
    stream::respond(edge, call, spool, accepts, None).await
}

/// The way back to a client of this revision, and what is said on it.
pub(crate) fn port(head: &RequestHead, outlet: Option<Outlet>) -> (Port, Arc<Dialogue>) {
    let route = Route { progress_token: head.progress_token.clone(), outlet };
    let dialogue = Arc::new(Dialogue::begin(route));
    let declared = head.capabilities.clone().unwrap_or_default();
    let port = Port {
        logs: Logs::Request(head.log_level),
        capabilities: Arc::new(ClientCapabilities { declared }),
        way: Way::Rounds(Arc::clone(&dialogue)),
    };
    (port, dialogue)
}

enum Fault {
    Header(HeaderFault),
    Request(RequestFault),
}

fn read(
    headers: &HeaderMap,
    name: &str,
    params: Option<&Json>,
) -> Result<(ClientRequest, RequestHead), Fault> {
    let said = named::PROTOCOL_VERSION.single(headers).map_err(Fault::Header)?;
    let missing = Fault::Header(HeaderFault::Missing(header::PROTOCOL_VERSION));
    let said = said.ok_or(missing)?;
    named::METHOD.check(headers, name).map_err(Fault::Header)?;
    let (request, head) = read_request(VERSION, name, params).map_err(|fault| match &fault {
        RequestFault::UnsupportedVersion(date) => {
            match header::check(header::PROTOCOL_VERSION, Some(said), date) {
                Ok(()) => Fault::Request(fault),
                Err(fault) => Fault::Header(fault),
            }
        }
        RequestFault::UnknownMethod(_) | RequestFault::InvalidParams(_) | RequestFault::InvalidHead(_) => {
            Fault::Request(fault)
        }
    })?;
    // The method went with the handshake, and the conformance suite demands its refusal.
    if name == method::PING {
        return Err(Fault::Request(RequestFault::UnknownMethod(name.to_owned())));
    }
    if let Some(expected) = name_header(&request) {
        named::NAME.check(headers, expected).map_err(Fault::Header)?;
    }
    Ok((request, head))
}
