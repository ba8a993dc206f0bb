use vmcp_domain::{Caller, Identity, Tool};
use vmcp_json::{Json, Members};
use vmcp_testkit::{FakeGateway, conformance, context, tool};
use vmcp_timing::ManualClock;

use super::*;

const WITHIN: u64 = 60_000_000;

fn policy(tools: &[&str]) -> LoopPolicy {
    LoopPolicy {
        repeats: NonZeroU32::new(3).unwrap(),
        within: Duration::from_micros(WITHIN),
        tools: Some(tools.iter().copied().map(NamePattern::new).collect()),
    }
}

struct Harness {
    inner: Arc<FakeGateway>,
    outer: SharedGateway,
    clock: Arc<ManualClock>,
}

fn harness(tools: &[&str]) -> Harness {
    let inner = FakeGateway::new(vec![tool("fake", "plain", "plain"), tool("fake", "other", "other")]);
    let clock = Arc::new(ManualClock::default());
    clock.set(Micros(1));
    let outer = LoopBreaker::wrap(inner.clone(), policy(tools), clock.clone());
    Harness { inner, outer, clock }
}

fn someone(subject: &str) -> CallContext {
    let identity = Identity { issuer: "i".to_owned(), subject: subject.to_owned(), claims: Members::new() };
    CallContext { caller: Caller::Known(Arc::new(identity)), ..context() }
}

impl Harness {
    async fn call(&self, ctx: &CallContext, name: &str, arguments: &str) -> Result<Reply, Error> {
        let arguments = Some(Json::parse(arguments.to_owned()).unwrap());
        self.outer.call_tool(ctx, CallTool { arguments, ..conformance::tool_call(name) }).await
    }
}

fn looping(outcome: Result<Reply, Error>) -> RepeatedCall {
    match outcome {
        Err(Error::Looping(looping)) => *looping,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keeps_the_rules_of_the_seam() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    conformance::check_decorator(&[], |inner| LoopBreaker::wrap(inner, policy(&["*"]), clock.clone())).await;
}

#[tokio::test]
async fn the_fourth_of_the_same_is_explained_and_not_made() {
    let harness = harness(&["*"]);
    let ann = someone("ann");
    for _ in 0..3 {
        harness.call(&ann, "plain", r#"{"a":1}"#).await.unwrap();
    }
    harness.clock.advance(WITHIN / 4);
    let told = looping(harness.call(&ann, "plain", r#"{"a":1}"#).await);
    assert_eq!((told.tool.as_str(), told.count), ("plain", 3));
    assert_eq!(told.retry_after, Duration::from_micros(WITHIN - WITHIN / 4));
    assert_eq!(harness.inner.requests().len(), 3, "the call is not made");
    // Another caller, other arguments or another tool make another call.
    harness.call(&someone("bob"), "plain", r#"{"a":1}"#).await.unwrap();
    harness.call(&ann, "plain", r#"{"a":2}"#).await.unwrap();
    harness.call(&ann, "other", r#"{"a":1}"#).await.unwrap();
    // After the pause one call passes. It has the same outcome, so the next pause begins.
    harness.clock.advance(WITHIN - WITHIN / 4 - 1);
    looping(harness.call(&ann, "plain", r#"{"a":1}"#).await);
    harness.clock.advance(1);
    harness.call(&ann, "plain", r#"{"a":1}"#).await.unwrap();
    assert_eq!(looping(harness.call(&ann, "plain", r#"{"a":1}"#).await).count, 4);
}

#[tokio::test]
async fn a_watched_tool_is_watched_under_its_contested_name() {
    let harness = harness(&["plain"]);
    let renamed = Tool { contested_name: Some("plain".into()), ..tool("fake", "plain", "fake_plain") };
    harness.inner.set_tools(vec![renamed, tool("fake", "other", "other")]);
    for _ in 0..3 {
        harness.call(&context(), "fake_plain", "{}").await.unwrap();
        harness.call(&context(), "other", "{}").await.unwrap();
    }
    looping(harness.call(&context(), "fake_plain", "{}").await);
    harness.call(&context(), "other", "{}").await.unwrap();
}

#[tokio::test]
async fn another_outcome_begins_anew() {
    let harness = harness(&["*"]);
    let key = 7;
    let breaker = LoopBreaker {
        inner: harness.inner.clone(),
        policy: policy(&["*"]),
        candidates: None,
        clock: harness.clock.clone(),
        hashers: (RandomState::new(), RandomState::new()),
        tracker: Mutex::default(),
    };
    let said = |text: &str| {
        let members = Json::parse(format!(r#"{{"said":"{text}","_meta":{{"n":{}}}}}"#, text.len()));
        Ok(Reply::complete(members.unwrap().members().unwrap()))
    };
    let call = conformance::tool_call("plain");
    for text in ["a", "a", "b", "a", "a"] {
        breaker.check(key, &call).unwrap();
        breaker.record_outcome(key, &said(text));
    }
    // An error that says nothing about the call changes nothing.
    breaker.record_outcome(key, &Err(Error::Overloaded));
    breaker.check(key, &call).unwrap();
    breaker.record_outcome(key, &said("a"));
    breaker.check(key, &call).unwrap_err();
    // A backend's own refusals are outcomes too.
    let refused = || {
        let error = vmcp_domain::RelayedError { code: 1, message: "no".to_owned(), data: None };
        Err(Error::BackendRefused { backend: "b".into(), error })
    };
    for _ in 0..3 {
        breaker.check(8, &call).unwrap();
        breaker.record_outcome(8, &refused());
    }
    breaker.check(8, &call).unwrap_err();
}

#[tokio::test]
async fn only_what_is_watched_is_counted_and_memory_is_bounded() {
    let harness = harness(&["other*"]);
    for _ in 0..10 {
        harness.call(&context(), "plain", "{}").await.unwrap();
    }
    for _ in 0..3 {
        harness.call(&context(), "other", "{}").await.unwrap();
    }
    looping(harness.call(&context(), "other", "{}").await);
    for number in 0..CALLS_MAX + 1000 {
        harness.call(&context(), "other", &number.to_string()).await.unwrap();
    }
    looping(harness.call(&context(), "other", "{}").await);
    // Old streaks make room.
    harness.clock.advance(WITHIN);
    for _ in 0..3 {
        harness.call(&context(), "other", r#"{"new":1}"#).await.unwrap();
    }
    looping(harness.call(&context(), "other", r#"{"new":1}"#).await);
}

/// Pressing a key twice is intended; a tool without the annotation is watched.
#[tokio::test]
async fn tools_that_say_that_they_change_something_are_watched_only_by_name() {
    let mut presses = tool("fake", "press", "press");
    presses.hints.read_only = Some(false);
    let inner = FakeGateway::new(vec![presses, tool("fake", "plain", "plain")]);
    let count = async |tools: Option<Vec<NamePattern>>, name: &str| {
        let policy = LoopPolicy { tools, ..policy(&[]) };
        let outer = LoopBreaker::wrap(inner.clone(), policy, Arc::new(ManualClock::default()));
        let mut count = 0;
        for _ in 0..8 {
            count +=
                usize::from(outer.call_tool(&someone("ann"), conformance::tool_call(name)).await.is_ok());
        }
        count
    };
    assert_eq!((count(None, "press").await, count(None, "plain").await), (8, 3));
    assert_eq!(count(Some(vec![NamePattern::new("p*")]), "press").await, 3);
}
