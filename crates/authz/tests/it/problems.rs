//! The problems and warnings that an operator receives: each mistake with its location, and policies without
//! effect.

use std::fmt::Write as _;

use expect_test::expect_file;
use vmcp_authz::{AuthzPolicy, PolicySource};

use crate::{caller, source, tool};

fn show(title: &str, source: &PolicySource, out: &mut String) {
    writeln!(out, "{title}").unwrap();
    let (kind, list) = match AuthzPolicy::build(source) {
        Ok(policy) => ("warning", policy.warnings().to_vec()),
        Err(problems) => ("problem", problems),
    };
    for problem in &list {
        writeln!(out, "  {kind} {problem}").unwrap();
    }
    if list.is_empty() {
        out.push_str("  in order\n");
    }
}

#[test]
fn operators_are_told_where_and_what() {
    let mut out = String::new();
    let mut policies = |title: &str, texts: &[&str]| show(title, &source(texts), &mut out);
    policies("no policy", &[]);
    policies("empty texts", &["", " // nothing\n"]);
    policies(
        "several mistakes",
        &[
            "permit(principal, action, resource);",
            "permit(principal, action,\n  resource\n) when { principal. };",
            "permt(principal, action, resource);",
            r#"permit(principal, action == Action::call_tool, resource == Tool::"web-search");"#,
        ],
    );
    policies(
        "a list of one type, as an example of the reference has it",
        &[
            r#"permit(principal, action == Action::"call_tool", resource in Tool::["calculator", "translator"]);"#,
        ],
    );
    policies("a template", &["permit(principal == ?principal, action, resource);"]);
    policies("what is no action", &[r#"permit(principal, action == Verb::"call_tool", resource);"#]);
    expect_file!["problems.txt"].assert_eq(&out);
}

#[test]
fn operators_are_told_what_has_no_effect() {
    let mut out = String::new();
    let mut policies = |title: &str, texts: &[&str]| show(title, &source(texts), &mut out);
    policies(
        "actions",
        &[
            r#"permit(principal, action == Action::"tools/call", resource);"#,
            r#"forbid(principal, action == Action::"resources/read", resource);"#,
            r#"permit(principal, action in [Action::"call_tool", Action::"list_tools"], resource);"#,
            r#"permit(principal, action == Action::"subscribe", resource);"#,
            r#"permit(principal, action == Mcp::Action::"call_tool", resource);"#,
        ],
    );
    policies(
        "arguments",
        &[
            r#"permit(principal, action, resource) when { context.arg_x == "a" };"#,
            r#"permit(principal, action, resource) when { context has arg_x && context.arg_x == "a" };"#,
            r#"permit(principal, action, resource) when { !(resource has arg_x) || context.arg_x == "a" };"#,
        ],
    );
    policies(
        "principals",
        &[
            r#"permit(principal == User::"alice", action, resource);"#,
            "permit(principal is User, action, resource);",
            r#"permit(principal in THVRole::"admin", action, resource);"#,
            r#"permit(principal in THVGroup::"admin", action, resource);"#,
            r#"permit(principal is Client in THVGroup::"admin", action, resource);"#,
        ],
    );
    policies(
        "resources",
        &[
            r#"permit(principal, action == Action::"call_tool", resource == Prompt::"x");"#,
            r#"permit(principal, action, resource == Server::"x");"#,
            r#"permit(principal, action, resource in MCP::"other");"#,
            r#"permit(principal, action, resource in MCP::"gate");"#,
            "permit(principal, action, resource is Toolbox);",
        ],
    );
    policies(
        "attributes",
        &[
            r#"permit(principal, action, resource) when { principal.role == "developer" };"#,
            r#"permit(principal, action, resource) when { principal.role in ["developer", "operator"] };"#,
            r#"forbid(principal, action, resource) when { resource.tool in ["delete_file"] };"#,
            r#"permit(principal, action, resource) when { context has location && action.name == "x" };"#,
            "permit(principal, action, resource) when { context.arg_n < 5 && principal.claim_level == 3 };",
            r#"permit(principal, action, resource) when { resource.readOnlyHint && context.arg_n == decimal("5.0") };"#,
        ],
    );
    policies(
        "several policies in one text",
        &[
            "permit(principal, action, resource);\n@id(\"no\")\nforbid(principal == User::\"x\", action, resource);",
        ],
    );
    let source = PolicySource {
        exempt_tools: vec!["find".to_owned()],
        ..source(&[
            r#"forbid(principal, action, resource == Tool::"find");"#,
            r#"permit(principal, action, resource == Prompt::"find");"#,
            r#"permit(principal, action, resource == Tool::"other");"#,
        ])
    };
    show("tools that no policy is asked about", &source, &mut out);
    expect_file!["warnings.txt"].assert_eq(&out);
}

#[test]
fn operators_are_told_about_entities() {
    let mut out = String::new();
    let mut entities = |title: &str, group: Option<&str>, json: &str| {
        let source = PolicySource {
            entities_json: json.to_owned(),
            group_entity_type: group.map(str::to_owned),
            ..source(&["permit(principal, action, resource);"])
        };
        show(title, &source, &mut out);
    };
    entities("none", None, "");
    entities("an empty list", None, "[]");
    entities("no JSON", None, "[{]");
    entities("no list", None, "{}");
    entities(
        "mistakes in several",
        None,
        r#"[
        {"uid":{"type":"Team","id":"fine"}},
        {"uid":"Tool::weather","attrs":{"owner":"user123"}},
        {"attrs":{}},
        {"uid":{"type":"not a type","id":"x"}},
        {"uid":{"type":"Team","id":"x"},"attrs":{"n":1.5}},
        {"uid":{"type":"Team","id":"y"},"attrs":{"gone":null}},
        {"uid":{"type":"Team","id":"z"},"parents":["Team::fine"]},
        {"uid":{"type":"Team","id":"w"},"parent":[]},
        7]"#,
    );
    entities("declared twice", None, r#"[{"uid":{"type":"T","id":"a"}},{"uid":{"type":"T","id":"a"}}]"#);
    entities(
        "a circle",
        None,
        r#"[
        {"uid":{"type":"T","id":"a"},"parents":[{"type":"T","id":"b"}]},
        {"uid":{"type":"T","id":"b"},"parents":[{"type":"T","id":"a"}]}]"#,
    );
    entities(
        "the request's own attributes",
        None,
        r#"[
        {"uid":{"type":"Tool","id":"a"},"attrs":{"owner":"x","readOnlyHint":true,"arg_x":1}},
        {"uid":{"type":"Client","id":"a"},"attrs":{"claim_role":"admin","team":"x"}},
        {"uid":{"type":"Team","id":"a"},"attrs":{"name":"x"}}]"#,
    );
    entities("groups of the usual type", Some("ClaimGroup"), r#"[{"uid":{"type":"THVGroup","id":"a"}}]"#);
    for group in ["Client", "A::B", "in", "1x", "two words", "OrgRole", "_x"] {
        entities(&format!("groups of type {group}"), Some(group), "[]");
    }
    show(
        "no name",
        &PolicySource { server_name: String::new(), ..source(&["permit(principal, action, resource);"]) },
        &mut out,
    );
    expect_file!["entities.txt"].assert_eq(&out);
}

/// Each form of an expression that gets a level of the syntax tree for each repetition.
#[test]
fn policies_at_their_bounds_are_decided_on_a_small_stack_and_larger_ones_refused() {
    let forms: [fn(usize) -> String; 9] = [
        |count| format!("{}true{}", "(".repeat(count), ")".repeat(count)),
        |count| format!("{}1{} == 1", "[".repeat(count), "]".repeat(count)),
        |count| format!("{}1{} == 1", "{a:".repeat(count), "}".repeat(count)),
        |count| format!("{}true", "true && ".repeat(count)),
        |count| format!("{}true", "false || ".repeat(count)),
        |count| format!("{}1 == 1", "1 + ".repeat(count)),
        |count| format!("context{}", ".a".repeat(count)),
        |count| format!("context{}", "[\"a\"]".repeat(count)),
        |count| format!("{}true", "if true then true else ".repeat(count)),
    ];
    for form in forms {
        let text = |count| format!("permit(principal, action, resource) when {{ {} }};", form(count));
        let mut decided = 0;
        for count in [25, 300, 900] {
            if let Ok(policy) = AuthzPolicy::build(&source(&[&text(count)])) {
                let _ = policy.decide(&caller("ann", "{}"), &tool("t1"));
                decided += 1;
            }
        }
        assert!(decided > 0, "{}", text(25));
        let problems = AuthzPolicy::build(&source(&[&text(10_000)])).unwrap_err();
        assert!(problems[0].message.starts_with("a policy "), "{problems:?}");
    }
}
