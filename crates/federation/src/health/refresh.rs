//! Keeps the catalogue fresh: one worker per backend asks for its inventory when something changed and from time to
//! time, so a slow backend delays nobody else, and a storm of changes becomes one refresh after another, never two
//! at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use vmcp_domain::{BackendState, CallContext, CallOrigin, Caller};

use crate::catalogue::BackendListing;
use crate::health::health_checks::CheckFailure;
use crate::state::{BackendEntry, FederationState};

/// How many backends are asked for their inventory at once, as far as they answer.
pub(crate) const DISCOVERY_COUNT_MAX: usize = 10;
/// How long requests wait for backends that have neither answered nor failed yet, from the start of the gateway.
pub(crate) const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// The least time between two refreshes of one backend.
pub(crate) const REFRESH_SPACING_MIN: Duration = Duration::from_millis(100);
/// How long a backend waits for others that are being asked, each perhaps for as long as connecting may take.
const DISCOVERY_SLOT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait before asking a connected backend again that did not give its inventory; doubled each time, up
/// to the interval of health checks.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

/// Starts the workers. They end when the federation is dropped.
pub(crate) fn spawn_workers(shared: &Arc<FederationState>) {
    let places = (0..shared.backends.len()).filter(|place| !shared.caller_views.contains(*place));
    for place in places {
        tokio::spawn(run_worker(Arc::downgrade(shared), place));
    }
    let waiting = Arc::downgrade(shared);
    tokio::spawn(async move {
        tokio::time::sleep(DISCOVERY_TIMEOUT).await;
        if let Some(shared) = waiting.upgrade() {
            shared.undiscovered.send_replace(0);
        }
    });
}

async fn run_worker(federation: Weak<FederationState>, place: usize) {
    let mut failures = 0_u32;
    let (mut first, mut is_overdue) = (true, false);
    loop {
        let Some(shared) = federation.upgrade() else { return };
        let Some(member) = shared.backends.get(place).cloned() else { return };
        let health = shared.health;
        // The first look waits as long as connecting may take; later ones are health checks.
        let fresh = refresh_backend(&shared, &member, place, (!first).then_some(health.timeout)).await;
        if std::mem::take(&mut first) {
            shared.undiscovered.send_modify(|count| *count = count.saturating_sub(1));
        }
        failures = if fresh { 0 } else { failures.saturating_add(1) };
        if failures >= health.unhealthy_threshold {
            withdraw(&shared, place);
            // A connection may be at fault in a way that no single answer tells. One that is at work is left alone; a
            // call that is never answered ends by its own time-out.
            is_overdue |= should_reconnect(failures, health.unhealthy_threshold);
            is_overdue = is_overdue && !member.backend.reconnect();
        }
        is_overdue &= !fresh;
        // Nothing of the federation is held while waiting, or it could never be dropped.
        drop(shared);
        let pause = match member.backend.status().state {
            BackendState::Ready if !fresh => {
                (RETRY_DELAY_MIN * 2_u32.saturating_pow(failures.min(10))).min(health.interval)
            }
            // A backend that is away says so when it returns.
            BackendState::Ready
            | BackendState::Connecting
            | BackendState::Unavailable
            | BackendState::Stopped => health.interval,
        };
        tokio::time::sleep(REFRESH_SPACING_MIN).await;
        // Either way it is time to look again.
        let _ = tokio::time::timeout(pause, member.refresh_signal.notified()).await;
    }
}

/// True when so many failed checks in a row are reason to make a new connection: at the threshold, and ever more rarely
/// after that.
fn should_reconnect(failures: u32, threshold: u32) -> bool {
    failures.is_multiple_of(threshold) && (failures / threshold).is_power_of_two()
}

/// Asks for the inventory and publishes it. Returns whether there was one.
async fn refresh_backend(
    shared: &FederationState,
    member: &BackendEntry,
    place: usize,
    bound: Option<Duration>,
) -> bool {
    let backend = &member.backend;
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Gateway);
    let inventory = {
        // Ten backends that never answer must not hold up the eleventh: after a while it is asked beside them.
        let _permit = tokio::time::timeout(DISCOVERY_SLOT_TIMEOUT, shared.discovery_slots.acquire()).await;
        match bound {
            None => backend.fetch_inventory(&ctx).await,
            Some(bound) => match tokio::time::timeout(bound, backend.fetch_inventory(&ctx)).await {
                Ok(inventory) => inventory,
                Err(_) => Err(vmcp_domain::Error::DeadlineExceeded),
            },
        }
    };
    match inventory {
        Ok(inventory) => {
            tracing::debug!(
                backend = %backend.id(),
                tools = inventory.tools.len(),
                resources = inventory.resources.len() + inventory.templates.len(),
                prompts = inventory.prompts.len(),
                "backend listed"
            );
            let part = BackendListing {
                backend: backend.id().clone(),
                inventory: Arc::new(inventory),
                is_available: true,
            };
            shared.update_listing(place, |slot| *slot = Some(part));
            member.record_check(None);
            true
        }
        Err(error) => {
            let cause = error.cause().map_or("", |cause| cause.for_log());
            tracing::warn!(backend = %backend.id(), error = %error, cause, "backend not listed");
            member.record_check(Some(CheckFailure::from_error(&error, cause)));
            false
        }
    }
}

/// Takes a backend out of the lists; its claims to names stay.
fn withdraw(shared: &FederationState, place: usize) {
    shared.update_listing(place, |slot| {
        if let Some(part) = slot.as_mut().filter(|part| part.is_available) {
            tracing::warn!(backend = %part.backend, "backend withdrawn from the lists until it returns");
            part.is_available = false;
        }
    });
}
