use bytes::Bytes;
use http::StatusCode;

use super::*;
use crate::error::CredentialError;

fn url() -> TokenUrl {
    TokenUrl::parse("tokenUrl", "https://idp/token", false).unwrap()
}

fn reply(status: u16, body: &str) -> TokenReply {
    TokenReply { status: StatusCode::from_u16(status).unwrap(), body: Bytes::from(body.to_owned()) }
}

fn lifetime(expires_in: &str) -> Option<Option<Duration>> {
    let body = format!(r#"{{"access_token":"t","token_type":"Bearer"{expires_in}}}"#);
    parse_token_response(&url(), &reply(200, &body)).ok().map(|granted| granted.lifetime)
}

#[test]
fn lifetimes_are_read_as_issuers_write_them() {
    let seconds = |number: f64| Some(Some(Duration::from_secs_f64(number)));
    for (text, expected) in [
        ("", Some(None)),
        (r#","expires_in":null"#, Some(None)),
        (r#","expires_in":3600"#, seconds(3600.0)),
        (r#","expires_in":"3600""#, seconds(3600.0)),
        (r#","expires_in":3599.5"#, seconds(3599.5)),
        (r#","expires_in":0"#, seconds(0.0)),
        (r#","expires_in":18446744073709551615"#, seconds(3.2e9)),
        (r#","expires_in":1e300"#, seconds(3.2e9)),
        (r#","expires_in":"99999999999999999999""#, seconds(3.2e9)),
        (r#","expires_in":-1"#, None),
        (r#","expires_in":-1e300"#, None),
        (r#","expires_in":1e999"#, None),
        (r#","expires_in":NaN"#, None),
        (r#","expires_in":"NaN""#, None),
        (r#","expires_in":"-5""#, None),
        (r#","expires_in":"""#, None),
        (r#","expires_in":true"#, None),
        (r#","expires_in":[3600]"#, None),
    ] {
        assert_eq!(lifetime(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_token_is_not_taken() {
    let long = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "a".repeat(TOKEN_BYTES_MAX + 1));
    for body in [
        "",
        "null",
        "[]",
        "<html></html>",
        r#"{"token_type":"Bearer"}"#,
        r#"{"access_token":null,"token_type":"Bearer"}"#,
        r#"{"access_token":"","token_type":"Bearer"}"#,
        r#"{"access_token":7,"token_type":"Bearer"}"#,
        r#"{"access_token":"t"}"#,
        r#"{"access_token":"a b","token_type":"Bearer"}"#,
        r#"{"access_token":"a\r\nx: y","token_type":"Bearer"}"#,
        r#"{"access_token":"é","token_type":"Bearer"}"#,
        r#"{"access_token":"one","access_token":"two","token_type":"Bearer"}"#,
        &long,
    ] {
        let error = parse_token_response(&url(), &reply(200, body)).err().map(|failure| failure.error);
        assert!(matches!(error, Some(CredentialError::Misconfigured { .. })), "{body}");
    }
}

#[test]
fn refusals_are_sorted_by_what_helps() {
    let unavailable = |status| CredentialError::Unavailable {
        authority: "idp".into(),
        why: format!("answered {}", StatusCode::from_u16(status).unwrap()).into(),
    };
    let refused = |code| CredentialError::Refused { authority: "idp".into(), code };
    for (status, body, expected) in [
        (500, "<html>", unavailable(500)),
        (503, r#"{"error":"invalid_grant"}"#, unavailable(503)),
        (429, "", unavailable(429)),
        (400, r#"{"error":"temporarily_unavailable"}"#, unavailable(400)),
        (400, r#"{"error":"invalid_grant","error_description":"hush"}"#, refused(Some("invalid_grant"))),
        (401, r#"{"error":"access_denied"}"#, refused(Some("access_denied"))),
        (400, r#"{"error":"hush"}"#, refused(None)),
        (403, "hush", refused(None)),
    ] {
        let failure = classify_error(&url(), &reply(status, body));
        assert_eq!(failure.error, expected, "{status} {body}");
        assert_eq!(failure.is_cacheable, (400..500).contains(&status), "{status}");
        assert!(!failure.error.to_string().contains("hush"));
    }
    for (status, body) in
        [(401, r#"{"error":"invalid_client"}"#), (400, r#"{"error":"invalid_target"}"#), (404, "")]
    {
        let failure = classify_error(&url(), &reply(status, body));
        assert!(matches!(failure.error, CredentialError::Misconfigured { .. }), "{status} {body}");
    }
}

#[test]
fn ids_and_secrets_are_encoded_before_they_are_joined() {
    // RFC 6749, section 2.3.1: "a:b" and "c d&" become "a%3Ab" and "c+d%26".
    let secret = Secret::new("c d&");
    let account = OAuthClient::new("clientId", "a:b", "clientSecret", Some(&secret)).unwrap();
    let basic = account.basic_auth.clone().unwrap();
    assert!(basic.is_sensitive());
    let encoded = basic.to_str().unwrap().strip_prefix("Basic ").unwrap();
    assert_eq!(STANDARD.decode(encoded).unwrap(), b"a%3Ab:c+d%26");
    assert!(!format!("{account:?}").contains(encoded));
    assert_eq!(build_form(Some(&account), &[("a", None), ("b", Some("c d"))]), "b=c+d");
    let public = OAuthClient::new("clientId", "a:b", "clientSecret", None).unwrap();
    assert_eq!(build_form(Some(&public), &[]), "client_id=a%3Ab");
}

#[test]
fn impossible_accounts_cannot_be_built() {
    for (id, secret, field) in [
        ("", "s", "clientId"),
        ("a\n", "s", "clientId"),
        ("a", "", "clientSecret"),
        ("a", "hush\n", "clientSecret"),
    ] {
        let secret = Secret::new(secret);
        let error = OAuthClient::new("clientId", id, "clientSecret", Some(&secret)).unwrap_err();
        assert_eq!(error.field(), field);
        assert!(!error.to_string().contains("hush"));
    }
}
