//! The caller's token is never in an output, and no printed text shows a secret.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use vmcp_credentials::{
    AwsStsPolicy, FixedHeaders, IsolationScope, OAuthClient, PolicyError, Roles, Secret, Strategy,
    TokenExchangePolicy, XaaPolicy,
};

use crate::web::Form as _;
use crate::web::{self, HttpReply, ReceivedRequest, ScriptedServer};
use crate::{TestCaller, apply_credentials, exchange_context, headers, probe_credentials, token_url};

/// An issuer, a target and STS in one server.
fn answer_everything(form_request: &ReceivedRequest) -> HttpReply {
    if form_request.form().contains_key("Action") {
        return web::reply_text(
            200,
            "<r><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>granted-secret</SecretAccessKey>\
             <SessionToken>granted-session</SessionToken><Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></r>",
        );
    }
    let form = form_request.form();
    let asked = form.get("requested_token_type").map_or("", String::as_str);
    if asked.ends_with("id-jag") {
        let claims = URL_SAFE_NO_PAD.encode(json!({"aud": "target"}).to_string());
        return web::reply_json(
            200,
            &json!({"access_token": format!("e30.{claims}.c2ln"), "issued_token_type": asked, "token_type": "N_A"}),
        );
    }
    web::reply_json(
        200,
        &json!({"access_token": "granted-token", "issued_token_type": asked, "token_type": "Bearer"}),
    )
}

fn strategies(web: &ScriptedServer) -> Vec<Strategy> {
    let account =
        OAuthClient::new("clientId", "id", "clientSecret", Some(&Secret::new("client-secret"))).unwrap();
    let xaa = XaaPolicy::new(token_url(web), token_url(web), "target").unwrap();
    let roles = Roles::new(None, vec![], Some("arn:aws:iam::123456789012:role/r")).unwrap();
    vec![
        Strategy::Unauthenticated,
        Strategy::HeaderInjection(
            FixedHeaders::with_header("x-api-key", &Secret::new("fixed-secret")).unwrap(),
        ),
        Strategy::TokenExchange(TokenExchangePolicy::new(token_url(web)).with_client(account.clone())),
        Strategy::Xaa(xaa.with_idp_client(account.clone()).with_target_client(account)),
        Strategy::AwsSts(AwsStsPolicy::new("eu-central-1", roles).unwrap().with_sts_url(token_url(web))),
    ]
}

#[tokio::test]
async fn no_output_of_any_strategy_contains_the_callers_token() {
    let web = web::serve_sync(answer_everything).await;
    let (_clock, exchanges) = exchange_context();
    let ann = TestCaller::new("ann", "{}");
    // Neither in plain text nor in a common encoding.
    let disguises = [
        ann.token_text.clone(),
        STANDARD.encode(&ann.token_text),
        URL_SAFE_NO_PAD.encode(&ann.token_text),
        form_urlencoded::byte_serialize(ann.token_text.as_bytes()).collect(),
        ann.token_text.chars().rev().collect(),
    ];
    let mut names = Vec::new();
    for strategy in strategies(&web) {
        let source = strategy.build(&exchanges);
        for credential_headers in [
            apply_credentials(&*source, Some(&ann)).await.unwrap(),
            probe_credentials(&*source).await.unwrap(),
        ] {
            for (name, value) in headers(&credential_headers) {
                assert!(!disguises.iter().any(|token| value.contains(token)), "{} {name}", source.name());
            }
        }
        names.push(source.name());
    }
    assert_eq!(names, ["unauthenticated", "header_injection", "token_exchange", "xaa", "aws_sts"]);
    // The three exchanging strategies sent the caller's token to a token endpoint.
    let given = web
        .requests()
        .iter()
        .filter(|form_request| form_request.form().values().any(|value| *value == ann.token_text))
        .count();
    assert_eq!(given, 3);
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_secret() {
    let web = web::serve_sync(answer_everything).await;
    let (_clock, exchanges) = exchange_context();
    let ann = TestCaller::new("ann", "{}");
    let mut printed = format!("{:?} {:?}", ann.subject(), strategies(&web));
    for strategy in strategies(&web) {
        let source = strategy.build(&exchanges);
        let credential_headers = apply_credentials(&*source, Some(&ann)).await.unwrap();
        let mut sent = http::HeaderMap::new();
        credential_headers.apply_to(&mut sent);
        printed
            .push_str(&format!("{credential_headers:?} {sent:?} {:?}", source.scope(Some(&ann.subject()))));
    }
    let basic = STANDARD.encode("id:client-secret");
    for secret in [&ann.token_text, "client-secret", "fixed-secret", &basic, "granted-"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test]
async fn fixed_credentials_are_shared_and_need_nobody() {
    let web = web::serve_sync(answer_everything).await;
    let (_clock, exchanges) = exchange_context();
    for strategy in strategies(&web)
        .into_iter()
        .filter(|strategy| matches!(strategy, Strategy::Unauthenticated | Strategy::HeaderInjection(_)))
    {
        let source = strategy.build(&exchanges);
        assert_eq!(source.scope(None), Ok(IsolationScope::Shared));
        assert_eq!(source.scope(Some(&TestCaller::new("ann", "{}").subject())), Ok(IsolationScope::Shared));
        let credential_headers = apply_credentials(&*source, None).await.unwrap();
        assert!(!source.invalidate(&credential_headers), "another try would send the same");
    }
    assert_eq!(web.requests().len(), 0);
}

#[test]
fn unsupported_strategies_say_what_to_use() {
    for (error, name) in
        [(PolicyError::no_upstream_inject(), "upstream_inject"), (PolicyError::no_obo(), "obo")]
    {
        assert_eq!(error.field(), "type");
        assert!(error.why().starts_with(name) && error.why().contains("token_exchange"), "{error}");
    }
    assert_eq!(PolicyError::no_upstream("subjectProviderName").field(), "subjectProviderName");
}
