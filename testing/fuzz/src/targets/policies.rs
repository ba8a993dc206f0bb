//! Policies: any text is refused with a problem or decides; explanations agree with decisions; nothing is
//! allowed without a permitting policy.

use std::sync::Arc;

use vmcp_authz::{AccessRequest, AuthzPolicy, PolicySource};
use vmcp_domain::{Caller, Identity};
use vmcp_json::Json;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "policies",
    check,
    tokens: &[
        "permit",
        "forbid",
        "(principal, action, resource)",
        "when {",
        "unless {",
        "};",
        "principal.claim_groups",
        "resource == Tool::\"t1\"",
        "action == Action::\"call_tool\"",
        ".contains(",
        "context.arg_path",
        " like \"*\"",
        " has ",
        " && ",
        " || ",
        "!",
        "if true then false else true",
        "9223372036854775807",
        "ip(\"10.0.0.0/8\")",
        "decimal(\"1.0\")",
        "datetime(\"2026-01-01\")",
        "@id(\"a\")",
        "?principal",
        "[",
        "{",
        "\\u{0}",
    ],
    sources: &[],
};

/// A policy that nests deeply takes long to parse, and no operator writes one.
const POLICY_BYTES_MAX: usize = 4096;

fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > POLICY_BYTES_MAX {
        return;
    }
    let source = PolicySource {
        policies: vec![text.to_owned()],
        server_name: "gate".to_owned(),
        ..PolicySource::default()
    };
    let policy = match AuthzPolicy::build(&source) {
        Ok(policy) => policy,
        Err(problems) => {
            assert!(problems.iter().all(|problem| !problem.message.is_empty()) && !problems.is_empty());
            return;
        }
    };
    let arguments = json(r#"{"path": "/tmp/x", "count": 3, "deep": {"list": [1, "a", null]}}"#);
    let callers = [Caller::Anonymous, identified()];
    let requests = [
        AccessRequest::CallTool {
            name: "t1",
            contested_name: Some("files_t1"),
            backend: Some("files"),
            hints: None,
            arguments: Some(&arguments),
        },
        AccessRequest::GetPrompt { name: "p1", contested_name: None },
        AccessRequest::ReadResource { uri: "file:///a/b" },
    ];
    for caller in &callers {
        for request in &requests {
            let decision = policy.decide(caller, request);
            assert_eq!(
                policy.explain(caller, request).allowed,
                decision.allowed,
                "it explains another decision"
            );
            assert!(!decision.allowed || text.contains("permit"), "allowed without a permitting policy");
        }
    }
}

fn identified() -> Caller {
    let claims = json(r#"{"groups": ["eng"], "age": 42, "org": {"id": "o"}}"#);
    Caller::Known(Arc::new(Identity {
        issuer: "https://issuer.example".to_owned(),
        subject: "ann".to_owned(),
        claims: claims.members().unwrap_or_default(),
    }))
}

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap_or_else(|error| panic!("{error}"))
}
