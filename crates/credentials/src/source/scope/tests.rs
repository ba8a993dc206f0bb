use vmcp_domain::Identity;
use vmcp_json::Json;

use super::*;

fn scope(subject: &str, claims: &str) -> IsolationScope {
    let claims = Json::parse(claims).unwrap().members().unwrap();
    let identity = Identity { issuer: "https://issuer".to_owned(), subject: subject.to_owned(), claims };
    caller_scope(&[7; 32], &identity, &[])
}

#[test]
fn what_does_not_matter_does_not_part_callers() {
    let first = r#"{"aud":"vmcp","scope":"read write","jti":"1","exp":10}"#;
    let second = r#"{"exp":99,"jti":"2","scope":"write  read read","aud":["vmcp"]}"#;
    assert_eq!(scope("ann", first), scope("ann", second));
}

#[test]
fn what_a_token_may_do_parts_callers() {
    let all = [
        scope("ann", "{}"),
        scope("bob", "{}"),
        scope("ann", r#"{"aud":"vmcp"}"#),
        scope("ann", r#"{"aud":["vmcp","other"]}"#),
        scope("ann", r#"{"scope":"read"}"#),
        scope("ann", r#"{"scope":"read write"}"#),
        scope("ann", r#"{"scp":"read"}"#),
        scope("ann", r#"{"act":{"sub":"robot"}}"#),
        scope("ann", r#"{"azp":"robot"}"#),
        scope("ann", r#"{"client_id":"robot"}"#),
        IsolationScope::Shared,
    ];
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            assert_ne!(one, other);
        }
    }
}

#[test]
fn parts_cannot_be_shifted_into_each_other() {
    let named = |issuer: &str, subject: &str| {
        let identity = Identity {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            claims: vmcp_json::Members::new(),
        };
        caller_scope(&[7; 32], &identity, &[])
    };
    assert_ne!(named("ab", "c"), named("a", "bc"));
    assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
}
