//! Starts the limiter of a running gateway and shuts it down.

use std::sync::Arc;
use std::time::Duration;

use vmcp_config::LimitSettings;
use vmcp_domain::{CallContext, CallOrigin, Caller, Gateway as _};
use vmcp_federation::Federation;
use vmcp_ratelimit::{Limiter, Observer, Planner, SavedLevels, Sharing};
use vmcp_ratelimit_redis::RedisStore;
use vmcp_timing::Clock;

use super::levels::LevelsFile;

/// How long the start waits for the shared store of limits. After that, the start continues without the
/// store.
const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long shutdown waits for leases to be returned, and then for debts to be written to the store.
const STORE_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Binds the limits to the tools as soon as the list is known. This also warns about rules that match no
/// tool.
pub(super) fn spawn_plan_preparation(federation: &Federation, limiter: Option<&Arc<Limiter>>) {
    let Some(limiter) = limiter.cloned() else { return };
    let federation = federation.clone();
    tokio::spawn(async move {
        let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Gateway);
        if let Ok(tools) = federation.list_tools(&ctx).await {
            let _ = limiter.prepare(&tools);
        }
    });
}

/// Creates the limiter of these settings, and waits until it can decide or until [`STORE_CONNECT_TIMEOUT`].
/// Backends connect in the meantime. No call is decided before this returns, on any path.
pub(super) async fn start_limiter(
    settings: Option<LimitSettings>,
    levels: Option<&LevelsFile>,
    (clock, observer): (Arc<dyn Clock>, Arc<dyn Observer>),
    federation: &Federation,
) -> Option<Arc<Limiter>> {
    let LimitSettings { policy, redis, on_failure } = settings?;
    let planner = Arc::new(Planner::new(policy));
    let shared_store = redis.and_then(|redis| {
        let (replica_count, slot_lease) = (redis.replica_count, redis.slot_lease);
        redis.policy.map(|policy| Sharing {
            store: Arc::new(RedisStore::start(policy)),
            on_failure,
            replica_count,
            slot_lease,
        })
    });
    let saved = levels.filter(|_| shared_store.is_none()).and_then(LevelsFile::read);
    let limiter = match saved {
        None => Limiter::new(planner, clock, shared_store, observer),
        Some(levels) => restore_limiter(planner, clock, observer, &levels),
    };
    if federation.has_caller_backends() {
        limiter.expect_lists_to_differ();
    }
    if !limiter.wait_connected(STORE_CONNECT_TIMEOUT).await {
        tracing::warn!("the shared store does not answer; its failure policy applies until it does");
    }
    Some(limiter)
}

/// Creates a limiter with the levels of the previous process.
fn restore_limiter(
    planner: Arc<Planner>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    levels: &SavedLevels,
) -> Arc<Limiter> {
    let age = levels.age(clock.time_of_day());
    let (limiter, dropped_users) = Limiter::restored(planner, clock, observer, levels);
    if dropped_users > 0 {
        tracing::warn!(
            users = dropped_users,
            "limits have no room for all users of the last process; raise `rateLimiting.memory.maxUsers`"
        );
    }
    tracing::info!(
        users = levels.count(),
        age_s = age.as_secs(),
        "limits go on where the last process has left them"
    );
    limiter
}

/// Returns leases and writes debts to the shared store of limits, or saves the levels in memory for the next
/// process.
pub(super) async fn shut_down(limiter: Option<Arc<Limiter>>, levels: Option<LevelsFile>) {
    let Some(limiter) = limiter else { return };
    if let Some(levels) = levels {
        let limiter = limiter.clone();
        // Runs on the blocking pool, because it waits for a disk.
        let _ = tokio::task::spawn_blocking(move || levels.write(&limiter)).await;
    }
    limiter.return_leases(STORE_FLUSH_TIMEOUT).await;
    if !limiter.wait_settled(STORE_FLUSH_TIMEOUT).await {
        tracing::warn!("the shared store has not received all charges and ended calls");
    }
}
