//! `vmcp demo`: runs the gateway without any other program. Two small MCP servers are built in: one is a
//! child process on stdio, one is served over HTTP. The tour sends requests to the gateway's own HTTP
//! endpoint, as any client would.

mod builtin;
mod tour;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use vmcp::config::{AdminSettings, LimitSettings, LogLevel, Settings, WorkflowSettings};
use vmcp::{Additions, CancellationToken, Listener, RunningGateway, StopSignals};
use vmcp_backends::policy::{
    BackendPolicy, CallerBounds, HttpPolicy, Isolation, ProcessPolicy, StdioPolicy, Timeouts, Transport,
};
use vmcp_domain::NamePattern;
use vmcp_edge::HttpEdge;
use vmcp_edge::policy::{EdgeLimits, EdgePolicy, IncomingAuth, ServerInfo};
use vmcp_federation::policy::{AggregationPolicy, HealthPolicy};
use vmcp_ratelimit::policy::{
    Anonymous, Consistency, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};
use vmcp_ratelimit::{OnStoreFailure, Rate};

use crate::cli::Listen;
use crate::commands::serve::shutdown_on_signal;

/// The default port of the demo. If it is in use, the demo takes a free one.
const PORT: u16 = 4483;

/// Runs the demo until a stop signal, or until the tour ends if `once`.
pub(crate) async fn run(listen: Listen, once: bool) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal()?;
    let glossary = serve_glossary(shutdown.clone()).await?;
    let settings = settings(&listen, &glossary)?;
    let gateway = RunningGateway::start(settings, Additions::default()).await?;
    let listener = bind(&gateway, listen.port.is_none())?;
    let endpoint = listener.endpoint();
    let server_task = tokio::spawn(listener.serve(shutdown.clone()));
    let mut out = std::io::stdout();
    tour::run(&mut out, &endpoint, &gateway).await?;
    if once {
        shutdown.cancel();
    } else {
        tour::print_clients(&mut out, &endpoint)?;
        out.flush()?;
    }
    server_task.await??;
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Serves one of the built-in servers: over HTTP on a port, or else on standard input and output.
pub(crate) async fn serve_one(name: String, port: Option<u16>) -> anyhow::Result<ExitCode> {
    match port {
        None => serve_stdio(name).await,
        Some(port) => serve_http(name, port).await,
    }
}

/// Serves one built-in server on standard input and output. The demo starts this as a child process.
async fn serve_stdio(name: String) -> anyhow::Result<ExitCode> {
    let server = builtin::by_name(&name).with_context(|| format!("no built-in server is called `{name}`"))?;
    let policy = edge_policy(&name, ([127, 0, 0, 1], 0).into());
    let (stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let ends = StopSignals { shutdown: shutdown_on_signal()?, ..StopSignals::default() };
    vmcp_edge::serve_stdio(policy, server.clone(), server, stdin, stdout, ends).await?;
    Ok(ExitCode::SUCCESS)
}

/// Serves one built-in server over HTTP, as a backend with almost no cost of its own for measurements.
async fn serve_http(name: String, port: u16) -> anyhow::Result<ExitCode> {
    let server = builtin::by_name(&name).with_context(|| format!("no built-in server is called `{name}`"))?;
    let policy = edge_policy(&name, ([127, 0, 0, 1], port).into());
    let edge = HttpEdge::bind(policy, server.clone(), server, None)?;
    eprintln!("vmcp: serving http://{}/mcp", edge.local_addr());
    edge.serve(shutdown_on_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// Serves the built-in `glossary` server over HTTP on a free port and returns its endpoint.
async fn serve_glossary(shutdown: CancellationToken) -> anyhow::Result<String> {
    let server = builtin::glossary();
    let policy = edge_policy("glossary", ([127, 0, 0, 1], 0).into());
    let edge = HttpEdge::bind(policy, server.clone(), server, None)?;
    let endpoint = format!("http://{}/mcp", edge.local_addr());
    tokio::spawn(edge.serve(shutdown));
    Ok(endpoint)
}

/// Binds the gateway's own endpoint. If the address is in use and `may_change_port`, it takes a free port instead of
/// failing.
fn bind(gateway: &RunningGateway, may_change_port: bool) -> anyhow::Result<Listener> {
    let requested = gateway.edge.listen;
    let bound = match gateway.bind() {
        Err(error)
            if may_change_port && requested.port() != 0 && error.kind() == std::io::ErrorKind::AddrInUse =>
        {
            gateway.bind_to((requested.ip(), 0).into())
        }
        outcome => outcome,
    };
    bound.with_context(|| format!("cannot listen on {requested}"))
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
        workflows: WorkflowSettings::default(),
        scripts: None,
        limits: Some(limits()?),
        loop_breaker: None,
        audit: None,
        namespace: "local".to_owned(),
        log_level: LogLevel::Warn,
        warnings: Vec::new(),
        written: serde_json::Value::Null,
    })
}

/// Allows two calls of `define` a minute for all callers together, so that the tour runs into the limit.
fn limits() -> anyhow::Result<LimitSettings> {
    let rate = Rate::new(2, Duration::from_secs(60), 2)?;
    let shared = Some(Quota::new(vec![rate], Mode::Enforce));
    let rule = ToolRule {
        name: NamePattern::new("define"),
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

fn edge_policy<A>(name: &str, listen: std::net::SocketAddr) -> EdgePolicy<A> {
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
        answers: vmcp_wire::error_response::AnswerPolicy::DEFAULT,
        freezes_tools: false,
        virtual_tools: Vec::new(),
        limits: EdgeLimits::DEFAULT,
    }
}

/// A built-in server, in the type that the edges take.
pub(crate) type BuiltIn = Arc<builtin::Server>;
