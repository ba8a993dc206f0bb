//! Keeps the catalogue fresh: one worker per backend asks for its inventory when something changed, so a slow
//! backend delays nobody else, and a storm of changes becomes one refresh after another, never two at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use vmcp_domain::BackendState;

use crate::catalogue::Part;
use crate::federation::Shared;

/// How many backends are asked for their inventory at once.
pub(crate) const DISCOVERY_COUNT_MAX: usize = 10;
/// How long requests wait for backends that have neither answered nor failed yet, from the start of the gateway.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(15);
/// How long a backend that went away keeps its place in the lists. A restart in between goes unnoticed by clients;
/// calls in the meantime are answered with "unavailable".
const LOST_GRACE: Duration = Duration::from_secs(15);
/// The least time between two refreshes of one backend.
const SPACING: Duration = Duration::from_millis(100);
/// How long to wait before asking a connected backend again that did not give its inventory, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Starts the workers. They end when the federation is dropped.
pub(crate) fn start(shared: &Arc<Shared>) {
    for place in 0..shared.members.len() {
        tokio::spawn(work(Arc::downgrade(shared), place));
    }
    let waiting = Arc::downgrade(shared);
    tokio::spawn(async move {
        tokio::time::sleep(FIRST_WAIT).await;
        if let Some(shared) = waiting.upgrade() {
            shared.unsettled.send_replace(0);
        }
    });
}

async fn work(federation: Weak<Shared>, place: usize) {
    let mut retry = RETRY.0;
    let mut first = true;
    loop {
        let Some(shared) = federation.upgrade() else {
            return;
        };
        let Some(member) = shared.members.get(place).cloned() else {
            return;
        };
        let pause = match look(&shared, place).await {
            Look::Fresh => {
                retry = RETRY.0;
                None
            }
            Look::Failed => {
                retry = (retry * 2).min(RETRY.1);
                Some(retry)
            }
            Look::Away => Some(LOST_GRACE),
        };
        if std::mem::take(&mut first) {
            shared
                .unsettled
                .send_modify(|count| *count = count.saturating_sub(1));
        }
        // Nothing of the federation is held while waiting, or it could never be dropped.
        drop(shared);
        tokio::time::sleep(SPACING).await;
        match pause {
            None => member.wake.notified().await,
            Some(pause) => {
                let quiet = tokio::time::timeout(pause, member.wake.notified()).await.is_err();
                if let Some(shared) = federation.upgrade().filter(|_| quiet) {
                    withdraw_if_away(&shared, place);
                }
            }
        }
    }
}

enum Look {
    Fresh,
    Failed,
    Away,
}

async fn look(shared: &Shared, place: usize) -> Look {
    let Some(member) = shared.members.get(place) else {
        return Look::Away;
    };
    let backend = &member.backend;
    let inventory = {
        // The semaphore is never closed; without a permit the backend would merely be asked a little early.
        let _permit = shared.discoveries.acquire().await;
        backend.inventory().await
    };
    match inventory {
        Ok(inventory) => {
            tracing::info!(
                backend = %backend.id(),
                tools = inventory.tools.len(),
                resources = inventory.resources.len() + inventory.templates.len(),
                prompts = inventory.prompts.len(),
                "backend listed"
            );
            let part = Part {
                backend: backend.id().clone(),
                inventory: Arc::new(inventory),
                present: true,
            };
            shared.record(place, |slot| *slot = Some(part));
            Look::Fresh
        }
        Err(error) => {
            let cause = error.cause().map_or("", |cause| cause.for_log());
            tracing::warn!(backend = %backend.id(), error = %error, cause, "backend not listed");
            if backend.status().state == BackendState::Ready {
                Look::Failed
            } else {
                Look::Away
            }
        }
    }
}

/// Takes a backend that has been away for the whole grace out of the lists; its claims to names stay.
fn withdraw_if_away(shared: &Shared, place: usize) {
    let Some(member) = shared.members.get(place) else {
        return;
    };
    if member.backend.status().state == BackendState::Ready {
        return;
    }
    shared.record(place, |slot| {
        if let Some(part) = slot.as_mut().filter(|part| part.present) {
            tracing::warn!(backend = %part.backend, "backend withdrawn from the lists until it returns");
            part.present = false;
        }
    });
}
