//! Rules in shadow mode change nothing: random limits with and without them, side by side.

use proptest::prelude::*;
use vmcp_domain::CallTool;
use vmcp_json::Json;

use super::*;
use crate::plan::policy::{Cost, ListHandling, MissingValue, Price, ValueQuota, ValueSource};

/// The costs of a rule.
#[derive(Clone, Debug)]
struct CostSpec {
    min: u32,
    price: Option<&'static str>,
    settle: Option<&'static str>,
}

/// A rule in a form that can be printed.
#[derive(Clone, Debug)]
struct RuleSpec {
    name: &'static str,
    shared: Option<u64>,
    per_user: Option<u64>,
    per_value: Option<u64>,
    in_flight: bool,
    costs: CostSpec,
}

fn cost_spec() -> impl Strategy<Value = CostSpec> {
    let price =
        prop_oneof![Just(None), Just(Some("args.n")), Just(Some("args.n * 3")), Just(Some("args.missing"))];
    let settle = prop_oneof![
        Just(None),
        Just(Some("args.s")),
        Just(Some("cost + args.s")),
        Just(Some("args.missing"))
    ];
    (1_u32..4, price, settle).prop_map(|(least, price, settle)| CostSpec { min: least, price, settle })
}

fn rule_spec() -> impl Strategy<Value = RuleSpec> {
    let name = prop_oneof![Just("a_search"), Just("*"), Just("*_search")];
    let tokens = || prop::option::of(1_u64..12);
    (name, tokens(), tokens(), tokens(), any::<bool>(), cost_spec()).prop_map(
        |(name, shared, per_user, per_value, in_flight, costs)| RuleSpec {
            name,
            shared,
            per_user,
            per_value,
            in_flight,
            costs,
        },
    )
}

/// Builds the rule, enforced or in shadow mode. An enforced rule never asks for a missing claim, which would
/// refuse every call.
fn build_rule(sketch: &RuleSpec, mode: Mode) -> ToolRule {
    let of = |tokens: Option<u64>| {
        tokens.and_then(|tokens| quota(tokens, 60)).map(|quota| Quota { mode, ..quota })
    };
    let per_value = of(sketch.per_value).map(|quota| ValueQuota {
        source: ValueSource::Claim("team".into()),
        list_handling: ListHandling::Each,
        missing: if mode == Mode::Shadow { MissingValue::Refuse } else { MissingValue::Shared },
        quota,
    });
    let concurrency = Concurrency {
        shared: NonZeroU32::new(1).filter(|_| sketch.in_flight && mode == Mode::Shadow),
        per_user: None,
        mode,
    };
    let there = |text: &&str| mode == Mode::Shadow || !text.contains("missing");
    let CostSpec { min: least, price, settle } = sketch.costs.clone();
    let cost = Cost {
        minimum: NonZeroU32::new(least).unwrap(),
        price: price.filter(there).map(|text| Arc::new(Price::new_before_call(text).unwrap())),
        settle: settle.filter(there).map(|text| Arc::new(Price::new_after_call(text).unwrap())),
        mode,
    };
    let limits = Limits { concurrency, per_value: per_value.into_iter().collect(), ..Limits::default() };
    let base = rule(sketch.name, of(sketch.shared), of(sketch.per_user));
    ToolRule {
        limits: Limits {
            shared: base.limits.shared.clone(),
            per_user: base.limits.per_user.clone(),
            ..limits
        },
        cost,
        ..base
    }
}

/// What callers see of a call, and the levels of the enforced buckets afterwards.
async fn outcome(harness: &Harness, subject: &str, (tool, arguments): (&str, &str)) -> String {
    let ctx = known("i", subject);
    let arguments = Some(Json::parse(arguments.to_owned()).unwrap());
    let call = CallTool { arguments, ..conformance::tool_call(tool) };
    let said = match harness.gateway.call_tool(&ctx, call).await {
        Ok(_) => "passed".to_owned(),
        Err(Error::RateLimited(refusal)) => format!("{} {:?}", refusal.rule, refusal.retry),
        Err(error) => error.class().to_owned(),
    };
    let tools = harness.gateway.list_tools(&ctx).await.unwrap();
    let views = harness.limiter.peek(&tools, &tool.into(), &ctx).await.unwrap();
    let in_force = views.iter().filter(|view| view.mode == Mode::Enforce);
    let levels: Vec<String> =
        in_force.map(|view| format!("{} {} {:?}", view.rule, view.level, view.wait)).collect();
    format!("{said}; {}", levels.join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_on_trial_changes_nothing(
        server in (prop::option::of(1_u64..12), prop::option::of(1_u64..12)),
        in_force in prop::collection::vec(rule_spec(), 0..3),
        trials in prop::collection::vec((rule_spec(), 0_usize..4), 1..4),
        calls in prop::collection::vec((0_usize..3, any::<bool>(), 0_u32..5, 0_u32..5, 0_u64..30_000_000), 1..40),
    ) {
        let limits = |with_trials: bool| {
            let of = |tokens: Option<u64>| tokens.and_then(|tokens| quota(tokens, 60));
            let server = Limits { shared: of(server.0), per_user: of(server.1), ..Limits::default() };
            let mut rules: Vec<ToolRule> = in_force.iter().map(|sketch| build_rule(sketch, Mode::Enforce)).collect();
            if with_trials {
                for (sketch, place) in &trials {
                    rules.insert((*place).min(rules.len()), build_rule(sketch, Mode::Shadow));
                }
            }
            policy(server, rules, Anonymous::Refuse)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (without, with) = (harness(limits(false), None), harness(limits(true), None));
            for (who, other_tool, n, s, elapsed) in &calls {
                let subject = ["ada", "bob", "cy"][*who];
                let tool = if *other_tool { "b_search" } else { "a_search" };
                let arguments = format!(r#"{{"n":{n},"s":{s}}}"#);
                for bench in [&without, &with] {
                    bench.clock.advance(*elapsed);
                }
                let expected = outcome(&without, subject, (tool, &arguments)).await;
                let found = outcome(&with, subject, (tool, &arguments)).await;
                prop_assert_eq!(found, expected);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn users_known_to_rules_on_trial_alone_take_no_places() {
    let tried = quota(5, 60).map(|quota| Quota { mode: Mode::Shadow, ..quota });
    let rules = vec![rule("a_search", None, quota(1, 60)), rule("*", None, tried)];
    let memory = MemoryBounds { user_count_max: 1, overflow: crate::plan::policy::Overflow::Refuse };
    let harness =
        harness(LimitPolicy { memory, ..policy(Limits::default(), rules, Anonymous::Refuse) }, None);
    for subject in ["bob", "cy", "dan"] {
        call(&harness, "b_search", &known("i", subject)).await.unwrap();
    }
    call(&harness, "a_search", &known("i", "ada")).await.unwrap();
    assert!(
        matches!(call(&harness, "a_search", &known("i", "bob")).await, Err(Error::Overloaded)),
        "ada has the place"
    );
    // Rules in shadow mode do not refuse because the user table is full.
    call(&harness, "b_search", &known("i", "bob")).await.unwrap();
}
