//! Test support: a scripted gateway, a running edge in front of it, and an HTTP client that exposes statuses,
//! headers and events.

mod client;
mod fake;
mod gatekeeper;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use vmcp_domain::{BoxFuture, Identity};
use vmcp_edge::policy::{EdgeLimits, EdgePolicy, IncomingAuth, ServerInfo};
use vmcp_edge::{AccessLevel, AdminPage, AdminPages, HttpEdge, RequestObserver};

pub(crate) use self::client::{Client, RawResponse, call, initialize, meta, request};
pub(crate) use self::fake::{ScriptedEvent, ScriptedGateway};
pub(crate) use self::gatekeeper::FakeAuthenticator;

/// The time-out of every wait in a test.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn policy() -> EdgePolicy {
    EdgePolicy {
        server: ServerInfo { name: "vmcp".to_owned(), version: "1".to_owned() },
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        path: "/mcp".to_owned(),
        incoming: IncomingAuth::Local(Arc::new(Identity {
            issuer: "local".to_owned(),
            subject: "me".to_owned(),
            claims: vmcp_json::Members::new(),
        })),
        allowed_origins: Vec::new(),
        allowed_hosts: Vec::new(),
        passthrough_headers: vec!["x-passed".to_owned()],
        trusted_proxies: Vec::new(),
        scrape_key: None,
        answers: vmcp_wire::error_response::AnswerPolicy::DEFAULT,
        freezes_tools: false,
        virtual_tools: Vec::new(),
        limits: EdgeLimits {
            page_items_max: 3,
            shutdown_grace: Duration::from_secs(10),
            ..EdgeLimits::DEFAULT
        },
    }
}

/// A running edge. Dropping it shuts it down.
pub(crate) struct RunningEdge {
    pub(crate) client: Client,
    pub(crate) fake: Arc<ScriptedGateway>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<std::io::Result<tokio::time::Instant>>,
}

impl Drop for RunningEdge {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) struct FakePages;

impl AdminPages for FakePages {
    fn page(&self, path: &str, reader: AccessLevel, _accept: &str) -> Option<AdminPage> {
        if path == "/reader" {
            let body = format!("{reader:?}").into();
            return Some(AdminPage { status: 200, content_type: "text/plain", body });
        }
        (path == "/health").then(|| AdminPage {
            status: 200,
            content_type: "application/json",
            body: "{\"status\":\"ok\"}".into(),
        })
    }

    fn handle_post<'a>(
        &'a self,
        path: &'a str,
        token: Option<&'a str>,
        body: Bytes,
    ) -> BoxFuture<'a, Option<AdminPage>> {
        Box::pin(async move {
            let said = format!("{token:?} {}", String::from_utf8_lossy(&body));
            let page = AdminPage { status: 200, content_type: "text/plain", body: said.into() };
            (path == "/act").then_some(page)
        })
    }
}

pub(crate) fn start() -> RunningEdge {
    start_with(policy())
}

pub(crate) fn start_with(policy: EdgePolicy) -> RunningEdge {
    let fake = ScriptedGateway::new();
    let edge = HttpEdge::bind(policy, fake.clone(), fake.clone(), Some(Arc::new(FakePages))).unwrap();
    serve(edge, fake)
}

/// Starts an edge that reports each request to `observer`.
pub(crate) fn start_observed(policy: EdgePolicy, observer: Arc<dyn RequestObserver>) -> RunningEdge {
    let fake = ScriptedGateway::new();
    let edge = HttpEdge::bind(policy, fake.clone(), fake.clone(), Some(Arc::new(FakePages))).unwrap();
    serve(edge.with_observer(observer), fake)
}

fn serve(edge: HttpEdge, fake: Arc<ScriptedGateway>) -> RunningEdge {
    let client = Client::new(edge.local_addr());
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(edge.serve(shutdown.clone()));
    RunningEdge { client, fake, shutdown, served }
}

/// Waits for `future`, at most [`TEST_TIMEOUT`].
pub(crate) async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, future).await.expect("waited too long")
}
