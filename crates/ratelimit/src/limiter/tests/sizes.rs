//! Limit sizes by caller, and claims that are lists or nested deep in a token.

use vmcp_json::Json;

use super::*;
use crate::plan::policy::{
    CallerSelector, LimitSize, ListHandling, MissingValue, Overflow, Override, Overrides, ValueQuota,
    ValueSource, Window,
};

fn windows(tokens: u64) -> Vec<Window> {
    quota(tokens, 3600).unwrap().windows
}

fn with(tokens: u64, overrides: Vec<(CallerSelector, LimitSize)>) -> Quota {
    let overrides = overrides.into_iter().map(|(selector, size)| Override { selector, size }).collect();
    Quota { overrides: Overrides::new(overrides), ..quota(tokens, 3600).unwrap() }
}

fn caller(subject: &str, claims: &str) -> CallContext {
    let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
    let identity = Identity { issuer: "i".into(), subject: subject.into(), claims };
    CallContext::bare(Caller::Known(Arc::new(identity)), CallOrigin::Client)
}

fn subject(name: &str, issuer: Option<&str>) -> CallerSelector {
    CallerSelector::Subject { subject: name.into(), issuer: issuer.map(Into::into) }
}

fn claim(name: &str, value: Option<&str>) -> CallerSelector {
    CallerSelector::Claim { claim: name.into(), value: value.map(Into::into) }
}

fn per_user(quota: Quota) -> Harness {
    let limits = Limits { per_user: Some(quota), ..Limits::default() };
    harness(policy(limits, vec![], Anonymous::Shared), None)
}

/// How many of sixty calls are admitted.
async fn count_admitted(harness: &Harness, ctx: &CallContext) -> usize {
    let mut count = 0;
    for _ in 0..60 {
        count += usize::from(call(harness, "a_search", ctx).await.is_ok());
    }
    count
}

#[tokio::test]
async fn the_override_that_names_a_caller_most_closely_counts() {
    let harness = per_user(with(
        5,
        vec![
            (CallerSelector::Others, LimitSize::Windows(windows(2))),
            (claim("plan", None), LimitSize::Windows(windows(3))),
            (claim("plan", Some("gold")), LimitSize::Windows(windows(4))),
            (claim("realm_access.roles", Some("admin")), LimitSize::Unlimited),
            (CallerSelector::Group("staff".into()), LimitSize::Windows(windows(6))),
            (subject("ada", None), LimitSize::Windows(windows(7))),
            (subject("ada", Some("j")), LimitSize::Windows(windows(8))),
            (subject("eve", Some("i")), LimitSize::Blocked),
        ],
    ));
    for (name, claims, expected) in [
        ("ada", r#"{"groups": ["staff"]}"#, 7),
        ("bob", r#"{"groups": ["staff"], "plan": "gold"}"#, 6),
        ("cy", r#"{"plan": "gold"}"#, 4),
        ("dan", r#"{"plan": "tin"}"#, 3),
        ("fay", r#"{"realm_access": {"roles": ["dev", "admin"]}}"#, 60),
        ("guy", "{}", 2),
        ("eve", r#"{"groups": ["staff"]}"#, 0),
    ] {
        assert_eq!(count_admitted(&harness, &caller(name, claims)).await, expected, "{name}");
    }
    assert_eq!(count_admitted(&harness, &CallContext::bare(Caller::Anonymous, CallOrigin::Client)).await, 2);
    let refusal = refused(call(&harness, "a_search", &caller("eve", "{}")).await);
    assert_eq!((&*refusal.rule, refusal.retry), ("perUser", Retry::Blocked));
}

#[tokio::test]
async fn what_is_spent_stays_spent_when_another_override_counts() {
    let harness = per_user(with(5, vec![(claim("plan", Some("gold")), LimitSize::Windows(windows(9)))]));
    let (plain, gold) = (caller("ada", "{}"), caller("ada", r#"{"plan": "gold"}"#));
    assert_eq!(count_admitted(&harness, &plain).await, 5);
    assert_eq!(count_admitted(&harness, &gold).await, 4, "nine less the five that are spent");
    assert_eq!(count_admitted(&harness, &plain).await, 0);
    let tools = harness.gateway.list_tools(&gold).await.unwrap();
    let views = harness.limiter.peek(&tools, &"a_search".into(), &gold).await.unwrap();
    assert_eq!((views[0].level, views[0].capacity), (0, 9));
    harness.clock.advance(3_600_000_000);
    assert_eq!(count_admitted(&harness, &gold).await, 9);
    assert_eq!(count_admitted(&harness, &plain).await, 0);
}

/// A reset by an operator also covers what was spent under another size.
#[tokio::test]
async fn a_reset_fills_a_bucket_in_whatever_size_it_was_spent_from() {
    let harness = per_user(with(5, vec![(claim("plan", Some("gold")), LimitSize::Windows(windows(9)))]));
    let (plain, gold) = (caller("ada", "{}"), caller("ada", r#"{"plan": "gold"}"#));
    assert_eq!(count_admitted(&harness, &plain).await, 5);
    let tools = harness.gateway.list_tools(&gold).await.unwrap();
    let views = harness
        .limiter
        .apply_action(&tools, &"a_search".into(), &gold, OperatorAction::Grant(2))
        .await
        .unwrap();
    assert_eq!((views[0].level, views[0].capacity), (6, 9), "nine less five, and two more");
    let views =
        harness.limiter.apply_action(&tools, &"a_search".into(), &gold, OperatorAction::Reset).await.unwrap();
    assert_eq!(views[0].level, 9);
    assert_eq!(count_admitted(&harness, &gold).await, 9);
}

/// A refused call changes no level: no size in between compensates for what was spent.
#[tokio::test]
async fn changing_between_sizes_hands_out_nothing() {
    let sizes = vec![
        (claim("plan", Some("gold")), LimitSize::Windows(windows(50))),
        (claim("plan", Some("off")), LimitSize::Blocked),
    ];
    let harness = per_user(with(5, sizes));
    let (plain, gold) = (caller("ada", "{}"), caller("ada", r#"{"plan": "gold"}"#));
    let off = caller("ada", r#"{"plan": "off"}"#);
    assert_eq!(count_admitted(&harness, &gold).await, 50);
    for _ in 0..3 {
        for ctx in [&plain, &off, &gold] {
            assert_eq!(count_admitted(&harness, ctx).await, 0);
            let tools = harness.gateway.list_tools(ctx).await.unwrap();
            let _ = harness.limiter.peek(&tools, &"a_search".into(), ctx).await.unwrap();
        }
    }
    harness.clock.advance(3_600_000_000);
    assert_eq!(count_admitted(&harness, &gold).await, 50);
}

#[tokio::test]
async fn an_override_on_trial_refuses_nobody() {
    let sizes = vec![
        (subject("eve", None), LimitSize::Blocked),
        (subject("ada", None), LimitSize::Windows(windows(1))),
    ];
    let harness = per_user(Quota { mode: Mode::Shadow, ..with(5, sizes) });
    for name in ["eve", "ada", "bob"] {
        assert_eq!(count_admitted(&harness, &caller(name, "{}")).await, 60, "{name}");
    }
}

fn per_value(name: &str, lists: ListHandling, quota: Quota) -> Limits {
    let limit = ValueQuota {
        source: ValueSource::Claim(name.into()),
        missing: MissingValue::Refuse,
        list_handling: lists,
        quota,
    };
    Limits { per_value: vec![limit], ..Limits::default() }
}

#[tokio::test]
async fn each_value_of_a_list_has_its_bucket() {
    let sizes = vec![(claim("teams", Some("red")), LimitSize::Windows(windows(3)))];
    let harness = harness(
        policy(per_value("teams", ListHandling::Each, with(5, sizes)), vec![], Anonymous::Refuse),
        None,
    );
    let both = caller("ada", r#"{"teams": ["red", "blue", "red"]}"#);
    assert_eq!(count_admitted(&harness, &both).await, 3, "red is the smaller one");
    assert_eq!(
        count_admitted(&harness, &caller("bob", r#"{"teams": "blue"}"#)).await,
        2,
        "each call has paid both"
    );
    assert_eq!(count_admitted(&harness, &caller("cy", r#"{"teams": ["red", "green"]}"#)).await, 0);
    assert_eq!(
        count_admitted(&harness, &caller("dan", r#"{"teams": ["green"]}"#)).await,
        5,
        "nothing was taken of green"
    );
    let many: Vec<String> = (0..17).map(|number| format!("\"t{number}\"")).collect();
    let too_many = caller("eve", &format!(r#"{{"teams": [{}]}}"#, many.join(",")));
    assert!(matches!(call(&harness, "a_search", &too_many).await, Err(Error::IdentityRequired(_))));
    assert!(matches!(
        call(&harness, "a_search", &caller("fay", r#"{"teams": []}"#)).await,
        Err(Error::IdentityRequired(_))
    ));
}

#[tokio::test]
async fn of_a_list_the_value_that_is_allowed_most_counts() {
    let sizes = vec![
        (claim("plans", Some("gold")), LimitSize::Windows(windows(9))),
        (claim("plans", Some("off")), LimitSize::Blocked),
    ];
    let limits = per_value("plans", ListHandling::Largest, with(2, sizes));
    let harness = harness(policy(limits, vec![], Anonymous::Refuse), None);
    assert_eq!(count_admitted(&harness, &caller("ada", r#"{"plans": ["off", "tin", "gold"]}"#)).await, 9);
    assert_eq!(
        count_admitted(&harness, &caller("bob", r#"{"plans": ["gold", "zinc"]}"#)).await,
        0,
        "gold is one bucket"
    );
    assert_eq!(count_admitted(&harness, &caller("cy", r#"{"plans": ["off", "tin"]}"#)).await, 2);
    assert_eq!(count_admitted(&harness, &caller("dan", r#"{"plans": ["off"]}"#)).await, 0);
}

/// When the table of values is full, several values of one call share the overflow bucket, and the call never
/// locks it twice.
#[tokio::test]
async fn values_beyond_the_bound_are_locked_in_one_order() {
    let limits = per_value("teams", ListHandling::Each, quota(100_000, 3600).unwrap());
    let memory = MemoryBounds { user_count_max: 3, overflow: Overflow::Share };
    let bench = Arc::new(harness(LimitPolicy { memory, ..policy(limits, vec![], Anonymous::Refuse) }, None));
    let calls = (0..4).map(|thread| {
        let bench = bench.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for number in 0..2000_usize {
                    let team =
                        |offset: usize| format!("\"t{}\"", (number * 7 + thread * 3 + offset * 5) % 11);
                    let teams: Vec<String> = (0..4).map(team).collect();
                    let ctx = caller("ada", &format!(r#"{{"teams": [{}]}}"#, teams.join(",")));
                    call(&bench, "a_search", &ctx).await.unwrap();
                }
            });
        })
    });
    for thread in calls.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}
