//! Decisions and reasons for each pair of caller and request, in a snapshot file that is read in review.

use std::fmt::Write as _;

use expect_test::expect_file;
use vmcp_authz::AccessRequest;
use vmcp_domain::{Caller, ToolHints};
use vmcp_json::Json;

use crate::{build, caller, caller_of, source};

#[test]
fn every_caller_gets_what_the_policies_say() {
    let mut source = source(&[
        "@id(\"developers\")\npermit(principal in THVGroup::\"dev\", action == Action::\"call_tool\", resource)\n  unless { resource has destructiveHint && resource.destructiveHint };",
        r#"permit(principal, action == Action::"call_tool", resource == Tool::"weather");"#,
        r#"permit(principal in THVGroup::"ops", action, resource in Kit::"ops");"#,
        "// Production is not for all callers.\nforbid(principal, action == Action::\"call_tool\", resource == Tool::\"deploy\")\n  when { context.arg_target == \"prod\" && !(principal in THVGroup::\"ops\") };",
        r#"permit(principal, action == Action::"read_resource", resource) when { resource.uri like "docs://*" };"#,
        r#"permit(principal == Client::"alice", action == Action::"get_prompt", resource) when { principal.claim_iss == "https://issuer.example" };"#,
        r#"forbid(principal, action == Action::"call_tool", resource == Tool::"broken") when { principal.claim_level > 3 };"#,
        r#"@id("root") permit(principal, action, resource) when { context has claim_admin && context.claim_admin };"#,
    ]);
    source.entities_json = r#"[
        {"uid":{"type":"Tool","id":"deploy"},"parents":[{"type":"Kit","id":"ops"}]},
        {"uid":{"type":"Resource","id":"runbook://1"},"parents":[{"type":"Kit","id":"ops"}]}]"#
        .to_owned();
    let policy = build(&source);
    let callers: [(&str, Caller); 6] = [
        ("anonymous", Caller::Anonymous),
        ("alice, dev", caller("alice", r#"{"groups":["dev"],"level":5}"#)),
        ("alice elsewhere", caller_of("https://other.example", "alice", r#"{"groups":["none"]}"#)),
        ("bob, dev and ops", caller("bob", r#"{"groups":["dev","ops"],"level":1}"#)),
        ("eve, admin", caller("eve", r#"{"admin":true}"#)),
        ("mallory, \"admin\"", caller("mallory", r#"{"admin":"true"}"#)),
    ];
    let (prod, test) =
        (Json::parse(r#"{"target":"prod"}"#).unwrap(), Json::parse(r#"{"target":"test"}"#).unwrap());
    let (tame, wild) = (
        ToolHints { destructive: Some(false), ..ToolHints::default() },
        ToolHints { destructive: Some(true), ..ToolHints::default() },
    );
    let call = |name, hints, arguments| AccessRequest::CallTool {
        name,
        contested_name: None,
        backend: None,
        hints,
        arguments,
    };
    let asks: [(&str, AccessRequest<'_>); 11] = [
        ("call weather", call("weather", Some(&tame), None)),
        ("call wipe, destructive", call("wipe", Some(&wild), None)),
        ("call wipe, as if absent", call("wipe", None, None)),
        ("list deploy", call("deploy", Some(&tame), None)),
        ("call deploy to test", call("deploy", Some(&tame), Some(&test))),
        ("call deploy to prod", call("deploy", Some(&tame), Some(&prod))),
        ("call broken", call("broken", Some(&tame), None)),
        ("read docs://a", AccessRequest::ReadResource { uri: "docs://a" }),
        ("read docs://{x}", AccessRequest::ReadResource { uri: "docs://{x}" }),
        ("read runbook://1", AccessRequest::ReadResource { uri: "runbook://1" }),
        ("get prompt", AccessRequest::GetPrompt { name: "review", contested_name: None }),
    ];
    let mut out = String::new();
    for warning in policy.warnings() {
        writeln!(out, "warning {warning}").unwrap();
    }
    for (who, caller) in &callers {
        writeln!(out, "{who}").unwrap();
        for (what, request) in &asks {
            writeln!(
                out,
                "  {what:<26}{}",
                policy.explain(caller, request).to_string().replace('\n', "\n    ")
            )
            .unwrap();
        }
    }
    expect_file!["table.txt"].assert_eq(&out);
}
