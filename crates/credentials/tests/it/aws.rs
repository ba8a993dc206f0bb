//! AWS roles: which role is selected, what STS is asked, which responses are accepted, and how long keys are
//! cached.

use std::sync::Arc;

use vmcp_credentials::{
    AwsStsPolicy, AwsStsSource, CredentialError, CredentialSource as _, ExchangeContext, RoleMapping,
    RoleMatch, Roles,
};

use crate::web::Form as _;
use crate::web::{self, HttpReply, ReceivedRequest, ScriptedServer};
use crate::{TestCaller, apply_credentials, exchange_context, headers, probe_credentials, token_url};

const READER: &str = "arn:aws:iam::123456789012:role/reader";
const ADMIN: &str = "arn:aws:iam::123456789012:role/path/admin";

fn sts_reply_body(id: &str, token: &str, end: &str) -> String {
    format!(
        r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>ann</SubjectFromWebIdentityToken>
    <Credentials>
      <SessionToken>{token}</SessionToken>
      <SecretAccessKey>very-secret-key</SecretAccessKey>
      <Expiration>{end}</Expiration>
      <AccessKeyId>{id}</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"#
    )
}

fn sts_reply(form_request: &ReceivedRequest) -> HttpReply {
    web::reply_text(
        200,
        sts_reply_body(&format!("ASIA{}", form_request.number), "session+token/=", "2026-01-01T01:00:00Z"),
    )
}

fn roles() -> Roles {
    let mapping = |who, role: &str| RoleMapping { condition: who, role_arn: role.to_owned(), priority: None };
    let cel = RoleMatch::Cel(r#"claims.level > 8"#.to_owned());
    let mappings = vec![
        mapping(cel, ADMIN),
        mapping(RoleMatch::Claim("admins".to_owned()), ADMIN),
        mapping(RoleMatch::Claim("users".to_owned()), READER),
    ];
    Roles::new(None, mappings, None).unwrap()
}

fn policy(web: &ScriptedServer) -> AwsStsPolicy {
    AwsStsPolicy::new("eu-central-1", roles()).unwrap().with_sts_url(token_url(web))
}

fn source(web: &ScriptedServer, exchange_context: &Arc<ExchangeContext>) -> AwsStsSource {
    AwsStsSource::new(policy(web), Arc::clone(exchange_context))
}

#[tokio::test]
async fn a_role_is_assumed_and_the_request_signed() {
    let web = web::serve_sync(sts_reply).await;
    let (_clock, exchanges) = exchange_context();
    let policy = policy(&web).with_session_seconds(900).unwrap();
    let source = AwsStsSource::new(policy, Arc::clone(&exchanges));
    let ann = TestCaller::new("ann", r#"{"groups":["users"]}"#);
    let credential_headers = apply_credentials(&source, Some(&ann)).await.unwrap();
    let made = headers(&credential_headers);
    let value = |wanted: &str| made.iter().find(|(name, _)| name == wanted).unwrap().1.as_str();
    assert_eq!(value("x-amz-date"), "20260101T000000Z");
    assert_eq!(value("x-amz-security-token"), "session+token/=");
    let start = "AWS4-HMAC-SHA256 Credential=ASIA0/20260101/eu-central-1/aws-mcp/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=";
    let signature = value("authorization").strip_prefix(start).unwrap();
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let forms = web.requests();
    assert!(!forms[0].headers.contains_key("authorization"));
    assert_eq!(
        web::pairs(&forms[0].form()),
        [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("DurationSeconds", "900"),
            ("RoleArn", READER),
            ("RoleSessionName", "ann"),
            ("Version", "2011-06-15"),
            ("WebIdentityToken", ann.token_text.as_str()),
        ]
    );
}

#[tokio::test]
async fn keys_are_kept_until_shortly_before_their_end() {
    let web = web::serve_sync(|form_request| {
        let hour = form_request.number + 1;
        web::reply_text(200, sts_reply_body("ASIA", "session", &format!("2026-01-01T0{hour}:00:00Z")))
    })
    .await;
    let (clock, exchanges) = exchange_context();
    let source = source(&web, &exchanges);
    let ann = TestCaller::new("ann", r#"{"groups":["users"]}"#);
    for (wait, expected) in [(0, 1), (3539, 1), (1, 2), (3539, 2), (1, 3)] {
        clock.advance_secs(wait);
        apply_credentials(&source, Some(&ann)).await.unwrap();
        assert_eq!(web.requests().len(), expected, "after {wait} more seconds");
    }
}

#[tokio::test]
async fn a_clock_that_is_behind_does_not_keep_keys_longer_than_asked_for() {
    let web = web::serve_sync(|_hit| {
        web::reply_text(200, sts_reply_body("ASIA", "session", "2031-01-01T00:00:00Z"))
    })
    .await;
    let (clock, exchanges) = exchange_context();
    let source = source(&web, &exchanges);
    let ann = TestCaller::new("ann", r#"{"groups":["users"]}"#);
    apply_credentials(&source, Some(&ann)).await.unwrap();
    clock.advance_secs(3540);
    apply_credentials(&source, Some(&ann)).await.unwrap();
    assert_eq!(web.requests().len(), 2);
}

#[tokio::test]
async fn callers_roles_and_sessions_are_kept_apart() {
    let web = web::serve_sync(sts_reply).await;
    let (_clock, exchanges) = exchange_context();
    let source = source(&web, &exchanges);
    // The same opaque token with claims that changed at the issuer.
    let (user, admin) = (r#"{"groups":["users"]}"#, r#"{"groups":["users","admins"]}"#);
    for (subject, claims, role) in [
        ("ann", user, READER),
        ("ann", admin, ADMIN),
        ("bob", user, READER),
        ("ann", r#"{"level":9}"#, ADMIN),
    ] {
        apply_credentials(&source, Some(&TestCaller::new(subject, claims))).await.unwrap();
        assert!(
            web.requests().iter().any(|form_request| form_request.form()["RoleArn"] == role),
            "{subject} {claims}"
        );
    }
    let asked: Vec<(String, String)> = web
        .requests()
        .iter()
        .map(|form_request| {
            (form_request.form()["RoleSessionName"].clone(), form_request.form()["RoleArn"].clone())
        })
        .collect();
    let expected = [("ann", READER), ("ann", ADMIN), ("bob", READER)];
    assert_eq!(asked, expected.map(|(name, role)| (name.to_owned(), role.to_owned())));
    let scope = |subject, claims| source.scope(Some(&TestCaller::new(subject, claims).subject())).unwrap();
    assert_eq!(scope("ann", admin), scope("ann", r#"{"level":9}"#));
    assert_ne!(scope("ann", user), scope("ann", admin));
    assert_ne!(scope("ann", user), scope("bob", user));
}

#[tokio::test]
async fn callers_without_a_role_or_a_name_are_not_asked_for() {
    let web = web::serve_sync(sts_reply).await;
    let (_clock, exchanges) = exchange_context();
    let plain = source(&web, &exchanges);
    let nobody = TestCaller::new("ann", r#"{"groups":["others"]}"#);
    assert_eq!(apply_credentials(&plain, Some(&nobody)).await.unwrap_err(), CredentialError::NoRole);
    assert_eq!(plain.scope(Some(&nobody.subject())).unwrap_err(), CredentialError::NoRole);
    assert_eq!(apply_credentials(&plain, None).await.unwrap_err(), CredentialError::NeedsCaller("aws_sts"));
    assert_eq!(headers(&probe_credentials(&plain).await.unwrap()), []);
    for subject in ["a", "auth0|ann", "ann lee", "änn", &"a".repeat(65)] {
        let caller = TestCaller::new(subject, r#"{"groups":["users"]}"#);
        let error = apply_credentials(&plain, Some(&caller)).await.unwrap_err();
        assert!(matches!(error, CredentialError::Claim { .. }), "{subject}: {error}");
    }
    let by_mail = AwsStsSource::new(policy(&web).with_session_name_claim("email").unwrap(), exchanges);
    for claims in [r#"{"groups":["users"]}"#, r#"{"groups":["users"],"email":7}"#] {
        let error = apply_credentials(&by_mail, Some(&TestCaller::new("ann", claims))).await.unwrap_err();
        assert!(matches!(error, CredentialError::Claim { .. }), "{claims}: {error}");
    }
    assert_eq!(web.requests().len(), 0);
    let named = TestCaller::new("auth0|ann", r#"{"groups":["users"],"email":"ann@example.com"}"#);
    apply_credentials(&by_mail, Some(&named)).await.unwrap();
    assert_eq!(web.requests()[0].form()["RoleSessionName"], "ann@example.com");
}

#[tokio::test]
async fn answers_that_are_not_from_sts_are_not_taken() {
    let good = sts_reply_body("ASIA", "session", "2026-01-01T01:00:00Z");
    let bomb = format!(r#"<!DOCTYPE a [<!ENTITY b "bb">]>{}"#, good.replace("ASIA", "&b;"));
    let nodes = format!("<a>{}</a>", "<b/>".repeat(5000));
    let twice = format!("<a>{good}{good}</a>");
    for body in [
        "<html><body>hush</body></html>".to_owned(),
        "{}".to_owned(),
        String::new(),
        bomb,
        nodes,
        twice,
        good.replace("AccessKeyId", "KeyId"),
        good.replace("2026-01-01T01:00:00Z", "soon"),
        good.replace("2026-01-01T01:00:00Z", "1815-12-10T00:00:00Z"),
        good.replace("ASIA", "A\u{e9}"),
        good.replace("ASIA", " "),
        good.replace(">session<", ">x.caller-token-of-ann<"),
    ] {
        let shown: String = body.chars().take(80).collect();
        let web = web::serve_sync(move |_hit| web::reply_text(200, body.clone())).await;
        let (_clock, exchanges) = exchange_context();
        let ann = TestCaller::new("ann", r#"{"groups":["users"]}"#);
        let error = apply_credentials(&source(&web, &exchanges), Some(&ann)).await.unwrap_err();
        assert!(matches!(error, CredentialError::Misconfigured { .. }), "{shown}: {error}");
        assert!(!error.to_string().contains("hush"));
    }
}

#[tokio::test]
async fn refusals_of_sts_have_their_class() {
    let ann = TestCaller::new("ann", r#"{"groups":["users"]}"#);
    for (status, code, class) in [
        (403, "AccessDenied", "refuses the exchange (AccessDenied)"),
        (400, "InvalidIdentityToken", "refuses the exchange (InvalidIdentityToken)"),
        (400, "ExpiredTokenException", "refuses the exchange (ExpiredTokenException)"),
        (400, "Hush", "refuses the exchange (without a known error code)"),
        (400, "ValidationError", "(ValidationError); check role"),
        (403, "RegionDisabledException", "(RegionDisabledException); check role"),
        (400, "IDPCommunicationError", "answered 400"),
        (400, "Throttling", "answered 400"),
        (500, "InternalFailure", "answered 500"),
        (404, "NotFound", "answered 404 Not Found; check the region"),
    ] {
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>hush</Message></Error></ErrorResponse>"
        );
        let web = web::serve_sync(move |_hit| web::reply_text(status, body.clone())).await;
        let (_clock, exchanges) = exchange_context();
        let error = apply_credentials(&source(&web, &exchanges), Some(&ann)).await.unwrap_err().to_string();
        assert!(
            error.contains(class) && !error.contains("hush") && !error.contains("Hush"),
            "{code}: {error}"
        );
    }
}

#[test]
fn impossible_settings_cannot_be_built() {
    let field =
        |policy: Result<AwsStsPolicy, vmcp_credentials::PolicyError>| policy.unwrap_err().field().to_owned();
    for region in ["", "eu central", "EU-central-1", "eu-central-1.evil.example/", "1", "eu-", "a@b"] {
        assert_eq!(field(AwsStsPolicy::new(region, roles())), "region", "{region}");
    }
    let policy = || AwsStsPolicy::new("us-gov-west-1", roles()).unwrap();
    assert_eq!(field(policy().with_service("aws mcp")), "service");
    assert_eq!(field(policy().with_session_name_claim("")), "sessionNameClaim");
    assert_eq!(field(policy().with_session_seconds(899)), "sessionDuration");
    assert_eq!(field(policy().with_session_seconds(43_201)), "sessionDuration");
    for (region, place) in [
        ("eu-central-1", "sts.eu-central-1.amazonaws.com/"),
        ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn/"),
        ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com/"),
    ] {
        let policy = AwsStsPolicy::new(region, roles()).unwrap();
        assert!(format!("{policy:?}").contains(place), "{policy:?}");
    }
}
