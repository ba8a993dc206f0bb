//! The index and the data omitted from a request do not change a decision. Decisions agree with plain Cedar
//! over all policies, with all claims, arguments and entities.

use std::collections::BTreeSet;
use std::str::FromStr;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, EntityUid, Policy, PolicySet, Request,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vmcp_authz::{AccessRequest, AuthzPolicy, PolicySource};
use vmcp_domain::ToolHints;
use vmcp_json::Json;

use crate::{build, caller, source};

const ENTITIES: &str = r#"[
    {"uid":{"type":"THVGroup","id":"eng"},"parents":[{"type":"Org","id":"o"}],"attrs":{"lead":{"__entity":{"type":"Client","id":"a"}}}},
    {"uid":{"type":"Org","id":"o"},"parents":[],"attrs":{"open":true,"near":{"__entity":{"type":"THVGroup","id":"eng"}}}},
    {"uid":{"type":"Tool","id":"t1"},"parents":[{"type":"Kit","id":"k"}],"attrs":{"owner":"a","kit":{"__entity":{"type":"Kit","id":"k"}}}},
    {"uid":{"type":"Tool","id":"t2"},"parents":[{"type":"Tool","id":"t1"}],"attrs":{}},
    {"uid":{"type":"Kit","id":"k"},"parents":[{"type":"Kit","id":"kk"}],"attrs":{"grade":"safe"}},
    {"uid":{"type":"Client","id":"b"},"parents":[{"type":"Org","id":"o"}],"attrs":{"home":{"__entity":{"type":"Org","id":"o"}}}},
    {"uid":{"type":"MCP","id":"gate"},"parents":[{"type":"Fleet","id":"f"}],"attrs":{}},
    {"uid":{"type":"Action","id":"call_tool"},"parents":[{"type":"Action","id":"use"}],"attrs":{}}]"#;

const PRINCIPALS: &[&str] = &[
    "principal",
    "principal",
    "principal == Client::\"a\"",
    "principal == Client::\"b\"",
    "principal == User::\"a\"",
    "principal in THVGroup::\"eng\"",
    "principal in THVGroup::\"ops\"",
    "principal in Org::\"o\"",
    "principal in Client::\"a\"",
    "principal is Client",
    "principal is User",
    "principal is Client in Org::\"o\"",
];
const ACTIONS: &[&str] = &[
    "action",
    "action",
    "action == Action::\"call_tool\"",
    "action in Action::\"use\"",
    "action == Action::\"use\"",
    "action in [Action::\"get_prompt\", Action::\"read_resource\"]",
    "action == Action::\"tools/call\"",
    "action in Action::\"call_tool\"",
];
const RESOURCES: &[&str] = &[
    "resource",
    "resource",
    "resource == Tool::\"t1\"",
    "resource == Tool::\"t2\"",
    "resource == Prompt::\"t1\"",
    "resource in Tool::\"t1\"",
    "resource in Kit::\"k\"",
    "resource in Kit::\"kk\"",
    "resource in MCP::\"gate\"",
    "resource in MCP::\"other\"",
    "resource in Fleet::\"f\"",
    "resource is Tool",
    "resource is Prompt in Fleet::\"f\"",
    "resource is Tool in Kit::\"k\"",
    "resource == Resource::\"t1\"",
];
const CONDITIONS: &[&str] = &[
    "",
    "",
    "",
    "when { principal.claim_role == \"dev\" }",
    "when { context has claim_role && context.claim_role == \"dev\" }",
    "when { principal in Org::\"o\" }",
    "when { principal in [THVGroup::\"ops\", Kit::\"k\"] }",
    "when { resource has owner && resource.owner == principal.claim_sub }",
    "when { resource has kit && resource.kit.grade == \"safe\" }",
    "when { principal has home && principal.home.open }",
    "when { principal has home && principal in principal.home.near }",
    "when { Org::\"o\".open }",
    "when { THVGroup::\"eng\" in Org::\"o\" }",
    "when { THVGroup::\"eng\".lead == principal }",
    "when { THVGroup::\"eng\".lead.claim_role == \"dev\" }",
    "when { principal in Org::\"o\".near }",
    "when { context has arg_x && context.arg_x == \"1\" }",
    "when { resource.arg_x == \"1\" }",
    "when { context.arg_y_present }",
    "when { context.arg_n.lessThan(decimal(\"3.0\")) }",
    "when { context == {\"claim_sub\": \"a\", \"claim_iss\": \"https://issuer.example\"} }",
    "unless { resource has readOnlyHint && resource.readOnlyHint }",
    "when { resource.name == \"t1\" && resource.operation == \"call\" }",
    "when { action.operation == \"get_prompt\" }",
    "when { action in Action::\"use\" }",
    "when { resource in Fleet::\"f\" && resource in MCP::\"gate\" }",
    "when { resource in principal }",
    "when { principal.missing }",
];

/// One generated request.
#[derive(Clone, Debug)]
struct Case {
    subject: &'static str,
    claims: Vec<(&'static str, Value)>,
    kind: usize,
    name: &'static str,
    read_only: Option<bool>,
    arguments: Option<Vec<(&'static str, Value)>>,
}

fn policy_text() -> impl Strategy<Value = String> {
    let pick = |from: &'static [&'static str]| proptest::sample::select(from);
    (any::<bool>(), pick(PRINCIPALS), pick(ACTIONS), pick(RESOURCES), pick(CONDITIONS)).prop_map(
        |(permits, principal, action, resource, condition)| {
            let effect = if permits { "permit" } else { "forbid" };
            format!("{effect}({principal}, {action}, {resource}) {condition};")
        },
    )
}

fn some_of(all: Vec<(&'static str, Value)>) -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let count = all.len();
    proptest::sample::subsequence(all, 0..=count)
}

fn case() -> impl Strategy<Value = Case> {
    let claims =
        some_of(vec![("role", json!("dev")), ("groups", json!(["eng", "x"])), ("other", json!({"a": 1}))]);
    let arguments = some_of(vec![("x", json!("1")), ("y", json!([1])), ("n", json!(2)), ("big", json!("z"))]);
    (
        proptest::sample::select(vec!["a", "b", "c"]),
        claims,
        0..3_usize,
        proptest::sample::select(vec!["t1", "t2", "t3"]),
        any::<Option<bool>>(),
        proptest::option::of(arguments),
    )
        .prop_map(|(subject, claims, kind, name, read_only, arguments)| Case {
            subject,
            claims,
            kind,
            name,
            read_only,
            arguments,
        })
}

fn object(members: &[(&str, Value)]) -> Map<String, Value> {
    members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Replaces every number by Cedar's JSON form of a decimal. The cases contain small whole numbers only.
fn decimals(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!({"__extn": {"fn": "decimal", "arg": format!("{number}.0")}}),
        Value::Array(elements) => elements.iter().map(decimals).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (key.clone(), decimals(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// Decides the whole request from its description, with none of the crate's code.
fn decide_with_cedar(set: &PolicySet, case: &Case) -> Outcome {
    let (kind, action, operation, feature) = [
        ("Tool", "call_tool", "call", "tool"),
        ("Prompt", "get_prompt", "get", "prompt"),
        ("Resource", "read_resource", "read", "resource"),
    ][case.kind];
    let mut claims: Map<String, Value> =
        case.claims.iter().map(|(name, value)| (format!("claim_{name}"), decimals(value))).collect();
    claims.insert("claim_sub".to_owned(), json!(case.subject));
    claims.insert("claim_iss".to_owned(), json!("https://issuer.example"));
    let mut arguments = Map::new();
    for (name, value) in case.arguments.iter().flatten().filter(|_| case.kind == 0) {
        if value.is_array() {
            arguments.insert(format!("arg_{name}_present"), json!(true));
        } else {
            arguments.insert(format!("arg_{name}"), decimals(value));
        }
    }
    let mut item = arguments.clone();
    item.extend(object(&[
        ("name", json!(case.name)),
        ("operation", json!(operation)),
        ("feature", json!(feature)),
    ]));
    if case.kind == 2 {
        item.insert("uri".to_owned(), json!(case.name));
    }
    if let Some(read_only) = case.read_only.filter(|_| case.kind == 0) {
        item.insert("readOnlyHint".to_owned(), json!(read_only));
    }
    let groups = case.claims.iter().find(|(name, _)| *name == "groups").map(|_| ["eng", "x"]);
    let groups: Vec<Value> =
        groups.iter().flatten().map(|id| json!({"type": "THVGroup", "id": id})).collect();
    let mut context = claims.clone();
    context.extend(arguments);

    let mut entities: Vec<Value> = serde_json::from_str(ENTITIES).unwrap();
    let mut lay_over = |kind: &str, id: &str, attrs: Map<String, Value>, parents: Vec<Value>| {
        let uid = json!({"type": kind, "id": id});
        let index = entities.iter().position(|entity| entity["uid"] == uid).unwrap_or_else(|| {
            entities.push(json!({"uid": uid, "attrs": {}, "parents": []}));
            entities.len() - 1
        });
        entities[index]["attrs"].as_object_mut().unwrap().extend(attrs);
        entities[index]["parents"].as_array_mut().unwrap().extend(parents);
    };
    lay_over("Client", case.subject, claims, groups);
    lay_over("Action", action, object(&[("operation", json!(action))]), Vec::new());
    lay_over(kind, case.name, item, vec![json!({"type": "MCP", "id": "gate"})]);
    let entities = Entities::from_json_value(Value::Array(entities), None).unwrap();
    let uid = |kind: &str, id: &str| EntityUid::from_str(&format!("{kind}::\"{id}\"")).unwrap();
    let request = Request::new(
        uid("Client", case.subject),
        uid("Action", action),
        uid(kind, case.name),
        Context::from_json_value(Value::Object(context), None).unwrap(),
        None,
    )
    .unwrap();
    let response = Authorizer::new().is_authorized(&request, set, &entities);
    let allowed = response.decision() == Decision::Allow;
    let failed: BTreeSet<usize> = response
        .diagnostics()
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(error)| {
            error.policy_id().to_string().parse().unwrap()
        })
        .collect();
    let reasons = response.diagnostics().reason().map(|id| id.to_string().parse().unwrap());
    // With a failed policy, no permitting policy decides anything.
    let reasons = reasons.filter(|_| !allowed || failed.is_empty()).collect();
    Outcome { allowed: allowed && failed.is_empty(), reasons, failed }
}

/// The outcome, and the policies that decided or failed.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    allowed: bool,
    reasons: BTreeSet<usize>,
    failed: BTreeSet<usize>,
}

fn decide_with_policy(policy: &AuthzPolicy, case: &Case) -> Outcome {
    let claims = Value::Object(object(&case.claims)).to_string();
    let arguments = case.arguments.as_ref().map(|members| Json::encode(&object(members)).unwrap());
    let hints = ToolHints { read_only: case.read_only, ..ToolHints::default() };
    let request = match case.kind {
        0 => AccessRequest::CallTool {
            name: case.name,
            contested_name: None,
            backend: None,
            hints: Some(&hints),
            arguments: arguments.as_ref(),
        },
        1 => AccessRequest::GetPrompt { name: case.name, contested_name: None },
        _ => AccessRequest::ReadResource { uri: case.name },
    };
    let decision = policy.decide(&caller(case.subject, &claims), &request);
    Outcome {
        allowed: decision.allowed,
        reasons: decision.policy_numbers.into_iter().collect(),
        failed: decision.failures.into_iter().map(|failure| failure.policy_number.unwrap()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn decisions_agree_with_plain_cedar(
        policies in proptest::collection::vec(policy_text(), 1..12),
        cases in proptest::collection::vec(case(), 30),
    ) {
        let set = policies.iter().enumerate().map(|(number, text)| {
            Policy::parse(Some(number.to_string().parse().unwrap()), text).unwrap()
        });
        let set = PolicySet::from_policies(set).unwrap();
        let policy = build(&PolicySource { policies, entities_json: ENTITIES.to_owned(), ..source(&[]) });
        for case in cases {
            prop_assert_eq!(decide_with_policy(&policy, &case), decide_with_cedar(&set, &case), "{:?}", case);
        }
    }
}
