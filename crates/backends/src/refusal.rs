//! What an HTTP error of a streamable backend means: an answer of the backend itself, a session or revision it no
//! longer knows, refused credentials, or a plain failure.

use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::timeout;
use vmcp_domain::{Json, Members};
use vmcp_wire::client::{read_discover, speaks_2026_07_28};
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

/// How long the backend has to say whether it still knows the session. The caller waits for that beside its own answer.
const CONFIRMING_WAIT: Duration = Duration::from_secs(3);

/// A request that failed, and how its response looked.
pub(crate) struct Refusal {
    status: StatusCode,
    /// The error in the response is addressed to the request, so that the backend has read it.
    is_own: bool,
    /// What it comes to.
    pub(crate) failure: Failure,
}

/// A failure after a response of success, or without any.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { status: StatusCode::OK, is_own: true, failure }
    }
}

/// Reads an unsuccessful response to request `id`.
pub(crate) async fn read(link: &Streamable, id: u64, response: Response<Arriving>) -> Refusal {
    let status = response.status();
    let pause = pause::asked_for(response.headers()).filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
    let said = said(id, response).await;
    let is_own = said.as_ref().is_some_and(|said| said.own);
    let failure = match pause {
        Some(pause) => Failure::Busy(pause, said.map(|said| said.error)),
        None => failure(link, status, said),
    };
    Refusal { status, is_own, failure }
}

fn failure(link: &Streamable, status: StatusCode, said: Option<Said>) -> Failure {
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

/// True for an error that has to do with a session.
fn is_about_session(error: &RpcError) -> bool {
    error.code == SESSION_NOT_FOUND || error.message.to_ascii_lowercase().contains("session")
}

/// True for an error that says that there is no such session. An error in the course of a call may speak of a session too:
/// that a process has ended, say, or a browser. Some SDKs give a request that timed out the code -32001.
fn names_no_session(error: &RpcError) -> bool {
    const WORDS: [&str; 9] = [
        "not found",
        "unknown",
        "invalid",
        "no valid",
        "no such",
        "expired",
        "not exist",
        "unrecognized",
        "not recognized",
    ];
    let message = error.message.to_ascii_lowercase();
    if error.code == SESSION_NOT_FOUND {
        return !message.contains("time");
    }
    message.contains("session") && WORDS.iter().any(|word| message.contains(word))
}

/// Servers say in many ways that they no longer know a session: by the status that the specification has for it, by
/// others, by -32001, or in words.
fn suspicion(method: &str, refusal: &Refusal, error: Option<&RpcError>) -> Suspicion {
    let status = refusal.status;
    match (status, error) {
        (_, Some(error)) if names_no_session(error) => Suspicion::Unread,
        (status, Some(error)) if is_about_session(error) => {
            if status.is_client_error() {
                Suspicion::Unread
            } else {
                Suspicion::Undecided
            }
        }
        // No server lacks the methods that its own lists lead to.
        (StatusCode::NOT_FOUND, Some(error)) if error.code == code::METHOD_NOT_FOUND => {
            let is_listed =
                [method::TOOLS_CALL, method::TOOLS_LIST, method::RESOURCES_READ, method::PROMPTS_GET];
            if is_listed.contains(&method) { Suspicion::Unread } else { Suspicion::None }
        }
        // Some servers give every error of a call a status of 400 or 404.
        (_, Some(_)) if refusal.is_own => Suspicion::None,
        (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST, _) => Suspicion::Unread,
        (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, None) => Suspicion::Unread,
        (status, None) if status.is_server_error() => Suspicion::Undecided,
        (_, Some(_) | None) => Suspicion::None,
    }
}

/// What a failed request in a session comes to, once the backend has been asked whether it still knows the session.
/// A new session is begun where it does not; the request is made again only if it certainly did not happen.
pub(crate) async fn in_session(link: &Streamable, method: &str, refusal: Refusal) -> Failure {
    let error = match &refusal.failure {
        Failure::Refused(error) => Some(error),
        Failure::Broken(Class::Status, _) => None,
        Failure::Stale(..)
        | Failure::NotSent(..)
        | Failure::Broken(..)
        | Failure::Overloaded
        | Failure::Full
        | Failure::Paused(_)
        | Failure::Busy(..) => return refusal.failure,
    };
    let suspicion = suspicion(method, &refusal, error);
    // Even the specification's own 404 is asked about: some servers answer so to a single request, and a new session
    // would cost every caller the state of the old one.
    if suspicion == Suspicion::None || !is_forgotten(link, refusal.status, error).await {
        return refusal.failure;
    }
    match (suspicion, refusal.failure) {
        (Suspicion::Unread, Failure::Refused(error)) => Failure::Stale(Class::Status, Some(error)),
        (Suspicion::Unread, _) => Failure::Stale(Class::Status, None),
        (Suspicion::Undecided | Suspicion::None, failure) => {
            link.life().lose(Loss::Forgotten(Class::Status));
            failure
        }
    }
}

/// True when the response to ping `id` says that there is no such session. A server without `ping` may give its own error
/// the same status.
pub(crate) async fn denies_session(id: u64, response: Response<Arriving>) -> bool {
    let is_not_found = response.status() == StatusCode::NOT_FOUND;
    match said(id, response).await {
        Some(said) if said.own => is_not_found && is_about_session(&said.error),
        Some(_) | None => is_not_found,
    }
}

/// What a refusal without sessions comes to that may mean another revision: the backend is asked whether it still speaks
/// this one. `params` are those of the request. Some servers answer so to a single request.
pub(crate) async fn in_revision(link: &Streamable, params: &Json, refusal: Refusal) -> Failure {
    let Failure::Stale(class, error) = refusal.failure else { return refusal.failure };
    let is_spoken = timeout(CONFIRMING_WAIT, speaks_on(link, params)).await.unwrap_or(false);
    if is_spoken { plain(refusal.status, error) } else { Failure::Stale(class, error) }
}

/// True when the backend introduces itself as it did when the connection began.
async fn speaks_on(link: &Streamable, params: &Json) -> bool {
    let Ok(ticket) = link.flights().enter(Purpose::Upkeep) else { return false };
    let meta = params.members().ok().and_then(|mut params| params.take("_meta"));
    let params: Members = meta.into_iter().map(|meta| ("_meta".to_owned(), meta)).collect();
    let request = Request::upkeep(method::DISCOVER, params.to_json());
    match link.open(ticket.id(), request).await {
        Ok((response, _)) if response.status().is_success() => {
            let found = link.read(ticket.id(), response, false).await;
            found.is_ok_and(|found| read_discover(&found).is_ok())
        }
        Ok(_) | Err(_) => false,
    }
}

/// Asks the backend whether it still knows the session. Silence says nothing.
async fn is_forgotten(link: &Streamable, status: StatusCode, error: Option<&RpcError>) -> bool {
    timeout(CONFIRMING_WAIT, refuses_ping(link, status, error)).await.unwrap_or(false)
}

/// True when a ping is refused because of its session: in words, or like the request by a status and no error of its own.
async fn refuses_ping(link: &Streamable, status: StatusCode, error: Option<&RpcError>) -> bool {
    let Ok(ticket) = link.flights().enter(Purpose::Upkeep) else {
        return false;
    };
    let request = Request::upkeep(method::PING, Json::empty_object());
    let Ok((response, _)) = link.open(ticket.id(), request).await else { return false };
    let found = response.status();
    if found.is_success() {
        let outcome = link.read(ticket.id(), response, false).await;
        return matches!(outcome, Err(Failure::Refused(error)) if is_about_session(&error));
    }
    match said(ticket.id(), response).await {
        Some(said) if is_about_session(&said.error) => true,
        // A server without `ping` knows the session; one that says the same to every request does not.
        Some(Said { error: ping, .. }) if ping.code == code::METHOD_NOT_FOUND => {
            error.is_some_and(|error| error.code == ping.code && error.message == ping.message)
        }
        Some(said) if said.own => false,
        Some(_) | None => {
            found == status
                || matches!(found, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE)
        }
    }
}
