//! The layer that offers the script tool and runs scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmcp_domain::{
    CallContext, CallRun, CallTool, DerivedCache, EXECUTE_TOOL_SCRIPT, Error, Gateway, GatewayFuture,
    PlannedCall, ProtocolVersion, Reply, Reservation, ReserveBudget, RunKind, RunObserver, SharedGateway,
    StartupWait, ToolList, forward,
};
use vmcp_runs::{RunClock, RunningLimit};
use vmcp_script_worker::{Program, ToWorker};
use vmcp_wire::tool_result;

use crate::answer::{self, Ran};
use crate::arguments::{self, ScriptArguments};
use crate::definition::script_tool;
use crate::events::RunReport;
use crate::host::{RunHost, RunRecord};
use crate::policy::{Listing, ScriptPolicy};
use crate::search::ToolSearch;
use crate::serve::{ScriptEnd, ServeBounds, serve};
use crate::tools::ScriptTools;
use crate::worker::{Worker, WorkerEnd, WorkerProgram, WorkerSettings};
use crate::workers::Workers;

/// The answer if no further script may run.
const TOO_MANY_RUN: &str = "too many scripts are running; try again in a moment";

/// What the layer uses of other parts of the gateway.
pub struct ScriptPorts {
    /// The program that runs scripts.
    pub program: WorkerProgram,
    /// Charges limits in advance. `None` without limits.
    pub reserver: Option<Arc<dyn ReserveBudget>>,
    /// Learns what happens in runs.
    pub observer: Option<Arc<dyn RunObserver>>,
    /// Finds tools for scripts.
    pub search: Option<Arc<dyn ToolSearch>>,
}

/// The state of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptsStatus {
    /// How many scripts run.
    pub running: usize,
    /// How many workers are ready.
    pub spare_workers: usize,
    /// Why the last worker could not be started. `None` if it could.
    pub start_error: Option<String>,
}

/// The layer.
pub struct Scripts {
    inner: SharedGateway,
    policy: ScriptPolicy,
    reserver: Option<Arc<dyn ReserveBudget>>,
    observer: Option<Arc<dyn RunObserver>>,
    search: Option<Arc<dyn ToolSearch>>,
    running: RunningLimit,
    workers: Arc<Workers>,
    offers: DerivedCache<ToolList, ScriptOffer>,
    /// Whether it was logged that a backend's tool has the name of the script tool.
    clash_logged: AtomicBool,
}

/// The script tool beside one list.
struct ScriptOffer {
    /// What clients see.
    list: Arc<ToolList>,
    tools: ScriptTools,
}

impl Scripts {
    /// Wraps `inner`, and offers the script tool in addition to its tools.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: ScriptPolicy, ports: ScriptPorts) -> Arc<Self> {
        let ScriptPorts { program, reserver, observer, search } = ports;
        let settings = WorkerSettings {
            program,
            sandbox: policy.sandbox,
            memory_bytes_max: policy.memory_bytes_max,
            cpu_time: policy.cpu_time,
        };
        Arc::new(Self {
            inner,
            running: RunningLimit::new(policy.running_max, policy.running_max_per_caller),
            workers: Workers::new(settings, policy.spare_workers),
            policy,
            reserver,
            observer,
            search,
            offers: DerivedCache::default(),
            clash_logged: AtomicBool::new(false),
        })
    }

    /// Starts workers in advance, in the background. Must be called in a runtime.
    pub fn start_spares(&self) {
        self.workers.fill();
    }

    /// What runs, for operators.
    #[must_use]
    pub fn status(&self) -> ScriptsStatus {
        let (spare_workers, start_error) = self.workers.status();
        ScriptsStatus { running: self.running.count(), spare_workers, start_error }
    }

    /// Ends the workers that have no script.
    pub fn stop(&self) {
        self.workers.clear();
    }

    /// The declarations of the tools that scripts of this caller may call, in TypeScript.
    ///
    /// # Errors
    /// When the tools cannot be listed.
    pub async fn declarations(&self, ctx: &CallContext) -> Result<String, Error> {
        let offer = self.offer(&self.inner.list_tools(ctx).await?);
        Ok(offer.tools.declarations().documented.clone())
    }

    fn offer(&self, list: &Arc<ToolList>) -> Arc<ScriptOffer> {
        self.offers.get_or_derive(list, || self.build_offer(list))
    }

    fn build_offer(&self, list: &ToolList) -> ScriptOffer {
        let tools = ScriptTools::of(list, &self.policy);
        let clashes = list.iter().any(|tool| tool.name.as_str() == EXECUTE_TOOL_SCRIPT);
        if clashes && !self.clash_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                tool = EXECUTE_TOOL_SCRIPT,
                "a backend's tool has the name of the script tool; it is not listed, give it another name with an override"
            );
        }
        let beside = self.policy.listing == Listing::Beside;
        let others = list.iter().filter(|tool| beside && tool.name.as_str() != EXECUTE_TOOL_SCRIPT);
        let own = script_tool(&tools, &self.policy);
        ScriptOffer { list: Arc::new(others.cloned().chain(own).collect()), tools }
    }

    async fn execute(&self, ctx: &CallContext, request: CallTool) -> Result<Reply, Error> {
        let asked = match arguments::read(request.arguments.as_ref(), &self.policy) {
            Ok(asked) => asked,
            Err(problem) => return Ok(tool_result::failure(&problem)),
        };
        let Some(_permit) = self.running.acquire(&ctx.caller) else {
            return Ok(tool_result::failure(TOO_MANY_RUN));
        };
        // A script may call any tool, and not only those that are known already.
        let listing = CallContext { startup_wait: StartupWait::Complete, ..ctx.clone() };
        let offer = self.offer(&self.inner.list_tools(&listing).await?);
        if let Some((unknown, _)) = asked.budget.iter().find(|(tool, _)| offer.tools.get(tool).is_none()) {
            return Ok(tool_result::failure(&format!(
                "'budget' names {unknown:?}, and there is no such tool"
            )));
        }
        let worker = match self.workers.take().await {
            Ok(worker) => worker,
            Err(error) => {
                tracing::warn!(%error, "no worker for a script can be started");
                return Ok(tool_result::failure("no script can be started now; try again later"));
            }
        };
        if asked.check_only {
            return Ok(self.check(worker, asked, &offer.tools).await);
        }
        let id = uuid::Uuid::new_v4().to_string();
        let mut calls_ctx = calls_context(ctx, &id);
        calls_ctx.reservation = self.reserve(&calls_ctx, &asked).await?;
        let host = RunHost {
            inner: &self.inner,
            policy: &self.policy,
            search: self.search.as_deref(),
            ctx: calls_ctx,
            outer: ctx,
            tools: &offer.tools,
            clock: Arc::new(RunClock::start()),
            record: RunRecord::new(self.policy.reply_bytes_max, asked.language),
            question: tokio::sync::Mutex::new(()),
        };
        let report = RunReport::start(self.observer.as_deref(), &host, asked.script.len());
        let (end, worker_end) = self.run(&host, worker, program(&asked, &offer.tools, &self.policy)).await;
        let ran = Ran { id: &id, end, worker: worker_end, took: host.clock.elapsed() };
        let (outcome, reply) = answer::answer(&host, &self.policy, ran)?;
        report.end(outcome, worker_end.cpu_time, &reply);
        Ok(reply)
    }

    /// Runs a script to its end, and ends its worker.
    async fn run(&self, host: &RunHost<'_>, mut worker: Worker, program: Program) -> (ScriptEnd, WorkerEnd) {
        let timeout = self.policy.timeout;
        let served = async {
            match worker.send(&ToWorker::Run(program)).await {
                Ok(()) => serve(&mut worker.pipes, self.bounds(), host).await,
                Err(_) => ScriptEnd::Lost,
            }
        };
        let span = tracing::info_span!("script", run = host.ctx.run.as_ref().map(|run| &*run.id));
        let end = host.clock.limit(timeout, tracing::Instrument::instrument(served, span)).await;
        let end = end.unwrap_or_else(|| {
            ScriptEnd::Exceeded(format!("the script took longer than {} s", timeout.as_secs_f64()))
        });
        let worker_end = worker.end().await;
        if matches!(end, ScriptEnd::Lost) {
            // Not the script itself: it may contain what its author would not log.
            tracing::warn!(signal = worker_end.signal, "a script ended its worker");
        }
        (end, worker_end)
    }

    /// Compiles a script, and says what it names.
    async fn check(&self, mut worker: Worker, asked: ScriptArguments, tools: &ScriptTools) -> Reply {
        let host = crate::check::NoHost::default();
        let program = program(&asked, tools, &self.policy);
        let served = async {
            match worker.send(&ToWorker::Run(program)).await {
                Ok(()) => serve(&mut worker.pipes, self.bounds(), &host).await,
                Err(_) => ScriptEnd::Lost,
            }
        };
        let end = tokio::time::timeout(self.policy.timeout, served).await.unwrap_or(ScriptEnd::Lost);
        worker.end().await;
        crate::check::answer(&asked, (&host, &end), tools)
    }

    fn bounds(&self) -> ServeBounds {
        ServeBounds {
            parallel_calls_max: self.policy.parallel_calls_max,
            calls_max: self.policy.calls_max,
            result_bytes_max: self.policy.result_bytes_max,
            log_bytes_max: self.policy.log_bytes_max,
        }
    }

    /// Charges limits for the calls of the budget.
    async fn reserve(
        &self,
        ctx: &CallContext,
        asked: &ScriptArguments,
    ) -> Result<Option<Reservation>, Error> {
        let Some(reserver) = self.reserver.as_ref().filter(|_| !asked.budget.is_empty()) else {
            return Ok(None);
        };
        let calls: Vec<PlannedCall> = asked
            .budget
            .iter()
            .flat_map(|(tool, count)| {
                let call = CallTool::new(tool.as_str().into(), None);
                let planned = PlannedCall { call, arguments_known: false };
                std::iter::repeat_n(planned, usize::try_from(*count).unwrap_or(usize::MAX))
            })
            .collect();
        reserver.reserve(ctx, &calls).await.map(Some)
    }
}

fn program(asked: &ScriptArguments, tools: &ScriptTools, policy: &ScriptPolicy) -> Program {
    Program {
        language: asked.language,
        script: asked.script.clone(),
        data: asked.data.clone(),
        tools: tools.names().to_vec(),
        check_only: asked.check_only,
        step_limit: policy.step_limit,
        memory_bytes_max: policy.memory_bytes_max,
        result_bytes_max: policy.result_bytes_max,
        log_bytes_max: policy.log_bytes_max,
    }
}

/// The context of the calls of a run.
fn calls_context(ctx: &CallContext, id: &str) -> CallContext {
    CallContext {
        // A client of 2026-07-28 would get the questions of a backend as the result of a call. With sessions, backends are
        // driven until they have a result, and ask through the client port.
        protocol: ctx.protocol.min(ProtocolVersion::NEWEST_WITH_SESSIONS),
        startup_wait: StartupWait::Complete,
        run: Some(CallRun::new(id, RunKind::Script, EXECUTE_TOOL_SCRIPT)),
        ..ctx.clone()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Scripts {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(async move {
            let list = self.inner.list_tools(ctx).await?;
            Ok(Arc::clone(&self.offer(&list).list))
        })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        if request.name.as_str() != EXECUTE_TOOL_SCRIPT {
            return self.inner.call_tool(ctx, request);
        }
        Box::pin(self.execute(ctx, request))
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
