//! Prices by expression, limits by claim, and limits that are enforced for a percentage of callers.

use std::num::NonZeroU8;
use std::task::{Context, Waker};

use vmcp_domain::{CallTool, Reply};
use vmcp_json::Json;

use super::*;
use crate::plan::policy::{Cost, ListHandling, MissingValue, Price, ValueQuota, ValueSource};

fn claimed(subject: &str, claims: &str) -> CallContext {
    let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
    let identity = Identity { issuer: "i".into(), subject: subject.into(), claims };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

fn per_team(tokens: u64, missing: MissingValue) -> Limits {
    let quota = quota(tokens, 60).unwrap();
    Limits {
        per_value: vec![ValueQuota {
            source: ValueSource::Claim("team".into()),
            list_handling: ListHandling::default(),
            missing,
            quota,
        }],
        ..Limits::default()
    }
}

fn priced(cost: Option<&str>, settle: Option<&str>, tokens: u64) -> LimitPolicy {
    let cost = Cost {
        price: cost.map(|text| Arc::new(Price::new_before_call(text).unwrap())),
        settle: settle.map(|text| Arc::new(Price::new_after_call(text).unwrap())),
        ..Cost::default()
    };
    let rule = ToolRule { cost, ..rule("a_search", quota(tokens, 60), quota(tokens, 60)) };
    policy(Limits { shared: quota(tokens, 60), ..Limits::default() }, vec![rule], Anonymous::Refuse)
}

fn with(arguments: &str) -> CallTool {
    let arguments = Some(Json::parse(arguments.to_owned()).unwrap());
    CallTool { arguments, ..conformance::tool_call("a_search") }
}

async fn call_with(harness: &Harness, arguments: &str) -> Result<Reply, Error> {
    harness.gateway.call_tool(&known("i", "s"), with(arguments)).await
}

async fn levels(harness: &Harness) -> Vec<u64> {
    let tools = harness.gateway.list_tools(&known("i", "s")).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), &known("i", "s")).await.unwrap();
    views.iter().map(|view| view.level).collect()
}

#[tokio::test]
async fn a_call_costs_what_its_arguments_say() {
    let harness = harness(priced(Some("1 + size(args.items)"), None, 10), None);
    call_with(&harness, r#"{"items":[1,2,3]}"#).await.unwrap();
    assert_eq!(levels(&harness).await, [6, 6, 6], "server, tool, user and tool");
    let refusal = refused(call_with(&harness, r#"{"items":[1,2,3,4,5,6]}"#).await.map(drop));
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(6)), "one token is missing");
    let refusal = refused(call_with(&harness, r#"{"items":[1,2,3,4,5,6,7,8,9,10]}"#).await.map(drop));
    assert_eq!(refusal.retry, Retry::Never);
    call_with(&harness, r#"{"items":[]}"#).await.unwrap();
    assert_eq!(levels(&harness).await, [5, 5, 5]);
}

#[tokio::test]
async fn a_call_without_a_price_is_not_made_and_costs_nothing() {
    let harness = harness(priced(Some("args.count"), None, 10), None);
    for arguments in ["{}", r#"{"count":"many"}"#, r#"{"count":[1]}"#, r#"{"count":true}"#] {
        let outcome = call_with(&harness, arguments).await;
        assert!(matches!(outcome, Err(Error::InvalidRequest(_))), "{arguments}: {outcome:?}");
    }
    assert!(
        harness.inner.requests().iter().all(|asked| !asked.starts_with("call")),
        "{:?}",
        harness.inner.requests()
    );
    // The minimum of a rule is paid in any case.
    for arguments in [r#"{"count":0}"#, r#"{"count":-5}"#, r#"{"count":0.2}"#] {
        call_with(&harness, arguments).await.unwrap();
    }
    assert_eq!(levels(&harness).await, [7, 7, 7]);
}

#[tokio::test]
async fn prices_see_the_claims_of_the_caller() {
    let price = "has(claims.plan) && claims.plan == 'gold' ? 1 : size(claims) == 0 ? 5 : 3";
    let policy = priced(Some(price), Some("'admin' in claims.realm.roles ? 0 : cost"), 20);
    let harness = harness(LimitPolicy { anonymous: Anonymous::Shared, ..policy }, None);
    for (ctx, cost) in [
        (claimed("ann", r#"{"plan":"gold","realm":{"roles":["dev"]}}"#), 1),
        (claimed("bob", r#"{"plan":"tin","realm":{"roles":["dev"]}}"#), 3),
        (claimed("cid", r#"{"plan":"tin","realm":{"roles":["admin"]}}"#), 0),
        (CallContext::bare(Caller::Anonymous, CallOrigin::Client), 5),
    ] {
        let before = levels(&harness).await[0];
        call(&harness, "a_search", &ctx).await.unwrap();
        assert_eq!(before - levels(&harness).await[0], cost);
    }
}

#[tokio::test]
async fn what_a_call_turned_out_to_cost_is_settled() {
    let harness = harness(priced(Some("4"), Some("args.real"), 10), None);
    call_with(&harness, r#"{"real":1}"#).await.unwrap();
    assert_eq!(levels(&harness).await, [9, 9, 9], "three given back");
    call_with(&harness, r#"{"real":12}"#).await.unwrap();
    // 9 − 4 − 8: three tokens in debt.
    let refusal = refused(call_with(&harness, r#"{"real":4}"#).await.map(drop));
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(42)), "three owed and four to pay");
    harness.clock.advance(42_000_000);
    call_with(&harness, "{}").await.unwrap();
    assert_eq!(levels(&harness).await, [0, 0, 0], "without a final price it stays at the first");
}

#[tokio::test]
async fn a_settlement_has_an_upper_bound_where_the_rule_says_so() {
    let mut policy = priced(None, None, 100);
    policy.tools[0].cost.settle =
        Some(Arc::new(Price::new_after_call("args.real").unwrap().with_tokens_max(40)));
    let harness = harness(policy, None);
    call_with(&harness, r#"{"real":1e308}"#).await.unwrap();
    assert_eq!(levels(&harness).await, [60, 60, 60]);
    call_with(&harness, r#"{"real":7.0}"#).await.unwrap();
    assert_eq!(levels(&harness).await, [53, 53, 53]);
}

#[tokio::test]
async fn a_member_that_is_null_is_not_there() {
    let harness =
        harness(priced(Some("has(args.limit) ? 1 + (args.limit + 99) / 100 : 10"), None, 100), None);
    for (arguments, left) in
        [(r#"{"limit":150}"#, 97), (r#"{"limit":50.0}"#, 95), (r#"{"limit":null}"#, 85), ("{}", 75)]
    {
        call_with(&harness, arguments).await.unwrap();
        assert_eq!(levels(&harness).await, [left; 3], "{arguments}");
    }
}

#[tokio::test]
async fn long_arguments_are_not_looked_at_for_a_call_that_is_refused_anyway() {
    let harness = harness(priced(Some("args.n"), None, 2), None);
    call_with(&harness, r#"{"n":2}"#).await.unwrap();
    // If its price were evaluated, this call would be refused because the price cannot be computed.
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(9_000));
    let refusal = refused(call_with(&harness, &long).await.map(drop));
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(30)), "for the least price");
    assert!(matches!(call_with(&harness, r#"{"text":"x"}"#).await, Err(Error::InvalidRequest(_))));
}

#[tokio::test]
async fn a_debt_is_never_deeper_than_the_bucket() {
    let harness = harness(priced(None, Some("4000000000"), 10), None);
    call_with(&harness, "{}").await.unwrap();
    let refusal = refused(call_with(&harness, "{}").await.map(drop));
    assert_eq!(refusal.retry, Retry::After(Duration::from_secs(66)));
}

#[tokio::test]
async fn the_result_has_a_say() {
    let price = Price::new_after_call("result.isError ? 0 : result.bytes").unwrap();
    let members = Json::parse(r#"{"content":[{"type":"text","text":"four"}]}"#.to_owned()).unwrap();
    let reply = Reply::complete(members.members().unwrap());
    let tool = tool("a", "search", "a_search");
    let priced = crate::plan::price::PricedCall {
        tool: &tool,
        caller: &Caller::Anonymous,
        arguments: None,
        after: Some((1, &reply)),
    };
    assert_eq!(price.evaluate(&priced), Ok(31));
    let reply = Reply { is_error: true, ..reply.clone() };
    let priced = crate::plan::price::PricedCall { after: Some((1, &reply)), ..priced };
    assert_eq!(price.evaluate(&priced), Ok(0));
}

#[tokio::test]
async fn a_team_shares_its_bucket_and_no_other() {
    let harness = harness(policy(per_team(2, MissingValue::Refuse), vec![], Anonymous::Shared), None);
    let team = |subject, team| claimed(subject, &format!(r#"{{"team":{team}}}"#));
    call(&harness, "a_search", &team("ann", "\"red\"")).await.unwrap();
    call(&harness, "b_search", &team("bob", "\"red\"")).await.unwrap();
    let refusal = refused(call(&harness, "a_search", &team("cid", "\"red\"")).await);
    assert_eq!((&*refusal.rule, refusal.scope), ("perClaim[team]", LimitScope::Claim));
    call(&harness, "a_search", &team("ann", "\"blue\"")).await.unwrap();
    call(&harness, "a_search", &team("ann", "7")).await.unwrap();
    for nobody in [claimed("dan", "{}"), team("dan", "null"), team("dan", "[\"red\"]"), team("dan", "{}")] {
        assert!(matches!(call(&harness, "a_search", &nobody).await, Err(Error::IdentityRequired(_))));
    }
    let anonymous = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    assert!(matches!(call(&harness, "a_search", &anonymous).await, Err(Error::IdentityRequired(_))));
    harness.clock.advance(30_000_000);
    call(&harness, "a_search", &team("cid", "\"red\"")).await.unwrap();
}

#[tokio::test]
async fn callers_without_the_claim_may_share_one_bucket() {
    let harness = harness(policy(per_team(1, MissingValue::Shared), vec![], Anonymous::Shared), None);
    call(&harness, "a_search", &claimed("ann", "{}")).await.unwrap();
    refused(call(&harness, "a_search", &claimed("bob", r#"{"team":null}"#)).await);
    // An empty value is a value.
    call(&harness, "a_search", &claimed("bob", r#"{"team":""}"#)).await.unwrap();
}

#[tokio::test]
async fn a_limit_may_be_enforced_for_some() {
    let server = |percent| {
        let quota = Quota { percent: NonZeroU8::new(percent), ..quota(1, 3600).unwrap() };
        policy(Limits { per_user: Some(quota), ..Limits::default() }, vec![], Anonymous::Shared)
    };
    let mut before: Vec<String> = Vec::new();
    for percent in [10, 50] {
        let harness = harness(server(percent), None);
        let mut limited = Vec::new();
        for number in 0..400 {
            let user = format!("user-{number}");
            call(&harness, "a_search", &known("i", &user)).await.unwrap();
            if call(&harness, "a_search", &known("i", &user)).await.is_err() {
                limited.push(user);
            }
        }
        let expected = 4 * usize::from(percent);
        assert!(limited.len().abs_diff(expected) < 40, "{} of 400 at {percent} %", limited.len());
        assert!(before.iter().all(|user| limited.contains(user)), "whoever was in stays in");
        before = limited;
        let anonymous = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
        call(&harness, "a_search", &anonymous).await.unwrap();
        refused(call(&harness, "a_search", &anonymous).await);
    }
}

#[tokio::test]
async fn a_result_says_when_little_is_left() {
    let limits = Limits { shared: quota(10, 60), ..Limits::default() };
    let tight = rule("a_search", None, quota(5, 50));
    let harness = harness(policy(limits, vec![tight], Anonymous::Refuse), None);
    let mut told = Vec::new();
    for _time in 0..5 {
        let reply = call_with(&harness, "{}").await.unwrap();
        let meta = reply.members.get("_meta").map(|meta| meta.as_str().to_owned());
        told.push(meta);
        harness.clock.advance(1);
    }
    assert_eq!(&told[..4], [None, None, None, None], "a fifth is not less than a fifth");
    let left = r#"{"vmcp/limits":{"rule":"tools[a_search].perUser","scope":"user_tool","remaining":0,"capacity":5,"fullInMs":50000}}"#;
    assert_eq!(told[4].as_deref(), Some(left));
    refused(call_with(&harness, "{}").await.map(drop));
}

#[tokio::test]
async fn a_hint_has_no_say_in_what_a_call_cost() {
    // The backend sends no `_meta`, so each call settles at three; the hint that the gateway adds must not
    // change that.
    let harness = harness(priced(None, Some("has(result._meta) ? 0 : 3"), 10), None);
    for left in [7, 4, 1] {
        call_with(&harness, "{}").await.unwrap();
        assert_eq!(levels(&harness).await, [left; 3]);
    }
}

#[tokio::test]
async fn what_is_only_tried_out_refuses_nobody() {
    let shadow = |quota: Quota| Quota { mode: Mode::Shadow, ..quota };
    let claim = ValueQuota {
        source: ValueSource::Claim("team".into()),
        list_handling: ListHandling::default(),
        missing: MissingValue::Refuse,
        quota: shadow(quota(1, 60).unwrap()),
    };
    let cost =
        Cost { price: Some(Arc::new(Price::new_before_call("args.count").unwrap())), ..Cost::default() };
    let tried = ToolRule { cost, ..rule("a_search", quota(1, 60).map(shadow), None) };
    let server = Limits { per_value: vec![claim], ..Limits::default() };
    let harness = harness(policy(server, vec![tried], Anonymous::Refuse), None);
    for _time in 0..3 {
        call_with(&harness, "{}").await.unwrap();
    }
}

#[tokio::test]
async fn who_is_not_among_those_on_whom_it_is_tried_needs_no_claim() {
    let some = Quota { percent: NonZeroU8::new(50), ..quota(100, 60).unwrap() };
    let claim = ValueQuota {
        source: ValueSource::Claim("team".into()),
        list_handling: ListHandling::default(),
        missing: MissingValue::Refuse,
        quota: some,
    };
    let server = Limits { per_value: vec![claim], ..Limits::default() };
    let harness = harness(policy(server, vec![], Anonymous::Refuse), None);
    let mut denied = 0;
    for number in 0..200 {
        let outcome = call(&harness, "a_search", &known("i", &format!("user-{number}"))).await;
        denied += usize::from(matches!(outcome, Err(Error::IdentityRequired(_))));
    }
    assert!((70..130).contains(&denied), "{denied} of 200");
}

#[tokio::test]
async fn no_price_makes_a_plan_that_stays() {
    let harness = harness(priced(Some("args.count"), None, 1_000_000), None);
    let tools = harness.gateway.list_tools(&known("i", "s")).await.unwrap();
    let tool_plan = harness.limiter.tool_plan(&tools, &"a_search".into()).unwrap();
    let weak = Arc::downgrade(&tool_plan);
    for count in 2..500 {
        let arguments = Json::parse(format!(r#"{{"count":{count}}}"#)).unwrap();
        let varied =
            harness.limiter.plan_call(&tool_plan, &known("i", "s"), Some(&arguments), false).unwrap();
        assert_eq!(varied.plan.buckets[0].cost.get(), count);
    }
    assert_eq!(weak.upgrade().unwrap().variant_count(), 0);
}

#[tokio::test]
async fn what_is_too_large_to_look_at_has_no_price() {
    let harness = harness(priced(Some("size(args.text)"), None, 1_000_000), None);
    let text = "x".repeat(300 << 10);
    let outcome = call_with(&harness, &format!(r#"{{"text":"{text}"}}"#)).await;
    let Err(Error::InvalidRequest(text)) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("larger than 256 KiB"), "{text}");
}

/// A harness whose store is unavailable, as one replica of two.
fn unavailable_harness(cost: Cost) -> (Harness, Arc<FakeStore>) {
    let clock = Arc::new(ManualClock::default());
    let store = FakeStore::new(clock.clone());
    let on_failure = OnStoreFailure::Local;
    let sharing =
        Sharing { store: store.clone(), on_failure, replica_count: Some(2), slot_lease: SLOT_LEASE };
    let rule = ToolRule { cost, ..rule("a_search", quota(20, 20_000), None) };
    let mut bench = harness(policy(Limits::default(), vec![rule], Anonymous::Refuse), Some(sharing));
    bench.clock = clock;
    store.set_failure(Some(StoreFailure::Disconnected));
    (bench, store)
}

/// The reply does not wait until the store has the settlement.
#[tokio::test]
async fn a_settlement_is_under_way_when_its_call_has_ended() {
    let clock = Arc::new(ManualClock::default());
    let store = FakeStore::new(clock.clone());
    let sharing = Sharing {
        store: store.clone(),
        on_failure: OnStoreFailure::Deny,
        replica_count: None,
        slot_lease: SLOT_LEASE,
    };
    let harness = harness_with_clock(clock, priced(None, Some("4"), 10), Some(sharing));
    call_with(&harness, "{}").await.unwrap();
    // The task of the settlement has not run yet, because this thread runs all tasks.
    let mut settled = std::pin::pin!(harness.limiter.wait_settled(Duration::from_secs(5)));
    assert!(settled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(settled.await);
    assert_eq!(levels(&harness).await, [6, 6, 6]);
    // What the store does not accept is a debt, and written back later.
    store.failing_changes.store(1, Ordering::SeqCst);
    call_with(&harness, "{}").await.unwrap();
    assert!(harness.limiter.wait_settled(Duration::from_secs(5)).await);
    assert_eq!(levels(&harness).await, [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_settled_also_while_the_store_is_away() {
    for (first, settled, left) in [(1, "6", 14), (5, "0", 20), (5, "5", 15)] {
        let cost = Cost {
            settle: Some(Arc::new(Price::new_after_call(settled).unwrap())),
            ..Cost::from(NonZeroU32::new(first).unwrap())
        };
        let (harness, store) = unavailable_harness(cost);
        call_with(&harness, "{}").await.unwrap();
        // The share is ten; a second call has to fit into what the final cost of the first has left.
        let second = call_with(&harness, "{}").await;
        assert!(second.is_ok(), "{settled}: {second:?}");
        let third = call_with(&harness, "{}").await;
        assert_eq!(third.is_ok(), settled != "6" && settled != "5", "{settled}: {third:?}");
        store.set_failure(None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let calls = 2 + u64::from(third.is_ok());
        let spent = (20 - left) * calls;
        assert_eq!(levels(&harness).await, [20 - spent.min(20)], "{settled}: what it cost is written back");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nothing_is_reserved_and_nothing_owed() {
    let (harness, store) = unavailable_harness(Cost::default());
    let reserver = Reserver::new(harness.inner.clone(), harness.limiter.clone());
    let calls = vec![conformance::tool_call("a_search").into(); 10];
    let outcome = vmcp_domain::ReserveBudget::reserve(&reserver, &known("i", "s"), &calls).await;
    assert!(matches!(outcome, Err(Error::LimitsUnavailable)), "{outcome:?}");
    store.set_failure(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(levels(&harness).await, [20]);
}
