//! The policies in ToolHive's documentation and tests, with the outcomes that they have there.

use vmcp_authz::AccessRequest;

use crate::{build, caller, calls, policy, source, tool};

const CALL: &str = r#"permit(principal, action == Action::"call_tool", resource"#;

#[test]
fn a_scope_names_one_tool_prompt_or_resource() {
    let policy = policy(&[
        r#"permit(principal, action == Action::"call_tool", resource == Tool::"weather");"#,
        r#"permit(principal, action == Action::"get_prompt", resource == Prompt::"greeting");"#,
        r#"permit(principal, action == Action::"read_resource", resource == Resource::"data");"#,
        r#"permit(principal, action == Action::"read_resource", resource == Resource::"file:///etc/passwd");"#,
        r#"permit(principal, action == Action::"read_resource", resource == Resource::"file://C:\\share\\data");"#,
    ]);
    let someone = caller("user123", "{}");
    for (request, expected) in [
        (tool("weather"), true),
        (tool("other"), false),
        (tool("data"), false),
        (AccessRequest::GetPrompt { name: "greeting", contested_name: None }, true),
        (AccessRequest::GetPrompt { name: "weather", contested_name: None }, false),
        (AccessRequest::ReadResource { uri: "data" }, true),
        (AccessRequest::ReadResource { uri: "file:///etc/passwd" }, true),
        (AccessRequest::ReadResource { uri: "file:///etc/passwd2" }, false),
        (AccessRequest::ReadResource { uri: "file____etc_passwd" }, false),
        (AccessRequest::ReadResource { uri: r"file://C:\share\data" }, true),
        (AccessRequest::ReadResource { uri: "greeting" }, false),
    ] {
        assert_eq!(policy.decide(&someone, &request).allowed, expected, "{request:?}");
    }
}

#[test]
fn one_client_may_call_everything() {
    let policy =
        policy(&[r#"permit(principal == Client::"user123", action == Action::"call_tool", resource);"#]);
    assert!(policy.decide(&caller("user123", "{}"), &tool("any")).allowed);
    assert!(!policy.decide(&caller("user124", "{}"), &tool("any")).allowed);
    assert!(
        !policy
            .decide(&caller("user123", "{}"), &AccessRequest::GetPrompt { name: "any", contested_name: None })
            .allowed
    );
}

#[test]
fn claims_stand_on_the_principal_and_in_the_context() {
    for variable in ["principal", "context"] {
        let roles = policy(&[&format!(r#"{CALL}) when {{ {variable}.claim_roles.contains("admin") }};"#)]);
        assert!(calls(&roles, &caller("a", r#"{"roles":["user","admin"]}"#), "x", "{}"));
        assert!(!calls(&roles, &caller("a", r#"{"roles":["user"]}"#), "x", "{}"));
        assert!(!calls(&roles, &caller("a", "{}"), "x", "{}"), "a claim that is absent permits nothing");
        let name = policy(&[&format!(
            r#"{CALL} == Tool::"weather") when {{ {variable}.claim_name == "John Doe" }};"#
        )]);
        assert!(calls(&name, &caller("a", r#"{"name":"John Doe"}"#), "weather", "{}"));
        assert!(!calls(&name, &caller("a", r#"{"name":"Jane Smith"}"#), "weather", "{}"));
        assert!(!calls(&name, &caller("a", r#"{"name":"John Doe"}"#), "other", "{}"));
    }
}

#[test]
fn arguments_stand_on_the_resource_and_in_the_context() {
    for variable in ["resource", "context"] {
        let policy = policy(&[&format!(
            r#"{CALL} == Tool::"calculator") when {{ {variable}.arg_operation == "add" || {variable}.arg_operation == "subtract" }};"#
        )]);
        let someone = caller("a", "{}");
        assert!(calls(&policy, &someone, "calculator", r#"{"operation":"add"}"#));
        assert!(calls(&policy, &someone, "calculator", r#"{"operation":"subtract","value":1}"#));
        assert!(!calls(&policy, &someone, "calculator", r#"{"operation":"divide"}"#));
        assert!(!calls(&policy, &someone, "calculator", "{}"));
        assert!(!policy.decide(&someone, &tool("calculator")).allowed, "so it is not listed either");
    }
}

#[test]
fn comparing_an_argument_with_a_clearance_fails_because_numbers_are_decimals() {
    let documented = policy(&[&format!(
        r#"{CALL} == Tool::"sensitive_data") when {{
             principal.claim_roles.contains("data_analyst") &&
             resource.arg_data_level <= principal.claim_clearance_level }};"#
    )]);
    let analyst = caller("a", r#"{"roles":["data_analyst"],"clearance_level":5}"#);
    assert!(!calls(&documented, &analyst, "sensitive_data", r#"{"data_level":3}"#));
    let meant = policy(&[&format!(
        r#"{CALL} == Tool::"sensitive_data") when {{
             resource.arg_data_level.lessThanOrEqual(principal.claim_clearance_level) }};"#
    )]);
    assert!(calls(&meant, &analyst, "sensitive_data", r#"{"data_level":3}"#));
    assert!(calls(&meant, &analyst, "sensitive_data", r#"{"data_level":5.0}"#));
    assert!(!calls(&meant, &analyst, "sensitive_data", r#"{"data_level":5.0001}"#));
}

#[test]
fn owners_are_declared_and_asked_for() {
    let mut source = source(&[
        &format!("{CALL}) when {{ resource.owner == principal.claim_sub }};"),
        r#"permit(principal, action == Action::"get_prompt", resource) when { resource.visibility == "public" };"#,
    ]);
    source.entities_json = r#"[
        {"uid":{"type":"Tool","id":"weather"},"attrs":{"owner":"user123","description":"forecasts"}},
        {"uid":{"type":"Tool","id":"calculator"},"attrs":{"owner":"user456"}},
        {"uid":{"__entity":{"type":"Prompt","id":"greeting"}},"attrs":{"visibility":"public"},"parents":[]},
        {"uid":{"type":"Prompt","id":"farewell"},"attrs":{"visibility":"private"}}]"#
        .to_owned();
    let policy = build(&source);
    let owner = caller("user123", "{}");
    assert!(policy.decide(&owner, &tool("weather")).allowed);
    assert!(!policy.decide(&owner, &tool("calculator")).allowed);
    assert!(!policy.decide(&owner, &tool("undeclared")).allowed);
    assert!(
        policy.decide(&owner, &AccessRequest::GetPrompt { name: "greeting", contested_name: None }).allowed
    );
    assert!(
        !policy.decide(&owner, &AccessRequest::GetPrompt { name: "farewell", contested_name: None }).allowed
    );
}

#[test]
fn forbidding_wins_over_permitting() {
    let policy = policy(&[
        "permit(principal, action, resource);",
        r#"forbid(principal == Client::"evil", action, resource);"#,
    ]);
    assert!(policy.decide(&caller("good", "{}"), &tool("x")).allowed);
    assert!(!policy.decide(&caller("evil", "{}"), &tool("x")).allowed);
}

#[test]
fn delegation_is_seen_in_a_nested_claim() {
    let agent = |id: &str| caller("user@example.com", &format!(r#"{{"act":{{"sub":"spiffe://{id}"}}}}"#));
    let deploy = policy(&[&format!(
        r#"{CALL} == Tool::"deploy") when {{
             context.claim_sub == "user@example.com" && context has claim_act &&
             context.claim_act.sub like "spiffe://agents.example/*" }};"#
    )]);
    assert!(calls(&deploy, &agent("agents.example/devops"), "deploy", "{}"));
    assert!(!calls(&deploy, &agent("evil.example/devops"), "deploy", "{}"));
    assert!(!calls(&deploy, &caller("user@example.com", "{}"), "deploy", "{}"));
    let direct = policy(&[
        &format!("{CALL});"),
        r#"forbid(principal, action == Action::"call_tool", resource == Tool::"admin_reset") when { context has claim_act };"#,
    ]);
    assert!(!calls(&direct, &agent("agents.example/devops"), "admin_reset", "{}"));
    assert!(calls(&direct, &caller("user@example.com", "{}"), "admin_reset", "{}"));
}

#[test]
fn every_resource_has_its_name_and_its_uri() {
    for condition in
        [r#"resource.name == "mem://x""#, r#"resource.uri == "mem://x""#, "resource.name == resource.uri"]
    {
        let policy = policy(&[&format!(
            r#"permit(principal, action == Action::"read_resource", resource) when {{ {condition} }};"#
        )]);
        assert!(
            policy.decide(&caller("a", "{}"), &AccessRequest::ReadResource { uri: "mem://x" }).allowed,
            "{condition}"
        );
    }
    for (request, facts) in [
        (tool("x"), ["call", "tool", "call_tool"]),
        (AccessRequest::GetPrompt { name: "x", contested_name: None }, ["get", "prompt", "get_prompt"]),
        (AccessRequest::ReadResource { uri: "x" }, ["read", "resource", "read_resource"]),
    ] {
        let [operation, feature, action] = facts;
        let policy = policy(&[&format!(
            r#"permit(principal, action, resource) when {{
                 resource.operation == "{operation}" && resource.feature == "{feature}" && resource.name == "x" &&
                 action.operation == "{action}" }};"#
        )]);
        assert!(policy.decide(&caller("a", "{}"), &request).allowed, "{request:?}");
    }
    let tools_have_no_uri = policy(&["permit(principal, action, resource) when { !(resource has uri) };"]);
    assert!(tools_have_no_uri.decide(&caller("a", "{}"), &tool("x")).allowed);
}

#[test]
fn everything_belongs_to_the_server() {
    let ours = policy(&[r#"permit(principal, action, resource in MCP::"gate");"#]);
    let theirs = policy(&[r#"permit(principal, action, resource in MCP::"other");"#]);
    let condition = policy(&[r#"permit(principal, action, resource) when { resource in MCP::"gate" };"#]);
    for request in [
        tool("x"),
        AccessRequest::GetPrompt { name: "x", contested_name: None },
        AccessRequest::ReadResource { uri: "x" },
    ] {
        assert!(ours.decide(&caller("a", "{}"), &request).allowed);
        assert!(condition.decide(&caller("a", "{}"), &request).allowed);
        assert!(!theirs.decide(&caller("a", "{}"), &request).allowed);
    }
}

#[test]
fn a_domain_gate_needs_the_claim_to_be_there() {
    let policy = policy(&[
        r#"forbid(principal, action, resource)
             unless { principal has claim_email && principal.claim_email like "*@example.com" };"#,
        &format!("{CALL});"),
    ]);
    assert!(calls(&policy, &caller("a", r#"{"email":"a@example.com"}"#), "x", "{}"));
    assert!(!calls(&policy, &caller("a", r#"{"email":"a@elsewhere.com"}"#), "x", "{}"));
    assert!(!calls(&policy, &caller("a", "{}"), "x", "{}"));
}

#[test]
fn policies_written_for_other_engines_permit_nothing_and_are_warned_of() {
    let policy = policy(&[
        r#"permit(principal, action == Action::"tools/call", resource);"#,
        r#"permit(principal, action == Action::"tools/call", resource) when { principal.role == "developer" };"#,
        r#"permit(principal, action == Action::"list_tools", resource == FeatureType::"tool");"#,
    ]);
    assert!(!policy.decide(&caller("a", r#"{"role":"developer"}"#), &tool("x")).allowed);
    assert!(policy.warnings().len() >= 3, "{:#?}", policy.warnings());
}
