//! The beginning over a shared channel (stdio, HTTP+SSE). A server that starts slowly reads its input late, so the
//! probe is not given up when `initialize` is sent after it: whichever is answered decides.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use vmcp_domain::Json;
use vmcp_wire::client::{Introduction, read_initialize};
use vmcp_wire::method;

use super::{discover, initialize, read_probe, unusable};
use crate::GatewayIdentity;
use crate::duplex::Duplex;
use crate::failure::Failure;
use crate::flights::{Purpose, Ticket};
use crate::link::{Link, Request};

/// How long the probe may stay unanswered once the backend has given a sign of life.
const LIVELY_WAIT: Duration = Duration::from_secs(3);
/// How long it may stay unanswered while there is none: some servers install themselves first.
const SILENT_WAIT: Duration = Duration::from_secs(8);
/// How long the handshake may stay unanswered when the probe has been answered after all.
const LATE_WAIT: Duration = Duration::from_secs(5);

/// Finds out the revision and shakes hands. `alive` is cancelled at the backend's first sign of life.
pub(crate) async fn begin(
    link: &Duplex,
    identity: &GatewayIdentity,
    alive: &CancellationToken,
    connect_wait: Duration,
) -> Result<Introduction, Failure> {
    let ticket = link.flights().enter(Purpose::Upkeep)?;
    let mut probe = link.exchange(&ticket, discover(identity));
    let early = tokio::select! {
        outcome = &mut probe => Some(outcome),
        () = patience(alive, connect_wait) => None,
    };
    let Some(outcome) = early else {
        return both(link, identity, probe).await;
    };
    match (read_probe(&outcome), outcome) {
        (Some(introduction), _) => {
            link.speak(introduction.version);
            Ok(introduction)
        }
        (None, Ok(_) | Err(Failure::Refused(_))) => shake_hands(link, identity).await,
        (None, Err(failure)) => Err(failure),
    }
}

async fn patience(alive: &CancellationToken, connect_wait: Duration) {
    let half = connect_wait / 2;
    let silent = timeout(SILENT_WAIT.min(half), alive.cancelled()).await;
    if silent.is_ok() {
        sleep(LIVELY_WAIT.min(half)).await;
    }
}

/// Waits for the probe and the handshake together.
async fn both(
    link: &Duplex,
    identity: &GatewayIdentity,
    mut probe: impl Future<Output = Result<Json, Failure>> + Unpin,
) -> Result<Introduction, Failure> {
    let mut handshake = Box::pin(shake_hands(link, identity));
    let outcome = tokio::select! {
        outcome = &mut probe => outcome,
        shaken = &mut handshake => match shaken {
            Err(Failure::Refused(error)) => {
                // No handshake there. The probe is still on its way, or has no answer.
                let outcome = probe.await;
                let introduction = read_probe(&outcome).ok_or(Failure::Refused(error))?;
                link.speak(introduction.version);
                return Ok(introduction);
            }
            shaken => return shaken,
        },
    };
    let Some(introduction) = read_probe(&outcome) else {
        return handshake.await;
    };
    // A server of both eras has been asked for the session era, and answers so.
    match timeout(LATE_WAIT, handshake).await {
        Ok(Ok(shaken)) => Ok(shaken),
        Ok(Err(Failure::Refused(_))) | Err(_) => {
            link.speak(introduction.version);
            Ok(introduction)
        }
        Ok(Err(failure)) => Err(failure),
    }
}

/// Shakes hands: `initialize`, its answer, `notifications/initialized`.
pub(crate) async fn shake_hands(link: &Duplex, identity: &GatewayIdentity) -> Result<Introduction, Failure> {
    let ticket: Ticket = link.flights().enter(Purpose::Upkeep)?;
    let request: Request = initialize(identity);
    let result = link.exchange(&ticket, request).await?;
    let introduction = read_initialize(&result).map_err(|fault| unusable(&fault))?;
    link.speak(introduction.version);
    link.notify(method::INITIALIZED).await?;
    Ok(introduction)
}
