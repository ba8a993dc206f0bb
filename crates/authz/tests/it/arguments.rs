//! Arguments as conditions see them: types, spellings, missing arguments, and misleading arguments.

use vmcp_authz::AccessRequest;
use vmcp_json::Json;

use crate::{caller, calls, policy};

/// Whether a call with `arguments` is allowed by a policy that requires `condition`.
fn holds(condition: &str, arguments: &str) -> bool {
    let policy = policy(&[&format!("permit(principal, action, resource) when {{ {condition} }};")]);
    calls(&policy, &caller("a", "{}"), "x", arguments)
}

#[test]
fn scalars_keep_their_values() {
    assert!(holds(r#"context.arg_s == "text""#, r#"{"s":"text"}"#));
    assert!(holds(r#"context.arg_s == "téxt\n""#, r#"{"s":"t\u00e9xt\n"}"#));
    assert!(holds("context.arg_b", r#"{"b":true}"#));
    assert!(holds("context.arg_b == false", r#"{"b":false}"#));
    assert!(holds(r#"context["arg_odd name"] == "x""#, r#"{"odd name":"x"}"#));
    assert!(holds(r#"context.arg_path == "x""#, r#"{"p\u0061th":"x"}"#), "escaped keys are the same keys");
}

#[test]
fn numbers_are_decimals_however_they_are_spelled() {
    for spelling in ["5", "5.0", "5e0", "50e-1", "0.5E1", "5.00001"] {
        let arguments = format!(r#"{{"n":{spelling}}}"#);
        assert!(holds(r#"context.arg_n == decimal("5.0")"#, &arguments), "{spelling}");
        assert!(!holds("context.arg_n == 5", &arguments), "{spelling} is no whole number");
        assert!(!holds("context.arg_n <= 5", &arguments), "{spelling} cannot be compared with one");
    }
    assert!(holds(r#"context.arg_n.lessThan(decimal("0.0"))"#, r#"{"n":-0.5}"#));
    assert!(holds(r#"context.arg_n.greaterThan(decimal("1.25"))"#, r#"{"n":9007199254740993e-4}"#));
    assert!(!holds(r#"context.arg_n == "5""#, r#"{"n":5}"#), "a number is no text");
    assert!(!holds(r#"context.arg_n == decimal("5.0")"#, r#"{"n":"5.0"}"#), "a text is no number");
}

#[test]
fn an_argument_in_another_letter_case_counts_as_given_twice() {
    let policy = policy(&[r#"permit(principal, action, resource)
        unless { context has arg_path && context.arg_path != "/ok" };"#]);
    let may = |arguments: &str| calls(&policy, &caller("a", "{}"), "x", arguments);
    assert!(may(r#"{"path":"/ok"}"#) && may("{}") && may(r#"{"other":1,"OTHER":2}"#));
    for arguments in [
        r#"{"path":"/ok","Path":"/etc"}"#,
        r#"{"PATH":"/etc"}"#,
        r#"{"path":"/ok","p\u0041th":"/etc"}"#,
        r#"{"path":"/ok","path":"/ok"}"#,
    ] {
        assert!(!may(arguments), "{arguments}");
    }
}

#[test]
fn what_is_no_scalar_is_only_present() {
    for complex in ["[1]", "{}", r#"{"deep":{"er":1}}"#, "null"] {
        let arguments = format!(r#"{{"c":{complex}}}"#);
        assert!(holds("context.arg_c_present", &arguments), "{complex}");
        assert!(holds("resource.arg_c_present", &arguments), "{complex}");
        assert!(holds("!(context has arg_c)", &arguments), "{complex}");
    }
    assert!(!holds("context has arg_c_present", r#"{"c":1}"#));
    assert!(holds("context.arg_c_present", r#"{"c":[],"c_present":false}"#), "nothing hides what is there");
    assert!(holds("context.arg_c_present", r#"{"c_present":false,"c":[]}"#), "whatever the order");
}

#[test]
fn what_is_missing_is_an_error_and_an_error_denies() {
    assert!(!holds(r#"context.arg_x == "a""#, "{}"));
    assert!(!holds(r#"context.arg_x != "a""#, "{}"));
    assert!(
        !holds(r#"true || context.arg_x == "a" || context.arg_x == "b""#, "[]"),
        "no object, no decision"
    );
    assert!(holds(r#"!(context has arg_x) || context.arg_x == "a""#, "{}"));
    let denies_all = policy(&[
        "permit(principal, action, resource);",
        r#"permit(principal, action, resource) when { context.arg_x == "a" };"#,
    ]);
    assert!(calls(&denies_all, &caller("a", "{}"), "t", r#"{"x":"b"}"#));
    assert!(
        !calls(&denies_all, &caller("a", "{}"), "t", "{}"),
        "one policy's error denies what others permit"
    );
}

#[test]
fn a_forbid_cannot_be_dodged_by_what_cannot_be_read() {
    let policy = policy(&[
        "permit(principal, action, resource);",
        r#"forbid(principal, action, resource) when { context has arg_path && context.arg_path like "/etc*" };"#,
        r#"forbid(principal, action, resource)
             when { context has arg_n && context.arg_n.greaterThan(decimal("10.0")) };"#,
    ]);
    let someone = caller("a", "{}");
    for (arguments, expected) in [
        (r#"{"path":"/tmp","n":3}"#, true),
        (r#"{"path":"/etc/passwd"}"#, false),
        (r#"{"path":"/etc/passwd","path":"/tmp"}"#, false),
        (r#"{"path":"/tmp","p\u0061th":"/etc/passwd"}"#, false),
        (r#"{"path":"/etc/passwd\ud800"}"#, false),
        (r#"{"n":11}"#, false),
        (r#"{"n":1e300}"#, false),
        (r#"{"n":1e999}"#, false),
        (r#"{"other":1e999,"other":"\ud800"}"#, true),
    ] {
        assert_eq!(calls(&policy, &someone, "t", arguments), expected, "{arguments}");
    }
}

#[test]
fn big_arguments_that_nobody_asks_about_are_not_in_the_way() {
    let policy = policy(&[r#"permit(principal, action, resource) when { context.arg_mode == "safe" };"#]);
    let big = "x".repeat(4 << 20);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let arguments = format!(r#"{{"blob":"{big}","deep":{deep},"mode":"safe"}}"#);
    assert!(calls(&policy, &caller("a", "{}"), "t", &arguments));
}

#[test]
fn the_whole_context_has_everything() {
    let someone = caller("a", r#"{"role":"dev"}"#);
    let whole = r#"permit(principal, action, resource) when {
        context == {"claim_sub":"a","claim_iss":"https://issuer.example","claim_role":"dev","arg_x":"1","arg_y_present":true} };"#;
    let policy = policy(&[whole]);
    assert!(calls(&policy, &someone, "t", r#"{"x":"1","y":[]}"#));
    assert!(!calls(&policy, &someone, "t", r#"{"x":"1","y":[],"z":"more"}"#));
    assert!(!calls(&policy, &someone, "t", r#"{"x":"1"}"#));
}

#[test]
fn prompts_and_resources_have_no_arguments() {
    let policy = policy(&["permit(principal, action, resource) when { !(context has arg_x) };"]);
    assert!(
        policy
            .decide(&caller("a", "{}"), &AccessRequest::GetPrompt { name: "p", contested_name: None })
            .allowed
    );
    assert!(policy.decide(&caller("a", "{}"), &AccessRequest::ReadResource { uri: "r" }).allowed);
}

#[test]
fn arguments_are_looked_at_only_when_a_policy_that_applies_does() {
    let policy = policy(&[
        r#"permit(principal, action, resource == Tool::"free") when { principal.claim_sub == "a" };"#,
        r#"permit(principal, action, resource == Tool::"bound") when { context.arg_x == "1" };"#,
    ]);
    // Arguments that are no object would be an error if a policy read them.
    let arguments = Json::parse("[]").unwrap();
    let request = |name| AccessRequest::CallTool {
        name,
        contested_name: None,
        backend: None,
        hints: None,
        arguments: Some(&arguments),
    };
    assert!(policy.decide(&caller("a", "{}"), &request("free")).allowed);
    let bound = policy.decide(&caller("a", "{}"), &request("bound"));
    assert!(!bound.allowed);
    assert_eq!(bound.failures.len(), 1);
    assert_eq!(bound.failures[0].policy_number, None);
}
