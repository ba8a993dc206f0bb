//! Requests of 2026-07-28 over HTTP. A request is self-contained, and its headers must mirror parts of its
//! body (Streamable HTTP, "Request Metadata"). Sessions are ignored.

use std::sync::Arc;

use http::{HeaderMap, Response};
use vmcp_domain::{ClientCapabilities, ProtocolVersion};
use vmcp_json::Json;
use vmcp_wire::header::{self, HeaderError};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::method;
use vmcp_wire::server::{ClientRequest, Refusal, RequestError, RequestMeta, mcp_name_value, read_request};

use crate::http::authentication::AuthenticatedHead;
use crate::http::body::ResponseBody;
use crate::http::event_buffer::EventBuffer;
use crate::http::event_stream;
use crate::http::guard::Accepts;
use crate::http::protocol_headers;
use crate::http::request_observer::ObservedMessage;
use crate::http::response::{self, Answer};
use crate::request::client_port::{Delivery, LogLevelSource, RequestClientPort};
use crate::request::dispatch::{self, RequestJob};
use crate::request::message_sender::MessageSender;
use crate::state::EdgeState;
use crate::v2026_07_28::listen;
use crate::v2026_07_28::round_state::{RoundOutput, RoundState};
use crate::v2026_07_28::rounds;

const VERSION: ProtocolVersion = ProtocolVersion::V2026_07_28;

/// Serves one request.
pub(crate) async fn serve(
    edge: &Arc<EdgeState>,
    head: AuthenticatedHead,
    accepts: Accepts,
    id: Id,
    (name, params): (&str, Option<&Json>),
    observed: &mut ObservedMessage,
) -> Response<ResponseBody> {
    let AuthenticatedHead { parts, peer } = head;
    let (request, head) = match read_checked(&parts.headers, name, params) {
        Ok(read) => read,
        Err(ReadError::Header(fault)) => {
            return response::refusal_response(&Refusal::Header(fault), Some(&id));
        }
        // A ping without `_meta` is not a request of this version. The Go SDK sends it, and closes its client
        // if it is refused.
        Err(ReadError::Request(RequestError::InvalidEnvelope(_))) if name == method::PING => {
            return response::json_response(dispatch::empty_result(edge, VERSION, &id));
        }
        Err(ReadError::Request(fault)) => {
            let (status, error) = fault.answer(VERSION);
            return response::json_response(Answer::error(status, Some(&id), &error));
        }
    };
    observed.set_subject(&request);
    if let ClientRequest::Listen(filter) = request {
        return Box::pin(listen::open_stream(edge, accepts, &id, (filter, head), &peer)).await;
    }
    let slot = match edge.admit(&peer) {
        Ok(slot) => slot,
        Err(refusal) => return response::refusal_response(&refusal, Some(&id)),
    };
    let buffer = Arc::new(EventBuffer::non_resumable());
    let sender = accepts.events.then(|| MessageSender::Stream(Arc::clone(&buffer)));
    let (port, round_state) = client_port(&head, sender);
    let ctx = edge.call_context(peer, VERSION, head, Some(&parts), Arc::new(port));
    let params = Some(parts.headers);
    let job =
        RequestJob { edge: Arc::clone(edge), ctx, session: None, id, request, param_headers: params, slot };
    let (caller, edge_of_call, id) = (job.slot.caller(), Arc::clone(edge), job.id.clone());
    let call = Box::pin(async move {
        let answer = rounds::run(job, round_state).await;
        Some(edge_of_call.answer_memory.charge(caller, &id, answer))
    });
    event_stream::respond(edge, call, buffer, accepts, None).await
}

/// Creates the client port of a request of this version, and its round state.
pub(crate) fn client_port(
    head: &RequestMeta,
    sender: Option<MessageSender>,
) -> (RequestClientPort, Arc<RoundState>) {
    let output = RoundOutput { progress_token: head.progress_token.clone(), sender };
    let round_state = Arc::new(RoundState::new(output));
    let declared = head.capabilities.clone().unwrap_or_default();
    let client_port = RequestClientPort {
        log_level_source: LogLevelSource::Request(head.log_level),
        capabilities: Arc::new(ClientCapabilities { declared }),
        delivery: Delivery::Rounds(Arc::clone(&round_state)),
    };
    (client_port, round_state)
}

enum ReadError {
    Header(HeaderError),
    Request(RequestError),
}

fn read_checked(
    headers: &HeaderMap,
    name: &str,
    params: Option<&Json>,
) -> Result<(ClientRequest, RequestMeta), ReadError> {
    let version_header =
        protocol_headers::PROTOCOL_VERSION.single_value(headers).map_err(ReadError::Header)?;
    let missing = ReadError::Header(HeaderError::Missing(header::PROTOCOL_VERSION));
    let version_header = version_header.ok_or(missing)?;
    protocol_headers::METHOD.check(headers, name).map_err(ReadError::Header)?;
    let (request, head) = read_request(VERSION, name, params).map_err(|fault| match &fault {
        RequestError::UnsupportedVersion(date) => {
            match header::check(header::PROTOCOL_VERSION, Some(version_header), date) {
                Ok(()) => ReadError::Request(fault),
                Err(fault) => ReadError::Header(fault),
            }
        }
        RequestError::UnknownMethod(_)
        | RequestError::InvalidParams(_)
        | RequestError::InvalidEnvelope(_) => ReadError::Request(fault),
    })?;
    // This version removed `ping` together with the handshake, and the conformance suite requires an error.
    if name == method::PING {
        return Err(ReadError::Request(RequestError::UnknownMethod(name.to_owned())));
    }
    if let Some(expected) = mcp_name_value(&request) {
        protocol_headers::NAME.check(headers, expected).map_err(ReadError::Header)?;
    }
    Ok((request, head))
}
