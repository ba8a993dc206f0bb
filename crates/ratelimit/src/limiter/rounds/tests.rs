use std::sync::atomic::{AtomicUsize, Ordering};

use vmcp_domain::{
    Answer, CallTool, Error, Gateway, Json, Members, Retry, SharedGateway, Tool, ToolName, forward,
};
use vmcp_testkit::{FakeGateway, conformance, tool};

use super::*;
use crate::layer::RateLimited;
use crate::limiter::tests::{known, policy, quota};
use crate::observer::NoObserver;
use crate::plan::Planner;
use crate::policy::{Anonymous, Concurrency, Limits, Price};

/// A backend that asks twice before it answers.
struct Asks {
    inner: SharedGateway,
    calls: AtomicUsize,
    fails: AtomicUsize,
}

impl Gateway for Asks {
    fn call_tool<'a>(&'a self, _ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            let wait = std::time::Duration::ZERO;
            if self.fails.swap(0, Ordering::SeqCst) > 0 {
                return Err(Error::BackendBusy { backend: "a".into(), retry_after: wait, was_read: false });
            }
            self.calls.fetch_add(1, Ordering::SeqCst);
            let round = match request.continuation.request_state.as_deref() {
                None => 0,
                Some(state) => state.parse::<u32>().map_err(|_| Error::InvalidRequest(state.to_owned()))?,
            };
            let mut members = Members::new();
            if round < 2 {
                members.set("requestState", Json::string(&(round + 1).to_string()));
            }
            let stage = if round < 2 { Stage::InputRequired } else { Stage::Complete };
            Ok(Reply { stage, ..Reply::complete(members) })
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

struct Bench {
    gateway: SharedGateway,
    backend: Arc<Asks>,
    limiter: Arc<Limiter>,
}

fn bench(tokens: u64, settle: Option<&str>) -> Bench {
    bench_of(Limits { per_user: quota(tokens, 3600), ..Limits::default() }, settle)
}

fn bench_of(server: Limits, settle: Option<&str>) -> Bench {
    let mut rule = crate::limiter::tests::rule("a_search", None, None);
    rule.cost.settle = settle.map(|text| Arc::new(Price::after(text).unwrap()));
    let planner = Arc::new(Planner::new(policy(server, vec![rule], Anonymous::Refuse)));
    let clock = Arc::new(crate::clock::ManualClock::default());
    let limiter = Limiter::new(planner, clock, None, Arc::new(NoObserver));
    let tools: Vec<Tool> = vec![tool("a", "search", "a_search")];
    let list = FakeGateway::new(tools);
    let backend = Arc::new(Asks { inner: list, calls: 0.into(), fails: 0.into() });
    let gateway = RateLimited::wrap(backend.clone(), limiter.clone());
    Bench { gateway, backend, limiter }
}

impl Bench {
    async fn round(&self, who: &str, state: Option<String>) -> Result<(Stage, Option<String>), Error> {
        let continuation = Continuation { input_responses: None, request_state: state };
        let call = CallTool { continuation, ..conformance::call("a_search") };
        let reply = self.gateway.call_tool(&known("i", who), call).await?;
        let state = reply.members.get("requestState").and_then(Json::to_text).map(|state| state.to_string());
        Ok((reply.stage, state))
    }

    async fn left(&self, who: &str) -> u64 {
        let ctx = known("i", who);
        let tools = self.gateway.list_tools(&ctx).await.unwrap();
        let name: ToolName = "a_search".into();
        self.limiter.peek(&tools, &name, &ctx).await.unwrap()[0].level
    }
}

#[tokio::test]
async fn a_call_in_three_rounds_pays_once() {
    let bench = bench(1, None);
    let (stage, state) = bench.round("ann", None).await.unwrap();
    assert_eq!((stage, bench.left("ann").await), (Stage::InputRequired, 0));
    let (stage, again) = bench.round("ann", state.clone()).await.unwrap();
    assert_eq!(stage, Stage::InputRequired);
    // The state of a round that is over is good for nothing.
    let refused = bench.round("ann", state).await.unwrap_err();
    assert!(matches!(refused, Error::RateLimited(limit) if matches!(limit.retry, Retry::After(_))));
    assert_eq!(bench.round("ann", again).await.unwrap(), (Stage::Complete, None));
    assert_eq!(bench.backend.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_others_send_along_is_a_call_of_their_own() {
    let bench = bench(2, None);
    let (_, state) = bench.round("ann", None).await.unwrap();
    let forged = Some(format!("{HEAD}{}s1", "0".repeat(32)));
    for state in [forged, Some("1".to_owned()), state.clone()] {
        let before = bench.left("bob").await;
        let outcome = bench.round("bob", state).await;
        assert!(before == 0 && outcome.is_err() || bench.left("bob").await == before - 1, "{outcome:?}");
    }
    assert_eq!(bench.left("bob").await, 0);
}

#[tokio::test]
async fn a_round_that_never_left_may_be_made_again() {
    let bench = bench(1, None);
    let (_, state) = bench.round("ann", None).await.unwrap();
    bench.backend.fails.store(1, Ordering::SeqCst);
    assert!(matches!(bench.round("ann", state.clone()).await, Err(Error::BackendBusy { .. })));
    assert_eq!(bench.round("ann", state).await.unwrap().0, Stage::InputRequired);
    assert_eq!(bench.left("ann").await, 0);
}

#[tokio::test]
async fn a_round_that_found_no_place_may_be_made_again() {
    let concurrency = Concurrency { shared: std::num::NonZeroU32::new(1), ..Concurrency::default() };
    let bench = bench_of(Limits { per_user: quota(1, 3600), concurrency, ..Limits::default() }, None);
    let (_, state) = bench.round("ann", None).await.unwrap();
    let bob = known("i", "bob");
    let tools = bench.gateway.list_tools(&bob).await.unwrap();
    let bound = bench.limiter.bound(&tools, &"a_search".into()).unwrap();
    let in_flight = bench.limiter.admit(&bound, &bob).await.unwrap();
    assert!(matches!(bench.round("ann", state.clone()).await, Err(Error::RateLimited(_))));
    drop(in_flight);
    assert_eq!(bench.round("ann", state).await.unwrap().0, Stage::InputRequired);
}

#[tokio::test]
async fn the_last_round_is_settled_against_what_the_first_paid() {
    let bench = bench(9, Some("cost + 3"));
    let mut state = None;
    for left in [8, 8, 5] {
        state = bench.round("ann", state).await.unwrap().1;
        assert_eq!(bench.left("ann").await, left);
    }
}

#[test]
fn states_are_read_as_they_were_written() {
    let name = "0123456789abcdef0123456789abcdef";
    let number = u128::from_str_radix(name, 16).unwrap();
    let read = |rest: &str| read(&format!("{HEAD}{name}{rest}"));
    assert_eq!(read("sabc"), Some((number, Some("abc".to_owned()))));
    assert_eq!(read("s"), Some((number, Some(String::new()))));
    assert_eq!(read("-"), Some((number, None)));
    assert_eq!(read("-abc"), None);
    assert_eq!(read(""), None);
    assert_eq!(super::read("abc"), None);
    assert_eq!(super::read(&format!("{HEAD}xyz")), None);
}
