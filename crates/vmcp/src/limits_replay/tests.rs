use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;
use vmcp_domain::{CallContext, CallOrigin, Caller, Error};
use vmcp_ratelimit::ReplayDecision;
use vmcp_ratelimit::policy::{Anonymous, Concurrency, LimitPolicy, Limits, Mode, ToolRule};

use crate::audit_decisions::tests::{AuditedStack, full_settings, known, policy, quota, rule};
use crate::limits_replay::recorded_calls::{RecordedCalls, SkipReason};
use crate::limits_replay::simulation::{SimulationResult, simulate};

/// A random number generator with the same sequence in every run.
struct TestRng(u64);

impl TestRng {
    fn below(&mut self, sides: u64) -> u64 {
        // One step of splitmix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Random limits that overlap.
fn limits(dice: &mut TestRng) -> LimitPolicy {
    let mut some = |tokens: u64| {
        let quota = quota(1 + dice.below(tokens), 1 + dice.below(20));
        quota.filter(|_| dice.below(3) > 0)
    };
    let server = Limits { shared: some(40), per_user: some(10), ..Limits::default() };
    let mut tools = vec![rule("a_search", some(8), some(4)), rule("*search", some(20), some(6))];
    tools[1].group = dice.below(2) > 0;
    tools[1].cost = NonZeroU32::new(1 + dice.below(3) as u32).unwrap().into();
    if let Some(quota) = tools[0].limits.per_user.as_mut().filter(|_| dice.below(2) > 0) {
        quota.mode = Mode::Shadow;
    }
    let anonymous = [Anonymous::Shared, Anonymous::Address, Anonymous::Refuse][dice.below(3) as usize];
    policy(server, tools, anonymous)
}

fn callers() -> Vec<CallContext> {
    let nobody = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    let from = |address: &str| CallContext { peer_address: Some(address.parse().unwrap()), ..nobody.clone() };
    vec![
        known("i", "a\"b"),
        known("i", "b"),
        known("j", "b"),
        known("k", "127.0.0.1"),
        from("127.0.0.1"),
        from("::1"),
        nobody.clone(),
    ]
}

/// Compares the limiter's own decisions with the decisions of a replay of their records.
#[tokio::test]
async fn verdicts_of_a_random_log_are_the_engines_own() {
    let (mut seen_refused, mut seen_refunds) = (0, 0);
    for seed in 0..60 {
        let mut dice = TestRng(seed);
        let policy = limits(&mut dice);
        let harness = AuditedStack::new(full_settings(), Some(policy.clone()));
        let callers = callers();
        let mut expected = Vec::new();
        for _ in 0..400 {
            // No two calls have the same time, because their order would then be undefined.
            harness.clock.advance(1 + dice.below(200_000) * dice.below(2));
            let ctx = &callers[dice.below(callers.len() as u64) as usize];
            let name = ["a_search", "b_search"][dice.below(2) as usize];
            let fail = ["away", "broken", "no", "no", "no"][dice.below(5) as usize];
            let outcome = harness.call(ctx, name, json!({"us": dice.below(50_000), "fail": fail})).await;
            seen_refunds += usize::from(matches!(outcome, Err(Error::BackendUnavailable { .. })));
            expected.push(match outcome {
                Err(Error::RateLimited(limit)) => format!("{} {:?}", limit.rule, limit.retry),
                Err(Error::IdentityRequired(_)) => "unnamed".to_owned(),
                _ => "admitted".to_owned(),
            });
        }
        let recorded = RecordedCalls::read(&*harness.written()).unwrap();
        assert!(recorded.skipped.is_empty(), "{:?}", recorded.skipped);
        let mut found = Vec::new();
        let judged = simulate(&recorded, policy, |_, ruling| {
            found.push(match ruling {
                ReplayDecision::Unlimited | ReplayDecision::Admitted { .. } => "admitted".to_owned(),
                ReplayDecision::Refused { rule, scope: _, retry } => format!("{rule} {retry:?}"),
                ReplayDecision::Unidentified => "unnamed".to_owned(),
                ReplayDecision::UserTableFull => panic!("there is room"),
            });
        });
        let differ = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        let told = differ.map(|at| (&found[at], &expected[at], recorded.calls[at]));
        assert!(told.is_none() && found.len() == expected.len(), "seed {seed}: {told:?}");
        assert_eq!((judged.newly_refused, judged.newly_admitted), (0, 0), "seed {seed}");
        seen_refused += judged.total.refused;
    }
    assert!(seen_refused > 1000 && seen_refunds > 200, "{seen_refused} {seen_refunds}");
}

fn record_line(at: u64, tool: &str, user: &str, more: &str) -> String {
    format!(
        r#"{{"type":"mcp_tool_call","subjects":{{"user_id":"{user}"}},"target":{{"name":"{tool}"}},"metadata":{{"extra":{{"time_us":{at},"backend_name":"b"{more}}}}}}}"#
    ) + "\n"
}

fn simulate_text(text: &str, policy: LimitPolicy) -> (RecordedCalls, SimulationResult) {
    let recorded = RecordedCalls::read(text.as_bytes()).unwrap();
    let judged = simulate(&recorded, policy, |_, _| {});
    (recorded, judged)
}

fn policy_with(rule: ToolRule) -> LimitPolicy {
    policy(Limits::default(), vec![rule], Anonymous::Refuse)
}

#[test]
fn calls_are_taken_in_the_order_of_time() {
    let late = record_line(61_000_000, "t", "u", "");
    let text = late + &record_line(2_000_000, "t", "u", "") + &record_line(1_000_000, "t", "u", "");
    let (_, judged) = simulate_text(&text, policy_with(rule("t", quota(1, 60), None)));
    assert_eq!((judged.total.calls, judged.total.refused), (3, 1));
    assert_eq!(judged.by_rule.get("tools[t].shared"), Some(&1));
}

/// Two calls raced within a microsecond, and the record of the refused call is written first.
#[test]
fn at_the_same_moment_the_admitted_came_first() {
    let refused = r#","rate_limit":{"decision":"refused"}"#;
    let text = record_line(5, "t", "u", refused) + &record_line(5, "t", "v", "");
    let (_, judged) = simulate_text(&text, policy_with(rule("t", quota(1, 60), None)));
    assert_eq!((judged.total.refused, judged.newly_refused, judged.newly_admitted), (1, 0, 0));
}

#[test]
fn calls_in_flight_last_as_long_as_recorded() {
    let concurrency = Concurrency { shared: NonZeroU32::new(1), per_user: None, mode: Mode::Enforce };
    let mut busy = rule("t", None, None);
    busy.limits = Limits { concurrency, ..Limits::default() };
    let lasting = r#","duration_us":1000"#;
    let text = record_line(1000, "t", "u", lasting)
        + &record_line(1999, "t", "v", lasting)
        + &record_line(2000, "t", "v", lasting);
    let (_, judged) = simulate_text(&text, policy_with(busy));
    assert_eq!((judged.total.refused, judged.newly_refused), (1, 1));
}

#[test]
fn what_is_no_call_is_passed_over_with_its_reason() {
    let text = [
        r#"{"type":"mcp_tools_list","metadata":{"extra":{"time_us":1}}}"#,
        "not json",
        "",
        r#"{"type":"mcp_tool_call","target":{"name":"t"},"metadata":{"extra":{"backend_name":"b"}}}"#,
        r#"{"type":"mcp_tool_call","metadata":{"extra":{"time_us":1}}}"#,
        r#"{"type":"mcp_tool_call","target":{"name":"find_tool"},"metadata":{"extra":{"time_us":1}}}"#,
        r#"{"type":"mcp_tool_call","outcome":"denied","target":{"name":"t"},"metadata":{"extra":{"time_us":1}}}"#,
        r#"{"type":"vmcp_audit_lost","metadata":{"extra":{"count":7}}}"#,
        r#"[1]"#,
        // A record as ToolHive writes it: without a time in microseconds, without an issuer, and with the
        // logger's members.
        r#"{"level":"INFO","audit_id":"x","type":"mcp_tool_call","logged_at":"2026-01-02T03:04:05.123456789Z","outcome":"success","subjects":{"user":"Al","user_id":"al"},"target":{"endpoint":"/mcp","method":"tools/call","name":"t","type":"tool"},"metadata":{"extra":{"duration_ms":3}}}"#,
    ]
    .join("\n");
    let (recorded, judged) = simulate_text(&text, policy_with(rule("x*", quota(1, 60), None)));
    let skipped: Vec<(SkipReason, u64, u64)> =
        recorded.skipped.iter().map(|skipped| (skipped.reason, skipped.count, skipped.first_line)).collect();
    let expected = [
        (SkipReason::NotJson, 2, 2),
        (SkipReason::NoTime, 1, 4),
        (SkipReason::NoTool, 1, 5),
        (SkipReason::OtherRequest, 1, 1),
        (SkipReason::VirtualTool, 1, 6),
        (SkipReason::NeverCharged, 1, 7),
    ];
    assert_eq!(skipped, expected);
    assert_eq!((judged.total.calls, recorded.lost_count, recorded.calls[0].duration_us), (1, 7, 3000));
    assert_eq!(judged.unmatched_rules, ["x*"]);
}

#[test]
fn the_report_names_what_matters() {
    let text = (0..5)
        .map(|at| record_line(at, "t\u{1b}[2J", "eve", ""))
        .collect::<String>()
        .replace('\u{1b}', "\\u001b");
    let text = text + &record_line(6, "other", "bob", "") + "{}\n";
    let mut waiting = rule("t*", None, quota(2, 60));
    waiting.limits.wait_max = Duration::from_secs(30);
    let policy = policy_with(waiting);
    let notes = super::limitations(&policy, &[]);
    let recorded = RecordedCalls::read(text.as_bytes()).unwrap();
    let judged = simulate(&recorded, policy, |_, _| {});
    expect_test::expect![[r#"
        6 calls of 2 tools by 2 users, from 1970-01-01T00:00:00.000000Z to 1970-01-01T00:00:00.000006Z
        refused by these limits: 3 (50.00 %); refused in the record: 0
        newly refused: 3; newly admitted: 0
        of the refused, 3 would wait first

        refused by rule
                   3  tools[t*].perUser

        refused by tool, of all calls
                   3  of 5           t\u{1b}[2J

        refused by user, of all calls
                   3  of 5           eve (unknown)

        skipped 1 lines: no JSON object of an audit record; the first is line 7
        note: calls do not wait here: a call that `maxWait` would delay counts as refused
    "#]]
    .assert_eq(&super::to_text(&recorded, &judged, &notes));
    let json: serde_json::Value = serde_json::from_str(&super::to_json(&recorded, &judged, &notes)).unwrap();
    assert_eq!(json["users"][0], json!({"user": "eve (unknown)", "calls": 5, "refused": 3}));
    assert_eq!((&json["refused"], &json["wouldWait"]), (&json!(3), &json!(3)));
}
