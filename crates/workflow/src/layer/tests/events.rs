//! What observers learn of runs.

use vmcp_domain::{RunEvent, StepReport};

use super::*;

/// Writes down what happens.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl RunObserver for Recorder {
    fn on_event(&self, ctx: &CallContext, event: &RunEvent<'_>) {
        let run = ctx.run.as_ref().unwrap();
        assert_eq!((run.id.len(), &*run.tool), (36, "w"));
        let line = match event {
            RunEvent::Started { parameters, .. } => format!("started {}", parameters.as_str()),
            RunEvent::StepStarted { step, action, tool } => {
                format!("{step} started: {} {}", action.as_str(), tool.unwrap_or("-"))
            }
            RunEvent::StepEnded(StepReport { step, status, retries, condition, error, .. }) => {
                let note = condition.or(*error).unwrap_or("-");
                format!("{step} {}: {retries} {note}", status.as_str())
            }
            RunEvent::Ended { outcome, step_count, reply, .. } => {
                format!("ended {outcome:?}: {step_count} {}", reply.map_or("-".to_owned(), text))
            }
        };
        self.0.lock().unwrap().push(line);
    }
}

fn observed(inner: SharedGateway, source: &WorkflowSource) -> (Arc<Workflows>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let ports = WorkflowPorts { observer: Some(recorder.clone()), ..ports(None) };
    (Workflows::wrap(inner, Arc::from([checked(source)]), WorkflowPolicy::default(), ports), recorder)
}

#[tokio::test(start_paused = true)]
async fn each_step_and_the_run_have_a_start_and_an_end() {
    let fail = |request: &CallTool| match request.name.as_str() {
        "one" => ok(request),
        _ => Ok(tool_result::failure("no")),
    };
    let inner = Scripted::new(&["one", "two"], fail);
    let after = |id: &str| vec![id.to_owned()];
    let retry =
        ErrorSource { action: Some("retry".to_owned()), retry_count: Some(2), ..ErrorSource::default() };
    let source = workflow(vec![
        step("a", "one"),
        StepSource {
            condition: Some("{{eq .steps.a.status \"failed\"}}".to_owned()),
            depends_on: after("a"),
            ..step("b", "one")
        },
        StepSource { on_error: Some(retry), depends_on: after("b"), ..step("c", "two") },
        StepSource { depends_on: after("c"), ..step("d", "one") },
    ]);
    let (layer, recorder) = observed(inner, &source);
    run(&layer, &context(), json!({"q": 1})).await.unwrap();
    let error = "tool call failed: tool two in step c: tool execution failed: no";
    assert_eq!(
        recorder.take(),
        [
            "started {\"q\":1}",
            "a started: tool one",
            "a completed: 0 -",
            "b skipped: 0 {{eq .steps.a.status \"failed\"}}",
            "c started: tool two",
            &format!("c failed: 2 {error}"),
            &format!("ended Failed: 4 Workflow execution failed: {error}. Done: a. Not done: d"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_interrupted_ends_too() {
    let inner = FakeGateway::new(vec![tool("b", "hang", "hang")]);
    let timeout = Some(Duration::from_secs(3));
    let source = WorkflowSource { timeout, ..workflow(vec![step("a", "hang"), step("b", "hang")]) };
    let (layer, recorder) = observed(inner.clone(), &source);
    run(&layer, &context(), json!({})).await.unwrap();
    let steps = [
        "a started: tool hang",
        "b started: tool hang",
        "a failed: 0 interrupted",
        "b failed: 0 interrupted",
    ];
    let events = recorder.take();
    assert_eq!(events[1..5], steps);
    assert!(events[5].starts_with("ended TimedOut: 2 Workflow execution timeout exceeded"), "{events:?}");
    // The caller leaves.
    let ctx = context();
    let call = run(&layer, &ctx, json!({}));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    let events = recorder.take();
    assert_eq!(events[1..5], steps);
    assert_eq!(events[5..], ["ended Failed: 2 -"]);
}

#[tokio::test]
async fn a_run_that_a_limit_refuses_did_not_start() {
    let refused =
        Arc::new(Reserving { refuses: true, reserved: Mutex::default(), released: Mutex::default() });
    let recorder = Arc::new(Recorder::default());
    let ports = WorkflowPorts { observer: Some(recorder.clone()), ..ports(Some(refused)) };
    let source = WorkflowSource { reserves: true, ..workflow(vec![step("a", "one")]) };
    let workflows = Arc::from([checked(&source)]);
    let layer = Workflows::wrap(Scripted::new(&["one"], ok), workflows, WorkflowPolicy::default(), ports);
    assert!(run(&layer, &context(), json!({})).await.is_err());
    assert!(recorder.take().is_empty());
    // Without a plan, the refusal comes from the first call: the run started, and has no answer.
    let (layer, recorder) = observed(Scripted::new(&["one"], |_| Err(limited())), &source);
    assert!(run(&layer, &context(), json!({})).await.is_err());
    let events = recorder.take();
    assert_eq!((events.len(), events[3].as_str()), (4, "ended Failed: 1 -"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_ends_a_wait_and_a_question() {
    let retry = ErrorSource {
        action: Some("retry".to_owned()),
        retry_count: Some(5),
        retry_delay: Some(Duration::from_secs(60)),
        ..ErrorSource::default()
    };
    let waits = vec![StepSource { on_error: Some(retry), ..step("a", "one") }];
    for (steps, call_count) in [(waits, 1), (vec![question("a")], 0)] {
        let inner = Scripted::new(&["one"], |_| Ok(tool_result::failure("no")));
        let (layer, recorder) = observed(inner.clone(), &workflow(steps));
        let client = Client::answering(&[json!({"action": "accept", "content": {"env": "x"}})]);
        let ctx = CallContext { client, ..context() };
        let call = run(&layer, &ctx, json!({}));
        assert!(tokio::time::timeout(Duration::from_secs(5), call).await.is_err());
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(inner.calls().len(), call_count, "nothing is called later");
        let events = recorder.take();
        assert_eq!(events[2..], ["a failed: 0 interrupted", "ended Failed: 1 -"], "{events:?}");
    }
}
