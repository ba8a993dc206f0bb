use vmcp_expression::EXPRESSION_BYTES_MAX;
use vmcp_json::Json;

use super::*;

fn identity_with(claims: &str) -> Identity {
    let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
    Identity { issuer: "https://issuer".to_owned(), subject: "ann".to_owned(), claims }
}

fn is_match(expression: &str, claims: &str) -> bool {
    CelMatcher::compile(expression)
        .unwrap()
        .is_match(&CelClaims::from_identity(&identity_with(claims)).unwrap())
}

#[test]
fn expressions_of_the_reference_work() {
    let many: Vec<String> = (0..40).map(|number| format!("\"g{number}\" in claims.groups")).collect();
    let many = many.join(" || ");
    let nested = format!("{}claims.groups[0] == \"a\"{}", "!(!(".repeat(20), "))".repeat(20));
    for (expression, claims, expected) in [
        (r#""admins" in claims["groups"]"#, r#"{"groups":["admins"]}"#, true),
        (r#""admins" in claims["groups"]"#, r#"{"groups":["users"]}"#, false),
        (r#"claims["sub"] == "ann" && !("act" in claims)"#, "{}", true),
        (r#"claims["sub"] == "ann" && !("act" in claims)"#, r#"{"act":{}}"#, false),
        (r#"claims.sub == "ann""#, r#"{"sub":"bob"}"#, true),
        (r#"claims.iss == "https://issuer""#, "{}", true),
        (r#"claims.level == 3"#, r#"{"level":3}"#, true),
        (r#"claims.level > 2"#, r#"{"level":3.5}"#, true),
        (r#"claims.level == 3.0"#, r#"{"level":3}"#, true),
        (r#"has(claims.team) && claims.team == "x""#, "{}", false),
        (r#"claims.groups.exists(g, g.startsWith("adm"))"#, r#"{"groups":["x","admins"]}"#, true),
        (r#"claims.groups.all(g, g != "guests")"#, r#"{"groups":["x","guests"]}"#, false),
        (r#"claims.email.endsWith("@example.com")"#, r#"{"email":"a@example.com"}"#, true),
        (r#"claims.email.matches("^[a-z]+@example[.]com$")"#, r#"{"email":"a@example.com"}"#, true),
        (r#"size(claims.groups) > 1 ? true : false"#, r#"{"groups":["a","b"]}"#, true),
        (r#"claims.realm.roles[0] == "r""#, r#"{"realm":{"roles":["r"]}}"#, true),
        ("1 / 0 == 1", "{}", false),
        (r#"claims.big + 1 > 0"#, r#"{"big":9223372036854775807}"#, false),
        ("claims", "{}", false),
        (&many, r#"{"groups":["g39"]}"#, true),
        (&nested, r#"{"groups":["a"]}"#, true),
    ] {
        assert_eq!(is_match(expression, claims), expected, "{expression} over {claims}");
    }
}

#[test]
fn what_could_take_long_or_means_nothing_is_refused() {
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let deep_lists = format!("{}{} == claims", "[".repeat(60), "]".repeat(60));
    let long = format!("claims.a == \"{}\"", "a".repeat(EXPRESSION_BYTES_MAX));
    for expression in [
        "",
        "claims[",
        "identity.sub == \"ann\"",
        "clams.sub == \"ann\"",
        "claims.sub.beginsWith(\"a\")",
        "claims.a.exists(x, y == 1)",
        "claims.a.exists(x, claims.a.exists(y, x == y))",
        "claims.a.exists(x, claims.b.all(y, y == 1))",
        "claims.a.map(x, x + x).size() > 0",
        "claims.a.filter(x, x != \"\").size() > 0",
        "claims.a.matches(claims.b)",
        "\"a\".matches(claims.b)",
        "claims.a.exists(x, x.matches(\"^a\"))",
        &deep,
        &deep_lists,
        &long,
    ] {
        assert!(CelMatcher::compile(expression).is_err(), "{expression}");
    }
}

#[test]
fn the_largest_claims_are_matched_soon() {
    let groups: Vec<String> = (0..2000).map(|number| format!("g{number:04}")).collect();
    let claims = identity_with(&format!(r#"{{"groups":{}}}"#, serde_json::to_string(&groups).unwrap()));
    let matcher =
        CelMatcher::compile(r#"claims.groups.exists(g, g.startsWith("x") || g.endsWith("x"))"#).unwrap();
    let started = std::time::Instant::now();
    assert!(!matcher.is_match(&CelClaims::from_identity(&claims).unwrap()));
    println!("2,000 groups against two endings: {:?}", started.elapsed());
    let small = identity_with(r#"{"groups":["a","b","c"],"email":"ann@example.com","level":3}"#);
    let usual = CelMatcher::compile(r#"claims["sub"] == "bob" && "c" in claims["groups"]"#).unwrap();
    let started = std::time::Instant::now();
    for _time in 0..1000 {
        assert!(!usual.is_match(&CelClaims::from_identity(&small).unwrap()));
    }
    println!("a usual matcher, claims read: {:?}", started.elapsed() / 1000);
    let more: Vec<String> = (0..3000).map(|number| format!("g{number:04}")).collect();
    let claims = identity_with(&format!(r#"{{"groups":{}}}"#, serde_json::to_string(&more).unwrap()));
    assert!(matches!(CelClaims::from_identity(&claims), Err(CredentialError::Claim { .. })));
}
