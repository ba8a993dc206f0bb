use std::str::FromStr as _;

use http::{HeaderMap, Method, Uri};

use super::*;

/// The account, time, region and service of all cases in AWS's Signature Version 4 test suite.
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: Duration = Duration::from_secs(1_440_938_160); // 2015-08-30T12:36:00Z

const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

fn signed(
    session: Option<&str>,
    method: &str,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> Result<Vec<(HeaderName, HeaderValue)>, CredentialError> {
    let credentials = Credentials::new(ID, SECRET, session.map(str::to_owned), None, "test");
    let uri = Uri::from_str(&format!("https://example.amazonaws.com{path}")).unwrap();
    let pairs = headers.iter();
    let pairs =
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let headers: HeaderMap = pairs.collect();
    let request = RequestView { method: &method, uri: &uri, headers: &headers, body: body.as_bytes() };
    sign(&request, &credentials, "us-east-1", "service", NOW)
}

#[test]
fn signatures_are_those_of_the_published_test_suite() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (case, session, method, path, headers, body, names, signature) in [
        (
            "get-vanilla",
            None,
            "GET",
            "/",
            vec![],
            "",
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "post-vanilla",
            None,
            "POST",
            "/",
            vec![],
            "",
            "host;x-amz-date",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "get-vanilla-query-order-key-case",
            None,
            "GET",
            "/?Param2=value2&Param1=value1",
            vec![],
            "",
            "host;x-amz-date",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "post-x-www-form-urlencoded",
            None,
            "POST",
            "/",
            vec![form],
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "post-sts-header-before",
            Some(SESSION),
            "POST",
            "/",
            vec![],
            "",
            "host;x-amz-date;x-amz-security-token",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    ] {
        let headers = signed(session, method, path, &headers, body).unwrap();
        assert!(headers.iter().all(|(_, value)| value.is_sensitive()), "{case}");
        let value = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        assert_eq!(value("x-amz-date").as_deref(), Some("20150830T123600Z"), "{case}");
        assert_eq!(value("x-amz-security-token").as_deref(), session, "{case}");
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, \
             Signature={signature}"
        );
        assert_eq!(value("authorization"), Some(expected), "{case}");
    }
}

#[test]
fn the_body_and_the_headers_are_covered() {
    let signature = |headers: &[(&'static str, &str)], body: &str| {
        let headers = signed(None, "POST", "/mcp", headers, body).unwrap();
        headers.into_iter().find(|(name, _)| name == "authorization").unwrap().1
    };
    let json = ("content-type", "application/json");
    let plain = signature(&[json], "{}");
    assert_eq!(plain, signature(&[json], "{}"));
    assert_ne!(plain, signature(&[json], "{ }"));
    assert_ne!(plain, signature(&[json, ("mcp-session-id", "1")], "{}"));
}

#[test]
fn what_cannot_be_signed_is_not_sent() {
    let credentials = Credentials::new(ID, SECRET, None, None, "test");
    let (method, headers) = (Method::POST, HeaderMap::new());
    let relative = Uri::from_static("/mcp");
    let request = RequestView { method: &method, uri: &relative, headers: &headers, body: b"" };
    let error = sign(&request, &credentials, "us-east-1", "service", NOW).unwrap_err();
    assert!(matches!(error, CredentialError::Unsignable(_)));
    let mut opaque = HeaderMap::new();
    opaque.insert("x-name", HeaderValue::from_bytes(b"\xff").unwrap());
    let uri = Uri::from_static("https://example.amazonaws.com/");
    let request = RequestView { method: &method, uri: &uri, headers: &opaque, body: b"" };
    assert!(matches!(
        sign(&request, &credentials, "us-east-1", "service", NOW),
        Err(CredentialError::Unsignable(_))
    ));
}
