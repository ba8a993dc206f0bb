//! The pages for operators: `/health` (the process lives), `/readyz` (every backend has answered or failed once) and
//! `/status` (how each backend is doing). They name no URL, no command and no error text.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use vmcp_domain::BackendState;
use vmcp_edge::{AdminPages, Page};
use vmcp_federation::{BackendReport, Federation};
use vmcp_ratelimit::Limiter;

use crate::metrics::Metrics;

/// Serves the pages.
pub(crate) struct StatusPages {
    sources: Sources,
    ready: Arc<AtomicBool>,
}

/// What the pages tell about.
pub(crate) struct Sources {
    /// The gateway's name.
    pub(crate) name: String,
    /// The group its backends belong to.
    pub(crate) group: Option<String>,
    /// The backends and what they offer.
    pub(crate) federation: Federation,
    /// What counts calls.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// The counters.
    pub(crate) metrics: Arc<Metrics>,
}

impl StatusPages {
    /// Pages over a federation. Readiness is watched from now on.
    pub(crate) fn new(sources: Sources) -> Arc<Self> {
        let ready = Arc::new(AtomicBool::new(false));
        let (settled, flag) = (sources.federation.clone(), ready.clone());
        tokio::spawn(async move {
            settled.settled().await;
            flag.store(true, Ordering::Release);
        });
        Arc::new(Self { sources, ready })
    }

    fn status(&self) -> Value {
        let Sources { name, group, federation, limiter, metrics: _ } = &self.sources;
        let reports = federation.reports();
        let healthy = reports.iter().all(|report| report.status.state == BackendState::Ready);
        let findings: Vec<String> = federation.findings().iter().map(ToString::to_string).collect();
        json!({
            "name": name,
            "group_ref": group,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.ready.load(Ordering::Acquire),
            "healthy": healthy,
            "layers": crate::stack::LAYERS,
            "backends": reports.iter().map(backend).collect::<Vec<_>>(),
            "findings": findings,
            "limits": limiter.as_ref().map(|limiter| json!({
                "store": if limiter.store_available().is_some() { "redis" } else { "memory" },
                "store_available": limiter.store_available(),
                "users": limiter.user_count(),
            })),
        })
    }
}

fn backend(report: &BackendReport) -> Value {
    let status = &report.status;
    json!({
        "name": report.id.as_str(),
        "health": match status.state {
            BackendState::Ready => "healthy",
            BackendState::Connecting => "unknown",
            BackendState::Unavailable | BackendState::Stopped => "unhealthy",
        },
        "state": status.state.as_str(),
        "transport": status.transport,
        "mcp_revision": status.protocol.map(vmcp_domain::ProtocolVersion::as_str),
        "listed": report.listed,
        "tools": report.tool_count,
        "resources": report.resource_count,
        "prompts": report.prompt_count,
        "last_error": status.last_error,
        "reconnects": status.reconnect_count,
    })
}

fn page(status: u16, body: &Value) -> Page {
    Page { status, content_type: "application/json", body: Bytes::from(body.to_string()) }
}

impl AdminPages for StatusPages {
    fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/health" | "/ping" => Some(page(200, &json!({"status": "ok"}))),
            "/readyz" if self.ready.load(Ordering::Acquire) => Some(page(200, &json!({"status": "ready"}))),
            "/readyz" => Some(page(503, &json!({"status": "not_ready", "reason": "backends_pending"}))),
            "/status" => Some(page(200, &self.status())),
            "/metrics" => Some(Page {
                status: 200,
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body: Bytes::from(self.sources.metrics.page()),
            }),
            _ => None,
        }
    }
}
