//! Builds the running gateway from its settings: backends, federation, the stack, the status pages. Only this
//! module destructures `Settings`.

pub(crate) mod availability;
pub(crate) mod gateway_info;
pub(crate) mod listener;
pub(crate) mod search;
pub(crate) mod start_error;

mod backends;
mod levels;
mod limits;
pub(crate) mod scripts;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::Instant;
use vmcp_audit::{Audit, AuditSettings, Output};
use vmcp_authz::AuthzPolicy;
use vmcp_backends::Backends;
use vmcp_config::{AdminSettings, Settings};
use vmcp_domain::{Caller, GatewayInfo, RunObserver, SharedGateway};
use vmcp_edge::policy::{EdgePolicy, IncomingAuth};
use vmcp_edge::{AdminListener, HttpEdge, ListenSocket, StopSignals};
use vmcp_federation::policy::AggregationPolicy;
use vmcp_federation::{Federation, NameKind};
use vmcp_identity::{BearerAuthenticator, BearerPolicy};
use vmcp_optimizer::Optimizer;
use vmcp_ratelimit::{Limiter, Observer};
use vmcp_script::{Scripts, WorkerProgram};
use vmcp_timing::{Clock, SystemClock};
use vmcp_workflow::Workflows;

use crate::audit_decisions::CapturingObserver;
use crate::metrics::Metrics;
use crate::metrics::auth_metrics::CountedAuthenticator;
use crate::operator_token::OperatorToken;
use crate::running::gateway_info::AuthorizedInfo;
use crate::running::listener::Listener;
use crate::running::search::IndexUpdater;
use crate::running::start_error::StartError;
use crate::stack::{self, AddedLayer, Stack};
use crate::status::{GatewaySummary, StatusPages, StatusSources};
use levels::LevelsFile;

/// How long backends may take to end without being killed. The minimum applies if in-flight calls have used
/// up the shutdown grace period.
const BACKEND_GRACE_MAX: Duration = Duration::from_secs(5);
const BACKEND_GRACE_MIN: Duration = Duration::from_millis(500);

/// How long shutdown waits for audit records to be written.
const AUDIT_GRACE: Duration = Duration::from_millis(500);

/// What an embedding program adds to a configuration.
#[derive(Default)]
pub struct Additions {
    /// The output of audit records. `None` writes no records, whatever the settings say.
    pub audit: Option<Output>,
    /// The program's own layers.
    pub layers: Vec<AddedLayer>,
    /// Restores the limit levels that the previous process has saved in the state folder, and saves them
    /// again on [`RunningGateway::stop`], if this gateway owns the state folder. Set it only in the one
    /// process that serves a configuration. Default: false.
    pub persists_levels: bool,
    /// Serves the lists of backends that an earlier process has saved in the state folder until the backends
    /// answer, and saves them and the records of tools for the next process. Default: false.
    pub saves_lists: bool,
    /// Learns what happens in the runs of workflows and scripts.
    pub run_observer: Option<Arc<dyn RunObserver>>,
    /// The program that runs scripts. Its `main` must call [`prepare`](crate::process::prepare) first. `None` for this
    /// program, which has called it.
    pub script_worker: Option<WorkerProgram>,
}

/// A gateway that is connected to its backends. It can be called in process through
/// [`gateway`](Self::gateway), and served with [`bind`](Self::bind) or [`serve_stdio`](Self::serve_stdio).
///
/// End it with [`stop`](Self::stop). If it is dropped instead, debts to a shared store of limits are not
/// written.
pub struct RunningGateway {
    /// The whole stack, which serves clients.
    pub gateway: SharedGateway,
    /// The part of the stack that lists the advertised tools, before any policy.
    pub exposed: SharedGateway,
    /// The part of the stack that lists what each caller may use, before the optimizer replaces the list.
    pub authorized: SharedGateway,
    /// The innermost part: the reports about backends, and the whole catalogue.
    pub federation: Federation,
    /// The rate limiter. `None` if nothing is limited.
    pub limiter: Option<Arc<Limiter>>,
    /// The tool search. `None` if clients get the whole list.
    pub optimizer: Option<Arc<Optimizer>>,
    /// The workflows. `None` if there are none.
    pub workflows: Option<Arc<Workflows>>,
    /// The scripts. `None` without code mode.
    pub scripts: Option<Arc<Scripts>>,
    authz: Option<Arc<AuthzPolicy>>,
    audit: Option<Arc<Audit>>,
    layers: Vec<&'static str>,
    metrics: Arc<Metrics>,
    /// The settings of the client edge.
    pub edge: EdgePolicy,
    /// The settings of the status pages.
    pub admin: AdminSettings,

    summary: GatewaySummary,
    backends: Backends,
    /// The file for the levels of limits. `None` if they are not saved.
    levels_file: Option<LevelsFile>,
    /// The start of the shutdown, once it has started.
    shutdown_started: Arc<OnceLock<Instant>>,
    /// Keeps the search index up to date while the gateway runs.
    _index_updater: Option<Arc<IndexUpdater>>,
}

impl RunningGateway {
    /// Starts connecting to every backend and builds the stack over them. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// When TLS towards the issuer or towards token endpoints cannot be set up.
    pub async fn start(settings: Settings, additions: Additions) -> Result<Self, StartError> {
        let Additions { audit: output, persists_levels, saves_lists, .. } = additions;
        let (processes_max, virtual_tools) = (settings.process_count_worst_case(), settings.virtual_tools());
        let Settings {
            name,
            group,
            aggregation,
            backends,
            process_count_max,
            edge,
            admin,
            health,
            authz,
            limits,
            loop_breaker: loops,
            optimizer,
            workflows,
            scripts,
            audit,
            namespace,
            log_level: _,
            written: _,
            warnings,
        } = settings;
        let metrics = Metrics::new(&namespace, &name);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let edge = start_edge_policy(edge, (&aggregation, virtual_tools), &clock, &metrics)?;
        let (started, saved) = ((backends, process_count_max, &*name), (&admin, saves_lists));
        let (backends, federation) = backends::start(started, saved, (&aggregation, health), &metrics)?;
        metrics.set_name_check(listed_name_check(federation.clone(), edge.virtual_tools.clone()));
        let levels = if persists_levels { LevelsFile::for_settings(&admin) } else { None };
        let audit = audit.zip(output).map(|asked| start_audit(asked, &clock, &metrics, &edge));
        let observer = limit_observer(&metrics, audit.as_ref().map(|_| &clock));
        let limiter = limits::start_limiter(limits, levels.as_ref(), (clock, observer), &federation).await;
        let optimizer = search::start(optimizer, &federation, limiter.clone(), metrics.clone());
        let parts = stack::StackParts {
            policy: aggregation,
            authz: authz.clone(),
            limiter: limiter.clone(),
            loops,
            optimizer: optimizer.clone(),
            workflows,
            scripts: scripts::with_worker(scripts, additions.script_worker)?,
            audit: audit.clone(),
            metrics: metrics.clone(),
            added: stack::AddedParts { layers: additions.layers, run_observer: additions.run_observer },
        };
        let stack = stack::build(federation.clone(), parts);
        Ok(Self {
            _index_updater: prepare_lists(&federation, limiter.as_ref(), optimizer.as_ref(), &stack),
            gateway: stack.gateway,
            exposed: stack.exposed,
            authorized: stack.authorized,
            federation,
            limiter,
            optimizer,
            workflows: stack.workflows,
            scripts: stack.scripts,
            authz,
            audit,
            layers: stack.layers,
            metrics,
            edge,
            admin,
            summary: GatewaySummary { name, group, process_count_max: processes_max, warnings },
            backends,
            levels_file: levels,
            shutdown_started: Arc::default(),
        })
    }

    /// The names of the layers from the innermost to the outermost, as `/status` shows them.
    #[must_use]
    pub fn layers(&self) -> &[&'static str] {
        &self.layers
    }

    /// The caller for requests that an operator makes, for example on the command line.
    #[must_use]
    pub fn operator_caller(&self) -> Caller {
        match &self.edge.incoming {
            IncomingAuth::Anonymous => Caller::Anonymous,
            IncomingAuth::Local(identity) => Caller::Known(identity.clone()),
            // The command line presents no credential, so policies and limits see an anonymous caller.
            IncomingAuth::Bearer(_) => Caller::Anonymous,
        }
    }

    /// Opens the HTTP listener at the configured address. [`Listener::serve`] answers the requests.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(&self) -> io::Result<Listener> {
        self.bind_to(self.edge.listen)
    }

    /// Opens the HTTP listener at `address` instead of the configured address.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind_to(&self, address: SocketAddr) -> io::Result<Listener> {
        Ok(self.listen_on(ListenSocket::bind(address)?))
    }

    /// Opens the HTTP listener on a socket that was bound before.
    #[must_use]
    pub fn listen_on(&self, socket: ListenSocket) -> Listener {
        let (policy, gateway) = (self.edge.clone(), self.gateway.clone());
        let path = policy.path.clone();
        let pages = self.status_pages(None);
        self.start_spare_workers();
        let edge = HttpEdge::new(socket, policy, gateway, self.gateway_info(), Some(pages));
        let edge = edge.with_observer(self.metrics.clone());
        Listener::new(edge, path, self.shutdown_started.clone())
    }

    /// Opens the admin listener. Returns `None` if the configuration switches it off.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind_admin(&self) -> io::Result<Option<AdminListener>> {
        let Some(address) = self.admin.listen else { return Ok(None) };
        let operator = OperatorToken::open_or_warn(self.admin.state_folder.as_deref());
        AdminListener::bind(address, self.status_pages(operator)).map(Some)
    }

    /// Serves one client on a pair of streams, such as standard input and output of a process that a client
    /// starts. Ends when the input ends or when `ends` signals a stop.
    ///
    /// # Errors
    /// If a stream fails.
    pub async fn serve_stdio(
        &self,
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        ends: StopSignals,
    ) -> io::Result<()> {
        let gateway = self.gateway.clone();
        let policy = self.edge.clone();
        self.start_spare_workers();
        let shutdown_started_at =
            vmcp_edge::serve_stdio(policy, gateway, self.gateway_info(), input, output, ends).await?;
        let _ = self.shutdown_started.set(shutdown_started_at);
        Ok(())
    }

    /// Starts processes for scripts in advance, because clients are about to come.
    fn start_spare_workers(&self) {
        if let Some(scripts) = self.scripts.as_ref().filter(|_| Handle::try_current().is_ok()) {
            scripts.start_spares();
        }
    }

    /// The information about the gateway that the edges need in addition to the stack.
    fn gateway_info(&self) -> Arc<dyn GatewayInfo> {
        Arc::new(AuthorizedInfo {
            federation: self.federation.clone(),
            authorized: self.authorized.clone(),
            authz: self.authz.clone(),
            limiter: self.limiter.clone(),
        })
    }

    /// The status pages. `operator` is the token that changes need; with `None` the pages accept no changes.
    fn status_pages(&self, operator: Option<OperatorToken>) -> Arc<StatusPages> {
        StatusPages::new(StatusSources {
            summary: self.summary.clone(),
            federation: self.federation.clone(),
            limiter: self.limiter.clone(),
            optimizer: self.optimizer.clone(),
            workflows: self.workflows.clone(),
            scripts: self.scripts.clone(),
            layers: self.layers.clone(),
            metrics: self.metrics.clone(),
            authz: self.authz.clone(),
            is_metrics_public: self.admin.is_metrics_public,
            operator,
            audit: self.audit.clone(),
        })
    }

    /// Closes the connection and ends the process of every backend, within the rest of the grace period.
    /// Meanwhile the debts to the shared store are written, or the levels of limits are saved. The audit
    /// records are written last.
    pub async fn stop(self) {
        let shutdown_started_at = self.shutdown_started.get().copied().unwrap_or_else(Instant::now);
        let time_left =
            self.edge.limits.shutdown_grace.saturating_sub(shutdown_started_at.elapsed() + AUDIT_GRACE * 2);
        let grace = time_left.clamp(BACKEND_GRACE_MIN, BACKEND_GRACE_MAX);
        tokio::join!(limits::shut_down(self.limiter, self.levels_file), self.backends.shutdown(grace));
        if let Some(scripts) = self.scripts {
            scripts.stop();
        }
        if let Some(audit) = self.audit {
            // Runs on the blocking pool, because it waits for a disk.
            let _ = tokio::task::spawn_blocking(move || audit.flush(AUDIT_GRACE)).await;
        }
    }
}

/// Prepares limits and search for the tools, now and when they change.
fn prepare_lists(
    federation: &Federation,
    limiter: Option<&Arc<Limiter>>,
    optimizer: Option<&Arc<Optimizer>>,
    stack: &Stack,
) -> Option<Arc<IndexUpdater>> {
    // This must run after the stack is complete. The stack reports to the limiter which tools are virtual. Without that,
    // the limiter would warn that rules for virtual tools match no tool.
    limits::spawn_plan_preparation(federation, limiter);
    IndexUpdater::start(optimizer, federation, &stack.exposed)
}

/// Starts the authenticator of callers, and counts its outcomes.
fn start_edge_policy(
    policy: EdgePolicy<BearerPolicy>,
    (aggregation, virtual_tools): (&AggregationPolicy, Vec<String>),
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<EdgePolicy, StartError> {
    let start = |policy| {
        let authenticator = BearerAuthenticator::start(policy, clock.clone())?;
        Ok(CountedAuthenticator::wrap(Arc::new(authenticator), metrics.clone()))
    };
    let policy = EdgePolicy { freezes_tools: aggregation.freezes_tools, virtual_tools, ..policy };
    policy.start_authenticator(start).map_err(StartError::IssuerTls)
}

/// The check that separates listed names from names that a client invented. Its arguments are the MCP method
/// and the name.
fn listed_name_check(
    federation: Federation,
    virtual_tools: Vec<String>,
) -> impl Fn(&str, &str) -> bool + Send + Sync {
    move |method, name| match method {
        "tools/call" => {
            virtual_tools.iter().any(|tool| tool == name) || federation.has_listed(NameKind::Tool, name)
        }
        "prompts/get" => federation.has_listed(NameKind::Prompt, name),
        "resources/read" => federation.has_listed(NameKind::Resource, name),
        _ => false,
    }
}

/// Starts the writer of audit records.
fn start_audit(
    (settings, output): (AuditSettings, Output),
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    edge: &EdgePolicy,
) -> Arc<Audit> {
    Audit::start(settings, output, clock.clone(), Arc::new(metrics.audit_counters()), edge.path.clone())
}

/// The observer of the limiter's decisions: the metrics, and the audit records if they are enabled.
fn limit_observer(metrics: &Arc<Metrics>, audit_clock: Option<&Arc<dyn Clock>>) -> Arc<dyn Observer> {
    match audit_clock {
        Some(clock) => CapturingObserver::wrap(metrics.clone(), clock.clone()),
        None => metrics.clone(),
    }
}
