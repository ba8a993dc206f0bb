//! Keeps the catalogue up to date. One worker for each backend fetches its inventory when the backend reports
//! a change, and once in each interval as a health check. A slow backend therefore does not delay others. A
//! burst of changes causes one refresh after another, never two of one backend at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use vmcp_domain::{BackendState, CallContext, CallOrigin, Caller};

use crate::catalogue::BackendListing;
use crate::catalogue::stable_lists::stabilise;
use crate::health::health_checks::CheckFailure;
use crate::health::timing::{DISCOVERY_TIMEOUT, REFRESH_SPACING_MIN};
use crate::state::BackendEntry;
use crate::views::CatalogueViews;

/// How long a worker waits for a slot while other backends are fetched, each of which may take the whole
/// connect time-out.
const DISCOVERY_SLOT_TIMEOUT: Duration = Duration::from_secs(1);
/// The base of the back-off after a failed fetch from a connected backend. The pause is this time doubled for
/// each consecutive failure, at most ten times, and at most the interval of health checks.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

/// Starts one worker for each backend with shared lists, and the time-out of discovery. The workers end after
/// the federation is dropped.
pub(crate) fn spawn_workers(views: &Arc<CatalogueViews>) {
    let backend_indices =
        (0..views.shared.backends.len()).filter(|backend_index| !views.caller_views.contains(*backend_index));
    for backend_index in backend_indices {
        tokio::spawn(run_worker(Arc::downgrade(views), backend_index));
    }
    let waiting = Arc::downgrade(views);
    tokio::spawn(async move {
        tokio::time::sleep(DISCOVERY_TIMEOUT).await;
        if let Some(views) = waiting.upgrade() {
            views.shared.end_discovery();
        }
    });
}

async fn run_worker(views: Weak<CatalogueViews>, backend_index: usize) {
    let mut failures = 0_u32;
    let (mut first, mut is_overdue) = (true, false);
    loop {
        let Some(views) = views.upgrade() else { return };
        let Some(member) = views.shared.backends.get(backend_index).cloned() else { return };
        let health = views.shared.health;
        // The first fetch may take as long as connecting takes. Later fetches are health checks with their
        // own time-out.
        let fresh = refresh_backend(&views, &member, backend_index, (!first).then_some(health.timeout)).await;
        if std::mem::take(&mut first) {
            if !fresh {
                // Lists of an earlier process are served while the backend is awaited, not when it is away.
                withdraw(&views, backend_index);
            }
            views.shared.record_first_answer(backend_index);
        }
        failures = if fresh { 0 } else { failures.saturating_add(1) };
        if failures >= health.unhealthy_threshold {
            withdraw(&views, backend_index);
            // The connection itself may be broken although no single answer shows it, so it is replaced. A
            // connection with a call in flight is kept, since a call that is never answered ends with its own
            // time-out.
            is_overdue |= should_reconnect(failures, health.unhealthy_threshold);
            is_overdue = is_overdue && !member.backend.reconnect();
        }
        is_overdue &= !fresh;
        // The worker must not hold the state while it waits, or the state would never be dropped.
        drop(views);
        let pause = match member.backend.status().state {
            BackendState::Ready if !fresh => {
                (RETRY_DELAY_MIN * 2_u32.saturating_pow(failures.min(10))).min(health.interval)
            }
            // An unreachable backend sends an event when it has connected again.
            BackendState::Ready
            | BackendState::Connecting
            | BackendState::Unavailable
            | BackendState::Stopped => health.interval,
        };
        tokio::time::sleep(REFRESH_SPACING_MIN).await;
        // A notification and the end of the pause both lead to the next fetch.
        let _ = tokio::time::timeout(pause, member.refresh_signal.notified()).await;
    }
}

/// True when this number of consecutive failed checks is a reason for a new connection: at 1, 2, 4, 8, …
/// times the threshold, so that reconnects become rarer.
fn should_reconnect(failures: u32, threshold: u32) -> bool {
    failures.is_multiple_of(threshold) && (failures / threshold).is_power_of_two()
}

/// Fetches the backend's inventory, publishes it and records the result as a health check. `check_timeout` is the
/// time-out of the fetch. Returns whether the fetch succeeded.
async fn refresh_backend(
    views: &CatalogueViews,
    member: &BackendEntry,
    backend_index: usize,
    check_timeout: Option<Duration>,
) -> bool {
    let backend = &member.backend;
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Gateway);
    let inventory = {
        // Backends that never answer must not block the others, so the fetch starts without a slot after a
        // time-out.
        let _permit =
            tokio::time::timeout(DISCOVERY_SLOT_TIMEOUT, views.shared.discovery_slots.acquire()).await;
        match check_timeout {
            None => backend.fetch_inventory(&ctx).await,
            Some(check_timeout) => {
                match tokio::time::timeout(check_timeout, backend.fetch_inventory(&ctx)).await {
                    Ok(inventory) => inventory,
                    Err(_) => Err(vmcp_domain::Error::DeadlineExceeded),
                }
            }
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
            let (inventory, pin_findings) = views.shared.review(backend.id(), inventory, false);
            views.update_listing(backend_index, |slot| {
                let inventory = match slot {
                    Some(earlier) => stabilise(inventory, &earlier.inventory),
                    None => inventory,
                };
                *slot = Some(BackendListing {
                    backend: backend.id().clone(),
                    inventory: Arc::new(inventory),
                    is_available: true,
                    pin_findings,
                    is_stale: false,
                });
            });
            member.record_check(None);
            true
        }
        // The gateway is shutting down, and has stopped the backend itself.
        Err(_) if backend.status().state == BackendState::Stopped => false,
        Err(error) => {
            let cause = error.cause().map_or("", |cause| cause.for_log());
            let failure = CheckFailure::from_error(&error, cause);
            // A failure to connect is logged by the transport, and each failure once.
            let is_logged = backend.status().connect_failure.is_some()
                || member.checks.lock().failure.as_ref() == Some(&failure);
            if is_logged {
                tracing::debug!(backend = %backend.id(), error = %error, cause, "backend not listed");
            } else {
                tracing::warn!(backend = %backend.id(), error = %error, cause, "backend not listed");
            }
            member.record_check(Some(failure));
            false
        }
    }
}

/// Marks a backend as unavailable, so that its items are not listed. Its names stay reserved.
fn withdraw(views: &CatalogueViews, backend_index: usize) {
    views.update_listing(backend_index, |slot| {
        if let Some(part) = slot.as_mut().filter(|part| part.is_available) {
            tracing::warn!(backend = %part.backend, "backend withdrawn from the lists until it returns");
            part.is_available = false;
        }
    });
}
