//! The stack, spelled once, from inside to outside. A test pins the order.

use std::sync::Arc;

use vmcp_authz::{Authorized, AuthzPolicy};
use vmcp_domain::SharedGateway;
use vmcp_federation::policy::AggregationPolicy;
use vmcp_federation::{Exposed, Federation};
use vmcp_optimizer::{Optimized, Optimizer, virtual_tools};
use vmcp_ratelimit::{
    Limiter, LimitsResource, LoopBreaker, LoopPolicy, MethodsRateLimited, RateLimited, SystemClock,
    VirtualRateLimited,
};

use crate::audit::{Audit, AuditedCalls, AuditedRequests};
use crate::metrics::Metrics;
use crate::observe::Observed;

/// The layers from inside to outside, by the names `/status` uses.
const LAYERS: [&str; 12] = [
    "federation",
    "ratelimit",
    "audit-calls",
    "loopbreaker",
    "exposure",
    "authz",
    "limits-resource",
    "optimizer",
    "ratelimit-virtual",
    "ratelimit-methods",
    "audit",
    "observe",
];

/// The stack, and the part of it that has no virtual tools.
pub(crate) struct Stack {
    /// The whole.
    pub(crate) gateway: SharedGateway,
    /// What is advertised, to whomever.
    pub(crate) exposed: SharedGateway,
    /// What each caller may use, before any layer offers something else in its place.
    pub(crate) offer: SharedGateway,
    /// The layers that stand, from inside to outside.
    pub(crate) layers: Vec<&'static str>,
}

/// What stands in the stack besides federation. What is `None` is left out.
pub(crate) struct Parts {
    pub(crate) policy: AggregationPolicy,
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) loops: Option<LoopPolicy>,
    pub(crate) optimizer: Option<Arc<Optimizer>>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Builds the stack over a federation. A layer that has nothing to do is left out.
pub(crate) fn build(federation: Federation, parts: Parts) -> Stack {
    let Parts { policy, authz, limiter, loops, optimizer, audit, metrics } = parts;
    let has_virtual = optimizer.is_some();
    let stands = |layer: &&'static str| match *layer {
        "ratelimit" => limiter.is_some(),
        "loopbreaker" => loops.is_some(),
        "authz" => authz.is_some(),
        "audit-calls" | "audit" => audit.is_some(),
        "optimizer" => has_virtual,
        "ratelimit-virtual" => limiter.is_some() && has_virtual,
        "limits-resource" => limiter.as_ref().is_some_and(|limiter| limiter.offers_resource()),
        "ratelimit-methods" => limiter.as_ref().is_some_and(|limiter| limiter.limits_methods()),
        _always => true,
    };
    let layers = LAYERS.into_iter().filter(stands).collect();
    // Innermost: resolves the advertised name to a backend and its own name for the tool, and calls it.
    let gateway: SharedGateway = Arc::new(federation);
    // Right above: every road to a backend leads through here, so every real call is charged once, by the tool that
    // runs and the caller who asks, whatever layer above composed it.
    let gateway = match limiter.clone() {
        Some(limiter) => RateLimited::wrap(gateway, limiter),
        None => gateway,
    };
    // Right around the limiter, to hear what it says about each real call, whoever composed it: what was charged can be
    // charged again from the records.
    let gateway = match audit.clone() {
        Some(audit) => AuditedCalls::wrap(gateway, audit),
        None => gateway,
    };
    // Outside the limiter: what is not called costs nothing. Inside whatever composes calls, so that no road is left out.
    let gateway = match loops {
        Some(policy) => LoopBreaker::wrap(gateway, policy, Arc::new(SystemClock::start())),
        None => gateway,
    };
    // Above federation, so that the operator's own workflows below it may use tools hidden from clients.
    let exposed = Exposed::wrap(gateway, Arc::new(policy));
    // Outside the limiter: a denied call spends nothing, and does not learn that there is a limit.
    let offer = match authz {
        Some(policy) => Authorized::wrap(exposed.clone(), policy),
        None => exposed.clone(),
    };
    // Right outside what narrows the tools: it tells each caller what is left of the limits on those that it may use.
    let outer = match limiter.clone() {
        Some(limiter) => LimitsResource::wrap(offer.clone(), limiter),
        None => offer.clone(),
    };
    // Above everything that narrows what a caller sees: it searches what its caller may list, and nothing else.
    let gateway = match optimizer {
        Some(optimizer) => Optimized::wrap(outer, optimizer),
        None => outer,
    };
    // Around the layers with virtual tools: a call of one is charged only where a rule names it, before its work.
    let gateway = match limiter.clone() {
        Some(limiter) if has_virtual => VirtualRateLimited::wrap(gateway, limiter, &virtual_tools()),
        Some(_) | None => gateway,
    };
    // Outside whatever asks for lists on its own account: counts what clients ask besides calls of tools.
    let gateway = match limiter {
        Some(limiter) => MethodsRateLimited::wrap(gateway, limiter),
        None => gateway,
    };
    // Around everything that answers: records what never came to the limiter, as its client asked for it.
    let gateway = match audit {
        Some(audit) => AuditedRequests::wrap(gateway, audit, has_virtual),
        None => gateway,
    };
    // Outermost: sees each request as the client made it, whatever became of it inside.
    Stack { gateway: Observed::wrap(gateway, metrics), exposed, offer, layers }
}

#[cfg(test)]
mod tests {
    /// The order is a decision: whoever changes it changes this test with a reason.
    #[test]
    fn the_order_is_pinned() {
        // Without this test, which spells the names too.
        let (source, _) = include_str!("stack.rs").split_once("#[cfg(test)]").unwrap();
        let spelled = [
            "Arc::new(federation)",
            "=> RateLimited::wrap(",
            "AuditedCalls::wrap(",
            "LoopBreaker::wrap(",
            "Exposed::wrap(",
            "Authorized::wrap(",
            "LimitsResource::wrap(",
            "Optimized::wrap(",
            "VirtualRateLimited::wrap(",
            "MethodsRateLimited::wrap(",
            "AuditedRequests::wrap(",
            "Observed::wrap(",
        ];
        let places: Vec<usize> = spelled.iter().map(|text| source.find(text).unwrap()).collect();
        assert!(places.is_sorted(), "the stack is spelled from inside to outside");
        assert_eq!(
            super::LAYERS,
            [
                "federation",
                "ratelimit",
                "audit-calls",
                "loopbreaker",
                "exposure",
                "authz",
                "limits-resource",
                "optimizer",
                "ratelimit-virtual",
                "ratelimit-methods",
                "audit",
                "observe"
            ]
        );
    }
}
