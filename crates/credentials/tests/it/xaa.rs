//! Cross-app access: two steps, and an assertion that is sent only to the target it was made for.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use vmcp_credentials::{CredentialError, CredentialSource, ExchangeContext, OAuthClient, Secret, XaaPolicy};

use crate::web::Form as _;
use crate::web::{self, HttpReply, ReceivedRequest, ScriptedServer};
use crate::{
    TestCaller, apply_credentials, bearer_token, exchange_context, headers, probe_credentials, token_url,
};

const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
const TARGET: &str = "https://target.example";

fn assertion(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "ES256", "typ": "oauth-id-jag+jwt"})), part(claims))
}

fn assertion_reply(token: &str) -> HttpReply {
    web::reply_json(
        200,
        &json!({"access_token": token, "issued_token_type": ID_JAG, "token_type": "N_A", "expires_in": 60}),
    )
}

fn target_reply(form_request: &ReceivedRequest) -> HttpReply {
    let token = format!("target-token-{}", form_request.number);
    web::reply_json(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": 600}))
}

fn policy(idp: &ScriptedServer, target: &ScriptedServer) -> XaaPolicy {
    XaaPolicy::new(token_url(idp), token_url(target), TARGET).unwrap()
}

async fn error_of(
    idp_answers: HttpReply,
    change: impl FnOnce(XaaPolicy) -> XaaPolicy,
) -> (CredentialError, usize) {
    let answer = std::sync::Mutex::new(Some(idp_answers));
    let idp = web::serve_sync(move |_hit| answer.lock().unwrap().take().unwrap()).await;
    let target = web::serve_sync(target_reply).await;
    let (_clock, exchanges) = exchange_context();
    let source = change(policy(&idp, &target)).into_source(exchanges);
    let error = apply_credentials(&source, Some(&TestCaller::new("ann", "{}"))).await.unwrap_err();
    (error, target.requests().len())
}

fn full_source(
    idp: &ScriptedServer,
    target: &ScriptedServer,
    exchange_context: &Arc<ExchangeContext>,
) -> impl CredentialSource + use<> {
    let account = |id: &str, secret: &str| {
        OAuthClient::new("clientId", id, "clientSecret", Some(&Secret::new(secret))).unwrap()
    };
    let policy = policy(idp, target)
        .with_idp_client(account("idp-id", "idp-secret"))
        .with_target_client(account("target-id", "target-secret"))
        .with_resource("https://backend/mcp")
        .and_then(|policy| policy.with_scopes(["read".to_owned()]))
        .and_then(|policy| policy.with_subject_token_type("id_token"))
        .unwrap();
    policy.into_source(Arc::clone(exchange_context))
}

#[tokio::test]
async fn the_id_token_becomes_an_assertion_and_that_a_token() {
    let jag = assertion(&json!({"aud": TARGET, "resource": ["https://backend/mcp"], "sub": "ann"}));
    let answered = jag.clone();
    let idp = web::serve_sync(move |_hit| assertion_reply(&answered)).await;
    let target = web::serve_sync(target_reply).await;
    let (clock, exchanges) = exchange_context();
    let source = full_source(&idp, &target, &exchanges);
    let ann = TestCaller::new("ann", "{}");
    for _call in 0..10 {
        assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "target-token-0");
    }
    let (first, second) = (idp.requests(), target.requests());
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(
        web::pairs(&first[0].form()),
        [
            ("audience", TARGET),
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", ID_JAG),
            ("resource", "https://backend/mcp"),
            ("scope", "read"),
            ("subject_token", ann.token_text.as_str()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ]
    );
    assert_eq!(
        web::pairs(&second[0].form()),
        [
            ("assertion", jag.as_str()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("scope", "read"),
        ]
    );
    // Each server receives its own client only.
    assert_ne!(first[0].headers["authorization"], second[0].headers["authorization"]);
    clock.advance_secs(541);
    assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "target-token-1");
    assert_eq!((idp.requests().len(), target.requests().len()), (2, 2));
}

#[tokio::test]
async fn an_assertion_for_somebody_else_is_not_shown_to_the_target() {
    let cases = [
        json!({"aud": "https://other.example"}),
        json!({"aud": [TARGET, "https://other.example"]}),
        json!({"aud": []}),
        json!({}),
        json!({"aud": 7}),
    ];
    for claims in cases {
        let (error, shown) = error_of(assertion_reply(&assertion(&claims)), |policy| policy).await;
        assert!(matches!(error, CredentialError::Misconfigured { .. }), "{claims}: {error}");
        assert_eq!(shown, 0, "{claims}");
    }
    let bound = |policy: XaaPolicy| policy.with_resource("https://backend/mcp").unwrap();
    for claims in [json!({"aud": TARGET}), json!({"aud": TARGET, "resource": "https://backend/other"})] {
        let (error, shown) = error_of(assertion_reply(&assertion(&claims)), bound).await;
        assert!(matches!(error, CredentialError::Misconfigured { .. }), "{claims}: {error}");
        assert_eq!(shown, 0, "{claims}");
    }
}

#[tokio::test]
async fn what_is_no_assertion_is_not_shown_to_the_target() {
    let jag = assertion(&json!({"aud": TARGET}));
    let access = "urn:ietf:params:oauth:token-type:access_token";
    for (token, kind, token_type) in [
        (jag.as_str(), access, "N_A"),
        (&jag, "", "N_A"),
        (&jag, ID_JAG, "Bearer"),
        ("opaque", ID_JAG, "N_A"),
        ("a.b", ID_JAG, "N_A"),
        ("a.!!.c", ID_JAG, "N_A"),
        ("caller-token-of-ann", ID_JAG, "N_A"),
    ] {
        let body = json!({"access_token": token, "issued_token_type": kind, "token_type": token_type});
        let (error, shown) = error_of(web::reply_json(200, &body), |policy| policy).await;
        assert!(matches!(error, CredentialError::Misconfigured { .. }), "{body}: {error}");
        assert_eq!(shown, 0, "{body}");
    }
}

#[tokio::test]
async fn a_target_that_hands_things_back_gets_nothing_sent() {
    let jag = assertion(&json!({"aud": TARGET}));
    for echo in [jag.clone(), "caller-token-of-ann".to_owned()] {
        let answered = jag.clone();
        let idp = web::serve_sync(move |_hit| assertion_reply(&answered)).await;
        let target = web::serve_sync(move |_hit| {
            web::reply_json(200, &json!({"access_token": echo, "token_type": "Bearer"}))
        })
        .await;
        let (_clock, exchanges) = exchange_context();
        let source = policy(&idp, &target).into_source(exchanges);
        let error = apply_credentials(&source, Some(&TestCaller::new("ann", "{}"))).await.unwrap_err();
        assert!(matches!(error, CredentialError::Misconfigured { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_of_either_step_is_its_own() {
    let (error, shown) =
        error_of(web::reply_json(400, &json!({"error": "invalid_grant"})), |policy| policy).await;
    assert!(matches!(error, CredentialError::Refused { code: Some("invalid_grant"), .. }), "{error}");
    assert_eq!(shown, 0);
    let idp = web::serve_sync(|_hit| assertion_reply(&assertion(&json!({"aud": [TARGET]})))).await;
    let target = web::serve_sync(|_hit| web::reply_json(400, &json!({"error": "access_denied"}))).await;
    let (_clock, exchanges) = exchange_context();
    let source = policy(&idp, &target).into_source(exchanges);
    let error = apply_credentials(&source, Some(&TestCaller::new("ann", "{}"))).await.unwrap_err();
    let authority = Arc::from(target.base().trim_start_matches("http://"));
    assert_eq!(error, CredentialError::Refused { authority, code: Some("access_denied") });
}

#[tokio::test]
async fn without_a_caller_only_the_gateways_own_account_is_used() {
    let idp = web::serve_sync(|_hit| panic!("nobody's ID token can be exchanged")).await;
    let target = web::serve_sync(target_reply).await;
    let (_clock, exchanges) = exchange_context();
    let silent = policy(&idp, &target).into_source(Arc::clone(&exchanges));
    assert_eq!(apply_credentials(&silent, None).await.unwrap_err(), CredentialError::NeedsCaller("xaa"));
    assert_eq!(headers(&probe_credentials(&silent).await.unwrap()), []);
    let source = full_source(&idp, &target, &exchanges);
    assert_eq!(bearer_token(&probe_credentials(&source).await.unwrap()), "target-token-0");
    assert_eq!(target.requests()[0].form()["grant_type"], "client_credentials");
}
