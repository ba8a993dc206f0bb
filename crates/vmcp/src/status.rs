//! The pages for operators: `/health` (the process lives), `/readyz` (every backend has answered or failed once), `/status`
//! (how each backend is doing), `/metrics`, and `/limits` (who calls most, and what is left for whom). They name no URL,
//! no command and no error text. Who may read which is decided here; who asks is the edge's to find out.

mod acts;
mod backends;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use vmcp_authz::AuthzPolicy;
use vmcp_domain::{BoxFuture, CallContext, CallOrigin, Caller, Identity, Json, Members};
use vmcp_edge::{AccessLevel, AdminPage, AdminPages};
use vmcp_federation::{Federation, Health};
use vmcp_optimizer::{Optimizer, OptimizerStatus};
use vmcp_ratelimit::lease::LeaseCounts;
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{BucketView, Limiter, LimiterStatus, OnStoreFailure, Wait};

use crate::audit::Audit;
use crate::config::Problem;
use crate::metrics::Metrics;
use crate::operator::OperatorToken;

/// Serves the pages.
pub(crate) struct StatusPages {
    sources: StatusSources,
    ready: Arc<AtomicBool>,
}

/// What the pages tell about.
pub(crate) struct StatusSources {
    /// The gateway.
    pub(crate) summary: GatewaySummary,
    /// The backends and what they offer.
    pub(crate) federation: Federation,
    /// What counts calls.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// What searches.
    pub(crate) optimizer: Option<Arc<Optimizer>>,
    /// The layers of the stack.
    pub(crate) layers: Vec<&'static str>,
    /// The counters.
    pub(crate) metrics: Arc<Metrics>,
    /// What callers may do.
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    /// Anyone may read `/metrics`.
    pub(crate) is_metrics_public: bool,
    /// What changes need; `None` where none are taken.
    pub(crate) operator: Option<OperatorToken>,
    /// Where changes are recorded.
    pub(crate) audit: Option<Arc<Audit>>,
}

/// What the configuration says of the gateway as a whole.
#[derive(Clone)]
pub(crate) struct GatewaySummary {
    /// Its name.
    pub(crate) name: String,
    /// The group its backends belong to.
    pub(crate) group: Option<String>,
    /// The most processes of stdio backends.
    pub(crate) process_count_max: usize,
    /// What the configuration was warned of.
    pub(crate) warnings: Vec<Problem>,
}

impl StatusPages {
    /// Pages over a federation. Readiness is watched from now on.
    pub(crate) fn new(sources: StatusSources) -> Arc<Self> {
        let ready = Arc::new(AtomicBool::new(false));
        let (settled, flag) = (sources.federation.clone(), ready.clone());
        tokio::spawn(async move {
            settled.wait_for_discovery().await;
            flag.store(true, Ordering::Release);
        });
        Arc::new(Self { sources, ready })
    }

    /// Ready once every backend has answered or failed. A backend that fails later leaves the tools of the others, so that
    /// the gateway stays ready; the counts say how much of it works.
    fn readiness_page(&self, sees_state: bool) -> AdminPage {
        let backends = sees_state.then(|| backends::health_counts(&self.sources.federation.reports()));
        if self.ready.load(Ordering::Acquire) {
            json_page(200, &json!({"status": "ready", "backends": backends}))
        } else {
            json_page(
                503,
                &json!({"status": "not_ready", "reason": "backends_pending", "backends": backends}),
            )
        }
    }

    fn metrics_page(&self, accept: &str) -> AdminPage {
        if let Some(policy) = &self.sources.authz {
            self.sources.metrics.set_groups_unknown(policy.groups_unknown_count());
        }
        self.sources.metrics.set_backends(&self.sources.federation.reports());
        if let Some(limiter) = &self.sources.limiter {
            self.sources.metrics.set_limiter(&limiter.status());
        }
        let (content_type, text) = self.sources.metrics.page(accept);
        AdminPage { status: 200, content_type, body: Bytes::from(text) }
    }

    /// Who has called limited tools most.
    fn top_callers_page(&self) -> Option<AdminPage> {
        let limiter = self.sources.limiter.as_ref()?;
        let callers = limiter.top_callers();
        let rows = callers.iter().map(|caller| {
            json!({
                "issuer": caller.identity.issuer,
                "user": caller.identity.subject,
                "asked": caller.call_count,
                "error": caller.count_error,
                "refused": caller.refused_count,
            })
        });
        Some(json_page(200, &json!({"topCallers": rows.collect::<Vec<_>>()})))
    }

    /// What a tool's buckets hold for one caller: `/limits/TOOL`, or `/limits/TOOL/ISSUER/USER`, followed by `/CLAIM/VALUE`
    /// for each claim, percent-encoded.
    fn limits_page(&self, rest: &str) -> Option<AdminPage> {
        let limiter = self.sources.limiter.as_ref()?;
        let mut parts = rest.split('/').map(percent_decode);
        let tool = parts.next()??;
        let caller = match (parts.next(), parts.next()) {
            (None, _) => Caller::Anonymous,
            (Some(issuer), Some(subject)) => Caller::Known(Arc::new(Identity {
                issuer: issuer?,
                subject: subject?,
                claims: parse_claims(parts)?,
            })),
            (Some(_), None) => return None,
        };
        Some(
            match limiter.peek_local(&tool.as_str().into(), &CallContext::bare(caller, CallOrigin::Operator))
            {
                Some(views) => json_page(
                    200,
                    &json!({"tool": tool, "buckets": views.iter().map(bucket_json).collect::<Vec<_>>()}),
                ),
                None => json_page(
                    404,
                    &json!({"error": "no such tool, or its limits are not kept in this process"}),
                ),
            },
        )
    }

    fn status_json(&self, reader: AccessLevel) -> Value {
        let StatusSources { summary: about, federation, limiter, optimizer, layers, .. } = &self.sources;
        let GatewaySummary { name, group, process_count_max: processes_max, warnings } = about;
        let reports = federation.reports();
        let healthy = reports.iter().all(|report| report.health() == Health::Healthy);
        let findings = federation.findings();
        // They name tools, which policies may hide from a caller with a credential.
        let names_tools = reader >= AccessLevel::Local;
        let absent = warnings.iter().filter(|warning| warning.names_missing_backend);
        let of_limits = limiter.as_ref().map(|limiter| limiter.findings()).unwrap_or_default();
        let finding_count = findings.len() + absent.clone().count() + of_limits.len();
        let told = findings.iter().map(ToString::to_string).chain(absent.map(ToString::to_string));
        let told: Vec<String> = if names_tools { told.chain(of_limits).collect() } else { Vec::new() };
        json!({
            "name": name,
            "group_ref": group,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.ready.load(Ordering::Acquire),
            "healthy": healthy,
            "layers": layers,
            "backends": reports.iter().map(|report| backends::status_row(report, names_tools)).collect::<Vec<_>>(),
            "processes_max": processes_max,
            // They name users and paths of the configuration.
            "warnings": if names_tools { warnings.iter().map(ToString::to_string).collect() } else { Vec::new() },
            "warning_count": warnings.len(),
            "findings": told,
            "finding_count": finding_count,
            "limits": limiter.as_ref().map(|limiter| limiter_json(limiter)),
            "optimizer": optimizer.as_ref().map(|optimizer| {
                let OptimizerStatus { tool_count, vector_count, model, bytes } = optimizer.status();
                json!({"tools": tool_count, "vectors": vector_count, "model": model, "bytes": bytes})
            }),
        })
    }
}

/// How the limiter is doing.
fn limiter_json(limiter: &Limiter) -> Value {
    let LimiterStatus { user_count, user_count_max, overflow: _, store } = limiter.status();
    let policy = store.map(|store| match store.on_failure {
        OnStoreFailure::Local => "local",
        OnStoreFailure::Allow => "allow",
        OnStoreFailure::Deny => "deny",
    });
    json!({
        "store": if store.is_some() { "redis" } else { "memory" },
        "store_available": store.map(|store| store.is_available),
        "on_store_failure": policy,
        "replicas": store.map(|store| store.replica_count),
        "users": user_count,
        "users_max": user_count_max,
        "waiting": limiter.waiting_count(),
        // Of bounds on calls in flight that count for all replicas.
        "slots_held": limiter.slots_held(),
        "leases": limiter.lease_counts().map(|LeaseCounts { take_requests, taken, spent, held }| json!({
            "questions": take_requests, "taken": taken, "spent": spent, "held": held
        })),
    })
}

/// Names and values in turns. A value is JSON if it is a list or an object, and a text otherwise.
fn parse_claims(mut parts: impl Iterator<Item = Option<String>>) -> Option<Members> {
    let mut claims = Members::new();
    while let Some(name) = parts.next() {
        let value = parts.next()??;
        let json = value.starts_with(['[', '{']).then(|| Json::parse(value.clone()).ok()).flatten();
        claims.insert(&name?, json.unwrap_or_else(|| Json::string(&value)));
    }
    Some(claims)
}

/// One bucket, as `vmcp limits check` reads it back.
pub fn bucket_json(view: &BucketView) -> Value {
    let BucketView {
        rule,
        scope,
        allowance,
        capacity,
        level,
        debt: owed,
        cost,
        wait,
        mode,
        percent,
        wait_max,
        period,
        lease_excess: leased,
    } = view;
    json!({
        "rule": rule,
        "scope": scope.as_str(),
        "tokens": allowance.0,
        "periodMs": u64::try_from(allowance.1.as_millis()).unwrap_or(u64::MAX),
        "capacity": capacity,
        "level": level,
        "owed": owed,
        "cost": cost,
        "waitMs": match wait {
            Wait::None => Some(0),
            Wait::Micros(micros) => Some(micros.div_ceil(1000)),
            Wait::UntilReleased | Wait::Never => None,
        },
        "mode": match mode {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        },
        "enforcePercent": percent,
        "period": period,
        "leasedExcess": leased,
        "maxWaitMs": u64::try_from(wait_max.as_millis()).unwrap_or(u64::MAX),
    })
}

/// One percent-decoded part of a path.
fn percent_decode(part: &str) -> Option<String> {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) =
                (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

fn json_page(status: u16, body: &Value) -> AdminPage {
    AdminPage { status, content_type: "application/json", body: Bytes::from(body.to_string()) }
}

/// What a page says that its reader may not see. `remedy` says where it can be read.
fn forbidden_page(remedy: &str) -> AdminPage {
    json_page(403, &json!({"error": remedy}))
}

/// Where pages are that show the state of the gateway.
const STATE_PAGE_FORBIDDEN: &str = "this page is for processes of this machine without a proxy in between, callers with a credential, and \
     `admin.scrapeKey`; it is also on the admin listener (`admin.listen`)";
/// Where pages are that name users or their limits.
const USERS_PAGE_FORBIDDEN: &str =
    "this page names users, so it is on the admin listener only (`admin.listen`)";

impl AdminPages for StatusPages {
    fn page(&self, path: &str, reader: AccessLevel, accept: &str) -> Option<AdminPage> {
        let sees_state = reader >= AccessLevel::Credential;
        let sees_users = reader >= AccessLevel::Operator;
        match path {
            "/health" | "/ping" => Some(json_page(200, &json!({"status": "ok"}))),
            "/readyz" => Some(self.readiness_page(sees_state)),
            "/status" if sees_state => Some(json_page(200, &self.status_json(reader))),
            "/api/backends/health" if sees_state => {
                Some(json_page(200, &backends::health(&self.sources.federation.reports())))
            }
            "/metrics" if sees_state || self.sources.is_metrics_public => Some(self.metrics_page(accept)),
            "/status" | "/metrics" | "/api/backends/health" => Some(forbidden_page(STATE_PAGE_FORBIDDEN)),
            "/limits" if sees_users => self.top_callers_page(),
            _ => {
                let rest =
                    path.strip_prefix("/limits").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
                if sees_users {
                    self.limits_page(rest.strip_prefix('/')?)
                } else {
                    Some(forbidden_page(USERS_PAGE_FORBIDDEN))
                }
            }
        }
    }

    fn handle_post<'a>(
        &'a self,
        path: &'a str,
        token: Option<&'a str>,
        body: Bytes,
    ) -> BoxFuture<'a, Option<AdminPage>> {
        Box::pin(self.sources.handle_change(path, token, body))
    }
}
