//! The cost of workflows over the calls that their steps make. The tools answer at once, so the whole cost of the layer
//! shows. Shared machines are noisy: contenders are measured in turn, and medians of rounds are printed.
//!
//! `cargo xtask bench workflow`, or `cargo bench -p vmcp-workflow`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and fails by panicking")]

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use serde_json::{Value as Data, json};
use vmcp_domain::{CallContext, CallTool, Gateway, GatewayFuture, Reply, SharedGateway, forward};
use vmcp_json::Json;
use vmcp_template::{MissingText, Template, Value};
use vmcp_testkit::{FakeGateway, conformance, context, tool};
use vmcp_wire::tool_result;
use vmcp_workflow::{
    StepKindSource, StepSource, Workflow, WorkflowPolicy, WorkflowPorts, WorkflowSource, Workflows,
};

const ROUNDS: usize = 21;
/// The steps of the workflow that is compared with as many calls.
const STEPS: usize = 10;
/// The runs that are open while their memory is measured.
const OPEN_RUNS: usize = 20_000;

/// A gateway whose tools answer at once, with a small object.
struct Instantly {
    inner: SharedGateway,
    reply: Reply,
}

impl Instantly {
    fn new() -> Arc<Self> {
        let reply = tool_result::structured(Json::parse(r#"{"n":7,"text":"seven"}"#).unwrap(), "seven");
        Arc::new(Self {
            inner: FakeGateway::new(vec![tool("b", "one", "one"), tool("b", "hang", "hang")]),
            reply,
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Instantly {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        if request.name.as_str() == "hang" {
            return self.inner.call_tool(ctx, request);
        }
        Box::pin(std::future::ready(Ok(self.reply.clone())))
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

fn arguments(data: &Data) -> Option<serde_json::Map<String, Data>> {
    data.as_object().cloned()
}

fn step(id: String, data: &Data) -> StepSource {
    StepSource { id, tool: Some("one".to_owned()), arguments: arguments(data), ..StepSource::default() }
}

/// Steps of which each reads the one before.
fn chain(length: usize) -> Vec<StepSource> {
    let read = |index: usize| match index {
        0 => json!({"n": "{{.params.n}}"}),
        _ => json!({"n": format!("{{{{.steps.s{}.output.n}}}}", index - 1)}),
    };
    (0..length).map(|index| step(format!("s{index}"), &read(index))).collect()
}

fn for_each() -> Vec<StepSource> {
    vec![StepSource {
        id: "each".to_owned(),
        kind: Some(StepKindSource::ForEach),
        collection: Some("{{.params.list}}".to_owned()),
        max_iterations: Some(1000),
        step: Some(Box::new(step("item".to_owned(), &json!({"n": "{{.forEach.item}}"})))),
        ..StepSource::default()
    }]
}

fn layer(inner: SharedGateway, steps: Vec<StepSource>) -> Arc<Workflows> {
    let source = WorkflowSource {
        name: "w".to_owned(),
        description: Some("d".to_owned()),
        steps,
        ..WorkflowSource::default()
    };
    let (workflow, findings) = Workflow::check(&source);
    assert!(findings.is_empty(), "{findings:?}");
    let ports = WorkflowPorts { reserver: None, observer: None, info: None, now: String::new };
    let policy = WorkflowPolicy { running_max: OPEN_RUNS, running_max_per_caller: OPEN_RUNS };
    Workflows::wrap(inner, Arc::from([workflow.unwrap()]), policy, ports)
}

fn request(name: &str, data: &Data) -> CallTool {
    CallTool { arguments: Some(Json::encode(data).unwrap()), ..conformance::tool_call(name) }
}

/// The time of one call of `gateway`, over `count` calls.
async fn time(gateway: &dyn Gateway, request: &CallTool, count: u32) -> Duration {
    let ctx = context();
    let started = Instant::now();
    for _ in 0..count {
        let reply = gateway.call_tool(&ctx, request.clone()).await.unwrap();
        assert!(!reply.is_error);
    }
    started.elapsed() / count
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

async fn steps() {
    let inner = Instantly::new();
    let (one, ten) = (layer(inner.clone(), chain(1)), layer(inner.clone(), chain(STEPS)));
    let (call, run) = (request("one", &json!({"n": "1"})), request("w", &json!({"n": 1})));
    let [mut calls, mut ones, mut tens] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        calls.push(time(&*inner, &call, 2000).await);
        ones.push(time(&*one, &run, 2000).await);
        tens.push(time(&*ten, &run, 500).await);
    }
    let [call, one, ten] = [calls, ones, tens].map(median);
    let each = (ten - one) / u32::try_from(STEPS - 1).unwrap();
    println!("a call: {:.2} µs; a workflow of one step: {:.2} µs", micros(call), micros(one));
    println!(
        "each further step, over its call: {:.2} µs (target: at most 10)",
        micros(each.saturating_sub(call))
    );
}

async fn lists() {
    let inner = Instantly::new();
    let layer = layer(inner.clone(), for_each());
    let run = request("w", &json!({"list": (0..1000).collect::<Vec<_>>()}));
    let call = request("one", &json!({"n": "1"}));
    let (mut lists, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        lists.push(time(&*layer, &run, 5).await);
        calls.push(time(&*inner, &call, 1000).await * 1000);
    }
    let over = median(lists).saturating_sub(median(calls));
    println!("a list of 1000 items, over its calls: {:.2} ms (target: at most 15)", micros(over) / 1e3);
}

fn templates() {
    let rows: Vec<Data> = (0..1000).map(|row| json!({"row": row, "text": "x".repeat(80)})).collect();
    let output = json!({"user": {"name": "Ann"}, "rows": rows});
    let text = Json::encode(&output).unwrap();
    let template = Template::parse("{{.steps.a.output.user.name}}").unwrap();
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let output = Value::deferred(text.clone());
        let data = Value::object([("steps", Value::object([("a", Value::object([("output", output)]))]))]);
        let started = Instant::now();
        assert_eq!(template.render(&data, MissingText::Empty).unwrap(), "Ann");
        first.push(started.elapsed());
        let started = Instant::now();
        for _ in 0..10_000 {
            std::hint::black_box(template.evaluate(&data, MissingText::Empty).unwrap());
        }
        later.push(started.elapsed() / 10_000);
    }
    println!(
        "a template that reads an output of {} KiB: {:.2} µs (target: at most 0.5), the first time {:.0} µs",
        text.as_str().len() >> 10,
        micros(median(later)),
        micros(median(first))
    );
}

/// The resident memory of this process in bytes.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// The memory of runs whose last step does not end.
fn memory(length: usize) {
    let mut steps = chain(length);
    steps[length - 1].tool = Some("hang".to_owned());
    let layer = layer(Instantly::new(), steps);
    let (ctx, run) = (context(), request("w", &json!({"n": 1})));
    let mut waiting = Context::from_waker(Waker::noop());
    let before = resident_bytes();
    let open: Vec<_> = (0..OPEN_RUNS)
        .map(|_| {
            let mut call = layer.call_tool(&ctx, run.clone());
            // Each step before the last one ends within one poll.
            assert!(call.as_mut().poll(&mut waiting).is_pending());
            call
        })
        .collect();
    let each = resident_bytes().saturating_sub(before) / OPEN_RUNS;
    println!(
        "a run of {length} steps that waits: {:.1} KiB with its outputs (target: at most 8 KiB beside them)",
        kib(each)
    );
    drop(open);
}

#[allow(clippy::cast_precision_loss, reason = "a size to be read by people")]
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        steps().await;
        lists().await;
        memory(1);
        memory(STEPS);
    });
    templates();
}
