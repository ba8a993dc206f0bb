//! Keeps the catalogue fresh: one worker per backend asks for its inventory when something changed and from time to
//! time, so a slow backend delays nobody else, and a storm of changes becomes one refresh after another, never two
//! at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use vmcp_domain::{BackendState, CallContext, Caller, Origin};

use crate::catalogue::Part;
use crate::checks::LookFailure;
use crate::shared::{Member, Shared};

/// How many backends are asked for their inventory at once, as far as they answer.
pub(crate) const DISCOVERY_COUNT_MAX: usize = 10;
/// How long requests wait for backends that have neither answered nor failed yet, from the start of the gateway.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(15);
/// The least time between two refreshes of one backend.
pub(crate) const SPACING: Duration = Duration::from_millis(100);
/// How long a backend waits for others that are being asked, each perhaps for as long as connecting may take.
const DISCOVERY_WAIT: Duration = Duration::from_secs(1);
/// How long to wait before asking a connected backend again that did not give its inventory; doubled each time, up
/// to the interval of health checks.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the workers. They end when the federation is dropped.
pub(crate) fn start(shared: &Arc<Shared>) {
    let places = (0..shared.members.len()).filter(|place| !shared.personal.has(*place));
    for place in places {
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
    let mut failures = 0_u32;
    let (mut first, mut is_overdue) = (true, false);
    loop {
        let Some(shared) = federation.upgrade() else { return };
        let Some(member) = shared.members.get(place).cloned() else { return };
        let health = shared.health;
        // The first look waits as long as connecting may take; later ones are health checks.
        let fresh = look(&shared, &member, place, (!first).then_some(health.timeout)).await;
        if std::mem::take(&mut first) {
            shared.unsettled.send_modify(|count| *count = count.saturating_sub(1));
        }
        failures = if fresh { 0 } else { failures.saturating_add(1) };
        if failures >= health.unhealthy_threshold {
            withdraw(&shared, place);
            // A connection may be at fault in a way that no single answer tells. One that is at work is left alone; a
            // call that is never answered ends by its own time-out.
            is_overdue |= ends_connection(failures, health.unhealthy_threshold);
            is_overdue = is_overdue && !member.backend.reconnect();
        }
        is_overdue &= !fresh;
        // Nothing of the federation is held while waiting, or it could never be dropped.
        drop(shared);
        let pause = match member.backend.status().state {
            BackendState::Ready if !fresh => {
                (RETRY * 2_u32.saturating_pow(failures.min(10))).min(health.interval)
            }
            // A backend that is away says so when it returns.
            BackendState::Ready
            | BackendState::Connecting
            | BackendState::Unavailable
            | BackendState::Stopped => health.interval,
        };
        tokio::time::sleep(SPACING).await;
        // Either way it is time to look again.
        let _ = tokio::time::timeout(pause, member.wake.notified()).await;
    }
}

/// True when so many failed checks in a row are reason to make a new connection: at the threshold, and ever more rarely
/// after that.
fn ends_connection(failures: u32, threshold: u32) -> bool {
    failures.is_multiple_of(threshold) && (failures / threshold).is_power_of_two()
}

/// Asks for the inventory and publishes it. Returns whether there was one.
async fn look(shared: &Shared, member: &Member, place: usize, bound: Option<Duration>) -> bool {
    let backend = &member.backend;
    let ctx = CallContext::bare(Caller::Anonymous, Origin::Gateway);
    let inventory = {
        // Ten backends that never answer must not hold up the eleventh: after a while it is asked beside them.
        let _permit = tokio::time::timeout(DISCOVERY_WAIT, shared.discoveries.acquire()).await;
        match bound {
            None => backend.inventory(&ctx).await,
            Some(bound) => match tokio::time::timeout(bound, backend.inventory(&ctx)).await {
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
            let part = Part { backend: backend.id().clone(), inventory: Arc::new(inventory), present: true };
            shared.record(place, |slot| *slot = Some(part));
            member.checked(None);
            true
        }
        Err(error) => {
            let cause = error.cause().map_or("", |cause| cause.for_log());
            tracing::warn!(backend = %backend.id(), error = %error, cause, "backend not listed");
            member.checked(Some(LookFailure::of(&error, cause)));
            false
        }
    }
}

/// Takes a backend out of the lists; its claims to names stay.
fn withdraw(shared: &Shared, place: usize) {
    shared.record(place, |slot| {
        if let Some(part) = slot.as_mut().filter(|part| part.present) {
            tracing::warn!(backend = %part.backend, "backend withdrawn from the lists until it returns");
            part.present = false;
        }
    });
}
