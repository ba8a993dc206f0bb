//! The cost of one decision, which must not grow with the number of policies about other items. Plain Cedar
//! over the same policies is measured for comparison.
//!
//! Run with `cargo bench -p vmcp-authz`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and fails by panicking"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use cedar_policy::{Authorizer, Context, Decision, Entities, Policy, PolicySet, Request};
use vmcp_authz::{AccessRequest, Authorized, AuthzPolicy, PolicySource};
use vmcp_domain::{CallContext, CallOrigin, Caller, Identity, ToolHints};
use vmcp_json::Json;
use vmcp_testkit::{FakeGateway, tool};

const ROUNDS: usize = 15;

fn caller(subject: &str) -> Caller {
    let claims =
        r#"{"role":"dev","groups":["eng","ops"],"email":"a@example.com","exp":1900000000,"scope":"a b c"}"#;
    Caller::Known(Arc::new(Identity {
        issuer: "https://issuer.example".to_owned(),
        subject: subject.to_owned(),
        claims: Json::parse(claims).unwrap().members().unwrap(),
    }))
}

fn policy(policies: Vec<String>) -> AuthzPolicy {
    let source = PolicySource { policies, server_name: "bench".to_owned(), ..PolicySource::default() };
    AuthzPolicy::build(&source).unwrap()
}

/// Nanoseconds for one call of `work`: the median of [`ROUNDS`] rounds of `count` calls each.
fn time(count: u32, mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..count).for_each(|_| work());
            begun.elapsed().as_nanos() as f64 / f64::from(count)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

const KINDS: [(&str, &str); 4] = [
    ("scope only", ""),
    ("claim", r#" when { principal.claim_role == "dev" }"#),
    ("group, argument", r#" when { principal in THVGroup::"eng" && context.arg_z == decimal("1.0") }"#),
    ("hint", " when { resource has readOnlyHint && resource.readOnlyHint }"),
];

/// The cost of one decision about one tool, with `others` policies about other tools: ours and plain Cedar's,
/// in nanoseconds.
fn time_with_others(condition: &str, others: usize) -> (f64, f64) {
    let one = |name: String| {
        format!(r#"permit(principal, action == Action::"call_tool", resource == Tool::"{name}"){condition};"#)
    };
    let texts: Vec<String> = std::iter::once(one("asked".to_owned()))
        .chain((0..others).map(|n| one(format!("other_{n}"))))
        .collect();
    let set = PolicySet::from_policies(
        texts
            .iter()
            .enumerate()
            .map(|(n, text)| Policy::parse(Some(n.to_string().parse().unwrap()), text).unwrap()),
    )
    .unwrap();
    let policy = policy(texts);
    let asker = policy.resolve_principal(&caller("alice"));
    let arguments = Json::parse(r#"{"z": 1.0,"a":[]}"#).unwrap();
    let hints = ToolHints { read_only: Some(true), ..ToolHints::default() };
    let ask = AccessRequest::CallTool {
        name: "asked",
        contested_name: None,
        backend: None,
        hints: Some(&hints),
        arguments: Some(&arguments),
    };
    let ours = time(2_000, || assert!(black_box(policy.decide_for(&asker, &ask)).allowed));

    let [principal, action, resource] =
        [r#"Client::"alice""#, r#"Action::"call_tool""#, r#"Tool::"asked""#].map(|uid| uid.parse().unwrap());
    let context =
        Context::from_json_str(r#"{"arg_z":{"__extn":{"fn":"decimal","arg":"1.0"}}}"#, None).unwrap();
    let request = Request::new(principal, action, resource, context, None).unwrap();
    let entities = Entities::from_json_str(
        r#"[{"uid":{"type":"Client","id":"alice"},"attrs":{"claim_role":"dev"},"parents":[{"type":"THVGroup","id":"eng"}]},
            {"uid":{"type":"Tool","id":"asked"},"attrs":{"readOnlyHint":true},"parents":[]}]"#,
        None,
    )
    .unwrap();
    let authorizer = Authorizer::new();
    let plain = time(if others > 1000 { 5 } else { 500 }, || {
        let response = authorizer.is_authorized(&request, &set, &entities);
        assert_eq!(black_box(response).decision(), Decision::Allow);
    });
    (ours, plain)
}

/// Prints the cost of filtering a long list: for a new caller, and again for the same caller.
fn lists() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tools: Vec<_> = (0..1_000).map(|n| tool("b", &format!("t{n}"), &format!("t{n}"))).collect();
    let texts: Vec<String> = (0..1_000)
        .map(|n| format!(r#"permit(principal, action == Action::"call_tool", resource == Tool::"t{n}") when {{ principal.claim_role == "dev" }};"#))
        .collect();
    let layer = Authorized::wrap(FakeGateway::new(tools), Arc::new(policy(texts)));
    let context = |number: u32| CallContext::bare(caller(&format!("user {number}")), CallOrigin::Client);
    let mut number = 0;
    let mut ctx = context(0);
    let mut list = |fresh: bool| {
        if fresh {
            number += 1;
            ctx = context(number);
        }
        runtime.block_on(async { assert_eq!(layer.list_tools(&ctx).await.unwrap().len(), 1_000) });
    };
    let fresh = time(5, || list(true));
    let again = time(2_000, || list(false));
    println!(
        "1,000 tools, 1,000 conditional policies: a new caller {:.2} ms, the same again {again:.0} ns",
        fresh / 1e6
    );
}

fn main() {
    for (name, condition) in KINDS {
        for count in [2, 100, 10_000] {
            let (ours, plain) = time_with_others(condition, count);
            println!(
                "{name:<16} {count:>6} policies about other tools: {ours:>8.0} ns   plain Cedar {plain:>12.0} ns"
            );
        }
    }
    let some = policy(vec![
        "permit(principal, action, resource) when { principal.claim_role == \"dev\" };".to_owned(),
    ]);
    let alice = caller("alice");
    println!(
        "recognising a caller: {:.0} ns",
        time(2_000, || drop(black_box(some.resolve_principal(&alice))))
    );
    lists();
}
