//! The caller's token never comes out, and nothing that is printed shows a secret.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use vmcp_credentials::{
    AwsStsPolicy, ClientAccount, CredentialSource, FixedHeaders, PolicyError, Roles, Scope, Secret, Strategy,
    TokenExchangePolicy, XaaPolicy,
};

use crate::web::{self, Hit, Reply, Web};
use crate::{Caller, apply, exchanges, headers, probe, url};

/// An issuer, target and STS in one.
fn everything(hit: &Hit) -> Reply {
    if hit.form.contains_key("Action") {
        return web::text(
            200,
            "<r><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>granted-secret</SecretAccessKey>\
             <SessionToken>granted-session</SessionToken><Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></r>",
        );
    }
    let asked = hit.form.get("requested_token_type").map_or("", String::as_str);
    if asked.ends_with("id-jag") {
        let claims = URL_SAFE_NO_PAD.encode(json!({"aud": "target"}).to_string());
        return web::json(
            200,
            &json!({"access_token": format!("e30.{claims}.c2ln"), "issued_token_type": asked, "token_type": "N_A"}),
        );
    }
    web::json(
        200,
        &json!({"access_token": "granted-token", "issued_token_type": asked, "token_type": "Bearer"}),
    )
}

fn strategies(web: &Web) -> Vec<Strategy> {
    let account =
        ClientAccount::new("clientId", "id", "clientSecret", Some(&Secret::new("client-secret"))).unwrap();
    let xaa = XaaPolicy::new(url(web), url(web), "target").unwrap();
    let roles = Roles::new(None, vec![], Some("arn:aws:iam::123456789012:role/r")).unwrap();
    vec![
        Strategy::Unauthenticated,
        Strategy::HeaderInjection(FixedHeaders::one("x-api-key", &Secret::new("fixed-secret")).unwrap()),
        Strategy::TokenExchange(TokenExchangePolicy::new(url(web)).with_account(account.clone())),
        Strategy::Xaa(xaa.with_idp_account(account.clone()).with_target_account(account)),
        Strategy::AwsSts(AwsStsPolicy::new("eu-central-1", roles).unwrap().with_sts(url(web))),
    ]
}

#[tokio::test]
async fn no_output_of_any_strategy_contains_the_callers_token() {
    let web = web::answer(everything).await;
    let (_clock, exchanges) = exchanges();
    let ann = Caller::new("ann", "{}");
    // Neither as it is nor in a usual disguise.
    let disguises = [
        ann.text.clone(),
        STANDARD.encode(&ann.text),
        URL_SAFE_NO_PAD.encode(&ann.text),
        form_urlencoded::byte_serialize(ann.text.as_bytes()).collect(),
        ann.text.chars().rev().collect(),
    ];
    let mut names = Vec::new();
    for strategy in strategies(&web) {
        let source = strategy.build(&exchanges).unwrap();
        for applied in [apply(&*source, Some(&ann)).await.unwrap(), probe(&*source).await.unwrap()] {
            for (name, value) in headers(&applied) {
                assert!(!disguises.iter().any(|token| value.contains(token)), "{} {name}", source.name());
            }
        }
        names.push(source.name());
    }
    assert_eq!(names, ["unauthenticated", "header_injection", "token_exchange", "xaa", "aws_sts"]);
    // The three that exchange did so with the caller's token.
    let given = web.hits().iter().filter(|hit| hit.form.values().any(|value| *value == ann.text)).count();
    assert_eq!(given, 3);
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_secret() {
    let web = web::answer(everything).await;
    let (_clock, exchanges) = exchanges();
    let ann = Caller::new("ann", "{}");
    let mut printed = format!("{:?} {:?}", ann.subject(), strategies(&web));
    for strategy in strategies(&web) {
        let source = strategy.build(&exchanges).unwrap();
        let applied = apply(&*source, Some(&ann)).await.unwrap();
        let mut sent = http::HeaderMap::new();
        applied.set_on(&mut sent);
        printed.push_str(&format!("{applied:?} {sent:?} {:?}", source.scope(Some(&ann.subject()))));
    }
    let basic = STANDARD.encode("id:client-secret");
    for secret in [&ann.text, "client-secret", "fixed-secret", &basic, "granted-"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test]
async fn fixed_credentials_are_shared_and_need_nobody() {
    let web = web::answer(everything).await;
    let (_clock, exchanges) = exchanges();
    for strategy in strategies(&web).into_iter().filter(|strategy| !strategy.exchanges()) {
        let source = strategy.build(&exchanges).unwrap();
        assert_eq!(source.scope(None), Ok(Scope::Shared));
        assert_eq!(source.scope(Some(&Caller::new("ann", "{}").subject())), Ok(Scope::Shared));
        let applied = apply(&*source, None).await.unwrap();
        assert!(!source.forget(&applied), "another try would send the same");
    }
    assert_eq!(web.count(), 0);
}

#[tokio::test]
async fn strategies_without_a_source_say_so() {
    let (_clock, exchanges) = exchanges();
    for (strategy, name) in [(Strategy::UpstreamInject, "upstream_inject"), (Strategy::Obo, "obo")] {
        let built: Result<Arc<dyn CredentialSource>, PolicyError> = strategy.build(&exchanges);
        let Err(error) = built else { panic!("{name} was built") };
        assert_eq!(error.field(), "type");
        assert!(error.why().starts_with(name) && error.why().contains("token_exchange"), "{error}");
    }
    assert_eq!(PolicyError::no_upstream("subjectProviderName").field(), "subjectProviderName");
}
