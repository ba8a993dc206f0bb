//! Waits for a backend's connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::connection::Connection;
use crate::connection::close_signal::CloseReason;
use crate::failure::{Failure, FailureClass};
use crate::lifecycle::supervised::{Phase, SupervisedConnection};

/// How much longer than an attempt a wait lasts. An attempt that begins with the wait ends first, so that its reason
/// is known when the wait fails.
const MARGIN: Duration = Duration::from_secs(1);

/// Waits until the backend is ready, at most for the connect time-out and [`MARGIN`]. It waits while the backend is being
/// connected, and fails at once if the backend is unavailable or stopped.
pub(crate) async fn wait_until_ready(supervised: &SupervisedConnection) -> Result<Arc<Connection>, Failure> {
    if let Phase::Ready(connection) = &*supervised.phase.borrow()
        && connection.link.close_signal().reason().is_none()
    {
        return Ok(Arc::clone(connection));
    }
    Box::pin(wait_for_phase(supervised)).await
}

async fn wait_for_phase(supervised: &SupervisedConnection) -> Result<Arc<Connection>, Failure> {
    let mut phase = supervised.phase.subscribe();
    let waiting = async {
        loop {
            match &*phase.borrow_and_update() {
                Phase::Ready(connection) => match connection.link.close_signal().reason() {
                    None => return Ok(Arc::clone(connection)),
                    Some(CloseReason::Failed(class)) => {
                        return Err(Failure::not_sent(class, "the connection has just ended"));
                    }
                    Some(CloseReason::SessionLost(_)) => {}
                },
                Phase::Connecting => {}
                Phase::Unavailable(class) => return Err(Failure::not_sent(*class, "not connected")),
                Phase::Stopped => return Err(Failure::not_sent(FailureClass::Exited, "stopped")),
            }
            if phase.changed().await.is_err() {
                return Err(Failure::not_sent(FailureClass::Exited, "stopped"));
            }
        }
    };
    let late = || Failure::not_sent(FailureClass::Timeout, "still being connected");
    timeout(supervised.policy.timeouts.connect.saturating_add(MARGIN), waiting).await.map_err(|_| late())?
}
