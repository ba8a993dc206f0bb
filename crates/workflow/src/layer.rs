//! The layer that offers workflows as tools and runs them.

mod offers;
mod plan;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Data;
use tracing::Instrument as _;
use vmcp_domain::{
    CallContext, CallRun, CallTool, Capability, DerivedCache, Error, Gateway, GatewayFuture, GatewayInfo,
    PlannedCall, ProtocolVersion, Question, QuestionKind, Reply, ReserveBudget, RunKind, RunObserver,
    SharedGateway, StartupWait, ToolList, forward,
};
use vmcp_json::{Json, Members};
use vmcp_runs::{RunClock, RunningLimit, schema_problem};
use vmcp_template::Value;
use vmcp_wire::tool_result;

use crate::definition::{Action, Call, OnFailure, Workflow};
use crate::policy::WorkflowPolicy;
use crate::run::Run;
use crate::run::state::RunState;
pub use offers::Offer;
use offers::Offers;
pub use plan::{StepPlan, WorkflowPlan};

/// The answer if no further workflow may run.
const TOO_MANY_RUN: &str =
    "Not started: too many workflows are running. Try again when one of yours has ended";

/// What the layer uses of other parts of the gateway.
pub struct WorkflowPorts {
    /// Charges limits in advance. `None` without limits.
    pub reserver: Option<Arc<dyn ReserveBudget>>,
    /// Learns what happens in runs.
    pub observer: Option<Arc<dyn RunObserver>>,
    /// Knows whether all backends have answered. Until then a missing tool is not logged. `None` if they have.
    pub info: Option<Arc<dyn GatewayInfo>>,
    /// The time of day as RFC 3339, which templates read.
    pub now: fn() -> String,
}

/// The layer.
pub struct Workflows {
    inner: SharedGateway,
    workflows: Arc<[Workflow]>,
    /// Charges limits in advance. `None` without limits.
    reserver: Option<Arc<dyn ReserveBudget>>,
    /// Learns what happens in runs.
    observer: Option<Arc<dyn RunObserver>>,
    info: Option<Arc<dyn GatewayInfo>>,
    /// The time of day, as RFC 3339.
    now: fn() -> String,
    running: RunningLimit,
    offers: DerivedCache<ToolList, Offers>,
    /// The reasons that were logged.
    logged: Mutex<HashSet<String>>,
}

impl Workflows {
    /// Wraps `inner`, and offers `workflows` in addition to its tools.
    #[must_use]
    pub fn wrap(
        inner: SharedGateway,
        workflows: Arc<[Workflow]>,
        policy: WorkflowPolicy,
        WorkflowPorts { reserver, observer, info, now }: WorkflowPorts,
    ) -> Arc<Self> {
        let running = RunningLimit::new(policy.running_max, policy.running_max_per_caller);
        Arc::new(Self {
            inner,
            workflows,
            reserver,
            observer,
            info,
            now,
            running,
            offers: DerivedCache::default(),
            logged: Mutex::default(),
        })
    }

    /// The workflows for this caller: whether each is offered, and why not.
    ///
    /// # Errors
    /// When the tools cannot be listed.
    pub async fn offers(&self, ctx: &CallContext) -> Result<Vec<Offer>, Error> {
        let list = self.inner.list_tools(ctx).await?;
        let offers = self.offers_of(&list);
        let mut described = offers.describe(&self.workflows);
        for (index, offer) in described.iter_mut().enumerate() {
            if let Some(tools) = offers.tools_of(index) {
                let workflow = &self.workflows[index];
                let needs = self.needs(ctx, &plan::calls_of(workflow, tools)).await;
                offer.warnings.extend(plan::exceeded_limit(workflow, &needs));
            }
        }
        Ok(described)
    }

    fn offers_of(&self, list: &Arc<ToolList>) -> Arc<Offers> {
        let offers = self.offers.get_or_derive(list, || Offers::of(list, &self.workflows));
        // Tools of backends that are still starting may come.
        let is_complete = || self.info.as_ref().is_none_or(|info| info.has_complete_lists());
        if !offers.is_logged() && is_complete() && offers.enter_logged() {
            self.log_problems(&offers);
        }
        offers
    }

    /// Logs each workflow that is not offered, once for each reason, and what does not fit between the others and their
    /// tools, once for each workflow.
    fn log_problems(&self, offers: &Offers) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, reason) in offers.missing(&self.workflows) {
            if logged.insert(format!("{name}: {reason}")) {
                tracing::warn!(workflow = name, reason, "a workflow is not offered");
            }
        }
        for (index, workflow) in self.workflows.iter().enumerate() {
            let Some(tools) = offers.tools_of(index).filter(|_| logged.insert(workflow.name.clone())) else {
                continue;
            };
            for finding in crate::check::tools::check(workflow, tools) {
                tracing::warn!(workflow = workflow.name, %finding, "a workflow does not fit its tools");
            }
        }
    }

    async fn call(&self, ctx: &CallContext, index: usize, request: CallTool) -> Result<Reply, Error> {
        let workflow = &self.workflows[index];
        // A workflow needs all its tools, not only one that is already known.
        let listing = CallContext { startup_wait: StartupWait::Complete, ..ctx.clone() };
        let list = self.inner.list_tools(&listing).await?;
        let offers = self.offers_of(&list);
        let Some(tools) = offers.tools_of(index) else {
            // It is not offered. Another tool may have its name.
            return self.inner.call_tool(ctx, request).await;
        };
        let Some(_permit) = self.running.acquire(&ctx.caller) else {
            return Ok(tool_result::failure(TOO_MANY_RUN));
        };
        let asked = certain_question(workflow);
        if asked.is_some_and(|question| !ctx.client.capabilities().supports_question(&question)) {
            return Err(Error::MissingCapability(Capability::Question(QuestionKind::Elicitation)));
        }
        let params = match parameters(workflow, request.arguments.as_ref()) {
            Ok(params) => params,
            Err(problem) => return Ok(tool_result::failure(&problem)),
        };
        let clock = Arc::new(RunClock::start());
        let state = RunState::new(workflow, Value::decode(&params), (self.now)(), Arc::clone(&clock));
        let mut run = Run {
            workflow,
            inner: &self.inner,
            ctx: run_context(ctx, workflow, &state),
            outer: ctx,
            tools,
            state,
            reserver: self.reserver.as_deref().filter(|_| workflow.reserves),
            planned: Vec::new(),
            observer: self.observer.as_deref(),
        };
        if run.reserver.is_some() {
            run.planned = planned_calls(&run);
        }
        let calls: Vec<PlannedCall> = run.planned.iter().flatten().cloned().collect();
        run.ctx.reservation = run.reserve(&calls).await?;
        run.report_start(&params);
        let span = tracing::info_span!("workflow", name = workflow.name(), run = run.state.id);
        let end = run.run().instrument(span).await;
        crate::answer::answer(&run, end)
    }
}

/// The calls that the steps make for certain, unless they are skipped, by the indices of the steps. Arguments that read
/// what a step before yields are not known yet.
fn planned_calls(run: &Run<'_>) -> Vec<Option<PlannedCall>> {
    let data = run.state.data("pending", None);
    let plan = |call: &Call| {
        let known = if call.reads_results { None } else { run.request(call, &data).ok() };
        if let Some(request) = known {
            return Some(PlannedCall { call: request, arguments_known: true });
        }
        let tool = run.tools.get(call.tool.as_str())?;
        Some(PlannedCall { call: CallTool::new(tool.name.clone(), None), arguments_known: false })
    };
    let steps = run.workflow.steps.iter().map(|step| match &step.action {
        Action::Call(call) => plan(call),
        Action::Ask(_) | Action::ForEach(_) => None,
    });
    steps.collect()
}

/// The context of the calls of a run.
fn run_context(ctx: &CallContext, workflow: &Workflow, state: &RunState) -> CallContext {
    CallContext {
        // A client of 2026-07-28 would get the questions of a backend as the result of a step. With sessions, backends are
        // driven until they have a result, and ask through the client port.
        protocol: ctx.protocol.min(ProtocolVersion::NEWEST_WITH_SESSIONS),
        startup_wait: StartupWait::Complete,
        run: Some(CallRun::new(&state.id, RunKind::Workflow, workflow.name())),
        ..ctx.clone()
    }
}

/// A question that every run asks, if its failure ends the run.
fn certain_question(workflow: &Workflow) -> Option<Question> {
    workflow.steps.iter().find_map(|step| match &step.action {
        Action::Ask(question) if step.condition.is_none() && step.on_failure == OnFailure::Abort => {
            let mut params = Members::new();
            params.insert("requestedSchema", question.schema.clone());
            Some(Question { kind: QuestionKind::Elicitation, params: params.to_json() })
        }
        Action::Ask(_) | Action::Call(_) | Action::ForEach(_) => None,
    })
}

/// The arguments with the defaults of the parameters, checked against their schema.
fn parameters(workflow: &Workflow, arguments: Option<&Json>) -> Result<Json, String> {
    let mut members = match arguments {
        None => Members::new(),
        Some(json) => json.members().map_err(|_| "the arguments must be an object".to_owned())?,
    };
    // Some models write null for an argument that they leave out.
    members.retain(|name, value| !(value.is_null() && workflow.not_nullable.contains(name)));
    for (name, default) in &workflow.defaults {
        if members.get(name).is_none() {
            members.insert(name, default.clone());
        }
    }
    let params = members.to_json();
    let data: Data = params.decode().map_err(|_| "the arguments must be an object".to_owned())?;
    match schema_problem(&workflow.validator, &data) {
        None => Ok(params),
        Some(problem) => Err(format!("the arguments of `{}` do not fit: {problem}", workflow.name())),
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Workflows {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(async move {
            let list = self.inner.list_tools(ctx).await?;
            Ok(Arc::clone(self.offers_of(&list).list()))
        })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        match self.workflows.iter().position(|workflow| workflow.name == *request.name.as_str()) {
            None => self.inner.call_tool(ctx, request),
            Some(index) => Box::pin(self.call(ctx, index, request)),
        }
    }

    forward!(
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task
    );
}

#[cfg(test)]
mod tests;
