//! The beginning over streamable HTTP: `server/discover` posted as 2026-07-28 has it, else `initialize`.

use std::time::Duration;

use http::header::HeaderValue;
use http::{Response, StatusCode, Uri};
use tokio::time::timeout;
use vmcp_domain::ProtocolVersion;
use vmcp_wire::client::{Introduction, read_initialize};
use vmcp_wire::{header, method};

use super::{discover, initialize, read_probe, unusable};
use crate::GatewayIdentity;
use crate::arriving::Arriving;
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::link::Request;
use crate::refusal;
use crate::streamable::{Base, Streamable};

/// How long the probe may stay unanswered: some servers of the session era open a stream for it and say nothing.
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// Finds out the revision and shakes hands where there is a handshake.
pub(crate) async fn begin(
    base: &Base,
    uri: &Uri,
    identity: &GatewayIdentity,
    connect_wait: Duration,
) -> Result<(Streamable, Introduction), Failure> {
    let stateless = Some(ProtocolVersion::V2026_07_28);
    let link = Streamable::new(base, uri.clone(), stateless, None);
    let probe = timeout(PROBE_WAIT.min(connect_wait / 2), post(base, &link, discover(identity)));
    match probe.await {
        Ok(Ok(answered)) => {
            if let Some(introduction) = read_probe(&answered.outcome) {
                let link = Streamable::new(base, answered.uri, stateless, None);
                return Ok((link, introduction));
            }
            if decides_nothing(answered.status) {
                return answered.outcome.and(Err(Failure::broken(Class::Status, answered.status)));
            }
        }
        Ok(Err(
            failure @ (Failure::NotSent(..) | Failure::Overloaded | Failure::Busy(..) | Failure::Paused(_)),
        )) => {
            return Err(failure);
        }
        // Hung up or silent: what a server of the session era may do with a message it does not expect.
        Ok(Err(_)) | Err(_) => {}
    }
    shake_hands(base, uri, identity).await
}

/// True when a failed handshake may mean that the server speaks HTTP+SSE (2025-11-25, Transports, "Backwards
/// Compatibility"): its address does not take messages.
pub(crate) fn may_be_sse(failure: &Failure) -> bool {
    match failure {
        Failure::Broken(Class::Status, cause) => {
            ["400", "404", "405", "406", "415"].iter().any(|status| cause.starts_with(status))
        }
        Failure::Refused(_) | Failure::Broken(Class::Protocol, _) => true,
        Failure::Stale(..)
        | Failure::NotSent(..)
        | Failure::Broken(..)
        | Failure::Overloaded
        | Failure::Full
        | Failure::Busy(..)
        | Failure::Paused(_) => false,
    }
}

/// True for a status that says something about credentials or the moment, nothing about the revision.
fn decides_nothing(status: StatusCode) -> bool {
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

/// The handshake of a backend that has sessions.
pub(crate) async fn shake_hands(
    base: &Base,
    uri: &Uri,
    identity: &GatewayIdentity,
) -> Result<(Streamable, Introduction), Failure> {
    let link = Streamable::new(base, uri.clone(), None, None);
    let answered = post(base, &link, initialize(identity)).await?;
    let introduction = read_initialize(&answered.outcome?).map_err(|fault| unusable(&fault))?;
    let link = Streamable::new(base, answered.uri, Some(introduction.version), answered.session);
    match link.notify(method::INITIALIZED).await {
        Err(failure @ Failure::NotSent(..)) => return Err(failure),
        Ok(status) if status.is_success() => {}
        outcome => {
            tracing::debug!(?outcome, "the backend did not take the end of the handshake as it should")
        }
    }
    Ok((link, introduction))
}

struct Answered {
    status: StatusCode,
    uri: Uri,
    session: Option<HeaderValue>,
    outcome: Result<vmcp_domain::Json, Failure>,
}

async fn post(base: &Base, link: &Streamable, request: Request) -> Result<Answered, Failure> {
    let ticket = base.flights.enter(Purpose::Upkeep)?;
    let (response, uri) = link.open(ticket.id(), request).await?;
    let status = response.status();
    let session = response.headers().get(header::SESSION_ID).cloned();
    Ok(Answered { status, uri, session, outcome: outcome(link, ticket.id(), response).await })
}

async fn outcome(
    link: &Streamable,
    id: u64,
    response: Response<Arriving>,
) -> Result<vmcp_domain::Json, Failure> {
    if response.status().is_success() {
        return link.read(id, response, false).await;
    }
    let failure = refusal::read(link, id, response).await.failure;
    // Nothing has been agreed that could have been forgotten.
    Err(match failure {
        Failure::Stale(_, Some(error)) => Failure::Refused(error),
        Failure::Refused(_)
        | Failure::Stale(..)
        | Failure::NotSent(..)
        | Failure::Broken(..)
        | Failure::Overloaded
        | Failure::Full
        | Failure::Busy(..)
        | Failure::Paused(_) => failure,
    })
}
