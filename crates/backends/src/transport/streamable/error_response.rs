//! What an HTTP error of a streamable backend means: an answer of the backend itself, a lost session or an
//! unsupported protocol version, refused credentials, or another failure.

use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::timeout;
use vmcp_json::{Json, Members};
use vmcp_wire::client::{is_stateless_error, read_discover};
use vmcp_wire::jsonrpc::{self, Message, RpcError};
use vmcp_wire::{code, method};

use crate::connection::close_signal::CloseReason;
use crate::connection::link::{Link, McpRequest};
use crate::connection::pending_requests::Purpose;
use crate::failure::{Failure, FailureClass};
use crate::http::response_body::ResponseBody;
use crate::http::response_reader::{self, ERROR_BODY_BYTES_MAX};
use crate::http::retry_after;
use crate::transport::streamable::StreamableHttpLink;

/// The error code that SDKs send for an unknown session. No version of the specification defines it.
const SESSION_NOT_FOUND: i64 = -32001;

/// Time-out for the check whether the backend still knows the session or the version. The caller waits for it
/// in addition to its own answer.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(3);

/// A failed request, with the properties of its response.
pub(crate) struct ErrorResponse {
    status: StatusCode,
    /// The error in the response has the identifier of the request, so the backend has read the request.
    is_addressed: bool,
    /// The failure that follows from the response.
    pub(crate) failure: Failure,
}

/// A failure after a success response, or without any response.
impl From<Failure> for ErrorResponse {
    fn from(failure: Failure) -> Self {
        Self { status: StatusCode::OK, is_addressed: true, failure }
    }
}

/// Reads an unsuccessful response to request `id`.
pub(crate) async fn read_error_response(
    link: &StreamableHttpLink,
    id: u64,
    response: Response<ResponseBody>,
) -> ErrorResponse {
    let status = response.status();
    let delay =
        retry_after::from_headers(response.headers()).filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
    let addressed_error = read_addressed_error(id, response).await;
    let is_addressed = addressed_error.as_ref().is_some_and(|addressed_error| addressed_error.is_addressed);
    let failure = match delay {
        Some(delay) => Failure::Busy(delay, addressed_error.map(|addressed_error| addressed_error.error)),
        None => classify(link, status, addressed_error),
    };
    ErrorResponse { status, is_addressed, failure }
}

fn classify(
    link: &StreamableHttpLink,
    status: StatusCode,
    addressed_error: Option<AddressedError>,
) -> Failure {
    if let Some(addressed_error) = &addressed_error
        && addressed_error.is_addressed
        && !is_connection_error(link, status, &addressed_error.error)
    {
        return Failure::Refused(addressed_error.error.clone());
    }
    let error = addressed_error.map(|addressed_error| addressed_error.error);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::not_sent(FailureClass::Auth, status),
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if link.is_stateless() => match error {
            Some(error) if is_stateless_error(&error) && error.code != code::UNSUPPORTED_VERSION => {
                Failure::Refused(error)
            }
            error => Failure::StaleConnection(FailureClass::Protocol, error),
        },
        StatusCode::TOO_MANY_REQUESTS => {
            error.map_or_else(|| Failure::not_sent(FailureClass::Status, status), Failure::Refused)
        }
        status => status_failure(status, error),
    }
}

/// A server error is a failure of the backend even if its body has an error: without the identifier of the
/// request, that error is not the answer to it, and may come from a proxy.
fn status_failure(status: StatusCode, error: Option<RpcError>) -> Failure {
    match error {
        Some(error) if !status.is_server_error() => Failure::Refused(error),
        Some(error) => {
            Failure::indeterminate(FailureClass::Status, format_args!("{status}: {}", error.message))
        }
        None => Failure::indeterminate(FailureClass::Status, status),
    }
}

/// True for errors that concern the connection although they have the identifier of the request.
fn is_connection_error(link: &StreamableHttpLink, status: StatusCode, error: &RpcError) -> bool {
    status == StatusCode::BAD_REQUEST && link.is_stateless() && error.code == code::UNSUPPORTED_VERSION
}

/// A JSON-RPC error in the body, and whether it has the identifier of the request.
struct AddressedError {
    error: RpcError,
    is_addressed: bool,
}

async fn read_addressed_error(id: u64, response: Response<ResponseBody>) -> Option<AddressedError> {
    let bytes = response_reader::read_whole(response.into_body(), ERROR_BODY_BYTES_MAX).await.ok()?;
    let mut addressed_error = None;
    jsonrpc::parse_lenient(bytes, |message| {
        if let Ok(Message::Response { id: of, outcome: Err(error) }) = message {
            let is_addressed = of.is_some_and(|of| of.as_number() == Some(id));
            addressed_error.get_or_insert(AddressedError { error, is_addressed });
        }
    });
    addressed_error
}

/// What an error in a session suggests about the session itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LossSuspicion {
    /// The session is not suspected.
    None,
    /// The session may be gone. If it is, the request was refused unread.
    NotProcessed,
    /// The session may be gone, and the request may have been executed.
    MaybeProcessed,
}

/// True for an error that concerns a session.
fn is_about_session(error: &RpcError) -> bool {
    error.code == SESSION_NOT_FOUND || error.message.to_ascii_lowercase().contains("session")
}

/// True for an error that reports an unknown session. An error during a call may mention a session too, for
/// example that of a process or a browser that has ended. Some SDKs give a request that timed out the code
/// -32001.
fn is_session_unknown(error: &RpcError) -> bool {
    const UNKNOWN_SESSION_PHRASES: [&str; 9] = [
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
    message.contains("session") && UNKNOWN_SESSION_PHRASES.iter().any(|word| message.contains(word))
}

/// Decides whether an error suggests a lost session. Servers report that in many ways: by the status of the
/// specification, by other statuses, by -32001, or in words.
fn suspect_session_loss(
    method: &str,
    error_response: &ErrorResponse,
    error: Option<&RpcError>,
) -> LossSuspicion {
    let status = error_response.status;
    match (status, error) {
        (_, Some(error)) if is_session_unknown(error) => LossSuspicion::NotProcessed,
        (status, Some(error)) if is_about_session(error) => {
            if status.is_client_error() {
                LossSuspicion::NotProcessed
            } else {
                LossSuspicion::MaybeProcessed
            }
        }
        // Every server implements the methods that its own lists lead to.
        (StatusCode::NOT_FOUND, Some(error)) if error.code == code::METHOD_NOT_FOUND => {
            let is_listed =
                [method::TOOLS_CALL, method::TOOLS_LIST, method::RESOURCES_READ, method::PROMPTS_GET];
            if is_listed.contains(&method) { LossSuspicion::NotProcessed } else { LossSuspicion::None }
        }
        // Some servers answer every error of a call with status 400 or 404.
        (_, Some(_)) if error_response.is_addressed => LossSuspicion::None,
        (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST, _) => {
            LossSuspicion::NotProcessed
        }
        (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, None) => LossSuspicion::NotProcessed,
        (status, None) if status.is_server_error() => LossSuspicion::MaybeProcessed,
        (_, Some(_) | None) => LossSuspicion::None,
    }
}

/// Decides what a failed request in a session means, after asking the backend whether it still knows the
/// session. If it does not, a new session is started. The request is repeated only if it was certainly not
/// executed.
pub(crate) async fn confirm_session(
    link: &StreamableHttpLink,
    method: &str,
    error_response: ErrorResponse,
) -> Failure {
    let error = match &error_response.failure {
        Failure::Refused(error) => Some(error),
        Failure::Indeterminate(FailureClass::Status, _) => None,
        Failure::StaleConnection(..)
        | Failure::NotSent(..)
        | Failure::Indeterminate(..)
        | Failure::Overloaded
        | Failure::ConnectionsFull
        | Failure::Paused(_)
        | Failure::Busy(..) => return error_response.failure,
    };
    let suspicion = suspect_session_loss(method, &error_response, error);
    // Even the 404 of the specification is verified. Some servers refuse a single request with it, and a new
    // session would cost every caller the state of the old one.
    if suspicion == LossSuspicion::None || !is_session_forgotten(link, error_response.status, error).await {
        return error_response.failure;
    }
    match (suspicion, error_response.failure) {
        (LossSuspicion::NotProcessed, Failure::Refused(error)) => {
            Failure::StaleConnection(FailureClass::Status, Some(error))
        }
        (LossSuspicion::NotProcessed, _) => Failure::StaleConnection(FailureClass::Status, None),
        (LossSuspicion::MaybeProcessed | LossSuspicion::None, failure) => {
            link.close_signal().close(CloseReason::SessionLost(FailureClass::Status));
            failure
        }
    }
}

/// True if the response to ping `id` says that there is no such session. A server without `ping` may send its
/// own error with the same status.
pub(crate) async fn is_session_denied(id: u64, response: Response<ResponseBody>) -> bool {
    let is_not_found = response.status() == StatusCode::NOT_FOUND;
    match read_addressed_error(id, response).await {
        Some(addressed_error) if addressed_error.is_addressed => {
            is_not_found && is_about_session(&addressed_error.error)
        }
        Some(_) | None => is_not_found,
    }
}

/// Decides what a refusal without sessions means that may indicate another protocol version. The backend is
/// asked whether it still speaks this version, because some servers refuse a single request in the same way.
/// `params` are those of the request.
pub(crate) async fn confirm_revision(
    link: &StreamableHttpLink,
    params: &Json,
    error_response: ErrorResponse,
) -> Failure {
    let Failure::StaleConnection(class, error) = error_response.failure else {
        return error_response.failure;
    };
    let is_spoken = timeout(CONFIRM_TIMEOUT, is_revision_spoken(link, params)).await.unwrap_or(false);
    if is_spoken {
        status_failure(error_response.status, error)
    } else {
        Failure::StaleConnection(class, error)
    }
}

/// True if the backend still introduces itself by `server/discover`, as it did at the start of the
/// connection.
async fn is_revision_spoken(link: &StreamableHttpLink, params: &Json) -> bool {
    let Ok(handle) = link.pending_requests().register(Purpose::Maintenance) else { return false };
    let meta = params.members().ok().and_then(|mut params| params.remove("_meta"));
    let params: Members = meta.into_iter().map(|meta| ("_meta".to_owned(), meta)).collect();
    let request = McpRequest::maintenance(method::DISCOVER, params.to_json());
    match link.post_request(handle.id(), request).await {
        Ok((response, _)) if response.status().is_success() => {
            let found = link.read_outcome(handle.id(), response, false).await;
            found.is_ok_and(|found| read_discover(&found).is_ok())
        }
        Ok(_) | Err(_) => false,
    }
}

/// Asks the backend whether it still knows the session. Without an answer the session counts as known.
async fn is_session_forgotten(
    link: &StreamableHttpLink,
    status: StatusCode,
    error: Option<&RpcError>,
) -> bool {
    timeout(CONFIRM_TIMEOUT, is_ping_refused(link, status, error)).await.unwrap_or(false)
}

/// True if a ping is refused because of its session: by an error that concerns a session, or by a status like
/// that of the request without an error of its own.
async fn is_ping_refused(link: &StreamableHttpLink, status: StatusCode, error: Option<&RpcError>) -> bool {
    let Ok(handle) = link.pending_requests().register(Purpose::Maintenance) else {
        return false;
    };
    let request = McpRequest::maintenance(method::PING, Json::empty_object());
    let Ok((response, _)) = link.post_request(handle.id(), request).await else { return false };
    let found = response.status();
    if found.is_success() {
        let outcome = link.read_outcome(handle.id(), response, false).await;
        return matches!(outcome, Err(Failure::Refused(error)) if is_about_session(&error));
    }
    match read_addressed_error(handle.id(), response).await {
        Some(addressed_error) if is_about_session(&addressed_error.error) => true,
        // A server that lacks `ping` knows the session. A server that sends the same error to every request
        // does not.
        Some(AddressedError { error: ping, .. }) if ping.code == code::METHOD_NOT_FOUND => {
            error.is_some_and(|error| error.code == ping.code && error.message == ping.message)
        }
        Some(addressed_error) if addressed_error.is_addressed => false,
        Some(_) | None => {
            found == status
                || matches!(found, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE)
        }
    }
}
