//! With a thousand policies, the decision is that of the one policy that applies.

use vmcp_authz::PolicySource;

use crate::{build, caller, source, tool};

#[test]
fn a_thousand_policies_decide_as_one_would() {
    let policies = (0..1_000)
        .map(|n| match n % 4 {
            0 => format!(r#"permit(principal, action == Action::"call_tool", resource == Tool::"t{n}");"#),
            1 => format!(r#"permit(principal == Client::"c{n}", action, resource);"#),
            2 => format!(r#"permit(principal in THVGroup::"g{n}", action, resource == Tool::"t{n}") when {{ principal.claim_role == "dev" }};"#),
            _ => format!(r#"forbid(principal, action, resource == Tool::"t{}") when {{ context has claim_barred }};"#, n - 3),
        })
        .collect();
    let policy = build(&PolicySource { policies, ..source(&[]) });
    let someone = caller("a", r#"{"groups":["g2"],"role":"dev"}"#);
    let barred = caller("a", r#"{"barred":1}"#);
    for n in 0..1_000 {
        let name = format!("t{n}");
        let decision = policy.decide(&someone, &tool(&name));
        assert_eq!(decision.allowed, n % 4 == 0 || n == 2, "{name}");
        assert_eq!(decision.policy_numbers, if decision.allowed { vec![n] } else { Vec::new() });
        assert!(!policy.decide(&barred, &tool(&name)).allowed);
        assert_eq!(policy.decide(&caller(&format!("c{n}"), "{}"), &tool("free")).allowed, n % 4 == 1);
    }
}
