//! Builds the running gateway from its settings: backends, federation, the stack, the pages. Settings are taken apart
//! here and nowhere else.

mod levels;
mod limits;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmcp_authz::AuthzPolicy;
use vmcp_backends::policy::{BackendPolicy, ProcessPolicy};
use vmcp_backends::{Backends, ClientInfo};
use vmcp_domain::{Backend, Caller, GatewayInfo, SharedGateway};
use vmcp_edge::policy::{EdgePolicy, IncomingAuth};
use vmcp_edge::{AdminListener, HttpEdge, StopSignals};
use vmcp_federation::{Federation, NameKind};
use vmcp_optimizer::{Optimizer, VIRTUAL_NAMES};
use vmcp_ratelimit::{Clock, Limiter, Observer, SystemClock};

use crate::audit::{Audit, CapturingObserver, Output};
use crate::auth_metrics::CountedAuthenticator;
use crate::backend_metrics::{CountedBackend, backend_counters};
use crate::config::{AdminSettings, AuditSettings, Settings};
use crate::directory::AuthorizedInfo;
use crate::metrics::Metrics;
use crate::operator::OperatorToken;
use crate::outlook::AvailabilityProbe;
use crate::process;
use crate::search::{self, IndexUpdater};
use crate::stack::{self, AddedLayer, Stack};
use crate::status::{GatewaySummary, StatusPages, StatusSources};
use levels::LevelsFile;

/// How long backends get to end by themselves: at most, and when calls have used up the time for the shutdown.
const BACKEND_GRACE_MAX: Duration = Duration::from_secs(5);
const BACKEND_GRACE_MIN: Duration = Duration::from_millis(500);

/// How long the end waits for audit records to be written.
const AUDIT_GRACE: Duration = Duration::from_millis(500);

/// What a program adds to a configuration.
#[derive(Default)]
pub struct Additions {
    /// Where audit records go. Without it none are written, whatever the settings say.
    pub audit: Option<Output>,
    /// Layers of its own.
    pub layers: Vec<AddedLayer>,
    /// Takes over the levels of limits that the last process has left in the state folder, and leaves its own there when it
    /// is stopped, if the folder is its own. For the one process that serves a configuration.
    pub persists_levels: bool,
}

/// A gateway that is connected to its backends. It can be called in process through [`gateway`](Self::gateway), and
/// served with [`bind`](Self::bind) or [`serve_stdio`](Self::serve_stdio).
///
/// End it with [`stop`](Self::stop): dropping it leaves what is owed to a shared store of limits unwritten.
pub struct RunningGateway {
    /// The whole stack: what a client is served with.
    pub gateway: SharedGateway,
    /// The part of the stack that shows which tools are advertised, before any policy.
    pub exposed: SharedGateway,
    /// The part of the stack that shows what each caller may use, before the search replaces the list.
    pub authorized: SharedGateway,
    /// The innermost part: reports about backends, and the whole catalogue.
    pub federation: Federation,
    /// Counts calls; `None` if nothing is limited.
    pub limiter: Option<Arc<Limiter>>,
    /// Searches tools; `None` if clients get the whole list.
    pub optimizer: Option<Arc<Optimizer>>,
    authz: Option<Arc<AuthzPolicy>>,
    audit: Option<Arc<Audit>>,
    layers: Vec<&'static str>,
    metrics: Arc<Metrics>,
    /// The settings of the client edge.
    pub edge: EdgePolicy,
    /// The settings of the pages for operators.
    pub admin: AdminSettings,

    summary: GatewaySummary,
    backends: Backends,
    /// Where the levels of limits are left.
    levels_file: Option<LevelsFile>,
    /// When the end began, once it has.
    shutdown_started: Arc<OnceLock<Instant>>,
    /// Keeps the search index up to date as long as it lives.
    _index_updater: Option<Arc<IndexUpdater>>,
}

impl RunningGateway {
    /// Starts connecting to every backend and builds the stack over them.
    pub async fn start(settings: Settings, additions: Additions) -> Self {
        let Additions { audit: output, layers: added, persists_levels: keeps_levels } = additions;
        let processes_max = settings.process_count_worst_case();
        let Settings {
            name,
            group,
            aggregation,
            backends,
            process_count_max,
            mut edge,
            admin,
            health,
            authz,
            limits,
            loop_breaker: loops,
            optimizer,
            audit,
            namespace,
            log_level: _,
            warnings,
        } = settings;
        let processes = process::process_policy(process_count_max);
        let metrics = Metrics::new(&namespace, &name);
        let (backends, counted) = start_backends(backends, &edge, &processes, &metrics);
        let federation = Federation::start(aggregation.clone(), health, counted);
        metrics.set_name_check(listed_name_check(federation.clone(), optimizer.is_some()));
        CountedAuthenticator::wrap_in(&mut edge.incoming, &metrics);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let levels = if keeps_levels { LevelsFile::for_settings(&admin) } else { None };
        let audit = audit.zip(output).map(|asked| start_audit(asked, &clock, &metrics, &edge));
        let observer = limit_observer(&metrics, audit.as_ref().map(|_| &clock));
        let limiter = limits::start_limiter(limits, levels.as_ref(), (clock, observer), &federation).await;
        let outlook = AvailabilityProbe::new(federation.clone(), limiter.clone());
        let optimizer = optimizer.map(|settings| search::start(settings, outlook, metrics.clone()));
        let parts = stack::StackParts {
            policy: aggregation,
            authz: authz.clone(),
            limiter: limiter.clone(),
            loops,
            optimizer: optimizer.clone(),
            audit: audit.clone(),
            metrics: metrics.clone(),
            added,
        };
        let Stack { gateway, exposed, authorized: offer, layers } = stack::build(federation.clone(), parts);
        // Not before the stack is complete: it tells the limiter which tools are virtual, and rules for these fit nothing else.
        if let Some(limiter) = limiter.clone() {
            tokio::spawn(limits::prepare_plans(federation.clone(), limiter));
        }
        let indexing =
            optimizer.clone().map(|optimizer| IndexUpdater::start(optimizer, &federation, exposed.clone()));
        Self {
            gateway,
            exposed,
            authorized: offer,
            federation,
            limiter,
            optimizer,
            authz,
            audit,
            layers,
            metrics,
            edge,
            admin,
            summary: GatewaySummary { name, group, process_count_max: processes_max, warnings },
            backends,
            levels_file: levels,
            shutdown_started: Arc::default(),
            _index_updater: indexing,
        }
    }

    /// The names of the layers from inside to outside, as `/status` shows them.
    #[must_use]
    pub fn layers(&self) -> &[&'static str] {
        &self.layers
    }

    /// The caller that requests of the operator, such as those of the command line, are made for.
    #[must_use]
    pub fn operator_caller(&self) -> Caller {
        match &self.edge.incoming {
            IncomingAuth::Anonymous => Caller::Anonymous,
            IncomingAuth::Local(identity) => Caller::Known(identity.clone()),
            // The command line presents no credential, so policies and limits see an anonymous caller.
            IncomingAuth::Bearer(_) => Caller::Anonymous,
        }
    }

    /// Opens the HTTP listener that the configuration names. Requests are answered once
    /// [`Listener::serve`] runs.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(&self) -> io::Result<Listener> {
        self.bind_to(self.edge.listen)
    }

    /// The same at another address.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind_to(&self, address: SocketAddr) -> io::Result<Listener> {
        let policy = EdgePolicy { listen: address, ..self.edge.clone() };
        let path = policy.path.clone();
        let edge =
            HttpEdge::bind(policy, self.gateway.clone(), self.gateway_info(), Some(self.status_pages(None)))?;
        let edge = edge.with_observer(self.metrics.clone());
        Ok(Listener { edge, path, shutdown_started: self.shutdown_started.clone() })
    }

    /// Opens the admin listener, unless the configuration switches it off.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind_admin(&self) -> io::Result<Option<AdminListener>> {
        let Some(address) = self.admin.listen else { return Ok(None) };
        let operator = OperatorToken::open_or_warn(self.admin.state_folder.as_deref());
        AdminListener::bind(address, self.status_pages(operator)).map(Some)
    }

    /// Serves one client on a pair of streams, as a program that a client starts does on standard input and output.
    /// Ends with the input or when `ends` say so.
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
        let began = vmcp_edge::serve_stdio(policy, gateway, self.gateway_info(), input, output, ends).await?;
        let _ = self.shutdown_started.set(began);
        Ok(())
    }

    /// What the edges need to introduce the gateway.
    fn gateway_info(&self) -> Arc<dyn GatewayInfo> {
        Arc::new(AuthorizedInfo {
            federation: self.federation.clone(),
            authorized: self.authorized.clone(),
            authz: self.authz.clone(),
            limiter: self.limiter.clone(),
        })
    }

    /// The pages for operators.
    fn status_pages(&self, operator: Option<OperatorToken>) -> Arc<StatusPages> {
        StatusPages::new(StatusSources {
            summary: self.summary.clone(),
            federation: self.federation.clone(),
            limiter: self.limiter.clone(),
            optimizer: self.optimizer.clone(),
            layers: self.layers.clone(),
            metrics: self.metrics.clone(),
            authz: self.authz.clone(),
            is_metrics_public: self.admin.is_metrics_public,
            operator,
            audit: self.audit.clone(),
        })
    }

    /// Ends every backend's connection and process within what is left of the grace period. What is owed to the shared
    /// store and the audit records are written meanwhile.
    pub async fn stop(self) {
        let began = self.shutdown_started.get().copied().unwrap_or_else(Instant::now);
        let left = self.edge.limits.shutdown_grace.saturating_sub(began.elapsed() + AUDIT_GRACE * 2);
        let grace = left.clamp(BACKEND_GRACE_MIN, BACKEND_GRACE_MAX);
        tokio::join!(limits::shut_down(self.limiter, self.levels_file), self.backends.shutdown(grace));
        if let Some(audit) = self.audit {
            // Off the runtime's threads: it waits for a disk.
            let _ = tokio::task::spawn_blocking(move || audit.flush(AUDIT_GRACE)).await;
        }
    }
}

/// An HTTP listener that is bound.
pub struct Listener {
    edge: HttpEdge,
    path: String,
    shutdown_started: Arc<OnceLock<Instant>>,
}

impl Listener {
    /// The address it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.edge.local_addr()
    }

    /// The URL of the MCP endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}{}", self.local_addr(), self.path)
    }

    /// Serves each connection on one of `threads` threads, each with a runtime of its own, and not on the runtime that
    /// calls [`serve`](Self::serve). One for each core is fastest.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        Self { edge: self.edge.with_threads(threads), ..self }
    }

    /// Answers requests until `shutdown` is cancelled, and then until calls under way have ended, for at most three
    /// quarters of the grace period. The rest is for [`RunningGateway::stop`].
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, shutdown: CancellationToken) -> io::Result<()> {
        let began = self.edge.serve(shutdown).await?;
        let _ = self.shutdown_started.set(began);
        Ok(())
    }
}

/// Starts the backends, and counts the requests to each.
fn start_backends(
    policies: Vec<BackendPolicy>,
    edge: &EdgePolicy,
    processes: &ProcessPolicy,
    metrics: &Metrics,
) -> (Backends, Vec<Arc<dyn Backend>>) {
    let counters = backend_counters(&policies, metrics);
    let backends = Backends::start(policies, &gateway_identity(edge), processes);
    let counted = backends.all().cloned().zip(counters);
    let counted = counted.map(|(backend, counters)| CountedBackend::wrap(backend, counters)).collect();
    (backends, counted)
}

/// Tells names that have been on offer from what a client makes up: by the method and the name.
fn listed_name_check(federation: Federation, has_virtual: bool) -> impl Fn(&str, &str) -> bool + Send + Sync {
    move |method, name| match method {
        "tools/call" => {
            federation.has_listed(NameKind::Tool, name) || has_virtual && VIRTUAL_NAMES.contains(&name)
        }
        "prompts/get" => federation.has_listed(NameKind::Prompt, name),
        "resources/read" => federation.has_listed(NameKind::Resource, name),
        _ => false,
    }
}

/// What backends are told about the gateway.
fn gateway_identity(edge: &EdgePolicy) -> ClientInfo {
    ClientInfo { name: edge.server.name.clone(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The writer of audit records.
fn start_audit(
    (settings, output): (AuditSettings, Output),
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    edge: &EdgePolicy,
) -> Arc<Audit> {
    Audit::start(settings, output, clock.clone(), metrics.audit_counters(), edge.path.clone())
}

/// What hears the limiter's decisions: metrics, and the audit records where there are any.
fn limit_observer(metrics: &Arc<Metrics>, audited: Option<&Arc<dyn Clock>>) -> Arc<dyn Observer> {
    match audited {
        Some(clock) => CapturingObserver::wrap(metrics.clone(), clock.clone()),
        None => metrics.clone(),
    }
}
