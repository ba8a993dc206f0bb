//! Hostile tokens and the outcome of each. `hostile_tokens.txt` is reviewed.

use std::fmt::Write as _;

use expect_test::expect_file;
use serde_json::{Value, json};
use vmcp_timing::Clock as _;

use crate::support::{AUDIENCE, Idp, NOW, Setup, Signer, encode, setup};

/// A valid token's claims with some replaced; `null` removes a claim.
fn claims_with(setup: &Setup, change: Value) -> Value {
    let mut claims = setup.claims();
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// Tokens with a valid signature and a changed header.
fn tokens_with_changed_headers(setup: &Setup) -> Vec<(String, String)> {
    let changes = [
        ("the good token", json!({"typ": "at+jwt"})),
        ("typ left out", json!({})),
        ("typ JWT", json!({"typ": "JWT"})),
        ("typ application/at+jwt in capitals", json!({"typ": "APPLICATION/AT+JWT"})),
        ("typ dpop+jwt", json!({"typ": "dpop+jwt"})),
        ("typ logout+jwt", json!({"typ": "logout+jwt"})),
        ("typ is a number", json!({"typ": 1})),
        ("crit names something", json!({"crit": ["exp"]})),
        ("crit names b64", json!({"crit": ["b64"], "b64": false})),
        ("crit is empty", json!({"crit": []})),
        ("crit is no list", json!({"crit": "exp"})),
        ("zip", json!({"zip": "DEF"})),
        ("enc", json!({"enc": "A128GCM"})),
        ("kid of nobody", json!({"kid": "nobody"})),
        ("kid is a path", json!({"kid": "../../etc/passwd"})),
        ("kid is a number", json!({"kid": 7})),
        ("kid is very long", json!({"kid": "k".repeat(4000)})),
        ("kid left out", json!({"kid": null})),
        ("alg left out", json!({"alg": null})),
        ("alg none", json!({"alg": "none"})),
        ("alg None", json!({"alg": "None"})),
        ("alg in small letters", json!({"alg": "rs256"})),
        ("alg is a list", json!({"alg": ["RS256"]})),
        ("alg of the key's family, not the key's", json!({"alg": "RS512"})),
        ("alg of another family", json!({"alg": "ES256"})),
        ("alg EdDSA for an RSA key", json!({"alg": "EdDSA"})),
        ("alg HS256 over an RSA signature", json!({"alg": "HS256"})),
    ];
    let signer = Signer::issuer();
    let sign = |change: &Value| signer.token(change, &setup.claims());
    changes.iter().map(|(name, change)| ((*name).to_owned(), sign(change))).collect()
}

/// Tokens signed with another party's key, which the token says where to find.
fn tokens_of_other_keys(setup: &Setup) -> Vec<(String, String)> {
    let stranger = Signer::stranger();
    let evil = setup.idp.url("/evil");
    let changes = [
        ("a stranger's key under its own name", json!({})),
        ("a stranger's key under the issuer's name", json!({"kid": "issuer"})),
        ("a stranger's key in the header", json!({"kid": "issuer", "jwk": stranger.jwk()})),
        ("a stranger's key at jku", json!({"kid": "stranger", "jku": evil})),
        ("a stranger's key at x5u", json!({"kid": "stranger", "x5u": evil})),
        ("a stranger's key in x5c", json!({"kid": "stranger", "x5c": ["AAAA"]})),
    ];
    let mut cases: Vec<_> = changes
        .iter()
        .map(|(name, change)| ((*name).to_owned(), stranger.token(change, &setup.claims())))
        .collect();
    // The issuer's public key used as an HMAC secret, the classic algorithm confusion.
    let message = format!(
        "{}.{}",
        encode(json!({"alg": "HS256", "kid": "issuer"}).to_string()),
        encode(setup.claims().to_string())
    );
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &Signer::issuer().public_bytes());
    let tag = encode(ring::hmac::sign(&secret, message.as_bytes()));
    cases.push(("the public key as an HMAC secret".to_owned(), format!("{message}.{tag}")));
    cases
}

/// Tokens with a valid signature and changed claims.
fn tokens_with_changed_claims(setup: &Setup) -> Vec<(String, String)> {
    let cases = [
        ("exp left out", json!({"exp": null})),
        ("exp is a text", json!({"exp": "1900000000"})),
        ("exp is negative", json!({"exp": -1})),
        ("exp is beyond all time", json!({"exp": 1e300})),
        ("exp within the tolerance", json!({"exp": NOW - 29})),
        ("exp at the end of the tolerance", json!({"exp": NOW - 30})),
        ("exp with a fraction", json!({"exp": NOW as f64 + 0.5})),
        ("nbf within the tolerance", json!({"nbf": NOW + 30})),
        ("nbf in the future", json!({"nbf": NOW + 31})),
        ("nbf is a text", json!({"nbf": "now"})),
        ("iat in the future", json!({"iat": NOW + 31})),
        ("iat is an object", json!({"iat": {}})),
        ("iss left out", json!({"iss": null})),
        ("iss of somebody else", json!({"iss": "https://evil.example"})),
        ("iss with a slash more", json!({"iss": setup.idp.url("/")})),
        ("iss in a list", json!({"iss": [setup.idp.issuer]})),
        ("aud left out", json!({"aud": null})),
        ("aud of somebody else", json!({"aud": "https://other.example"})),
        ("aud a prefix of ours", json!({"aud": "https://mcp.example"})),
        ("aud ours and a slash", json!({"aud": format!("{AUDIENCE}/")})),
        ("aud among others", json!({"aud": ["https://other.example", AUDIENCE]})),
        ("aud an empty list", json!({"aud": []})),
        ("aud a list with a number", json!({"aud": [AUDIENCE, 1]})),
        ("aud an object", json!({"aud": {AUDIENCE: true}})),
        ("sub left out", json!({"sub": null})),
        ("sub empty", json!({"sub": ""})),
        ("sub with a line break", json!({"sub": "alice\nroot"})),
        ("sub is a number", json!({"sub": 1})),
        ("sub is very long", json!({"sub": "s".repeat(2000)})),
        ("an ID token by at_hash", json!({"at_hash": "x"})),
        ("an ID token by Keycloak's typ", json!({"typ": "ID"})),
        ("a refresh token by Keycloak's typ", json!({"typ": "Refresh"})),
        ("an access token by Keycloak's typ", json!({"typ": "Bearer"})),
        ("bound to a key (DPoP)", json!({"cnf": {"jkt": "x"}})),
        ("bound to a certificate", json!({"cnf": {"x5t#S256": "x"}})),
    ];
    let sign = |change| Signer::issuer().token(&json!({}), &claims_with(setup, change));
    cases.into_iter().map(|(name, change)| (name.to_owned(), sign(change))).collect()
}

/// Malformed texts.
fn malformed_tokens(setup: &Setup) -> Vec<(String, String)> {
    let good = setup.token();
    let parts: Vec<&str> = good.split('.').collect();
    let [head, payload, signature] = parts[..] else { panic!("{good}") };
    let twice = setup.claims().to_string().replacen('{', r#"{"sub":"mallory","#, 1);
    let head_text = r#"{"alg":"RS256","kid":"issuer"}"#;
    let deep = format!(r#"{{"deep":{}1{},"#, "[".repeat(500), "]".repeat(500));
    let deep = setup.claims().to_string().replacen('{', &deep, 1);
    let signer = Signer::issuer();
    let flipped = signature.replacen(signature.chars().next().unwrap(), "_", 1);
    let none = encode(r#"{"alg":"none"}"#);
    let cases = [
        ("one part", "abc".to_owned()),
        ("two parts", format!("{head}.{payload}")),
        ("four parts", format!("{good}.x")),
        ("five parts, as encrypted ones have", format!("{good}.x.y")),
        ("three dots' worth of nothing", "..".to_owned()),
        ("no signature", format!("{head}.{payload}.")),
        ("alg none without a signature", format!("{none}.{payload}.")),
        ("a signature of another text", format!("{head}.{}.{signature}", encode("{}"))),
        ("a changed signature", format!("{head}.{payload}.{flipped}")),
        ("a signature cut short", format!("{head}.{payload}.{}", &signature[..100])),
        ("a signature with padding", format!("{head}.{payload}.{signature}==")),
        ("a header that is no JSON", signer.sign("{", "{}")),
        ("a header that is a list", signer.sign("[]", "{}")),
        ("a header that is not base64url", format!("+/.{payload}.{signature}")),
        ("claims that are no JSON", signer.sign(head_text, "{")),
        ("claims that are a list", signer.sign(head_text, "[]")),
        ("a claim nested deep, left as it is", signer.sign(head_text, &deep)),
        ("a claim twice", signer.sign(head_text, &twice)),
        ("larger than a token may be", format!("{good}{}", "A".repeat(17 << 10))),
    ];
    cases.into_iter().map(|(name, token)| (name.to_owned(), token)).collect()
}

#[tokio::test]
async fn every_hostile_token_gets_its_answer() {
    let setup = setup().await;
    let mut table = String::new();
    let mut count = 0;
    for cases in [
        tokens_with_changed_headers(&setup),
        tokens_of_other_keys(&setup),
        tokens_with_changed_claims(&setup),
        malformed_tokens(&setup),
    ] {
        for (name, token) in cases {
            let class = setup.refusal_class(&token).await;
            writeln!(table, "{name:<44} {class}").unwrap();
            count += 1;
        }
        table.push('\n');
    }
    assert!(count > 80, "{count}");
    expect_file!["hostile_tokens.txt"].assert_eq(&table);
    // No URL that a token named was requested, and unknown keys caused one refresh.
    assert_eq!(setup.idp.count("/evil"), 0);
    assert_eq!(setup.idp.count("/keys"), 2);
}

#[tokio::test]
async fn keys_that_are_no_signing_keys_are_passed_over() {
    let setup = setup().await;
    let signer = Signer::issuer();
    let with = |name: &str, value: Value| {
        let mut jwk = signer.jwk();
        jwk[name] = value;
        jwk
    };
    let secret = json!({"kty": "oct", "kid": "issuer", "alg": "HS256", "k": encode("secret")});
    let refused = [
        ("for encryption", with("use", json!("enc"))),
        ("for wrapping", with("key_ops", json!(["wrapKey"]))),
        ("for another algorithm", with("alg", json!("PS256"))),
        ("for an unknown algorithm", with("alg", json!("XS256"))),
        ("under another name", with("kid", json!("other"))),
        ("of an unknown kind", with("kty", json!("AKP"))),
        ("with a broken modulus", with("n", json!("!"))),
        ("a shared secret", secret),
    ];
    for (name, jwk) in refused {
        setup.idp.set_reply("/keys", keys_reply(&[jwk]));
        setup.clock.advance_secs(301);
        assert_ne!(setup.refusal_class(&current_token(&setup)).await, "admitted", "{name}");
    }
    let garbage = [json!(null), json!({}), json!("x"), signer.jwk()];
    setup.idp.set_reply("/keys", keys_reply(&garbage));
    setup.clock.advance_secs(301);
    assert_eq!(setup.refusal_class(&current_token(&setup)).await, "admitted");
    // Two keys with one identifier: which one is meant is unknown.
    setup.idp.set_reply("/keys", keys_reply(&[signer.jwk(), signer.jwk()]));
    setup.clock.advance_secs(301);
    assert_eq!(setup.refusal_class(&current_token(&setup)).await, "unknown_key");
}

fn keys_reply(keys: &[Value]) -> crate::support::Reply {
    crate::support::Reply::Json(json!({"keys": keys}))
}

fn current_token(setup: &Setup) -> String {
    let now = setup.clock.time_of_day().as_secs();
    Signer::issuer().token(&json!({}), &claims_with(setup, json!({"iat": now, "exp": now + 60})))
}

#[tokio::test]
async fn a_provider_that_publishes_one_key_need_not_name_it() {
    let setup = setup().await;
    let nameless = Signer::issuer().token(&json!({"kid": null}), &setup.claims());
    assert_eq!(setup.refusal_class(&nameless).await, "admitted");
    let second = Signer::issuer_as("second", "RS256");
    Idp::publish(&setup.idp, &[Signer::issuer(), &second]);
    setup.clock.advance_secs(301);
    assert_eq!(setup.refusal_class(&nameless).await, "unknown_key");
}
