//! Puts the running gateway together from its settings: backends, federation, the stack, the pages.
//! Settings are taken apart here and nowhere else.

use std::sync::{Arc, Weak};
use std::time::Duration;

use vmcp_authz::{Ask, AuthzPolicy};
use vmcp_backends::{Backends, GatewayIdentity};
use vmcp_domain::{
    Answer, Backend, CallContext, Caller, ChangeListener, Directory, Following, Gateway, Origin, Overview,
    ResourceUri, SharedGateway,
};
use vmcp_edge::policy::{EdgePolicy, IncomingAuth};
use vmcp_federation::Federation;
use vmcp_optimizer::Optimizer;
use vmcp_ratelimit::policy::Method;
use vmcp_ratelimit::{Clock, Limiter, Observer, Planner, Sharing, SystemClock};
use vmcp_ratelimit_redis::RedisStore;

use crate::audit::{Audit, Output, Overheard};
use crate::config::{LimitSettings, Settings};
use crate::door::Counted;
use crate::metrics::Metrics;
use crate::outlook::Outlook;
use crate::search::{self, Indexing};
use crate::stack::{self, Stack};
use crate::status::{Sources, StatusPages};

/// How long backends get to end by themselves.
const BACKEND_GRACE: Duration = Duration::from_secs(5);

/// How long the start waits for the shared store of limits; it goes on without it then.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end waits for audit records to be written.
const AUDIT_GRACE: Duration = Duration::from_secs(2);
/// How long the end waits for debts to be written back.
const STORE_GRACE: Duration = Duration::from_secs(1);

/// A gateway that runs, but does not yet listen.
pub(crate) struct Assembly {
    /// The whole stack.
    pub(crate) gateway: SharedGateway,
    /// What is advertised, to whomever.
    pub(crate) exposed: SharedGateway,
    /// What each caller may use, virtual tools left out.
    pub(crate) offer: SharedGateway,
    /// The innermost part, for reports.
    pub(crate) federation: Federation,
    /// What counts calls, if anything limits them.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// What searches, if clients are given `find_tool` in place of the list.
    pub(crate) optimizer: Option<Arc<Optimizer>>,
    authz: Option<Arc<AuthzPolicy>>,
    audit: Option<Arc<Audit>>,
    layers: Vec<&'static str>,
    metrics: Arc<Metrics>,
    /// The settings of the client edge.
    pub(crate) edge: EdgePolicy,
    name: String,
    group: Option<String>,
    backends: Backends,
    /// Keeps the search index up to date as long as it lives.
    _indexing: Option<Arc<Indexing>>,
}

impl Assembly {
    /// Starts connecting to every backend and builds the stack over them. Nothing is recorded.
    pub(crate) async fn start(settings: Settings) -> Self {
        Self::start_audited(settings, None).await
    }

    /// The same with audit records, if the settings ask for any and there is somewhere to write them.
    pub(crate) async fn start_audited(settings: Settings, output: Option<Output>) -> Self {
        let Settings {
            name,
            group,
            aggregation,
            backends,
            mut edge,
            health,
            authz,
            limits,
            loops,
            optimizer,
            audit,
            log_level: _,
            warnings: _,
        } = settings;
        let identity =
            GatewayIdentity { name: edge.server.name.clone(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let backends = Backends::start(backends, &identity);
        let members: Vec<Arc<dyn Backend>> = backends.all().cloned().collect();
        let federation = Federation::start(aggregation.clone(), health, members);
        let namespace = crate::environment("VMCP_NAMESPACE");
        let metrics = Metrics::new(namespace.as_deref().unwrap_or("local"), &name);
        if let IncomingAuth::Bearer(authenticator) = &mut edge.incoming {
            *authenticator = Counted::wrap(authenticator.clone(), metrics.clone());
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let audit = audit.zip(output).map(|(settings, output)| {
            Audit::start(settings, output, clock.clone(), metrics.audit(), edge.path.clone())
        });
        let observer = observer(&metrics, audit.as_ref().map(|_| &clock));
        let limiter = limits.map(|limits| limiter(limits, clock, observer));
        if let Some(limiter) = &limiter {
            ready(limiter, &federation).await;
        }
        let outlook = Outlook::new(federation.clone(), limiter.clone());
        let optimizer = optimizer.map(|settings| search::start(settings, outlook, metrics.clone()));
        let parts = stack::Parts {
            policy: aggregation,
            authz: authz.clone(),
            limiter: limiter.clone(),
            loops,
            optimizer: optimizer.clone(),
            audit: audit.clone(),
            metrics: metrics.clone(),
        };
        let Stack { gateway, exposed, offer, layers } = stack::build(federation.clone(), parts);
        // Not before the stack stands: it tells the limiter which tools are virtual, and rules for these fit nothing else.
        if let Some(limiter) = limiter.clone() {
            tokio::spawn(prepare(federation.clone(), limiter));
        }
        let indexing =
            optimizer.clone().map(|optimizer| Indexing::start(optimizer, &federation, exposed.clone()));
        Self {
            gateway,
            exposed,
            offer,
            federation,
            limiter,
            optimizer,
            authz,
            audit,
            layers,
            metrics,
            edge,
            name,
            group,
            backends,
            _indexing: indexing,
        }
    }

    /// Who calls from the command line.
    pub(crate) fn operator(&self) -> Caller {
        match &self.edge.incoming {
            IncomingAuth::Anonymous => Caller::Anonymous,
            IncomingAuth::Local(identity) => Caller::Known(identity.clone()),
            // Who presents nothing is nobody, on the command line too: policies and limits see no one.
            IncomingAuth::Bearer(_) => Caller::Anonymous,
        }
    }

    /// What the edges need to introduce the gateway.
    pub(crate) fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(Introduction {
            federation: self.federation.clone(),
            authz: self.authz.clone(),
            limiter: self.limiter.clone(),
        })
    }

    /// The pages for operators.
    pub(crate) fn pages(&self) -> Arc<StatusPages> {
        StatusPages::new(Sources {
            name: self.name.clone(),
            group: self.group.clone(),
            federation: self.federation.clone(),
            limiter: self.limiter.clone(),
            optimizer: self.optimizer.clone(),
            layers: self.layers.clone(),
            metrics: self.metrics.clone(),
            local: self.edge.listen.ip().is_loopback(),
        })
    }

    /// Ends every backend's connection and process, once what is owed to the shared store has been written.
    pub(crate) async fn stop(self) {
        if let Some(limiter) = &self.limiter {
            limiter.release(STORE_GRACE).await;
            if !limiter.settled(STORE_GRACE).await {
                tracing::warn!(
                    "the shared store has not heard of all calls that were admitted without it or have ended"
                );
            }
        }
        self.backends.shutdown(BACKEND_GRACE).await;
        if let Some(audit) = self.audit {
            // Off the runtime's threads: it waits for a disk.
            let _ = tokio::task::spawn_blocking(move || audit.finish(AUDIT_GRACE)).await;
        }
    }
}

/// What the edges are told of the whole: the federation's offer, within what the policies let a caller know.
struct Introduction {
    federation: Federation,
    authz: Option<Arc<AuthzPolicy>>,
    limiter: Option<Arc<Limiter>>,
}

impl Introduction {
    /// These requests pass no layer, so they meet their limits here.
    fn within_limits<'a, T: Send + 'a>(
        &'a self,
        method: Method,
        ctx: &'a CallContext,
        answer: Answer<'a, T>,
    ) -> Answer<'a, T> {
        match &self.limiter {
            Some(limiter) => Box::pin(limiter.charged(method, ctx, answer)),
            None => answer,
        }
    }
}

impl Directory for Introduction {
    fn overview(&self) -> Overview {
        self.federation.overview()
    }

    fn watch(&self, listener: Weak<dyn ChangeListener>) {
        self.federation.watch(listener);
    }

    fn may_listen<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, ()> {
        self.within_limits(Method::Listen, ctx, self.federation.may_listen(ctx))
    }

    fn follow<'a>(&'a self, ctx: &'a CallContext, uri: ResourceUri) -> Answer<'a, Following> {
        self.within_limits(Method::Subscribe, ctx, self.federation.follow(ctx, uri))
    }

    fn may_watch(&self, caller: &Caller, uri: &ResourceUri) -> bool {
        let ask = Ask::ReadResource { uri: uri.as_str() };
        self.authz.as_ref().is_none_or(|policy| policy.decide(caller, &ask).allowed)
    }
}

/// What hears the limiter's decisions: metrics, and the audit records where there are any.
fn observer(metrics: &Arc<Metrics>, audited: Option<&Arc<dyn Clock>>) -> Arc<dyn Observer> {
    match audited {
        Some(clock) => Overheard::wrap(metrics.clone(), clock.clone()),
        None => metrics.clone(),
    }
}

/// Waits until the limiter can decide. Backends are connecting meanwhile; no call is decided before this, on any road.
async fn ready(limiter: &Limiter, federation: &Federation) {
    if federation.tells_callers_apart() {
        limiter.expect_lists_to_differ();
    }
    if !limiter.connected(STORE_PATIENCE).await {
        tracing::warn!("the shared store does not answer; its failure policy applies until it does");
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
fn limiter(settings: LimitSettings, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Arc<Limiter> {
    let LimitSettings { policy, redis, on_failure } = settings;
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
    Limiter::new(planner, clock, sharing, observer)
}
