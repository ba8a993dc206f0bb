//! The start of a connection over a shared channel (stdio, HTTP+SSE). A server that starts slowly reads its
//! input late. The probe therefore stays open when `initialize` is sent after it, and the request that is
//! answered decides.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use vmcp_json::Json;
use vmcp_wire::client::{InitializeInfo, read_initialize};
use vmcp_wire::method;

use super::{discover_request, handshake_failure, initialize_request, parse_discover_outcome};
use crate::ClientInfo;
use crate::connection::link::{Link, McpRequest};
use crate::connection::pending_requests::{Purpose, RequestHandle};
use crate::failure::Failure;
use crate::transport::duplex::DuplexLink;

/// How long the probe may stay unanswered once the backend has written some output.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the probe may stay unanswered without any output: some servers install themselves first.
const SILENT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the handshake may stay unanswered after a late answer to the probe.
const LATE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds out the protocol version, and performs the handshake if needed. `first_output` is cancelled at the
/// backend's first output.
pub(crate) async fn negotiate(
    link: &DuplexLink,
    client_info: &ClientInfo,
    first_output: &CancellationToken,
    connect_timeout: Duration,
) -> Result<InitializeInfo, Failure> {
    let handle = link.pending_requests().register(Purpose::Maintenance)?;
    let mut probe = link.exchange(&handle, discover_request(client_info));
    let probe_outcome = tokio::select! {
        outcome = &mut probe => Some(outcome),
        () = wait_for_probe(first_output, connect_timeout) => None,
    };
    let Some(outcome) = probe_outcome else {
        return probe_and_handshake(link, client_info, probe).await;
    };
    match (parse_discover_outcome(&outcome), outcome) {
        (Some(initialize_info), _) => {
            link.set_version(initialize_info.version);
            Ok(initialize_info)
        }
        (None, Ok(_) | Err(Failure::Refused(_))) => handshake(link, client_info).await,
        (None, Err(failure)) => Err(failure),
    }
}

async fn wait_for_probe(first_output: &CancellationToken, connect_timeout: Duration) {
    let half = connect_timeout / 2;
    let silent = timeout(SILENT_TIMEOUT.min(half), first_output.cancelled()).await;
    if silent.is_ok() {
        sleep(ACTIVE_TIMEOUT.min(half)).await;
    }
}

/// Waits for the probe and the handshake concurrently.
async fn probe_and_handshake(
    link: &DuplexLink,
    client_info: &ClientInfo,
    mut probe: impl Future<Output = Result<Json, Failure>> + Unpin,
) -> Result<InitializeInfo, Failure> {
    let mut handshake = Box::pin(handshake(link, client_info));
    let outcome = tokio::select! {
        outcome = &mut probe => outcome,
        handshake_outcome = &mut handshake => match handshake_outcome {
            Err(Failure::Refused(error)) => {
                // The backend refused the handshake. The answer to the probe is still in flight, or there is
                // none.
                let outcome = probe.await;
                let initialize_info = parse_discover_outcome(&outcome).ok_or(Failure::Refused(error))?;
                link.set_version(initialize_info.version);
                return Ok(initialize_info);
            }
            handshake_outcome => return handshake_outcome,
        },
    };
    let Some(initialize_info) = parse_discover_outcome(&outcome) else {
        return handshake.await;
    };
    // A server that speaks both 2026-07-28 and a version with sessions has received `initialize`, and answers
    // it.
    match timeout(LATE_HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(handshake_outcome)) => Ok(handshake_outcome),
        Ok(Err(Failure::Refused(_))) | Err(_) => {
            link.set_version(initialize_info.version);
            Ok(initialize_info)
        }
        Ok(Err(failure)) => Err(failure),
    }
}

/// Performs the handshake: `initialize`, its answer, `notifications/initialized`.
pub(crate) async fn handshake(
    link: &DuplexLink,
    client_info: &ClientInfo,
) -> Result<InitializeInfo, Failure> {
    let handle: RequestHandle = link.pending_requests().register(Purpose::Maintenance)?;
    let request: McpRequest = initialize_request(client_info);
    let result = link.exchange(&handle, request).await?;
    let initialize_info = read_initialize(&result).map_err(|fault| handshake_failure(&fault))?;
    link.set_version(initialize_info.version);
    link.send_notification(method::INITIALIZED).await?;
    Ok(initialize_info)
}
