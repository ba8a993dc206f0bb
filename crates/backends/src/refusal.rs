//! What an HTTP error of a streamable backend means: an answer of the backend itself, a session or revision it no
//! longer knows, refused credentials, or a plain failure.

use http::{Response, StatusCode};
use vmcp_domain::Json;
use vmcp_wire::client::speaks_2026_07_28;
use vmcp_wire::code;
use vmcp_wire::jsonrpc::{self, Message, RpcError};
use vmcp_wire::method;

use crate::arriving::Arriving;
use crate::body::{self, ERROR_BYTES_MAX};
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::life::Loss;
use crate::link::{Link, Request};
use crate::pause;
use crate::streamable::Streamable;

/// The code that SDKs answer with to a session they do not know. No revision of the specification defines it.
const SESSION_NOT_FOUND: i64 = -32001;

/// Reads an unsuccessful response to request `id`.
pub(crate) async fn read(link: &Streamable, id: u64, response: Response<Arriving>) -> Failure {
    let status = response.status();
    let pause = pause::asked_for(response.headers()).filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
    let said = said(id, response).await;
    if let Some(pause) = pause {
        return Failure::Busy(pause, said.map(|said| said.error));
    }
    if let Some(said) = &said
        && said.own
        && !suspect(link, status, &said.error)
    {
        return Failure::Refused(said.error.clone());
    }
    let error = said.map(|said| said.error);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::not_sent(Class::Auth, status),
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if link.is_stateless() => match error {
            Some(error) if speaks_2026_07_28(&error) && error.code != code::UNSUPPORTED_VERSION => {
                Failure::Refused(error)
            }
            error => Failure::Stale(Class::Protocol, error),
        },
        StatusCode::TOO_MANY_REQUESTS => {
            error.map_or_else(|| Failure::not_sent(Class::Status, status), Failure::Refused)
        }
        status => plain(status, error),
    }
}

fn plain(status: StatusCode, error: Option<RpcError>) -> Failure {
    error.map_or_else(|| Failure::broken(Class::Status, status), Failure::Refused)
}

/// True for errors that are about the connection although they are addressed to the request.
fn suspect(link: &Streamable, status: StatusCode, error: &RpcError) -> bool {
    status == StatusCode::BAD_REQUEST && link.is_stateless() && error.code == code::UNSUPPORTED_VERSION
}

/// A JSON-RPC error in the body, and whether it is addressed to our request.
struct Said {
    error: RpcError,
    own: bool,
}

async fn said(id: u64, response: Response<Arriving>) -> Option<Said> {
    let bytes = body::whole(response.into_body(), ERROR_BYTES_MAX).await.ok()?;
    let mut said = None;
    jsonrpc::hear(bytes, |message| {
        if let Ok(Message::Response { id: of, outcome: Err(error) }) = message {
            let own = of.is_some_and(|of| of.as_number() == Some(id));
            said.get_or_insert(Said { error, own });
        }
    });
    said
}

/// What an error in a session may say about the session itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// Nothing.
    None,
    /// It may be gone, and the request was refused unread if it is.
    Unread,
    /// It may be gone, and the request may have happened.
    Undecided,
}

/// Servers say in many ways that they no longer know a session: by the status that the specification has for it, by
/// others, by -32001, or in words.
fn suspicion(status: StatusCode, method: &str, error: Option<&RpcError>) -> Suspicion {
    let in_words = |error: &RpcError| {
        error.code == SESSION_NOT_FOUND || error.message.to_ascii_lowercase().contains("session")
    };
    match (status, error) {
        (_, Some(error)) if in_words(error) => Suspicion::Unread,
        // No server lacks the methods that its own lists lead to.
        (StatusCode::NOT_FOUND, Some(error)) if error.code == code::METHOD_NOT_FOUND => {
            let is_listed =
                [method::TOOLS_CALL, method::TOOLS_LIST, method::RESOURCES_READ, method::PROMPTS_GET];
            if is_listed.contains(&method) { Suspicion::Unread } else { Suspicion::None }
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST, _) => Suspicion::Unread,
        (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, None) => Suspicion::Unread,
        (status, None) if status.is_server_error() => Suspicion::Undecided,
        (_, Some(_) | None) => Suspicion::None,
    }
}

/// What a failed request in a session comes to, once the backend has been asked whether it still knows the session.
/// A new session is begun where it does not; the request is made again only if it certainly did not happen.
pub(crate) async fn in_session(
    link: &Streamable,
    method: &str,
    status: StatusCode,
    failure: Failure,
) -> Failure {
    let error = match &failure {
        Failure::Refused(error) => Some(error),
        Failure::Broken(Class::Status, _) => None,
        Failure::Stale(..)
        | Failure::NotSent(..)
        | Failure::Broken(..)
        | Failure::Overloaded
        | Failure::Full
        | Failure::Busy(..) => return failure,
    };
    let suspicion = suspicion(status, method, error);
    // Even the specification's own 404 is asked about: some servers answer so to a single request, and a new session
    // would cost every caller the state of the old one.
    if suspicion == Suspicion::None || !forgotten(link, status).await {
        return failure;
    }
    match (suspicion, failure) {
        (Suspicion::Unread, Failure::Refused(error)) => Failure::Stale(Class::Status, Some(error)),
        (Suspicion::Unread, _) => Failure::Stale(Class::Status, None),
        (Suspicion::Undecided | Suspicion::None, failure) => {
            link.life().lose(Loss::Forgotten(Class::Status));
            failure
        }
    }
}

/// Asks the backend whether it still knows the session. Only a refusal counts, in words or by a status of the kind that
/// the request got; silence says nothing.
async fn forgotten(link: &Streamable, status: StatusCode) -> bool {
    let Ok(ticket) = link.flights().enter(Purpose::Upkeep) else {
        return false;
    };
    let request = Request::upkeep(method::PING, Json::empty_object());
    let Ok((response, _)) = link.open(ticket.id(), request).await else { return false };
    let found = response.status();
    if !found.is_success() {
        return found == status
            || matches!(found, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE);
    }
    match link.read(ticket.id(), response, false).await {
        Err(Failure::Refused(error)) => {
            error.code == SESSION_NOT_FOUND || error.message.to_ascii_lowercase().contains("session")
        }
        Ok(_) | Err(_) => false,
    }
}
