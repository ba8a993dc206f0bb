//! Valid tokens: what they become, and that a repeated token is not verified again.

use std::sync::Arc;

use serde_json::json;
use vmcp_domain::{Authenticator, Caller, InvalidTokenReason, Unauthorized};
use vmcp_identity::policy::OidcPolicy;
use vmcp_identity::{ApiKey, BearerAuthenticator, BearerPolicy, new_api_key};
use vmcp_json::Json;

use crate::support::{AUDIENCE, NOW, Signer, manual_clock, settings, setup, setup_with, within_timeout};

#[tokio::test]
async fn a_good_token_names_its_user_with_every_claim_untouched() {
    let setup = setup().await;
    let claims = format!(
        r#"{{"iss":"{}","sub":"al\u0069ce","aud":["x","{AUDIENCE}"],"exp":{},"deep":{{"z":1.0,"a":2E3}},"n":12345678901234567890123}}"#,
        setup.idp.issuer,
        NOW + 60
    );
    let token = Signer::issuer().sign(r#"{"alg":"RS256","kid":"issuer"}"#, &claims);
    let admission = setup.admit(&token).await.unwrap();
    assert_eq!(admission.valid_for.unwrap().as_secs(), 60 + 30);
    let identity = setup.identity(&token).await;
    assert_eq!((&*identity.issuer, &*identity.subject), (&*setup.idp.issuer, "alice"));
    assert_eq!(identity.claims.to_json().as_str(), claims);
    let shown = format!("{identity:?} {admission:?}");
    assert!(!shown.contains("deep") && !shown.contains(&token), "{shown}");
}

#[tokio::test]
async fn every_kind_of_key_is_taken() {
    let setup = setup().await;
    let curves = [("e1", "ES256"), ("e2", "ES384"), ("e3", "EdDSA")].map(|(id, name)| Signer::new(id, name));
    let rsa = [
        ("r1", "RS256"),
        ("r2", "RS384"),
        ("r3", "RS512"),
        ("r4", "PS256"),
        ("r5", "PS384"),
        ("r6", "PS512"),
    ]
    .map(|(id, name)| Signer::issuer_as(id, name));
    let all: Vec<&Signer> = curves.iter().chain(&rsa).collect();
    setup.idp.publish(&all);
    for signer in &all {
        assert_eq!(
            setup.refusal_class(&signer.token(&json!({}), &setup.claims())).await,
            "admitted",
            "{}",
            signer.id
        );
    }
    // When a key set does not declare the use of its keys, their type decides.
    let stripped: Vec<_> = all
        .iter()
        .map(|signer| {
            let mut jwk = signer.jwk();
            jwk.as_object_mut().unwrap().retain(|name, _| name != "alg" && name != "use");
            jwk
        })
        .collect();
    setup.idp.set_reply("/keys", crate::support::Reply::Json(json!({"keys": stripped})));
    setup.clock.advance_secs(301);
    for signer in &all {
        assert_eq!(
            setup.refusal_class(&signer.token(&json!({}), &setup.claims())).await,
            "admitted",
            "{}",
            signer.id
        );
    }
    let cross = curves[0].token(&json!({"kid": "e2"}), &setup.claims());
    assert_eq!(setup.refusal_class(&cross).await, "algorithm");
}

#[tokio::test]
async fn algorithms_can_be_narrowed() {
    let setup = setup_with(|settings| settings.algorithms = vec!["ES256".to_owned()]).await;
    assert_eq!(setup.refusal_class(&setup.token()).await, "algorithm");
    // The keys were not even fetched a second time.
    assert_eq!(setup.idp.count("/keys"), 1);
}

#[tokio::test]
async fn the_same_token_is_the_same_identity_until_it_ends() {
    let setup = setup().await;
    let token = setup.token();
    let first = setup.identity(&token).await;
    setup.clock.advance_secs(200);
    assert!(Arc::ptr_eq(&first, &setup.identity(&token).await));
    let other = Signer::issuer().token(&json!({"typ": "JWT"}), &setup.claims());
    assert!(!Arc::ptr_eq(&first, &setup.identity(&other).await));
    // The result is cached for five minutes; after that the token is verified again.
    setup.clock.advance_secs(150);
    let again = setup.identity(&token).await;
    assert!(!Arc::ptr_eq(&first, &again));
    assert_eq!(first.subject, again.subject);
    setup.clock.advance_secs(3600 + 30 - 350 - 1);
    assert_eq!(setup.refusal_class(&token).await, "admitted");
    setup.clock.advance_secs(1);
    assert_eq!(setup.refusal_class(&token).await, "expired");
}

#[tokio::test]
async fn scopes_are_enforced_however_they_are_written() {
    let setup = setup_with(|settings| {
        settings.required_scopes = vec!["mcp".to_owned(), "tools".to_owned()];
    })
    .await;
    let required: Arc<[String]> = ["mcp".to_owned(), "tools".to_owned()].into();
    let with = |scopes: serde_json::Value| {
        let mut claims = setup.claims();
        claims.as_object_mut().unwrap().remove("scope");
        for (name, value) in scopes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        Signer::issuer().token(&json!({}), &claims)
    };
    for fine in [
        json!({"scope": "tools other mcp"}),
        json!({"scope": ["mcp", "tools"]}),
        json!({"scp": ["mcp", "tools"]}),
        json!({"scp": "mcp tools"}),
    ] {
        assert_eq!(setup.refusal_class(&with(fine.clone())).await, "admitted", "{fine}");
    }
    for narrow in [
        json!({}),
        json!({"scope": "mcp"}),
        json!({"scope": "mcptools"}),
        json!({"scope": "MCP TOOLS"}),
        json!({"scope": "mcp,tools"}),
        json!({"scope": 1}),
        json!({"scope": {"mcp": true, "tools": true}}),
    ] {
        let refused = setup.admit(&with(narrow.clone())).await.unwrap_err();
        assert_eq!(refused, Unauthorized::InsufficientScope { required: required.clone() }, "{narrow}");
    }
    assert_eq!(setup.authenticator.challenge().scopes, *required);
}

#[tokio::test]
async fn machines_come_with_keys_beside_people_with_tokens() {
    let idp = crate::support::Idp::start().await;
    let mut settings = settings(&idp);
    settings.resource = Some("https://mcp.example/mcp".to_owned());
    settings.required_scopes = vec!["mcp".to_owned()];
    let made = new_api_key().unwrap();
    let key = ApiKey {
        name: "ci".to_owned(),
        hash: made.hash,
        scopes: Vec::new(),
        claims: vmcp_json::Members::new(),
        expires_unix_s: Some(NOW + 100),
    };
    let started = |policy| BearerAuthenticator::start(policy, manual_clock()).unwrap();
    let policy = OidcPolicy::new(settings).unwrap();
    let authenticator = started(BearerPolicy::new("vmcp", Some(policy), vec![key.clone()]).unwrap());
    let request = |value: String| {
        let authenticator = &authenticator;
        async move { within_timeout(authenticator.authenticate(Some(value.as_bytes()), None)).await }
    };
    let admission = request(format!("Bearer {}", made.key.expose())).await.unwrap();
    assert_eq!(admission.valid_for.unwrap().as_secs(), 100);
    let Caller::Known(identity) = admission.caller else { panic!("nobody") };
    assert_eq!((&*identity.issuer, &*identity.subject), ("vmcp:api-key", "ci"));
    assert_eq!(identity.claims.get("sub").and_then(Json::decode_string).as_deref(), Some("ci"));
    let wrong = request("Bearer vmcp_wrong".to_owned()).await.unwrap_err();
    assert_eq!(wrong, Unauthorized::InvalidToken(InvalidTokenReason::UnknownApiKey));
    let opaque = request("Bearer opaque".to_owned()).await.unwrap_err();
    assert_eq!(opaque, Unauthorized::InvalidToken(InvalidTokenReason::Shape));
    assert_eq!(request("Basic eA==".to_owned()).await.unwrap_err(), Unauthorized::Malformed);
    assert_eq!(
        within_timeout(authenticator.authenticate(None, None)).await.unwrap_err(),
        Unauthorized::Missing
    );
    // None of these credentials caused a request to the provider.
    assert_eq!(idp.count("/keys"), 0);
    let challenge = authenticator.challenge();
    assert_eq!(challenge.realm, idp.issuer);
    let resource = challenge.resource.as_ref().unwrap();
    assert_eq!(resource.resource, "https://mcp.example/mcp");
    assert_eq!((&resource.authorization_servers[0], &resource.scopes[0]), (&idp.issuer, &"mcp".to_owned()));
    let alone = started(BearerPolicy::new("vmcp", None, vec![key]).unwrap());
    assert_eq!((&*alone.challenge().realm, &alone.challenge().resource), ("vmcp", &None));
    assert!(BearerPolicy::new("vmcp", None, Vec::new()).is_err());
}
