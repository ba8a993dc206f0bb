use std::sync::atomic::{AtomicUsize, Ordering};

use vmcp_domain::{CallTool, Error, Gateway, GatewayFuture, Retry, SharedGateway, Tool, ToolName, forward};
use vmcp_json::{Json, Members};
use vmcp_testkit::{FakeGateway, conformance, tool};
use vmcp_timing::ManualClock;

use super::*;
use crate::layer::RateLimited;
use crate::limiter::observer::NoObserver;
use crate::limiter::tests::{known, policy, quota};
use crate::plan::Planner;
use crate::plan::policy::{Anonymous, Concurrency, Limits, Price};

/// A backend that asks for input twice before it completes.
struct MultiRoundBackend {
    inner: SharedGateway,
    calls: AtomicUsize,
    fails: AtomicUsize,
}

impl Gateway for MultiRoundBackend {
    fn call_tool<'a>(&'a self, _ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
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
                members.insert("requestState", Json::string(&(round + 1).to_string()));
            }
            let stage = if round < 2 { ResultType::InputRequired } else { ResultType::Complete };
            Ok(Reply { result_type: stage, ..Reply::complete(members) })
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

struct Harness {
    gateway: SharedGateway,
    backend: Arc<MultiRoundBackend>,
    limiter: Arc<Limiter>,
    clock: Arc<ManualClock>,
}

fn harness(tokens: u64, settle: Option<&str>) -> Harness {
    harness_with(Limits { per_user: quota(tokens, 3600), ..Limits::default() }, settle)
}

fn harness_with(server: Limits, settle: Option<&str>) -> Harness {
    let mut rule = crate::limiter::tests::rule("a_search", None, None);
    rule.cost.settle = settle.map(|text| Arc::new(Price::new_after_call(text).unwrap()));
    let planner = Arc::new(Planner::new(policy(server, vec![rule], Anonymous::Refuse)));
    let clock = Arc::new(ManualClock::default());
    let limiter = Limiter::new(planner, clock.clone(), None, Arc::new(NoObserver));
    let tools: Vec<Tool> = vec![tool("a", "search", "a_search")];
    let list = FakeGateway::new(tools);
    let backend = Arc::new(MultiRoundBackend { inner: list, calls: 0.into(), fails: 0.into() });
    let gateway = RateLimited::wrap(backend.clone(), limiter.clone());
    Harness { gateway, backend, limiter, clock }
}

impl Harness {
    async fn round(&self, who: &str, state: Option<String>) -> Result<(ResultType, Option<String>), Error> {
        let continuation = Continuation { input_responses: None, request_state: state };
        let call = CallTool { continuation, ..conformance::tool_call("a_search") };
        let reply = self.gateway.call_tool(&known("i", who), call).await?;
        let state =
            reply.members.get("requestState").and_then(Json::decode_string).map(|state| state.to_string());
        Ok((reply.result_type, state))
    }

    async fn remaining(&self, who: &str) -> u64 {
        let ctx = known("i", who);
        let tools = self.gateway.list_tools(&ctx).await.unwrap();
        let name: ToolName = "a_search".into();
        self.limiter.peek(&tools, &name, &ctx).await.unwrap()[0].level
    }
}

#[tokio::test]
async fn a_call_in_three_rounds_pays_once() {
    let harness = harness(1, None);
    let (stage, state) = harness.round("ann", None).await.unwrap();
    assert_eq!((stage, harness.remaining("ann").await), (ResultType::InputRequired, 0));
    let (stage, again) = harness.round("ann", state.clone()).await.unwrap();
    assert_eq!(stage, ResultType::InputRequired);
    // The state of a round that was resumed is no longer valid.
    let refused = harness.round("ann", state).await.unwrap_err();
    assert!(matches!(refused, Error::RateLimited(limit) if matches!(limit.retry, Retry::After(_))));
    assert_eq!(harness.round("ann", again).await.unwrap(), (ResultType::Complete, None));
    assert_eq!(harness.backend.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_others_send_along_is_a_call_of_their_own() {
    let harness = harness(2, None);
    let (_, state) = harness.round("ann", None).await.unwrap();
    let forged = Some(format!("{STATE_PREFIX}{}s1", "0".repeat(32)));
    for state in [forged, Some("1".to_owned()), state.clone()] {
        let before = harness.remaining("bob").await;
        let outcome = harness.round("bob", state).await;
        assert!(
            before == 0 && outcome.is_err() || harness.remaining("bob").await == before - 1,
            "{outcome:?}"
        );
    }
    assert_eq!(harness.remaining("bob").await, 0);
}

#[tokio::test]
async fn a_round_that_never_left_may_be_made_again() {
    let harness = harness(1, None);
    let (_, state) = harness.round("ann", None).await.unwrap();
    harness.backend.fails.store(1, Ordering::SeqCst);
    assert!(matches!(harness.round("ann", state.clone()).await, Err(Error::BackendBusy { .. })));
    assert_eq!(harness.round("ann", state).await.unwrap().0, ResultType::InputRequired);
    assert_eq!(harness.remaining("ann").await, 0);
}

#[tokio::test]
async fn a_round_that_found_no_place_may_be_made_again() {
    let concurrency = Concurrency { shared: std::num::NonZeroU32::new(1), ..Concurrency::default() };
    let harness = harness_with(Limits { per_user: quota(1, 3600), concurrency, ..Limits::default() }, None);
    let (_, state) = harness.round("ann", None).await.unwrap();
    let bob = known("i", "bob");
    let tools = harness.gateway.list_tools(&bob).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let in_flight = harness.limiter.admit(&tool_plan, &bob).await.unwrap();
    assert!(matches!(harness.round("ann", state.clone()).await, Err(Error::RateLimited(_))));
    drop(in_flight);
    assert_eq!(harness.round("ann", state).await.unwrap().0, ResultType::InputRequired);
}

#[tokio::test]
async fn the_last_round_is_settled_against_what_the_first_paid() {
    let harness = harness(9, Some("cost + 3"));
    let mut state = None;
    for left in [8, 8, 5] {
        state = harness.round("ann", state).await.unwrap().1;
        assert_eq!(harness.remaining("ann").await, left);
    }
}

const HOUR: u64 = 3_600_000_000;

/// The bucket refills a token in an hour, so the first call's token is back when its state expires.
#[tokio::test]
async fn a_state_is_good_for_an_hour() {
    for (elapsed, left) in [(HOUR, 2), (HOUR + 1, 1)] {
        let harness = harness_with(Limits { per_user: quota(2, 2 * 3600), ..Limits::default() }, None);
        let (_, state) = harness.round("ann", None).await.unwrap();
        harness.clock.advance(elapsed);
        harness.round("ann", state).await.unwrap();
        assert_eq!(harness.remaining("ann").await, left, "after {elapsed}");
    }
}

/// Expired calls are removed when other calls begin to wait, and not before.
#[tokio::test]
async fn what_is_over_is_forgotten() {
    let harness = harness(9, None);
    let open = || harness.limiter.open_rounds.table.lock().by_id.len();
    for (elapsed, count) in [(0, 1), (HOUR, 2), (1, 2), (HOUR, 2)] {
        harness.clock.advance(elapsed);
        harness.round("ann", None).await.unwrap();
        assert_eq!(open(), count, "{elapsed}");
    }
}

/// Calls that have made their next round leave no entry, although their identifiers are still in the
/// insertion order.
#[tokio::test]
async fn names_of_calls_that_are_done_are_dropped() {
    let mut open = OpenRoundTable::default();
    let harness = harness(9, None);
    harness.round("ann", None).await.unwrap();
    let paid = harness.limiter.open_rounds.table.lock().by_id.values().next().unwrap().1.clone();
    // The first entry stays, so that nothing behind it is dropped from the front.
    open.insert(0, paid.clone(), Micros(0));
    for name in 1..=20_000 {
        open.insert(name, paid.clone(), Micros(0));
        assert!(open.take(name, Micros(0), |_| true).is_some());
        assert!(open.insertion_order.len() <= OPEN_ROUND_COUNT_MAX + 3, "{name}");
    }
    assert!(open.insertion_order.len() > OPEN_ROUND_COUNT_MAX / 2, "the list is gone through seldom");
    assert_eq!(open.by_id.len(), 1);
}

/// Beyond the maximum the oldest entry is dropped.
#[tokio::test]
async fn ten_thousand_calls_wait_for_their_next_round() {
    let mut open = OpenRoundTable::default();
    let harness = harness(9, None);
    harness.round("ann", None).await.unwrap();
    let paid = harness.limiter.open_rounds.table.lock().by_id.values().next().unwrap().1.clone();
    for name in 0..=OPEN_ROUND_COUNT_MAX as u128 {
        open.insert(name, paid.clone(), Micros(0));
    }
    let mut is_open = |name| open.take(name, Micros(0), |_| true).is_some();
    assert_eq!([0, 1, OPEN_ROUND_COUNT_MAX as u128].map(&mut is_open), [false, true, true]);
}

#[test]
fn states_are_read_as_they_were_written() {
    let name = "0123456789abcdef0123456789abcdef";
    let number = u128::from_str_radix(name, 16).unwrap();
    let read = |rest: &str| parse_state(&format!("{STATE_PREFIX}{name}{rest}"));
    assert_eq!(read("sabc"), Some((number, Some("abc".to_owned()))));
    assert_eq!(read("s"), Some((number, Some(String::new()))));
    assert_eq!(read("-"), Some((number, None)));
    assert_eq!(read("-abc"), None);
    assert_eq!(read(""), None);
    assert_eq!(super::parse_state("abc"), None);
    assert_eq!(super::parse_state(&format!("{STATE_PREFIX}xyz")), None);
}

#[tokio::test]
async fn the_name_of_a_payment_has_two_random_halves() {
    let harness = harness(1, None);
    let (_, state) = harness.round("ann", None).await.unwrap();
    let state = state.unwrap();
    let name = state.strip_prefix(STATE_PREFIX).unwrap().get(..32).unwrap();
    let (high, low) = name.split_at(16);
    assert_ne!(high, "0".repeat(16));
    assert_ne!(low, "0".repeat(16));
    assert_ne!(high, low);
}
