//! The limiter's part of a running gateway: its beginning and its end.

use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::{CallContext, Caller, Gateway as _, Origin};
use vmcp_federation::Federation;
use vmcp_ratelimit::{Clock, Limiter, Observer, Planner, Sharing};
use vmcp_ratelimit_redis::RedisStore;

use crate::config::LimitSettings;

/// How long the start waits for the shared store of limits; it goes on without it then.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end waits for debts to be written back.
const STORE_GRACE: Duration = Duration::from_secs(1);

/// Binds the limits to the tools as soon as these are known, which also warns of rules that fit none.
pub(super) async fn prepare(federation: Federation, limiter: Arc<Limiter>) {
    let ctx = CallContext::bare(Caller::Anonymous, Origin::Gateway);
    if let Ok(tools) = federation.list_tools(&ctx).await {
        let _ = limiter.prepare(&tools);
    }
}

/// The limiter of these settings, once it can decide. Backends are connecting meanwhile; no call is decided before this,
/// on any path.
pub(super) async fn limiter(
    settings: Option<LimitSettings>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    federation: &Federation,
) -> Option<Arc<Limiter>> {
    let LimitSettings { policy, redis, on_failure } = settings?;
    let planner = Arc::new(Planner::new(policy));
    let sharing = redis.and_then(|redis| {
        let (replica_count, slot_lease) = (redis.replica_count, redis.slot_lease);
        redis.policy.map(|policy| Sharing {
            store: Arc::new(RedisStore::start(policy)),
            on_failure,
            replica_count,
            slot_lease,
        })
    });
    let limiter = Limiter::new(planner, clock, sharing, observer);
    if federation.tells_callers_apart() {
        limiter.expect_lists_to_differ();
    }
    if !limiter.connected(STORE_PATIENCE).await {
        tracing::warn!("the shared store does not answer; its failure policy applies until it does");
    }
    Some(limiter)
}

/// Writes what is owed to the shared store of limits.
pub(super) async fn settle(limiter: Option<&Limiter>) {
    let Some(limiter) = limiter else { return };
    limiter.release(STORE_GRACE).await;
    if !limiter.settled(STORE_GRACE).await {
        tracing::warn!(
            "the shared store has not heard of all calls that were admitted without it or have ended"
        );
    }
}
