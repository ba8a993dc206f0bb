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

/// The stack, and the part of it that has no virtual tools.
pub(crate) struct Stack {
    /// The whole.
    pub(crate) gateway: SharedGateway,
    /// What is advertised, to whomever.
    pub(crate) exposed: SharedGateway,
    /// What each caller may use, before any layer offers something else in its place.
    pub(crate) authorized: SharedGateway,
    /// The layers that stand, from inside to outside.
    pub(crate) layers: Vec<&'static str>,
}

/// What stands in the stack besides federation. What is `None` is left out.
pub(crate) struct StackParts {
    pub(crate) policy: AggregationPolicy,
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) loops: Option<LoopPolicy>,
    pub(crate) optimizer: Option<Arc<Optimizer>>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) added: Vec<AddedLayer>,
}

/// The position of a layer that the embedding program adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Around each real call of a tool, by the tool's advertised name, whatever path the call took: directly, through
    /// `call_tool`, or from a layer that composes calls. Outside the limits, so a call that is refused here costs
    /// nothing; inside exposure and policies, so it also sees tools that are hidden from clients.
    Call,
    /// Around each request as its client made it: a call of `call_tool` is still that. Outside policies and search,
    /// inside the audit records, which therefore say what was refused here.
    Request,
}

/// A layer of the embedding program.
pub struct AddedLayer {
    /// Its position.
    pub position: Position,
    /// What `/status` calls it.
    pub name: &'static str,
    /// Puts it around the part of the stack that is inside it.
    pub wrap: Box<dyn FnOnce(SharedGateway) -> SharedGateway + Send>,
}

/// A stack that grows outwards, with the names of its layers.
struct StackBuilder {
    gateway: SharedGateway,
    layers: Vec<&'static str>,
}

impl StackBuilder {
    fn wrap(&mut self, name: &'static str, wrap: impl FnOnce(SharedGateway) -> SharedGateway) {
        self.gateway = wrap(self.gateway.clone());
        self.layers.push(name);
    }

    fn wrap_added(&mut self, added: Vec<AddedLayer>) {
        for AddedLayer { name, wrap, position: _ } in added {
            self.wrap(name, wrap);
        }
    }
}

/// Builds the stack over a federation, from inside to outside. A layer that has nothing to do is left out.
pub(crate) fn build(federation: Federation, parts: StackParts) -> Stack {
    let StackParts { policy, authz, limiter, loops, optimizer, audit, metrics, added } = parts;
    let has_virtual = optimizer.is_some();
    let (around_calls, around_requests): (Vec<_>, Vec<_>) =
        added.into_iter().partition(|layer| layer.position == Position::Call);
    // Innermost: resolves the advertised name to a backend and its own name for the tool, and calls it.
    let mut stack = StackBuilder { gateway: Arc::new(federation), layers: vec!["federation"] };
    // Right above: every path to a backend leads through here, so every real call is charged once, by the tool that
    // runs and the caller who asks, whatever layer above composed it.
    if let Some(limiter) = limiter.clone() {
        stack.wrap("ratelimit", |inner| RateLimited::wrap(inner, limiter));
    }
    // Right around the limiter, to hear what it says about each real call, whoever composed it: what was charged can be
    // charged again from the records.
    if let Some(audit) = audit.clone() {
        stack.wrap("audit-calls", |inner| AuditedCalls::wrap(inner, audit));
    }
    // Outside the limiter: what is not called costs nothing. Inside whatever composes calls, so that no path is left out.
    if let Some(policy) = loops {
        stack.wrap("loopbreaker", |inner| LoopBreaker::wrap(inner, policy, Arc::new(SystemClock::start())));
    }
    stack.wrap_added(around_calls);
    // Above federation, so that the operator's own workflows below it may use tools hidden from clients.
    stack.wrap("exposure", |inner| Exposed::wrap(inner, Arc::new(policy)));
    let exposed = stack.gateway.clone();
    // Outside the limiter: a denied call spends nothing, and does not learn that there is a limit.
    if let Some(policy) = authz {
        stack.wrap("authz", |inner| Authorized::wrap(inner, policy));
    }
    let offer = stack.gateway.clone();
    // Right outside what narrows the tools: it tells each caller what is left of the limits on those that it may use.
    if let Some(limiter) = limiter.clone().filter(|limiter| limiter.has_limits_resource()) {
        stack.wrap("limits-resource", |inner| LimitsResource::wrap(inner, limiter));
    }
    // Above everything that narrows what a caller sees: it searches what its caller may list, and nothing else.
    if let Some(optimizer) = optimizer {
        stack.wrap("optimizer", |inner| Optimized::wrap(inner, optimizer));
    }
    // Around the layers with virtual tools: a call of one is charged only where a rule names it, before its work.
    if let Some(limiter) = limiter.clone().filter(|_| has_virtual) {
        stack.wrap("ratelimit-virtual", |inner| VirtualRateLimited::wrap(inner, limiter, &virtual_tools()));
    }
    // Outside whatever asks for lists on its own account: counts what clients ask besides calls of tools.
    if let Some(limiter) = limiter.filter(|limiter| limiter.has_method_limits()) {
        stack.wrap("ratelimit-methods", |inner| MethodsRateLimited::wrap(inner, limiter));
    }
    stack.wrap_added(around_requests);
    // Around everything that answers: records what never came to the limiter, as its client asked for it.
    if let Some(audit) = audit {
        stack.wrap("audit", |inner| AuditedRequests::wrap(inner, audit, has_virtual));
    }
    // Outermost: sees each request as the client made it, whatever became of it inside.
    stack.wrap("observe", |inner| Observed::wrap(inner, metrics));
    let StackBuilder { gateway, layers } = stack;
    Stack { gateway, exposed, authorized: offer, layers }
}

#[cfg(test)]
mod tests;
