//! Limits by arguments and headers of a call, and reserved parts of a bucket.

use vmcp_json::Json;

use super::*;
use crate::plan::policy::{
    CallPart, CallValue, CallerSelector, LimitSize, ListHandling, MissingValue, Override, Overrides,
    ValueQuota, ValueSource,
};

fn caller(subject: &str, claims: &str) -> CallContext {
    let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
    let identity = Identity { issuer: "i".into(), subject: subject.into(), claims };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

fn anonymous() -> CallContext {
    CallContext::bare(Caller::Anonymous, CallOrigin::Client)
}

fn argument(listed: Option<&[&str]>) -> CallValue {
    let listed = listed.map(|listed| listed.iter().map(|text| Arc::from(*text)).collect());
    CallValue { part: CallPart::Argument("repo".into()), listed, ignore_case: false }
}

fn limits(value: CallValue, quota: Quota) -> Limits {
    let of = ValueSource::Call(value);
    let limit =
        ValueQuota { source: of, missing: MissingValue::Shared, list_handling: ListHandling::Missing, quota };
    Limits { per_value: vec![limit], ..Limits::default() }
}

fn by(value: CallValue, tokens: u64) -> Limits {
    limits(value, quota(tokens, 3600).unwrap())
}

async fn call_with(harness: &Harness, ctx: &CallContext, arguments: &str) -> Result<(), Error> {
    let mut request = conformance::tool_call("a_search");
    request.arguments = Some(Json::parse(arguments.to_owned()).unwrap());
    harness.gateway.call_tool(ctx, request).await.map(|_| ())
}

/// How many of twenty calls are admitted.
async fn count_admitted(harness: &Harness, ctx: &CallContext, repo: &str) -> usize {
    let mut count = 0;
    for _ in 0..20 {
        count += usize::from(call_with(harness, ctx, &format!(r#"{{"repo": {repo}}}"#)).await.is_ok());
    }
    count
}

#[tokio::test]
async fn each_caller_has_a_bucket_for_each_value() {
    let harness = harness(policy(by(argument(None), 3), vec![], Anonymous::Refuse), None);
    let (ada, bob) = (caller("ada", "{}"), caller("bob", "{}"));
    assert_eq!(count_admitted(&harness, &ada, r#""x""#).await, 3);
    assert_eq!(count_admitted(&harness, &ada, r#""y""#).await, 3, "another value");
    assert_eq!(count_admitted(&harness, &bob, r#""x""#).await, 3, "another caller");
    assert_eq!(count_admitted(&harness, &ada, "7").await, 3);
    assert_eq!(count_admitted(&harness, &ada, "7.0").await, 0, "the same number");
    assert_eq!(count_admitted(&harness, &ada, "null").await, 3);
    for none in ["[]", "{}", r#"{"a": 1}"#] {
        assert_eq!(count_admitted(&harness, &ada, none).await, 0, "no value is one bucket: {none}");
    }
    let refusal = refused(call_with(&harness, &ada, r#"{"repo": "x"}"#).await);
    assert_eq!((&*refusal.rule, refusal.scope), ("perValue[argument repo]", LimitScope::Value));
    assert!(matches!(
        call_with(&harness, &anonymous(), r#"{"repo": "x"}"#).await,
        Err(Error::IdentityRequired(_))
    ));
}

/// A caller without a verified identity creates no buckets.
#[tokio::test]
async fn a_caller_without_identity_has_one_bucket_for_all_values() {
    let harness = harness(policy(by(argument(None), 3), vec![], Anonymous::Shared), None);
    assert_eq!(count_admitted(&harness, &anonymous(), r#""x""#).await, 3);
    assert_eq!(count_admitted(&harness, &anonymous(), r#""y""#).await, 0);
}

#[tokio::test]
async fn listed_values_count_for_all_callers_and_the_others_share_one() {
    let value = CallValue { ignore_case: true, ..argument(Some(&["x", "y"])) };
    let harness = harness(policy(by(value, 3), vec![], Anonymous::Refuse), None);
    assert_eq!(count_admitted(&harness, &caller("ada", "{}"), r#""x""#).await, 3);
    assert_eq!(count_admitted(&harness, &caller("bob", "{}"), r#""X""#).await, 0);
    assert_eq!(count_admitted(&harness, &anonymous(), r#""y""#).await, 3, "no identity is needed");
    assert_eq!(count_admitted(&harness, &anonymous(), r#""z""#).await, 3);
    assert_eq!(count_admitted(&harness, &anonymous(), r#""made up""#).await, 0);
}

#[tokio::test]
async fn some_values_have_other_sizes() {
    let selector = CallerSelector::Claim { claim: "repo".into(), value: Some("x".into()) };
    let overrides = Overrides::new(vec![Override { selector, size: LimitSize::Unlimited }]);
    let quota = Quota { overrides, ..quota(3, 3600).unwrap() };
    let harness = harness(policy(limits(argument(None), quota), vec![], Anonymous::Refuse), None);
    let ada = caller("ada", "{}");
    assert_eq!(
        (count_admitted(&harness, &ada, r#""x""#).await, count_admitted(&harness, &ada, r#""y""#).await),
        (20, 3)
    );
}

#[tokio::test]
async fn what_the_backend_may_read_otherwise_is_refused() {
    let harness = harness(policy(by(argument(None), 3), vec![], Anonymous::Refuse), None);
    for arguments in [r#"{"repo": "x", "repo": "y"}"#, r#"{"REPO": "x"}"#] {
        let outcome = call_with(&harness, &caller("ada", "{}"), arguments).await;
        assert!(matches!(outcome, Err(Error::InvalidRequest(_))), "{arguments}: {outcome:?}");
    }
}

#[tokio::test]
async fn on_trial_nothing_is_refused() {
    let quota = Quota { mode: Mode::Shadow, ..quota(3, 3600).unwrap() };
    let harness = harness(policy(limits(argument(None), quota), vec![], Anonymous::Refuse), None);
    for ctx in [caller("ada", "{}"), anonymous()] {
        assert_eq!(count_admitted(&harness, &ctx, r#""x""#).await, 20);
        call_with(&harness, &ctx, r#"{"repo": "x", "repo": "y"}"#).await.unwrap();
    }
}

/// Where the arguments of a call are unknown, limits by argument are left out.
#[tokio::test]
async fn what_no_call_has_said_is_not_shown() {
    let server = Limits { shared: quota(9, 60), ..by(argument(None), 3) };
    let harness = harness(policy(server, vec![], Anonymous::Refuse), None);
    let ada = caller("ada", "{}");
    let tools = harness.gateway.list_tools(&ada).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), &ada).await.unwrap();
    assert_eq!(views.iter().map(|view| &*view.rule).collect::<Vec<_>>(), ["shared"]);
}

fn reserved(all: u64, others: u64) -> Limits {
    let exempt = Override { selector: CallerSelector::Group("oncall".into()), size: LimitSize::Unlimited };
    let unreserved = Quota { overrides: Overrides::new(vec![exempt]), ..quota(others, 3600).unwrap() };
    Limits { shared: quota(all, 3600), unreserved: Some(unreserved), ..Limits::default() }
}

#[tokio::test]
async fn what_is_reserved_is_left_for_those_it_is_for() {
    let harness = harness(policy(reserved(10, 8), vec![], Anonymous::Refuse), None);
    let (other, oncall) = (caller("ada", "{}"), caller("bob", r#"{"groups": ["oncall"]}"#));
    assert_eq!(count_admitted(&harness, &other, "1").await, 8);
    let refusal = refused(call_with(&harness, &other, "{}").await);
    assert_eq!((&*refusal.rule, refusal.scope), ("shared.unreserved", LimitScope::Server));
    assert_eq!(count_admitted(&harness, &oncall, "1").await, 2);
    let refusal = refused(call_with(&harness, &oncall, "{}").await);
    assert_eq!(&*refusal.rule, "shared");
}

#[tokio::test]
async fn those_for_whom_a_part_is_reserved_may_use_all() {
    let harness = harness(policy(reserved(10, 8), vec![], Anonymous::Refuse), None);
    assert_eq!(count_admitted(&harness, &caller("bob", r#"{"groups": ["oncall"]}"#), "1").await, 10);
    assert_eq!(count_admitted(&harness, &caller("ada", "{}"), "1").await, 0);
}

/// Calls that wait for the unreserved part of a bucket do not hold up the callers of the reserved part.
#[tokio::test(start_paused = true)]
async fn a_queue_of_others_does_not_hold_up_those_a_part_is_reserved_for() {
    let limits = Limits { wait_max: Duration::from_secs(3600), ..reserved(10, 8) };
    let bench = Arc::new(harness(policy(limits, vec![], Anonymous::Refuse), None));
    let (other, oncall) = (caller("ada", "{}"), caller("bob", r#"{"groups": ["oncall"]}"#));
    for _ in 0..8 {
        call_with(&bench, &other, "{}").await.unwrap();
    }
    let waiting = {
        let (bench, other) = (bench.clone(), other.clone());
        tokio::spawn(async move { call_with(&bench, &other, "{}").await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "it waits");
    for _ in 0..2 {
        let call = tokio::time::timeout(Duration::from_millis(100), call_with(&bench, &oncall, "{}"));
        call.await.expect("held up by the others").unwrap();
    }
    waiting.abort();
}
