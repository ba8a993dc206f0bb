use vmcp_json::Json;

use super::*;

fn arn(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

fn claim_mapping(value: &str, role: &str, priority: Option<i64>) -> RoleMapping {
    RoleMapping { condition: RoleMatch::Claim(value.to_owned()), role_arn: arn(role), priority }
}

fn cel_mapping(text: &str, role: &str, priority: Option<i64>) -> RoleMapping {
    RoleMapping { condition: RoleMatch::Cel(text.to_owned()), role_arn: arn(role), priority }
}

fn identity_with(claims: &str) -> Identity {
    let claims = Json::parse(claims).unwrap().members().unwrap();
    Identity { issuer: "https://issuer".to_owned(), subject: "ann".to_owned(), claims }
}

fn selected(roles: &Roles, claims: &str) -> Option<String> {
    let selected = roles.select_role(&identity_with(claims));
    selected.ok().map(|arn| arn.rsplit_once('/').unwrap().1.to_owned())
}

#[test]
fn the_smallest_priority_wins_and_none_is_the_largest() {
    let mappings = vec![
        claim_mapping("staff", "last", None),
        claim_mapping("staff", "later", None),
        claim_mapping("staff", "ten", Some(10)),
        claim_mapping("staff", "max", Some(i64::MAX)),
        claim_mapping("admins", "minus", Some(-1)),
        cel_mapping(r#""staff" in claims["groups"]"#, "also-ten", Some(10)),
    ];
    let roles = Roles::new(None, mappings, Some(&arn("fallback"))).unwrap();
    for (claims, expected) in [
        (r#"{"groups":["staff","admins"]}"#, "minus"),
        (r#"{"groups":["staff"]}"#, "ten"),
        (r#"{"groups":["others"]}"#, "fallback"),
        (r#"{"groups":"admins"}"#, "minus"),
        (r#"{"groups":[7,"admins"]}"#, "minus"),
        (r#"{"groups":["admin"]}"#, "fallback"),
        (r#"{"groups":{"admins":true}}"#, "fallback"),
        ("{}", "fallback"),
    ] {
        assert_eq!(selected(&roles, claims).as_deref(), Some(expected), "{claims}");
    }
    let equal = vec![claim_mapping("staff", "first", None), claim_mapping("staff", "second", None)];
    let roles = Roles::new(None, equal, None).unwrap();
    assert_eq!(selected(&roles, r#"{"groups":["staff"]}"#).as_deref(), Some("first"));
}

#[test]
fn without_a_fallback_nobody_else_gets_a_role() {
    let roles = Roles::new(Some("team"), vec![claim_mapping("staff", "r", None)], None).unwrap();
    assert_eq!(selected(&roles, r#"{"team":["staff"]}"#).as_deref(), Some("r"));
    assert_eq!(
        roles.select_role(&identity_with(r#"{"groups":["staff"]}"#)).unwrap_err(),
        CredentialError::NoRole
    );
}

#[test]
fn a_matcher_that_fails_does_not_fit() {
    let mappings = vec![
        cel_mapping(r#"claims["level"] > 3"#, "high", None),
        cel_mapping(r#"claims["name"]"#, "text", None),
        cel_mapping(r#"claims.groups.exists(g, g.startsWith("adm"))"#, "admin", None),
    ];
    let roles = Roles::new(None, mappings, Some(&arn("fallback"))).unwrap();
    for (claims, expected) in [
        ("{}", "fallback"),
        (r#"{"level":"high"}"#, "fallback"),
        (r#"{"level":4}"#, "high"),
        (r#"{"name":"true"}"#, "fallback"),
        (r#"{"level":2,"groups":["x","admins"]}"#, "admin"),
    ] {
        assert_eq!(selected(&roles, claims).as_deref(), Some(expected), "{claims}");
    }
}

#[test]
fn impossible_roles_cannot_be_built() {
    let field = |mappings, fallback: Option<&str>| {
        Roles::new(None, mappings, fallback).unwrap_err().field().to_owned()
    };
    assert_eq!(field(vec![], None), "roleMappings");
    assert_eq!(
        field(vec![claim_mapping("a", "r", None), claim_mapping("", "r", None)], None),
        "roleMappings[1].claim"
    );
    assert_eq!(field(vec![cel_mapping("claims[", "r", None)], None), "roleMappings[0].matcher");
    assert_eq!(field(vec![claim_mapping("a", "", None)], None), "roleMappings[0].roleArn");
    assert_eq!(field(vec![claim_mapping("a", "r", None); 257], None), "roleMappings");
    for wrong in [
        "",
        "role",
        "arn:aws:iam::123456789012:user/x",
        "arn:aws:iam::12345678901:role/x",
        "arn:aws:iam::12345678901a:role/x",
        "arn:aws:iam:eu-west-1:123456789012:role/x",
        "arn:aws:sts::123456789012:role/x",
        "arn:gcp:iam::123456789012:role/x",
        "arn:aws:iam::123456789012:role/a b",
    ] {
        assert_eq!(field(vec![], Some(wrong)), "fallbackRoleArn", "{wrong}");
    }
    for right in ["arn:aws-cn:iam::123456789012:role/x", "arn:aws-us-gov:iam::123456789012:role/path/to/x"] {
        assert!(Roles::new(None, vec![], Some(right)).is_ok(), "{right}");
    }
}
