//! The caller as policies see it: issuer, anonymity, groups and roles, claims of every shape.

use vmcp_domain::Caller;

use crate::{build, caller, caller_of, calls, policy, source, tool};

#[test]
fn one_subject_of_two_issuers_is_told_apart_by_the_issuer() {
    let policy = policy(&[r#"permit(principal == Client::"alice", action, resource)
             when { principal.claim_iss == "https://one.example" && context.claim_iss == "https://one.example" };"#]);
    assert!(calls(&policy, &caller_of("https://one.example", "alice", "{}"), "x", "{}"));
    assert!(!calls(&policy, &caller_of("https://two.example", "alice", "{}"), "x", "{}"));
    let forged = r#"{"iss":"https://one.example"}"#;
    assert!(!calls(&policy, &caller_of("https://two.example", "alice", forged), "x", "{}"));
    assert!(!calls(&policy, &caller_of("https://one.example", "bob", r#"{"sub":"alice"}"#), "x", "{}"));
}

#[test]
fn the_anonymous_caller_is_nobody_special() {
    let nobody = Caller::Anonymous;
    let open = policy(&["permit(principal, action, resource);"]);
    assert!(open.decide(&nobody, &tool("x")).allowed);
    let named = policy(&[r#"permit(principal == Client::"anonymous", action, resource)
             when { principal.claim_iss == "toolhive-local" && context.claim_email == "anonymous@localhost" };"#]);
    assert!(named.decide(&nobody, &tool("x")).allowed);
    assert!(
        !named.decide(&caller("anonymous", "{}"), &tool("x")).allowed,
        "a user of that name is somebody else"
    );
    let claims = policy(&[r#"permit(principal, action, resource) when { principal.claim_role == "dev" };"#]);
    assert!(!claims.decide(&nobody, &tool("x")).allowed);
    let unguarded =
        policy(&[r#"permit(principal, action, resource) when { principal.claim_role != "guest" };"#]);
    assert!(!unguarded.decide(&nobody, &tool("x")).allowed, "a missing claim is an error, not a difference");
}

#[test]
fn a_caller_without_a_subject_may_do_nothing() {
    let open = policy(&["permit(principal, action, resource);"]);
    let decision = open.decide(&caller("", "{}"), &tool("x"));
    assert!(!decision.allowed);
    assert_eq!(decision.failures.len(), 1);
}

fn in_group(group: &str, claims: &str, group_claim: Option<&str>, role_claim: Option<&str>) -> bool {
    let text = format!(r#"permit(principal in THVGroup::"{group}", action, resource);"#);
    let mut source = source(&[&text]);
    source.group_claim_name = group_claim.map(str::to_owned);
    source.role_claim_name = role_claim.map(str::to_owned);
    let by_scope = build(&source).decide(&caller("a", claims), &tool("x")).allowed;
    source.policies =
        vec![format!(r#"permit(principal, action, resource) when {{ principal in THVGroup::"{group}" }};"#)];
    let by_condition = build(&source).decide(&caller("a", claims), &tool("x")).allowed;
    assert_eq!(by_scope, by_condition, "{group} {claims}");
    by_scope
}

#[test]
fn groups_come_from_claims() {
    assert!(in_group("eng", r#"{"groups":["ops","eng"]}"#, None, None));
    assert!(!in_group("eng", r#"{"groups":["ops"]}"#, None, None));
    assert!(in_group("eng", r#"{"roles":["eng"]}"#, None, None));
    assert!(in_group("eng", r#"{"cognito:groups":["eng"]}"#, None, None));
    assert!(in_group("eng", r#"{"groups":"eng"}"#, None, None), "a text is one group");
    assert!(
        in_group("eng", r#"{"groups":"ops","roles":["eng"]}"#, None, None),
        "and does not end the search"
    );
    assert!(!in_group("eng", r#"{"groups":[],"roles":["eng"]}"#, None, None), "an empty list does");
    assert!(!in_group("eng", r#"{"groups":[1],"roles":["eng"]}"#, None, None));
    assert!(in_group("eng", r#"{"groups":null,"roles":["eng"]}"#, None, None));
    assert!(in_group("eng", r#"{"groups":[1,null,"eng",{}]}"#, None, None));
}

/// Whether a caller with these claims may call the tool `deploy`, which is forbidden to the group
/// `contractors`.
fn passes_forbid(claims: &str) -> bool {
    let source = source(&[
        "permit(principal, action, resource);",
        r#"forbid(principal in THVGroup::"contractors", action, resource == Tool::"deploy");"#,
    ]);
    let policy = build(&source);
    assert!(policy.warnings().iter().any(|warning| warning.to_string().contains("groups cannot be read")));
    let allowed = |name| policy.decide(&caller("ann", claims), &tool(name)).allowed;
    assert!(allowed("look"), "what no policy forbids to a group stays allowed: {claims}");
    let allowed = allowed("deploy");
    let unknown = policy.groups_unknown_count() > 0;
    assert!(!(allowed && unknown), "{claims}");
    allowed
}

#[test]
fn a_forbidden_group_is_not_escaped_by_the_shape_of_its_claim() {
    for claims in [
        r#"{"groups":["contractors"]}"#,
        r#"{"groups":"contractors"}"#,
        r#"{"groups":[{"name":"contractors"}]}"#,
        r#"{"groups":{"contractors":true}}"#,
        r#"{"groups":["staff",7]}"#,
        r#"{"groups":true}"#,
        r#"{"_claim_names":{"groups":"src1"},"_claim_sources":{"src1":{"endpoint":"https://x"}}}"#,
        r#"{"hasgroups":true}"#,
    ] {
        assert!(!passes_forbid(claims), "{claims}");
    }
    for claims in
        [r#"{"groups":["staff"]}"#, r#"{"groups":"staff"}"#, "{}", r#"{"groups":null}"#, r#"{"groups":[]}"#]
    {
        assert!(passes_forbid(claims), "{claims}");
    }
}

#[test]
fn groups_and_roles_come_from_claims_by_name_and_by_path() {
    let auth0 = "https://app.example.com/groups";
    assert!(in_group("eng", r#"{"https://app.example.com/groups":["eng"]}"#, Some(auth0), None));
    let nested = r#"{"realm_access":{"roles":["eng"]}}"#;
    assert!(in_group("eng", nested, Some("realm_access.roles"), None));
    assert!(in_group("eng", nested, None, Some("realm_access.roles")));
    assert!(!in_group("eng", nested, None, None));
    assert!(
        in_group("eng", r#"{"a.b":["eng"],"a":{"b":["ops"]}}"#, Some("a.b"), None),
        "the exact name goes first"
    );
    assert!(!in_group("ops", r#"{"a.b":["eng"],"a":{"b":["ops"]}}"#, Some("a.b"), None));
    assert!(in_group("eng", r#"{"groups":["eng"]}"#, Some("absent"), None), "the usual names stand in");
    let both = r#"{"teams":["eng"],"jobs":["lead"]}"#;
    assert!(in_group("eng", both, Some("teams"), Some("jobs")));
    assert!(in_group("lead", both, Some("teams"), Some("jobs")));
    assert!(!in_group("eng", r#"{"teams":{"x":["eng"]}}"#, Some("teams.y"), None));
}

#[test]
fn groups_belong_to_what_is_declared() {
    let mut source = source(&[
        r#"permit(principal in PlatformRole::"reader", action == Action::"call_tool", resource in Kit::"safe");"#,
        r#"permit(principal in PlatformRole::"writer", action in [Action::"write"], resource);"#,
        r#"permit(principal == Client::"boss", action, resource) when { principal.department.name == "board" };"#,
    ]);
    source.group_entity_type = Some("ClaimGroup".to_owned());
    source.entities_json = r#"[
        {"uid":{"type":"ClaimGroup","id":"eng"},"parents":[{"type":"PlatformRole","id":"writer"}]},
        {"uid":{"type":"PlatformRole","id":"writer"},"parents":[{"type":"PlatformRole","id":"reader"}]},
        {"uid":{"type":"ClaimGroup","id":"guest"},"parents":[{"type":"PlatformRole","id":"reader"}]},
        {"uid":{"type":"Tool","id":"look"},"parents":[{"type":"Kit","id":"safe"}]},
        {"uid":{"type":"Kit","id":"safe"}},
        {"uid":{"type":"Action","id":"get_prompt"},"parents":[{"type":"Action","id":"write"}]},
        {"uid":{"type":"Client","id":"boss"},"attrs":{"department":{"__entity":{"type":"Department","id":"d"}}}},
        {"uid":{"type":"Department","id":"d"},"attrs":{"name":"board"}}]"#
        .to_owned();
    let policy = build(&source);
    assert_eq!(policy.warnings(), []);
    let prompt = vmcp_authz::AccessRequest::GetPrompt { name: "p", contested_name: None };
    for (groups, look, other, get) in
        [("eng", true, false, true), ("guest", true, false, false), ("nobody", false, false, false)]
    {
        let caller = caller("a", &format!(r#"{{"groups":["{groups}"]}}"#));
        assert_eq!(policy.decide(&caller, &tool("look")).allowed, look, "{groups}");
        assert_eq!(policy.decide(&caller, &tool("other")).allowed, other, "{groups}");
        assert_eq!(policy.decide(&caller, &prompt).allowed, get, "{groups}");
    }
    assert!(policy.decide(&caller("boss", "{}"), &tool("other")).allowed);
}

#[test]
fn claims_of_every_shape() {
    let holds = |condition: &str, claims: &str| {
        let policy = policy(&[&format!("permit(principal, action, resource) when {{ {condition} }};")]);
        policy.decide(&caller("a", claims), &tool("x")).allowed
    };
    assert!(holds(r#"principal.claim_n == decimal("7.0")"#, r#"{"n":7}"#));
    assert!(holds("principal.claim_email_verified", r#"{"email_verified":true}"#));
    assert!(holds(r#"principal.claim_address.city == "X""#, r#"{"address":{"city":"X","zip":null}}"#));
    assert!(holds("!(principal has claim_x)", r#"{"x":null}"#), "null is nothing");
    assert!(holds("!(principal has claim_x)", r#"{"x":1,"x":null}"#), "the last of two counts");
    assert!(holds("!(principal has claim_x)", r#"{"x":1e300}"#), "numbers out of range are nothing");
    assert!(holds(r#"principal["claim_https://a.b/c"] == "1""#, r#"{"https://a.b/c":"1"}"#));
    assert!(holds(r#"principal has claim_a.b.c"#, r#"{"a":{"b":{"c":1}}}"#));
    let nested = |depth: usize| format!(r#"{{"d":{}1{}}}"#, r#"{"k":"#.repeat(depth), "}".repeat(depth));
    let path = |depth: usize| format!("principal has claim_d{}", ".k".repeat(depth));
    assert!(holds(&path(10), &nested(10)));
    assert!(!holds(&path(11), &nested(11)), "what nests deeper than ten does not exist");
    let broken = caller("a", r#"{"x":"\ud800"}"#);
    let guarded = policy(&[
        "permit(principal, action, resource);",
        "forbid(principal, action, resource) when { principal has claim_x };",
    ]);
    assert!(!guarded.decide(&broken, &tool("x")).allowed, "a claim that cannot be read hides nothing");
}

#[test]
fn many_groups_cost_nothing_that_no_policy_asks_for() {
    let groups: Vec<String> = (0..5_000).map(|n| format!("\"g{n}\"")).collect();
    let claims = format!(r#"{{"groups":[{},"eng"]}}"#, groups.join(","));
    assert!(in_group("eng", &claims, None, None));
}
