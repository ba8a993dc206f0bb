mod bounds;
mod events;
mod orders;
mod tool_checks;

use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use vmcp_domain::{
    AskError, BoxFuture, BudgetNeed, Caller, ClientCapabilities, ClientKey, ClientPort, Identity, LimitScope,
    LimitedOperation, LogLevel, Question, RateLimit, Reservation, Retry, ToolHints,
};
use vmcp_testkit::{FakeGateway, conformance, context, tool};

use super::*;
use crate::source::{ErrorSource, ReplySource, StepKindSource, StepSource, WorkflowSource};

type Script = fn(&CallTool) -> Result<Reply, Error>;

/// A gateway whose tools answer as a script says.
struct Scripted {
    inner: SharedGateway,
    script: Script,
    calls: Mutex<Vec<(String, CallContext)>>,
}

impl Scripted {
    fn new(tools: &[&str], script: Script) -> Arc<Self> {
        let tools = tools.iter().map(|name| tool("b", name, name)).collect();
        Arc::new(Self { inner: FakeGateway::new(tools), script, calls: Mutex::default() })
    }

    /// The calls, each with its arguments.
    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|(call, _)| call.clone()).collect()
    }
}

impl Gateway for Scripted {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if request.name.as_str() == "hang" {
                return self.inner.call_tool(ctx, request).await;
            }
            let arguments = request.arguments.as_ref().map_or("-", Json::as_str);
            self.calls.lock().unwrap().push((format!("{} {arguments}", request.name), ctx.clone()));
            (self.script)(&request)
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
        task
    );
}

/// A client that answers questions from a list.
#[derive(Debug, Default)]
struct Client {
    capabilities: ClientCapabilities,
    answers: Mutex<Vec<Json>>,
    asked: Mutex<Vec<String>>,
    progress: Mutex<Vec<String>>,
}

impl Client {
    fn answering(answers: &[Data]) -> Arc<Self> {
        let declared = Json::encode(&json!({"elicitation": {}})).unwrap().members().unwrap();
        let answers = answers.iter().rev().map(|answer| Json::encode(answer).unwrap()).collect();
        Arc::new(Self {
            capabilities: ClientCapabilities { declared },
            answers: Mutex::new(answers),
            ..Self::default()
        })
    }
}

impl ClientPort for Client {
    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, params: Members) {
        self.progress.lock().unwrap().push(params.to_json().as_str().to_owned());
    }

    fn log_level(&self) -> Option<LogLevel> {
        None
    }

    fn log(&self, _level: LogLevel, _params: Members) {}

    fn elicitation_complete(&self, _params: Members) {}

    fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    fn client_key(&self) -> Option<ClientKey> {
        None
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        self.asked.lock().unwrap().push(question.params.as_str().to_owned());
        let answer = self.answers.lock().unwrap().pop();
        Box::pin(async move {
            // A person takes their time.
            tokio::time::sleep(Duration::from_secs(60)).await;
            answer.ok_or(AskError::Unreachable)
        })
    }
}

fn step(id: &str, tool: &str) -> StepSource {
    StepSource { id: id.to_owned(), tool: Some(tool.to_owned()), ..StepSource::default() }
}

fn arguments(data: Data) -> Option<serde_json::Map<String, Data>> {
    data.as_object().cloned()
}

fn workflow(steps: Vec<StepSource>) -> WorkflowSource {
    WorkflowSource {
        name: "w".to_owned(),
        description: Some("d".to_owned()),
        steps,
        ..WorkflowSource::default()
    }
}

fn checked(source: &WorkflowSource) -> Workflow {
    let (workflow, findings) = Workflow::check(source);
    workflow.unwrap_or_else(|| panic!("{findings:?}"))
}

fn wrap(inner: SharedGateway, source: &WorkflowSource) -> Arc<Workflows> {
    Workflows::wrap(inner, Arc::from([checked(source)]), WorkflowPolicy::default(), ports(None))
}

fn ports(reserver: Option<Arc<dyn ReserveBudget>>) -> WorkflowPorts {
    WorkflowPorts { reserver, observer: None, info: None, now: || "2026-01-01T00:00:00Z".to_owned() }
}

async fn run(layer: &Workflows, ctx: &CallContext, arguments: Data) -> Result<Reply, Error> {
    let arguments = Some(Json::encode(&arguments).unwrap());
    layer.call_tool(ctx, CallTool { arguments, ..conformance::tool_call("w") }).await
}

fn text(reply: &Reply) -> String {
    tool_result::to_text(reply)
}

fn ok(_: &CallTool) -> Result<Reply, Error> {
    Ok(tool_result::structured(Json::parse(r#"{"n":7}"#).unwrap(), "seven"))
}

fn limited() -> Error {
    Error::RateLimited(Box::new(RateLimit {
        operation: LimitedOperation::Tool("two".into()),
        rule: "server".to_owned(),
        scope: LimitScope::Server,
        retry: Retry::After(Duration::from_secs(5)),
        allowance: None,
        resets_at: None,
    }))
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let source = workflow(vec![step("a", "plain")]);
    conformance::check_decorator(&["w"], |inner| wrap(inner, &source)).await;
}

#[tokio::test]
async fn a_workflow_is_offered_if_its_tools_are_there_and_its_name_is_free() {
    let source = WorkflowSource {
        annotations: ToolHints { read_only: Some(true), ..ToolHints::default() },
        ..workflow(vec![step("a", "b.own")])
    };
    for (tools, declares, why_not) in [
        (vec![tool("b", "own", "renamed")], false, None),
        (vec![tool("b", "other", "other")], false, Some("there is no tool `b.own`")),
        (vec![tool("b", "own", "w")], false, Some("a backend's tool has the same name")),
        (vec![tool("b", "own", "renamed")], true, Some("`annotations.readOnlyHint` says that it is safer")),
    ] {
        let annotations = if declares { source.annotations.clone() } else { ToolHints::default() };
        let layer = wrap(FakeGateway::new(tools), &WorkflowSource { annotations, ..source.clone() });
        let offers = layer.offers(&context()).await.unwrap();
        let found = offers[0].why_not.as_deref();
        assert!(found.is_some() == why_not.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().starts_with(why_not.unwrap_or_default()), "{found:?}");
        let list = layer.list_tools(&context()).await.unwrap();
        let listed = list.iter().filter(|tool| tool.target.is_virtual()).count();
        assert_eq!(listed, usize::from(why_not.is_none()));
    }
}

#[tokio::test]
async fn steps_pass_on_results_and_say_where_they_are() {
    let inner = Scripted::new(&["one", "two"], ok);
    let first = StepSource { arguments: arguments(json!({"q": "{{.params.q}}"})), ..step("a", "one") };
    let second = StepSource {
        arguments: arguments(json!({"n": "{{.steps.a.output.n}}", "t": ["{{.steps.a.content.text}}"]})),
        ..step("z", "two")
    };
    // The order of the file does not matter.
    let layer = wrap(inner.clone(), &workflow(vec![second, first]));
    let client = Client::answering(&[]);
    let ctx = CallContext { client: client.clone(), ..context() };
    let reply = run(&layer, &ctx, json!({"q": "hi"})).await.unwrap();
    assert_eq!(text(&reply), r#"{"n":7}"#);
    assert_eq!(inner.calls(), [r#"one {"q":"hi"}"#, r#"two {"n":"7","t":["seven"]}"#]);
    let calls = inner.calls.lock().unwrap();
    let run = calls[1].1.run.clone().unwrap();
    assert_eq!((&*run.tool, run.step.unwrap().step.as_ref()), ("w", "z"));
    assert!(!calls[1].1.client.wants_progress() && calls[1].1.protocol.has_sessions());
    assert_eq!(
        *client.progress.lock().unwrap(),
        [
            r#"{"progress":1,"total":2,"message":"a has ended"}"#,
            r#"{"progress":2,"total":2,"message":"z has ended"}"#
        ]
    );
}

#[tokio::test]
async fn a_failed_run_says_what_it_did() {
    let script: Script = |request| match request.name.as_str() {
        "two" => Ok(tool_result::failure("no")),
        _ => ok(request),
    };
    let inner = Scripted::new(&["one", "two", "three"], script);
    let after = |id, tool, before: &str| StepSource { depends_on: vec![before.to_owned()], ..step(id, tool) };
    let steps = vec![step("a", "one"), after("b", "two", "a"), after("c", "three", "b")];
    let reply = run(&wrap(inner.clone(), &workflow(steps)), &context(), json!({})).await.unwrap();
    assert!(reply.is_error);
    assert_eq!(
        text(&reply),
        "Workflow execution failed: tool call failed: tool two in step b: tool execution failed: no. Done: a. Not done: c"
    );
    let meta: Data = reply.members.get("_meta").unwrap().decode().unwrap();
    assert_eq!(meta["vmcp/run"]["steps"]["b"]["status"], "failed");
    assert_eq!(meta["vmcp/run"]["steps"]["c"]["status"], "not run");
}

#[tokio::test]
async fn a_limit_before_the_first_call_is_an_ordinary_refusal() {
    let inner = Scripted::new(&["two"], |_| Err(limited()));
    let refused = run(&wrap(inner, &workflow(vec![step("a", "two")])), &context(), json!({})).await;
    assert!(matches!(refused, Err(Error::RateLimited(_))), "{refused:?}");
    let script: Script = |request| if request.name.as_str() == "two" { Err(limited()) } else { ok(request) };
    let inner = Scripted::new(&["one", "two"], script);
    let steps = vec![step("a", "one"), StepSource { depends_on: vec!["a".to_owned()], ..step("b", "two") }];
    let reply = run(&wrap(inner, &workflow(steps)), &context(), json!({})).await.unwrap();
    assert!(text(&reply).ends_with("Done: a"), "{}", text(&reply));
}

#[tokio::test(start_paused = true)]
async fn only_the_kinds_of_failures_that_are_named_are_repeated() {
    let retry = |kinds: &[&str]| {
        Some(ErrorSource {
            action: Some("retry".to_owned()),
            retry_count: Some(2),
            retry_on: Some(kinds.iter().map(|kind| (*kind).to_owned()).collect()),
            then: Some("continue".to_owned()),
            ..ErrorSource::default()
        })
    };
    for (kinds, calls) in [(&["busy"][..], 3), (&["tool", "timeout"][..], 1)] {
        let inner = Scripted::new(&["two"], |_| Err(limited()));
        let steps = vec![StepSource { on_error: retry(kinds), ..step("a", "two") }];
        let before = tokio::time::Instant::now();
        let reply = run(&wrap(inner.clone(), &workflow(steps)), &context(), json!({})).await.unwrap();
        assert!(!reply.is_error, "it continues");
        assert_eq!(inner.calls().len(), calls, "{kinds:?}");
        // The wait is the one that the limit asks for.
        assert_eq!(before.elapsed().as_secs(), 5 * (calls as u64 - 1));
    }
}

fn question(id: &str) -> StepSource {
    StepSource {
        id: id.to_owned(),
        kind: Some(StepKindSource::Elicitation),
        message: Some("Deploy {{.params.s}}?".to_owned()),
        schema: arguments(
            json!({"type": "object", "properties": {"env": {"type": "string"}}, "required": ["env"]}),
        ),
        ..StepSource::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_must_fit_and_waiting_for_it_takes_no_time_of_the_run() {
    let accept = |env: Data| json!({"action": "accept", "content": {"env": env}});
    let steps = vec![
        question("q"),
        StepSource {
            arguments: arguments(json!({"env": "{{.steps.q.output.content.env}}"})),
            ..step("a", "one")
        },
    ];
    let source = WorkflowSource { timeout: Some(Duration::from_secs(1)), ..workflow(steps) };
    for (answers, calls, asked) in [
        (vec![accept("prod".into())], vec![r#"one {"env":"prod"}"#], 1),
        (vec![accept(5.into()), accept("test".into())], vec![r#"one {"env":"test"}"#], 2),
        (vec![accept(5.into()), accept(6.into())], vec![], 2),
        (vec![json!({"action": "decline"})], vec![], 1),
    ] {
        let inner = Scripted::new(&["one"], ok);
        let client = Client::answering(&answers);
        let ctx = CallContext { client: client.clone(), ..context() };
        let reply = run(&wrap(inner.clone(), &source), &ctx, json!({"s": "X"})).await.unwrap();
        assert_eq!(inner.calls(), calls, "{}", text(&reply));
        assert_eq!(reply.is_error, calls.is_empty());
        assert_eq!(client.asked.lock().unwrap().len(), asked);
        assert!(client.asked.lock().unwrap()[0].contains("Deploy X?"));
    }
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_is_refused_before_the_first_step() {
    let inner = Scripted::new(&["one"], ok);
    let source = workflow(vec![step("a", "one"), question("q")]);
    let refused = run(&wrap(inner.clone(), &source), &context(), json!({})).await;
    assert!(matches!(refused, Err(Error::MissingCapability(_))), "{refused:?}");
    assert!(inner.calls().is_empty());
    // A question that may be skipped is no reason.
    let conditional = StepSource { condition: Some("{{.params.ask}}".to_owned()), ..question("q") };
    let source = workflow(vec![step("a", "one"), conditional]);
    let reply = run(&wrap(inner, &source), &context(), json!({"ask": false})).await.unwrap();
    assert!(!reply.is_error, "{}", text(&reply));
}

#[tokio::test(start_paused = true)]
async fn a_question_does_not_stop_the_time_of_another_step() {
    let inner = FakeGateway::new(vec![tool("b", "hang", "hang")]);
    let slow = StepSource {
        timeout: Some(Duration::from_secs(2)),
        on_error: Some(ErrorSource { action: Some("continue".to_owned()), ..ErrorSource::default() }),
        ..step("a", "hang")
    };
    let on_decline = Some(ReplySource { action: Some("skip_remaining".to_owned()) });
    let client = Client::answering(&[json!({"action": "decline"})]);
    let ctx = CallContext { client, ..context() };
    let source = workflow(vec![slow.clone(), StepSource { on_decline: on_decline.clone(), ..question("q") }]);
    let reply = run(&wrap(inner.clone(), &source), &ctx, json!({})).await.unwrap();
    assert!(!reply.is_error, "{}", text(&reply));
    let meta: Data = reply.members.get("_meta").unwrap().decode().unwrap();
    assert_eq!(meta["vmcp/run"]["steps"]["a"]["ms"], 2000, "its time-out was two seconds: {meta}");
    // A step that fails while the rest is skipped ends the run as ever.
    let failing = StepSource { on_error: None, timeout: Some(Duration::from_secs(90)), ..slow };
    let client = Client::answering(&[json!({"action": "decline"})]);
    let ctx = CallContext { client, ..context() };
    let source = workflow(vec![failing, StepSource { on_decline, ..question("q") }]);
    let reply = run(&wrap(inner, &source), &ctx, json!({})).await.unwrap();
    assert_eq!(text(&reply), "Workflow execution timeout exceeded in step \"a\". Done: q");
}

#[tokio::test]
async fn a_refusal_beside_a_call_under_way_says_what_was_done() {
    let script: Script = |request| if request.name.as_str() == "two" { Err(limited()) } else { ok(request) };
    let inner = Scripted::new(&["hang", "two"], script);
    let reply =
        run(&wrap(inner, &workflow(vec![step("a", "hang"), step("b", "two")])), &context(), json!({})).await;
    let reply = reply.unwrap();
    assert!(text(&reply).ends_with("Interrupted: a"), "{}", text(&reply));
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_not_repeated_in_the_answer() {
    let source = WorkflowSource {
        parameters: arguments(json!({
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "x": {"$ref": "#/$defs/nullable"},
                "old": {"type": "number", "minimum": 1, "exclusiveMinimum": true}
            },
            "$defs": {"nullable": {"type": ["string", "null"]}},
            "required": ["x"]
        })),
        ..workflow(vec![step("a", "one")])
    };
    let layer = wrap(Scripted::new(&["one"], ok), &source);
    let secret = "s3cret".repeat(1000);
    let reply = run(&layer, &context(), json!({"n": secret, "x": null})).await.unwrap();
    assert!(
        reply.is_error && text(&reply).len() < 400 && !text(&reply).contains("s3cret"),
        "{}",
        text(&reply)
    );
    assert!(text(&reply).contains("`n`"), "{}", text(&reply));
    // Null is a value where the schema allows it, and an absent argument elsewhere.
    let reply = run(&layer, &context(), json!({"n": null, "x": null})).await.unwrap();
    assert!(!reply.is_error, "{}", text(&reply));
}

#[tokio::test(start_paused = true)]
async fn skipping_the_rest_is_a_success() {
    let inner = Scripted::new(&["one"], ok);
    let on_decline = Some(ReplySource { action: Some("skip_remaining".to_owned()) });
    let steps = vec![
        StepSource { on_decline, ..question("q") },
        StepSource { depends_on: vec!["q".to_owned()], ..step("a", "one") },
    ];
    let client = Client::answering(&[json!({"action": "decline"})]);
    let ctx = CallContext { client, ..context() };
    let reply = run(&wrap(inner.clone(), &workflow(steps)), &ctx, json!({})).await.unwrap();
    assert!(!reply.is_error && inner.calls().is_empty());
    let meta: Data = reply.members.get("_meta").unwrap().decode().unwrap();
    assert_eq!(meta["vmcp/run"]["steps"]["a"]["status"], "skipped");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_ends_its_calls() {
    let inner = FakeGateway::new(vec![tool("b", "hang", "hang")]);
    let source =
        WorkflowSource { timeout: Some(Duration::from_secs(3)), ..workflow(vec![step("a", "hang")]) };
    let reply = run(&wrap(inner.clone(), &source), &context(), json!({})).await.unwrap();
    assert_eq!(text(&reply), "Workflow execution timeout exceeded. Interrupted: a");
    assert_eq!(inner.hanging_count(), 0);
}

#[tokio::test]
async fn one_user_cannot_run_all_workflows() {
    let inner = FakeGateway::new(vec![tool("b", "hang", "hang")]);
    let policy = WorkflowPolicy { running_max: 3, running_max_per_caller: 2 };
    let workflows = Arc::from([checked(&workflow(vec![step("a", "hang")]))]);
    let layer = Workflows::wrap(inner.clone(), workflows, policy, ports(None));
    let user = |name: &str| CallContext {
        caller: Caller::Known(Arc::new(Identity {
            issuer: "i".to_owned(),
            subject: name.to_owned(),
            claims: Members::new(),
        })),
        ..context()
    };
    let start = |name: &str| {
        let (layer, ctx) = (layer.clone(), user(name));
        tokio::spawn(async move { run(&layer, &ctx, json!({})).await })
    };
    let running = [start("ann"), start("ann"), start("bob")];
    while inner.hanging_count() < 3 {
        tokio::task::yield_now().await;
    }
    for name in ["ann", "carl"] {
        let refused = run(&layer, &user(name), json!({})).await.unwrap();
        assert!(text(&refused).starts_with("Not started: too many workflows"), "{name}: {}", text(&refused));
    }
    running.iter().for_each(tokio::task::JoinHandle::abort);
    while inner.hanging_count() > 0 {
        tokio::task::yield_now().await;
    }
    drop(start("carl"));
    while inner.hanging_count() == 0 {
        tokio::task::yield_now().await;
    }
}

/// A reserver that counts calls, or refuses.
struct Reserving {
    refuses: bool,
    reserved: Mutex<Vec<String>>,
    released: Mutex<Vec<String>>,
}

impl ReserveBudget for Reserving {
    fn reserve<'a>(
        &'a self,
        _ctx: &'a CallContext,
        calls: &'a [PlannedCall],
    ) -> GatewayFuture<'a, Reservation> {
        Box::pin(async move {
            let names = calls.iter().map(|PlannedCall { call, arguments_known }| {
                let arguments = call.arguments.as_ref().map_or("-", Json::as_str);
                format!("{} {}", call.name, if *arguments_known { arguments } else { "unknown" })
            });
            self.reserved.lock().unwrap().extend(names);
            if self.refuses { Err(limited()) } else { Ok(Reservation::new(())) }
        })
    }

    fn needs<'a>(
        &'a self,
        _ctx: &'a CallContext,
        _calls: &'a [PlannedCall],
    ) -> GatewayFuture<'a, Vec<BudgetNeed>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn release<'a>(
        &'a self,
        _ctx: &'a CallContext,
        _reservation: &'a Reservation,
        call: &'a PlannedCall,
    ) -> BoxFuture<'a, ()> {
        self.released.lock().unwrap().push(call.call.name.to_string());
        Box::pin(std::future::ready(()))
    }
}

/// The items of a list are one more decision, without those whose condition does not hold.
async fn items_are_charged_together() {
    let inner = Scripted::new(&["one", "two"], ok);
    let reserver =
        Arc::new(Reserving { refuses: false, reserved: Mutex::default(), released: Mutex::default() });
    let for_each = StepSource {
        id: "f".to_owned(),
        kind: Some(StepKindSource::ForEach),
        collection: Some("{{.params.list}}".to_owned()),
        max_parallel: Some(1),
        step: Some(Box::new(StepSource {
            condition: Some("{{ne .forEach.item 2}}".to_owned()),
            arguments: arguments(json!({"n": "{{.forEach.item}}"})),
            ..step("i", "one")
        })),
        ..StepSource::default()
    };
    let source = WorkflowSource { reserves: true, ..workflow(vec![for_each]) };
    let shared: Arc<dyn ReserveBudget> = reserver.clone();
    let policy = WorkflowPolicy::default();
    let layer = Workflows::wrap(inner.clone(), Arc::from([checked(&source)]), policy, ports(Some(shared)));
    let reply = run(&layer, &context(), json!({"list": [1, 2, 3]})).await.unwrap();
    assert!(!reply.is_error, "{}", text(&reply));
    assert_eq!(*reserver.reserved.lock().unwrap(), [r#"one {"n":"1"}"#, r#"one {"n":"3"}"#]);
    assert_eq!(inner.calls(), [r#"one {"n":"1"}"#, r#"one {"n":"3"}"#]);
    assert!(inner.calls.lock().unwrap().iter().all(|(_, ctx)| ctx.reservation.is_some()));
}

#[tokio::test]
async fn limits_are_charged_for_the_whole_plan_before_the_first_call() {
    let steps = || {
        vec![
            StepSource { arguments: arguments(json!({"q": "{{.params.q}}"})), ..step("a", "one") },
            StepSource { condition: Some("false".to_owned()), ..step("b", "two") },
            StepSource {
                condition: Some("false".to_owned()),
                arguments: arguments(json!({"n": "{{.steps.a.output.n}}"})),
                ..step("c", "one")
            },
        ]
    };
    items_are_charged_together().await;
    for refuses in [false, true] {
        let inner = Scripted::new(&["one", "two"], ok);
        let reserver =
            Arc::new(Reserving { refuses, reserved: Mutex::default(), released: Mutex::default() });
        let source = WorkflowSource { reserves: true, ..workflow(steps()) };
        let shared: Arc<dyn ReserveBudget> = reserver.clone();
        let policy = WorkflowPolicy::default();
        let layer =
            Workflows::wrap(inner.clone(), Arc::from([checked(&source)]), policy, ports(Some(shared)));
        let outcome = run(&layer, &context(), json!({"q": "x"})).await;
        assert_eq!(*reserver.reserved.lock().unwrap(), [r#"one {"q":"x"}"#, "two -", "one unknown"]);
        if refuses {
            assert!(matches!(outcome, Err(Error::RateLimited(_))), "{outcome:?}");
            assert!(inner.calls().is_empty());
        } else {
            assert_eq!(inner.calls(), [r#"one {"q":"x"}"#]);
            assert!(inner.calls.lock().unwrap()[0].1.reservation.is_some());
            assert_eq!(*reserver.released.lock().unwrap(), ["two", "one"], "skipped steps are given back");
        }
    }
}
