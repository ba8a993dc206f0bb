//! The start of a connection over streamable HTTP: posts `server/discover` as 2026-07-28 defines it,
//! otherwise `initialize`.

use std::time::Duration;

use http::header::HeaderValue;
use http::{Response, StatusCode, Uri};
use tokio::time::timeout;
use vmcp_domain::ProtocolVersion;
use vmcp_wire::client::{InitializeInfo, read_initialize};
use vmcp_wire::{header, method};

use super::{discover_request, handshake_failure, initialize_request, parse_discover_outcome};
use crate::ClientInfo;
use crate::connection::link::McpRequest;
use crate::connection::pending_requests::Purpose;
use crate::failure::{Failure, FailureClass};
use crate::http::response_body::ResponseBody;
use crate::transport::streamable::error_response;
use crate::transport::streamable::{StreamableContext, StreamableHttpLink};

/// Time-out of the probe: some servers with sessions open a stream for it and send nothing.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds out the protocol version, and performs the handshake if the version has one.
pub(crate) async fn negotiate(
    context: &StreamableContext,
    uri: &Uri,
    client_info: &ClientInfo,
    connect_timeout: Duration,
) -> Result<(StreamableHttpLink, InitializeInfo), Failure> {
    let stateless = Some(ProtocolVersion::V2026_07_28);
    let link = StreamableHttpLink::new(context, uri.clone(), stateless, None);
    let probe = timeout(
        PROBE_TIMEOUT.min(connect_timeout / 2),
        post_and_read(context, &link, discover_request(client_info)),
    );
    match probe.await {
        Ok(Ok(response)) => {
            if let Some(initialize_info) = parse_discover_outcome(&response.outcome) {
                let link = StreamableHttpLink::new(context, response.uri, stateless, None);
                return Ok((link, initialize_info));
            }
            if is_inconclusive(response.status) {
                return response
                    .outcome
                    .and(Err(Failure::indeterminate(FailureClass::Status, response.status)));
            }
        }
        Ok(Err(
            failure @ (Failure::NotSent(..) | Failure::Overloaded | Failure::Busy(..) | Failure::Paused(_)),
        )) => {
            return Err(failure);
        }
        // The server closed the connection or did not answer. A server with sessions may do so with an
        // unexpected message.
        Ok(Err(_)) | Err(_) => {}
    }
    handshake(context, uri, client_info).await
}

/// True if a failed handshake may mean that the server speaks HTTP+SSE (2025-11-25, Transports, "Backwards
/// Compatibility"): its address does not accept messages.
pub(crate) fn may_be_sse(failure: &Failure) -> bool {
    match failure {
        Failure::Indeterminate(FailureClass::Status, cause) => {
            ["400", "404", "405", "406", "415"].iter().any(|status| cause.starts_with(status))
        }
        Failure::Refused(_) | Failure::Indeterminate(FailureClass::Protocol | FailureClass::WebPage, _) => {
            true
        }
        Failure::StaleConnection(..)
        | Failure::NotSent(..)
        | Failure::Indeterminate(..)
        | Failure::Overloaded
        | Failure::ConnectionsFull
        | Failure::Busy(..)
        | Failure::Paused(_) => false,
    }
}

/// True for a status about credentials or a temporary condition, which says nothing about the protocol
/// version.
fn is_inconclusive(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Performs the handshake with a backend that has sessions.
pub(crate) async fn handshake(
    context: &StreamableContext,
    uri: &Uri,
    client_info: &ClientInfo,
) -> Result<(StreamableHttpLink, InitializeInfo), Failure> {
    let link = StreamableHttpLink::new(context, uri.clone(), None, None);
    let response = post_and_read(context, &link, initialize_request(client_info)).await?;
    let initialize_info = read_initialize(&response.outcome?).map_err(|fault| handshake_failure(&fault))?;
    let link =
        StreamableHttpLink::new(context, response.uri, Some(initialize_info.version), response.session);
    match link.send_notification(method::INITIALIZED).await {
        Err(failure @ Failure::NotSent(..)) => return Err(failure),
        Ok(status) if status.is_success() => {}
        outcome => {
            tracing::debug!(?outcome, "the backend did not take the end of the handshake as it should")
        }
    }
    Ok((link, initialize_info))
}

struct ProbeResponse {
    status: StatusCode,
    uri: Uri,
    session: Option<HeaderValue>,
    outcome: Result<vmcp_json::Json, Failure>,
}

async fn post_and_read(
    context: &StreamableContext,
    link: &StreamableHttpLink,
    request: McpRequest,
) -> Result<ProbeResponse, Failure> {
    let handle = context.pending_requests.register(Purpose::Maintenance)?;
    let (response, uri) = link.post_request(handle.id(), request).await?;
    let status = response.status();
    let session = response.headers().get(header::SESSION_ID).cloned();
    Ok(ProbeResponse { status, uri, session, outcome: read_outcome(link, handle.id(), response).await })
}

async fn read_outcome(
    link: &StreamableHttpLink,
    id: u64,
    response: Response<ResponseBody>,
) -> Result<vmcp_json::Json, Failure> {
    if response.status().is_success() {
        return link.read_outcome(id, response, false).await;
    }
    let failure = error_response::read_error_response(link, id, response).await.failure;
    // Nothing has been agreed yet that the backend could have forgotten.
    Err(match failure {
        Failure::StaleConnection(_, Some(error)) => Failure::Refused(error),
        Failure::Refused(_)
        | Failure::StaleConnection(..)
        | Failure::NotSent(..)
        | Failure::Indeterminate(..)
        | Failure::Overloaded
        | Failure::ConnectionsFull
        | Failure::Busy(..)
        | Failure::Paused(_) => failure,
    })
}
