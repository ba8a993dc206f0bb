//! The status pages for operators. `/health` says that the process is alive. `/readyz` says whether every
//! backend has answered or failed once. `/status` and `/api/backends/health` show the state of each backend.
//! `/metrics` has the counters. `/limits` shows the callers with the most calls, and `/limits/TOOL` the
//! levels of a tool's buckets for one caller.
//!
//! The pages show no URL, no command and no error text, except that `/metrics` names the URL of each backend
//! without user info and query. This module decides which reader may see which page. The edge determines the
//! reader's access level.

mod backends;
pub(crate) mod limit_changes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use vmcp_audit::Audit;
use vmcp_authz::AuthzPolicy;
use vmcp_config::{Problem, ProblemCode};
use vmcp_domain::{BoxFuture, CallContext, CallOrigin, Caller, Identity};
use vmcp_edge::{AccessLevel, AdminPage, AdminPages};
use vmcp_federation::{Federation, Health};
use vmcp_json::{Json, Members};
use vmcp_optimizer::{Optimizer, OptimizerStatus};
use vmcp_ratelimit::lease::LeaseCounts;
use vmcp_ratelimit::policy::Mode;
use vmcp_ratelimit::{BucketView, Limiter, LimiterStatus, OnStoreFailure, Wait};
use vmcp_script::{Scripts, ScriptsStatus};
use vmcp_workflow::Workflows;

use crate::metrics::Metrics;
use crate::operator_token::OperatorToken;

/// Serves the status pages.
pub(crate) struct StatusPages {
    sources: StatusSources,
    ready: Arc<AtomicBool>,
}

/// The code of findings about limits. `vmcp explain` has a page for it.
pub const LIMIT_FINDING_CODE: &str = "limit-finding";

/// The parts of the gateway that the pages report about.
pub(crate) struct StatusSources {
    /// The settings of the gateway as a whole.
    pub(crate) summary: GatewaySummary,
    /// The backends and their catalogue.
    pub(crate) federation: Federation,
    /// The rate limiter. `None` if nothing is limited.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// The tool search. `None` if it is not configured.
    pub(crate) optimizer: Option<Arc<Optimizer>>,
    pub(crate) workflows: Option<Arc<Workflows>>,
    pub(crate) scripts: Option<Arc<Scripts>>,
    /// The names of the layers, from the innermost to the outermost.
    pub(crate) layers: Vec<&'static str>,
    /// The counters of `/metrics`.
    pub(crate) metrics: Arc<Metrics>,
    /// The authorization policies. `None` if there are none.
    pub(crate) authz: Option<Arc<AuthzPolicy>>,
    /// Whether everyone may read `/metrics`.
    pub(crate) is_metrics_public: bool,
    /// The token that changes need. `None` if no changes are accepted.
    pub(crate) operator: Option<OperatorToken>,
    /// Records changes. `None` if there are no audit records.
    pub(crate) audit: Option<Arc<Audit>>,
}

/// The settings of the gateway as a whole that `/status` shows.
#[derive(Clone)]
pub(crate) struct GatewaySummary {
    /// The configured name of the gateway.
    pub(crate) name: String,
    /// The group to which its backends belong.
    pub(crate) group: Option<String>,
    /// The most processes of stdio backends at a time.
    pub(crate) process_count_max: usize,
    /// The warnings about the configuration.
    pub(crate) warnings: Vec<Problem>,
}

impl StatusPages {
    /// Creates the pages and starts a task that waits for readiness.
    pub(crate) fn new(sources: StatusSources) -> Arc<Self> {
        let ready = Arc::new(AtomicBool::new(false));
        let (federation, flag) = (sources.federation.clone(), ready.clone());
        tokio::spawn(async move {
            federation.wait_for_discovery().await;
            flag.store(true, Ordering::Release);
        });
        Arc::new(Self { sources, ready })
    }

    /// The gateway is ready once every backend has answered or failed. It stays ready if a backend fails
    /// later, because the tools of the other backends still work. The counts show how many backends have each
    /// health.
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

    /// The callers with the most calls of limited tools.
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

    /// The levels of a tool's buckets for one caller. The path is `/limits/TOOL`, or
    /// `/limits/TOOL/ISSUER/USER`, followed by `/CLAIM/VALUE` for each claim. The segments are
    /// percent-encoded.
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
                None => {
                    json_page(404, &json!({"error": "no such tool, or its limits are not in this process"}))
                }
            },
        )
    }

    /// The code and the text of each finding about the running gateway.
    fn findings(&self) -> Vec<(&'static str, String)> {
        let StatusSources { summary, federation, limiter, .. } = &self.sources;
        let catalogue = federation.findings();
        let catalogue = catalogue.iter().map(|finding| (finding.code(), finding.to_string()));
        let missing = summary.warnings.iter().filter(|warning| warning.code == ProblemCode::NoSuchBackend);
        let missing = missing.map(|warning| (warning.code.as_str(), warning.to_string()));
        let limits = limiter.as_ref().map(|limiter| limiter.findings()).unwrap_or_default();
        let limits = limits.into_iter().map(|text| (LIMIT_FINDING_CODE, text));
        catalogue.chain(missing).chain(limits).collect()
    }

    fn status_json(&self, reader: AccessLevel) -> Value {
        let StatusSources {
            summary: about, federation, limiter, optimizer, workflows, scripts, layers, ..
        } = &self.sources;
        let GatewaySummary { name, group, process_count_max: processes_max, warnings } = about;
        let reports = federation.reports();
        let healthy = reports.iter().all(|report| report.health() == Health::Healthy);
        // Findings name tools, which policies may hide from a caller with a credential.
        let names_tools = reader >= AccessLevel::Local;
        let mut findings = self.findings();
        let finding_count = findings.len();
        findings.retain(|_| names_tools);
        let (finding_codes, finding_texts): (Vec<_>, Vec<_>) = findings.into_iter().unzip();
        json!({
            "name": name,
            "group_ref": group,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.ready.load(Ordering::Acquire),
            "healthy": healthy,
            "layers": layers,
            "backends": reports.iter().map(|report| backends::status_row(report, names_tools)).collect::<Vec<_>>(),
            "processes_max": processes_max,
            // Warnings name users and paths of the configuration.
            "warnings": if names_tools { warnings.iter().map(ToString::to_string).collect() } else { Vec::new() },
            "warning_count": warnings.len(),
            "findings": finding_texts,
            "finding_codes": finding_codes,
            "finding_count": finding_count,
            "limits": limiter.as_ref().map(|limiter| limiter_json(limiter)),
            "workflows": workflows.as_ref().filter(|_| names_tools).map(|workflows| workflows_json(workflows)),
            "scripts": scripts.as_ref().map(|scripts| {
                let ScriptsStatus { running, spare_workers, start_error } = scripts.status();
                json!({"running": running, "spare_workers": spare_workers, "start_error": start_error})
            }),
            "optimizer": optimizer.as_ref().map(|optimizer| {
                let OptimizerStatus { tool_count, vector_count, model, bytes } = optimizer.status();
                json!({"tools": tool_count, "vectors": vector_count, "model": model, "bytes": bytes})
            }),
        })
    }
}

/// The workflows for a caller without identity: whether each is offered, and why not. `null` before the tools are known.
fn workflows_json(workflows: &Workflows) -> Value {
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Gateway);
    let Some(Ok(offers)) = workflows.offers(&ctx).now_or_never() else { return Value::Null };
    let each = offers.into_iter().map(|offer| {
        let warnings: Vec<String> = offer.warnings.iter().map(ToString::to_string).collect();
        json!({
            "name": offer.name,
            "offered": offer.why_not.is_none(),
            "why_not": offer.why_not,
            "warnings": warnings,
        })
    });
    each.collect()
}

/// The state of the limiter.
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
        // Slots of concurrency limits that are shared by all replicas.
        "slots_held": limiter.slots_held(),
        "leases": limiter.lease_counts().map(|LeaseCounts { take_requests, taken, spent, held }| json!({
            "questions": take_requests, "taken": taken, "spent": spent, "held": held
        })),
    })
}

/// Parses alternating names and values. A value that starts like a list or an object is JSON if it parses;
/// any other value is a string.
fn parse_claims(mut parts: impl Iterator<Item = Option<String>>) -> Option<Members> {
    let mut claims = Members::new();
    while let Some(name) = parts.next() {
        let value = parts.next()??;
        let json = value.starts_with(['[', '{']).then(|| Json::parse(value.clone()).ok()).flatten();
        claims.insert(&name?, json.unwrap_or_else(|| Json::string(&value)));
    }
    Some(claims)
}

/// The JSON of one bucket in the answers of the admin listener. `vmcp limits check` reads it. Members in `Ms`
/// are milliseconds. `waitMs` is 0 if a call can be charged now, and `null` if it can never be charged or
/// must wait for a release.
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

/// Percent-decodes one segment of a path. Returns `None` if an escape is incomplete or the result is not
/// UTF-8.
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

/// The page for a reader who may not see the requested page. `message` says where the page can be read.
fn forbidden_page(message: &str) -> AdminPage {
    json_page(403, &json!({"error": message}))
}

/// Says who may read the pages that show the state of the gateway.
const STATE_PAGE_FORBIDDEN: &str = "this page is for processes of this machine without a proxy in between, callers with a credential, and \
     `admin.scrapeKey`; it is also on the admin listener (`admin.listen`)";
/// Says where to read the pages that name users or their limits.
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
