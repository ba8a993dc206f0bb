//! Puts the running gateway together from its settings: backends, federation, the stack, the pages.
//! Settings are taken apart here and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use vmcp_backends::{Backends, GatewayIdentity};
use vmcp_domain::{Backend, CallContext, Caller, Directory, Gateway, Origin, SharedGateway};
use vmcp_edge::policy::EdgePolicy;
use vmcp_federation::Federation;
use vmcp_ratelimit::{Limiter, Planner, Sharing, SystemClock};
use vmcp_ratelimit_redis::RedisStore;

use crate::config::{LimitSettings, Settings};
use crate::metrics::Metrics;
use crate::stack;
use crate::status::{Sources, StatusPages};

/// How long backends get to end by themselves.
const BACKEND_GRACE: Duration = Duration::from_secs(5);

/// How long the start waits for the shared store of limits; it goes on without it then.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end waits for debts to be written back.
const STORE_GRACE: Duration = Duration::from_secs(1);

/// A gateway that runs, but does not yet listen.
pub(crate) struct Assembly {
    /// The whole stack.
    pub(crate) gateway: SharedGateway,
    /// The innermost part, for reports.
    pub(crate) federation: Federation,
    /// What counts calls, if anything limits them.
    pub(crate) limiter: Option<Arc<Limiter>>,
    metrics: Arc<Metrics>,
    /// The settings of the client edge.
    pub(crate) edge: EdgePolicy,
    name: String,
    group: Option<String>,
    backends: Backends,
}

impl Assembly {
    /// Starts connecting to every backend and builds the stack over them.
    pub(crate) async fn start(settings: Settings) -> Self {
        let Settings { name, group, aggregation, backends, edge, health, limits, log_level: _, warnings: _ } =
            settings;
        let identity =
            GatewayIdentity { name: edge.server.name.clone(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let backends = Backends::start(backends, &identity);
        let members: Vec<Arc<dyn Backend>> = backends.all().cloned().collect();
        let federation = Federation::start(aggregation.clone(), health, members);
        let namespace = crate::environment("VMCP_NAMESPACE");
        let metrics = Metrics::new(namespace.as_deref().unwrap_or("local"), &name);
        let limiter = limits.map(|limits| limiter(limits, &metrics));
        if let Some(limiter) = limiter.clone() {
            // Backends are connecting meanwhile. No call is decided before this, on any road.
            if !limiter.connected(STORE_PATIENCE).await {
                tracing::warn!("the shared store does not answer; its failure policy applies until it does");
            }
            tokio::spawn(prepare(federation.clone(), limiter));
        }
        let gateway = stack::build(federation.clone(), aggregation, limiter.clone(), metrics.clone());
        Self { gateway, federation, limiter, metrics, edge, name, group, backends }
    }

    /// What the edges need to introduce the gateway.
    pub(crate) fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(self.federation.clone())
    }

    /// The pages for operators.
    pub(crate) fn pages(&self) -> Arc<StatusPages> {
        StatusPages::new(Sources {
            name: self.name.clone(),
            group: self.group.clone(),
            federation: self.federation.clone(),
            limiter: self.limiter.clone(),
            metrics: self.metrics.clone(),
            local: self.edge.listen.ip().is_loopback(),
        })
    }

    /// Ends every backend's connection and process, once what is owed to the shared store has been written.
    pub(crate) async fn stop(self) {
        if let Some(limiter) = &self.limiter
            && !limiter.settled(STORE_GRACE).await
        {
            tracing::warn!("calls that were admitted without the shared store are not written back");
        }
        self.backends.shutdown(BACKEND_GRACE).await;
    }
}

/// Binds the limits to the tools as soon as these are known, which also warns of rules that fit none.
async fn prepare(federation: Federation, limiter: Arc<Limiter>) {
    let ctx = CallContext::bare(Caller::Anonymous, Origin::Gateway);
    if let Ok(tools) = federation.list_tools(&ctx).await {
        let _ = limiter.prepare(&tools);
    }
}

/// The limiter of these settings.
fn limiter(settings: LimitSettings, metrics: &Arc<Metrics>) -> Arc<Limiter> {
    let LimitSettings { policy, redis, on_failure } = settings;
    let planner = Arc::new(Planner::new(policy));
    let sharing = redis.and_then(|redis| {
        let replica_count = redis.replica_count;
        redis.policy.map(|policy| Sharing {
            store: Arc::new(RedisStore::start(policy)),
            on_failure,
            replica_count,
        })
    });
    Limiter::new(planner, Arc::new(SystemClock::start()), sharing, metrics.clone())
}
