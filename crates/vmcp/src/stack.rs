//! Builds the stack of layers, from the innermost to the outermost. A test checks the order.

use std::sync::Arc;

use vmcp_audit::{Audit, AuditedCalls, AuditedRequests};
use vmcp_authz::{Authorized, AuthzPolicy};
use vmcp_config::WorkflowSettings;
use vmcp_domain::{CallContext, GatewayInfo, ReserveBudget, RunEvent, RunObserver, SharedGateway, Tool};
use vmcp_federation::policy::AggregationPolicy;
use vmcp_federation::{Exposed, Federation};
use vmcp_loopbreaker::{LoopBreaker, LoopPolicy};
use vmcp_optimizer::{Optimized, Optimizer, virtual_tools};
use vmcp_ratelimit::{
    FailureCharge, Limiter, LimitsResource, MethodsRateLimited, RateLimited, Reserver, VirtualRateLimited,
};
use vmcp_script::{ScriptPolicy, ScriptPorts, Scripts, WorkerProgram};
use vmcp_timing::SystemClock;
use vmcp_workflow::{Workflow, WorkflowPorts, Workflows};

use crate::metrics::Metrics;
use crate::metrics::observe::Observed;
use crate::running::scripts::ScriptSearch;
use crate::time_of_day;

/// The stack, and two of its inner parts that have no virtual tools.
pub(crate) struct Stack {
    /// The whole stack.
    pub(crate) gateway: SharedGateway,
    /// The part that lists the advertised tools, before any policy.
    pub(crate) exposed: SharedGateway,
    /// The part that lists what each caller may use, before any layer replaces the list.
    pub(crate) authorized: SharedGateway,
    /// The layer of workflows. `None` without workflows.
    pub(crate) workflows: Option<Arc<Workflows>>,
    /// The layer of scripts. `None` without code mode.
    pub(crate) scripts: Option<Arc<Scripts>>,
    /// The names of the layers that are in use, from the innermost to the outermost.
    pub(crate) layers: Vec<&'static str>,
}

/// The parts of the stack around federation. A part that is `None` has no layer.
pub(crate) struct StackParts {
    pub(crate) policy: AggregationPolicy,
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) loops: Option<LoopPolicy>,
    pub(crate) optimizer: Option<Arc<Optimizer>>,
    pub(crate) workflows: WorkflowSettings,
    pub(crate) scripts: Option<(ScriptPolicy, WorkerProgram)>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) added: AddedParts,
}

/// What the embedding program adds.
pub(crate) struct AddedParts {
    pub(crate) layers: Vec<AddedLayer>,
    /// Learns what happens in the runs of workflows and scripts.
    pub(crate) run_observer: Option<Arc<dyn RunObserver>>,
}

/// The position of a layer that the embedding program adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Around each call of a real tool, by the advertised name of the tool. It sees every call, whether a
    /// client made it directly, through `call_tool`, or a layer composed it. It is outside the limits, so a
    /// call that is refused here spends no tokens. It is inside exposure and policies, so it also sees tools
    /// that are hidden from clients.
    Call,
    /// Around each request as the client made it. A call of `call_tool` is still a call of `call_tool` here.
    /// It is outside policies and search. It is inside the audit records, so they record what was refused
    /// here.
    Request,
}

/// A layer of the embedding program.
pub struct AddedLayer {
    /// The position in the stack.
    pub position: Position,
    /// The name in `/status`.
    pub name: &'static str,
    /// Wraps the part of the stack that is inside the layer.
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

/// Builds the stack over a federation, from the innermost to the outermost. A layer that has nothing to do is
/// left out.
pub(crate) fn build(federation: Federation, parts: StackParts) -> Stack {
    let StackParts { policy, authz, limiter, loops, optimizer, workflows, scripts, audit, metrics, added } =
        parts;
    let virtual_names = optimizer.as_ref().map(|optimizer| optimizer.virtual_names().clone());
    let (around_calls, around_requests): (Vec<_>, Vec<_>) =
        added.layers.into_iter().partition(|layer| layer.position == Position::Call);
    // Innermost: resolves the advertised name to a backend and to the backend's own name for the tool, and
    // calls it.
    let info: Arc<dyn GatewayInfo> = Arc::new(federation.clone());
    let federation: SharedGateway = Arc::new(federation);
    let mut builder = StackBuilder { gateway: federation.clone(), layers: vec!["federation"] };
    // Directly outside federation, so every path to a backend passes through it. Every real call is charged
    // once, by the tool that runs and the caller of the request, whichever outer layer composed it.
    if let Some(limiter) = limiter.clone() {
        builder.wrap("ratelimit", |inner| RateLimited::wrap(inner, limiter));
    }
    // Directly outside the limiter, to record the limiter's decision about each real call, whichever layer
    // composed it. A replay can then charge the same calls again from the records.
    if let Some(audit) = audit.clone() {
        builder.wrap("audit-calls", |inner| AuditedCalls::wrap(inner, audit));
    }
    builder.wrap_added(around_calls);
    // Outside the limiter and the records, because each step is charged and recorded. Inside exposure, because steps may
    // call hidden tools.
    let observers: Arc<dyn RunObserver> =
        Arc::new(RunObservers { metrics: metrics.clone(), audit: audit.clone(), added: added.run_observer });
    let reserver = limiter.as_ref().map(|limiter| reserver(&federation, limiter));
    let ports = WorkflowPorts {
        reserver: reserver.clone(),
        observer: Some(observers.clone()),
        info: Some(info),
        now: time_of_day,
    };
    let workflows = wrap_workflows(&mut builder, workflows, ports, limiter.as_ref());
    // Outside the limiters, because a call that is not made must spend no tokens. Outside workflows, because a workflow
    // may make equal calls, and a workflow that repeats is a repeated call itself.
    if let Some(policy) = loops {
        builder.wrap("loopbreaker", |inner| LoopBreaker::wrap(inner, policy, Arc::new(SystemClock::start())));
    }
    // Above federation, so that the operator's own workflows below it may use tools that are hidden from
    // clients.
    builder.wrap("exposure", |inner| Exposed::wrap(inner, Arc::new(policy)));
    let exposed = builder.gateway.clone();
    // Outside the limiter: a denied call spends no tokens, and its caller does not learn that there is a
    // limit.
    if let Some(policy) = authz {
        builder.wrap("authz", |inner| Authorized::wrap(inner, policy));
    }
    let authorized = builder.gateway.clone();
    // Directly outside the layers that narrow the tools: it reports to each caller what is left of the limits
    // of the tools that this caller may use.
    if let Some(limiter) = limiter.clone().filter(|limiter| limiter.has_limits_resource()) {
        builder.wrap("limits-resource", |inner| LimitsResource::wrap(inner, limiter));
    }
    // Outside every layer that narrows what a caller sees, because a script may call what its caller may call. Inside the
    // optimizer, which lists the script tool too.
    let ports = RunPorts { reserver, observers, optimizer: optimizer.clone() };
    let scripts = scripts.map(|settings| wrap_scripts(&mut builder, settings, ports, limiter.as_ref()));
    // Outside every layer that narrows what a caller sees: it searches only the tools that its caller may
    // list.
    if let Some(optimizer) = optimizer {
        builder.wrap("optimizer", |inner| Optimized::wrap(inner, optimizer));
    }
    // Around the layers with virtual tools. A call of a virtual tool is charged only if a rule names the
    // tool, before the tool does its work.
    if let (Some(limiter), Some(names)) = (limiter.clone(), &virtual_names) {
        let tools = virtual_tools(names);
        builder.wrap("ratelimit-virtual", |inner| {
            VirtualRateLimited::wrap(inner, limiter, &tools, FailureCharge::Charged)
        });
    }
    // Outside every layer that requests lists for itself: it counts the requests of clients other than tool
    // calls.
    if let Some(limiter) = limiter.filter(|limiter| limiter.has_method_limits()) {
        builder.wrap("ratelimit-methods", |inner| MethodsRateLimited::wrap(inner, limiter));
    }
    builder.wrap_added(around_requests);
    // Around every layer that answers: it records the requests that never reached the limiter, as the client
    // made them.
    if let Some(audit) = audit {
        builder.wrap("audit", |inner| AuditedRequests::wrap(inner, audit, virtual_names));
    }
    // Outermost: it sees each request as the client made it, and the outcome of all inner layers.
    builder.wrap("observe", |inner| Observed::wrap(inner, metrics));
    let StackBuilder { gateway, layers } = builder;
    Stack { gateway, exposed, authorized, workflows, scripts, layers }
}

/// Adds the layer of workflows, and the one that charges for calls of workflows themselves. A call of a workflow is
/// charged only if a rule names the workflow.
fn wrap_workflows(
    builder: &mut StackBuilder,
    settings: WorkflowSettings,
    ports: WorkflowPorts,
    limiter: Option<&Arc<Limiter>>,
) -> Option<Arc<Workflows>> {
    let WorkflowSettings { workflows, policy } = settings;
    if workflows.is_empty() {
        return None;
    }
    let tools: Vec<Tool> = workflows.iter().map(Workflow::as_tool).collect();
    let layer = Workflows::wrap(builder.gateway.clone(), workflows, policy, ports);
    builder.wrap("workflows", |_| layer.clone());
    if let Some(limiter) = limiter.cloned() {
        builder.wrap("ratelimit-workflows", |inner| {
            VirtualRateLimited::wrap(inner, limiter, &tools, FailureCharge::Refunded)
        });
    }
    Some(layer)
}

/// What scripts use of the other parts.
struct RunPorts {
    reserver: Option<Arc<dyn ReserveBudget>>,
    observers: Arc<dyn RunObserver>,
    optimizer: Option<Arc<Optimizer>>,
}

/// Adds the layer of scripts, and the one that charges for calls of the script tool itself, if a rule names it.
fn wrap_scripts(
    builder: &mut StackBuilder,
    (policy, program): (ScriptPolicy, WorkerProgram),
    ports: RunPorts,
    limiter: Option<&Arc<Limiter>>,
) -> Arc<Scripts> {
    let RunPorts { reserver, observers, optimizer } = ports;
    let search = ScriptSearch::new(builder.gateway.clone(), optimizer);
    let ports = ScriptPorts { program, reserver, observer: Some(observers), search: Some(Arc::new(search)) };
    let layer = Scripts::wrap(builder.gateway.clone(), policy, ports);
    builder.wrap("scripts", |_| layer.clone());
    if let Some(limiter) = limiter.cloned() {
        let tools: Vec<Tool> = vmcp_script::plain_tool().into_iter().collect();
        builder.wrap("ratelimit-scripts", |inner| {
            VirtualRateLimited::wrap(inner, limiter, &tools, FailureCharge::Refunded)
        });
    }
    layer
}

/// Charges limits for several calls in advance.
fn reserver(federation: &SharedGateway, limiter: &Arc<Limiter>) -> Arc<dyn ReserveBudget> {
    Arc::new(Reserver::new(federation.clone(), limiter.clone()))
}

/// Passes on what happens in the runs of workflows.
struct RunObservers {
    metrics: Arc<Metrics>,
    audit: Option<Arc<Audit>>,
    added: Option<Arc<dyn RunObserver>>,
}

impl RunObserver for RunObservers {
    fn on_event(&self, ctx: &CallContext, event: &RunEvent<'_>) {
        self.metrics.on_event(ctx, event);
        if let Some(audit) = &self.audit {
            audit.on_event(ctx, event);
        }
        if let Some(added) = &self.added {
            added.on_event(ctx, event);
        }
    }
}

#[cfg(test)]
mod tests;
