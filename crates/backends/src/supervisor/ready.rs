//! Waiting for a backend's connection.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Phase, Shared};
use crate::connection::Connection;
use crate::failure::{Class, Failure};
use crate::life::Loss;

/// Waits for the backend to be ready. A backend being connected is waited for; one that is not reachable is not.
pub(crate) async fn ready(shared: &Shared) -> Result<Arc<Connection>, Failure> {
    if let Phase::Ready(connection) = &*shared.phase.borrow()
        && connection.link.life().loss().is_none()
    {
        return Ok(Arc::clone(connection));
    }
    Box::pin(becoming_ready(shared)).await
}

async fn becoming_ready(shared: &Shared) -> Result<Arc<Connection>, Failure> {
    let mut phase = shared.phase.subscribe();
    let waiting = async {
        loop {
            match &*phase.borrow_and_update() {
                Phase::Ready(connection) => match connection.link.life().loss() {
                    None => return Ok(Arc::clone(connection)),
                    Some(Loss::Failed(class)) => {
                        return Err(Failure::not_sent(class, "the connection has just ended"));
                    }
                    Some(Loss::Forgotten(_)) => {}
                },
                Phase::Connecting => {}
                Phase::Unavailable(class) => return Err(Failure::not_sent(*class, "not connected")),
                Phase::Stopped => return Err(Failure::not_sent(Class::Exited, "stopped")),
            }
            if phase.changed().await.is_err() {
                return Err(Failure::not_sent(Class::Exited, "stopped"));
            }
        }
    };
    let late = || Failure::not_sent(Class::Timeout, "still being connected");
    timeout(shared.policy.timeouts.connect, waiting).await.map_err(|_| late())?
}
