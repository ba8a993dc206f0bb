//! Messages of versions with sessions that HTTP and stdio handle in the same way: the handshake, and
//! notifications of the client.

use vmcp_domain::{Caller, ClientCapabilities, ProtocolVersion};
use vmcp_json::Json;
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::method;
use vmcp_wire::server::{
    ClientNotification, ClientRequest, RequestError, read_notification, read_request, supported_versions,
    write_message,
};

use crate::http::response::{Answer, MessageBytes};
use crate::sessions::{Session, SessionClient};
use crate::state::EdgeState;

/// The largest set of client capabilities that a session keeps, in bytes.
const CAPABILITIES_BYTES_MAX: usize = 16 << 10;

/// Reads `initialize`. The returned version is the requested one if it is supported and has sessions, else
/// the newest with sessions.
pub(crate) fn read_initialize(caller: Caller, params: Option<&Json>) -> Result<SessionClient, RequestError> {
    let read = read_request(ProtocolVersion::NEWEST_WITH_SESSIONS, method::INITIALIZE, params)?;
    let (ClientRequest::Initialize(initialize), _) = read else {
        return Err(RequestError::UnknownMethod(method::INITIALIZE.to_owned()));
    };
    let requested = ProtocolVersion::parse(&initialize.version)
        .filter(|version| version.has_sessions() && supported_versions().contains(version));
    // A copy, so that the session does not keep the whole request body in memory.
    let declared = initialize.capabilities.to_json();
    if declared.as_str().len() > CAPABILITIES_BYTES_MAX {
        let text = format!("`capabilities` must not exceed {CAPABILITIES_BYTES_MAX} bytes");
        return Err(RequestError::InvalidParams(text));
    }
    Ok(SessionClient {
        caller,
        version: requested.unwrap_or(ProtocolVersion::NEWEST_WITH_SESSIONS),
        capabilities: ClientCapabilities { declared: declared.members().unwrap_or_default() },
    })
}

/// The answer to `initialize`.
pub(crate) fn initialize_answer(edge: &EdgeState, id: &Id, session: &Session) -> Answer {
    let (version, overview) = (session.version, edge.gateway_info.overview(&session.caller));
    let write = |out: &mut Vec<u8>| edge.result_writer.write_initialize(out, version, &overview);
    Answer::result(MessageBytes::whole(write_message(id, 1024, write)))
}

/// Executes a notification. Only `notifications/cancelled` has an effect.
pub(crate) fn handle_notification(session: &Session, name: &str, params: Option<&Json>) {
    match read_notification(name, params) {
        ClientNotification::Cancelled(id) => session.in_flight.cancel(&id),
        ClientNotification::Initialized
        | ClientNotification::RootsChanged
        | ClientNotification::Progress(_)
        | ClientNotification::Other => {}
    }
}
