use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_audit::{Audit, AuditSettings, AuditedCalls, AuditedRequests, parse_time};
use vmcp_domain::{
    CallContext, CallOrigin, CallTool, Caller, Cause, Error, Gateway, GatewayFuture, Identity, NamePattern,
    Reply, SharedGateway, VirtualNames, forward,
};
use vmcp_json::{Json, Members};
use vmcp_ratelimit::policy::{
    Anonymous, LimitPolicy, Limits, MemoryBounds, Mode, Quota, ToolRule, WaitBounds,
};
use vmcp_ratelimit::{Limiter, NoObserver, Planner, Rate, RateLimited};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::ManualClock;

use super::*;
use crate::metrics::AuditCounters;

/// A writer that collects its output for the test.
#[derive(Clone, Default)]
pub(crate) struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for SharedBuffer {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Settings that record every kind of request.
pub(crate) fn full_settings() -> AuditSettings {
    AuditSettings {
        component: "vmcp-server".to_owned(),
        event_types: Vec::new(),
        excluded_event_types: Vec::new(),
        request_data: false,
        response_data: false,
        detect_application_errors: true,
        data_bytes_max: 1024,
        delegation_depth_max: 10,
        file: None,
    }
}

pub(crate) fn quota(tokens: u64, seconds: u64) -> Option<Quota> {
    let rate = Rate::new(tokens, Duration::from_secs(seconds), tokens).unwrap();
    Some(Quota::new(vec![rate], Mode::Enforce))
}

pub(crate) fn policy(server: Limits, tools: Vec<ToolRule>, anonymous: Anonymous) -> LimitPolicy {
    LimitPolicy {
        server,
        tools,
        anonymous,
        memory: MemoryBounds::default(),
        waiting: WaitBounds::default(),
        consistency: vmcp_ratelimit::policy::Consistency::Exact,
        ..LimitPolicy::default()
    }
}

pub(crate) fn rule(name: &str, shared: Option<Quota>, per_user: Option<Quota>) -> ToolRule {
    let limits = Limits { shared, per_user, ..Limits::default() };
    ToolRule {
        name: NamePattern::new(name),
        annotation: None,
        group: false,
        limits,
        cost: vmcp_ratelimit::policy::Cost::default(),
    }
}

/// A gateway that advances the clock by the argument `us` (microseconds) and then fails as the argument
/// `fail` says.
struct ScriptedGateway {
    inner: SharedGateway,
    clock: Arc<ManualClock>,
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for ScriptedGateway {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let arguments: Value =
                request.arguments.as_ref().map_or(Value::Null, |arguments| arguments.decode().unwrap());
            self.clock.advance(arguments["us"].as_u64().unwrap_or(0));
            match arguments["fail"].as_str() {
                Some("away") => Err(Error::BackendUnavailable {
                    backend: "a".into(),
                    cause: Cause::default(),
                    was_read: false,
                }),
                Some("broken") => Err(Error::BackendFailed { backend: "a".into(), cause: Cause::default() }),
                Some("tool") => Ok(Reply { is_error: true, ..Reply::complete(Members::new()) }),
                _ => self.inner.call_tool(ctx, request).await,
            }
        })
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task,
    );
}

/// A small stack with audit records and a manual clock.
pub(crate) struct AuditedStack {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) gateway: SharedGateway,
    audit: Arc<Audit>,
    output: SharedBuffer,
}

impl AuditedStack {
    pub(crate) fn new(settings: AuditSettings, limits: Option<LimitPolicy>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let output = SharedBuffer::default();
        let audit = Audit::start(
            settings,
            Box::new(output.clone()),
            clock.clone(),
            Arc::new(AuditCounters::default()),
            "/mcp".to_owned(),
        );
        let inner = FakeGateway::new(vec![
            tool("a", "search", "a_search"),
            tool("b", "search", "b_search"),
            tool("b", "hang", "hang"),
        ]);
        let gateway: SharedGateway = Arc::new(ScriptedGateway { inner, clock: clock.clone() });
        let gateway = match limits {
            Some(limits) => {
                let observer = CapturingObserver::wrap(Arc::new(NoObserver), clock.clone());
                let planner = Arc::new(Planner::new(limits));
                RateLimited::wrap(gateway, Limiter::new(planner, clock.clone(), None, observer))
            }
            None => gateway,
        };
        let gateway = AuditedCalls::wrap(gateway, audit.clone());
        let gateway = AuditedRequests::wrap(gateway, audit.clone(), None);
        Self { clock, gateway, audit, output }
    }

    pub(crate) async fn call(&self, ctx: &CallContext, name: &str, arguments: Value) -> Result<Reply, Error> {
        let arguments = Json::parse(arguments.to_string()).unwrap();
        let call = CallTool { arguments: Some(arguments), ..conformance::tool_call(name) };
        self.gateway.call_tool(ctx, call).await
    }

    pub(crate) fn written(&self) -> Vec<u8> {
        self.audit.flush(Duration::from_secs(60));
        self.output.0.lock().unwrap().clone()
    }

    fn records(&self) -> Vec<Value> {
        let text = self.written();
        text.split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

pub(crate) fn known(issuer: &str, subject: &str) -> CallContext {
    let identity = Identity { issuer: issuer.into(), subject: subject.into(), claims: Members::new() };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

fn anonymous() -> CallContext {
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    CallContext { peer_address: Some("10.0.0.1".parse().unwrap()), ..ctx }
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let audit = || {
        let clock = Arc::new(ManualClock::default());
        Audit::start(
            full_settings(),
            Box::new(std::io::sink()),
            clock,
            Arc::new(AuditCounters::default()),
            String::new(),
        )
    };
    conformance::check_decorator(&[], |inner| AuditedCalls::wrap(inner, audit())).await;
    conformance::check_decorator(&[], |inner| {
        AuditedRequests::wrap(inner, audit(), Some(VirtualNames::default()))
    })
    .await;
}

#[tokio::test]
async fn a_record_has_the_shape_that_users_know() {
    let harness = AuditedStack::new(full_settings(), None);
    harness.call(&anonymous(), "a_search", json!({"us": 2500})).await.unwrap();
    let mut records = harness.records();
    assert_eq!(records.len(), 1, "one line for one request");
    let record = &mut records[0];
    assert!(record["audit_id"].take().as_str().is_some_and(|id| id.len() == 36));
    assert!(record["logged_at"].take().as_str().is_some_and(|time| parse_time(time).is_some()));
    assert!(record["metadata"]["extra"]["time_us"].take().is_u64());
    let expected = json!({
        "audit_id": null,
        "type": "mcp_tool_call",
        "logged_at": null,
        "outcome": "success",
        "component": "vmcp-server",
        "source": {"type": "network", "value": "10.0.0.1"},
        "subjects": {"user": "anonymous"},
        "target": {"endpoint": "/mcp", "method": "tools/call", "type": "tool", "name": "a_search"},
        "metadata": {"extra": {
            "duration_ms": 2, "duration_us": 2500, "time_us": null, "transport": "streamable-http",
            "backend_name": "a", "backend_tool": "search",
        }},
    });
    assert_eq!(*record, expected);
}

#[tokio::test]
async fn every_end_has_its_outcome() {
    let limits = policy(Limits::default(), vec![rule("b_search", quota(1, 60), None)], Anonymous::Refuse);
    let harness = AuditedStack::new(full_settings(), Some(limits));
    let ctx = known("i", "s");
    let _ = harness.call(&ctx, "a_search", json!({"fail": "tool"})).await;
    let _ = harness.call(&ctx, "a_search", json!({"fail": "broken"})).await;
    let _ = harness.call(&ctx, "absent", json!({})).await;
    let _ = harness.call(&ctx, "b_search", json!({"fail": "away"})).await;
    let _ = harness.call(&ctx, "b_search", json!({})).await;
    harness.clock.advance(1_000_500);
    let _ = harness.call(&ctx, "b_search", json!({})).await;
    let gone = tokio::time::timeout(Duration::from_millis(10), harness.call(&ctx, "hang", json!({}))).await;
    assert!(gone.is_err());
    let _ = harness.gateway.list_tools(&ctx).await;
    let _ = harness.gateway.list_tools(&CallContext { origin: CallOrigin::Gateway, ..ctx.clone() }).await;
    let records = harness.records();
    let brief: Vec<String> = records
        .iter()
        .map(|record| {
            let extra = &record["metadata"]["extra"];
            let name = &record["target"]["name"];
            format!("{} {name} {} {}", record["outcome"], extra["error"], extra["rate_limit"]["decision"])
                .replace('"', "")
        })
        .collect();
    let expected = [
        "application_error a_search null null",
        "error a_search backend_failed null",
        "failure absent unknown_tool null",
        "error b_search backend_unavailable admitted",
        "success b_search null admitted",
        "rate_limited b_search rate_limited refused",
        "failure hang cancelled null",
        "success null null null",
    ];
    assert_eq!(brief, expected);
    assert_eq!(records[3]["metadata"]["extra"]["rate_limit"]["refunded"], true);
    assert_eq!(
        records[5]["metadata"]["extra"]["rate_limit"],
        json!({
            "decision": "refused", "rule": "tools[b_search].shared", "scope": "tool", "retry_after_ms": 59000,
            "would_refuse": 0, "waited_us": 0, "refunded": false,
        })
    );
    assert_eq!(records[7]["type"], "mcp_tools_list");
    assert_eq!(records[0]["subjects"], json!({"user": "s", "user_id": "s", "issuer": "i"}));
}

#[tokio::test]
async fn data_and_kinds_are_as_the_operator_wants_them() {
    let settings = AuditSettings {
        request_data: true,
        response_data: true,
        data_bytes_max: 14,
        excluded_event_types: vec!["mcp_prompts_list".to_owned()],
        ..full_settings()
    };
    let harness = AuditedStack::new(settings, None);
    let mut ctx = known("i", "s");
    ctx.token = Some(vmcp_domain::Secret::new("t0psecret"));
    harness.call(&ctx, "a_search", json!({"q": "x"})).await.unwrap();
    let _ = harness.gateway.list_prompts(&ctx).await;
    let records = harness.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["data"]["request"], json!({"q": "x"}), "short enough: as it was");
    assert_eq!(records[0]["data"]["response"], r#"{"asked":"call"#, "too long: the beginning of the text");
    assert!(!records[0].to_string().contains("t0psecret"));
}
