//! `vmcp demo`: the product running on nothing but its own binary. Two small MCP servers are built in, one started
//! as a child process over stdio, one served over HTTP; the tour talks to the gateway's own HTTP endpoint as any
//! client would.

mod builtin;
mod tour;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use vmcp_backends::policy::{
    BackendPolicy, CallerBounds, HttpPolicy, Isolation, ProcessPolicy, StdioPolicy, Timeouts, Transport,
};
use vmcp_edge::HttpEdge;
use vmcp_edge::policy::{EdgeLimits, EdgePolicy, IncomingAuth, ServerInfo};
use vmcp_federation::policy::{AggregationPolicy, HealthPolicy};
use vmcp_ratelimit::policy::{
    Anonymous, Consistency, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};
use vmcp_ratelimit::{OnStoreFailure, Pattern, Rate};

use crate::cli::Listen;
use crate::commands::serve::shutdown_on_signal;
use vmcp::config::{AdminSettings, LimitSettings, LogLevel, Settings};
use vmcp::{Additions, CancellationToken, Listener, RunningGateway, StopSignals};

/// The port the demo listens on when nothing else is said and it is free.
const PORT: u16 = 4483;

/// Runs the demo until a signal, or until the tour is over.
pub(crate) async fn run(listen: Listen, once: bool) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal()?;
    let glossary = serve_glossary(shutdown.clone()).await?;
    let settings = settings(&listen, &glossary)?;
    let gateway = RunningGateway::start(settings, Additions::default()).await;
    let listener = bind(&gateway, listen.port.is_none())?;
    let endpoint = listener.endpoint();
    let serving = tokio::spawn(listener.serve(shutdown.clone()));
    let mut out = std::io::stdout();
    tour::run(&mut out, &endpoint, &gateway).await?;
    if once {
        shutdown.cancel();
    } else {
        tour::print_clients(&mut out, &endpoint)?;
        out.flush()?;
    }
    serving.await??;
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Serves one built-in server on standard input and output: what the demo starts as a child.
pub(crate) async fn serve_stdio(name: String) -> anyhow::Result<ExitCode> {
    let server = builtin::by_name(&name).with_context(|| format!("there is no built-in server `{name}`"))?;
    let policy = edge_policy(&name, ([127, 0, 0, 1], 0).into());
    let (stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let ends = StopSignals { shutdown: shutdown_on_signal()?, ..StopSignals::default() };
    vmcp_edge::serve_stdio(policy, server.clone(), server, stdin, stdout, ends).await?;
    Ok(ExitCode::SUCCESS)
}

/// Serves one built-in server over HTTP: a backend that costs next to nothing, for measuring.
pub(crate) async fn serve_http(name: String, port: u16) -> anyhow::Result<ExitCode> {
    let server = builtin::by_name(&name).with_context(|| format!("there is no built-in server `{name}`"))?;
    let policy = edge_policy(&name, ([127, 0, 0, 1], port).into());
    let edge = HttpEdge::bind(policy, server.clone(), server, None)?;
    eprintln!("vmcp: serving http://{}/mcp", edge.local_addr());
    edge.serve(shutdown_on_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the HTTP one of the built-in servers on a free port and returns its endpoint.
async fn serve_glossary(shutdown: CancellationToken) -> anyhow::Result<String> {
    let server = builtin::glossary();
    let policy = edge_policy("glossary", ([127, 0, 0, 1], 0).into());
    let edge = HttpEdge::bind(policy, server.clone(), server, None)?;
    let endpoint = format!("http://{}/mcp", edge.local_addr());
    tokio::spawn(edge.serve(shutdown));
    Ok(endpoint)
}

/// Binds the gateway's own endpoint; a taken default port is no reason to fail.
fn bind(gateway: &RunningGateway, may_move: bool) -> anyhow::Result<Listener> {
    let wanted = gateway.edge.listen;
    let bound = match gateway.bind() {
        Err(error) if may_move && wanted.port() != 0 && error.kind() == std::io::ErrorKind::AddrInUse => {
            gateway.bind_to((wanted.ip(), 0).into())
        }
        outcome => outcome,
    };
    bound.with_context(|| format!("cannot listen on {wanted}"))
}

fn settings(listen: &Listen, glossary: &str) -> anyhow::Result<Settings> {
    let address = listen
        .host
        .as_deref()
        .unwrap_or("127.0.0.1")
        .parse::<std::net::IpAddr>()
        .context("--host must be an IP address")?;
    let mut edge = edge_policy("vmcp-demo", (address, listen.port.unwrap_or(PORT)).into());
    if let Some(idle) = listen.session_ttl.filter(|idle| *idle > Duration::ZERO) {
        edge.limits.session_idle_max = idle;
    }
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let notes = Transport::Stdio(StdioPolicy {
        command: program.to_string_lossy().into_owned(),
        args: vec!["demo-server".to_owned(), "notes".to_owned()],
        env: std::collections::BTreeMap::new(),
        inherit_env: Vec::new(),
        cwd: None,
    });
    let glossary =
        Transport::StreamableHttp(HttpPolicy { url: glossary.parse()?, ca_bundle: None, may_be_sse: false });
    let backend = |name: &str, transport| BackendPolicy {
        credentials: None,
        isolation: Isolation::Shared,
        caller_bounds: CallerBounds::DEFAULT,
        id: name.into(),
        transport,
        timeouts: Timeouts::DEFAULT,
        headers: Vec::new(),
    };
    Ok(Settings {
        name: "vmcp-demo".to_owned(),
        group: None,
        aggregation: AggregationPolicy::default(),
        backends: vec![backend("notes", notes), backend("glossary", glossary)],
        process_count_max: ProcessPolicy::COUNT_MAX,
        edge,
        admin: AdminSettings {
            listen: None,
            is_metrics_public: false,
            state_folder: None,
            owns_state_folder: false,
            issuer: "local".to_owned(),
        },
        health: HealthPolicy::DEFAULT,
        authz: None,
        optimizer: None,
        limits: Some(limits()?),
        loop_breaker: None,
        audit: None,
        namespace: "local".to_owned(),
        log_level: LogLevel::Warn,
        warnings: Vec::new(),
    })
}

/// Two calls of `define` a minute, for everybody together: enough to be met by the tour.
fn limits() -> anyhow::Result<LimitSettings> {
    let rate = Rate::new(2, Duration::from_secs(60), 2)?;
    let shared = Some(Quota::new(vec![rate], Mode::Enforce));
    let rule = ToolRule {
        name: Pattern::new("define"),
        annotation: None,
        group: false,
        limits: Limits { shared, ..Limits::default() },
        cost: vmcp_ratelimit::policy::Cost::default(),
    };
    let policy = LimitPolicy {
        server: Limits::default(),
        tools: vec![rule],
        anonymous: Anonymous::Refuse,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: Consistency::Exact,
        ..LimitPolicy::default()
    };
    Ok(LimitSettings { policy, redis: None, on_failure: OnStoreFailure::default() })
}

fn edge_policy(name: &str, listen: std::net::SocketAddr) -> EdgePolicy {
    EdgePolicy {
        server: ServerInfo { name: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        listen,
        path: "/mcp".to_owned(),
        incoming: IncomingAuth::Anonymous,
        allowed_origins: Vec::new(),
        allowed_hosts: Vec::new(),
        passthrough_headers: Vec::new(),
        trusted_proxies: Vec::new(),
        scrape_key: None,
        limit_answer: vmcp_wire::fault::LimitAnswer::DEFAULT,
        limits: EdgeLimits::DEFAULT,
    }
}

/// A built-in server, as the edges take it.
pub(crate) type BuiltIn = Arc<builtin::Server>;
