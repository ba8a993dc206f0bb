//! RFC 8693: what is requested, for which caller, and how often.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use vmcp_credentials::{
    CredentialError, CredentialSource as _, IsolationScope, OAuthClient, Secret, TokenExchangePolicy,
};

use crate::web::Form as _;
use crate::{
    TestCaller, apply_credentials, bearer_token, exchange_context, exchange_source, granted_reply, headers,
    probe_credentials, token_url, web,
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

fn strings(of: &[&str]) -> Vec<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}

fn client(secret: Option<&str>) -> OAuthClient {
    let secret = secret.map(Secret::new);
    OAuthClient::new("clientId", "gateway", "clientSecret", secret.as_ref()).unwrap()
}

#[tokio::test]
async fn everything_configured_is_asked_for_and_nothing_else() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let policy = TokenExchangePolicy::new(token_url(&web))
        .with_client(client(Some("s3 cret")))
        .with_audience("https://backend")
        .and_then(|policy| policy.with_scopes(strings(&["write", "read", "read"])))
        .and_then(|policy| policy.with_resource("https://backend/mcp"))
        .and_then(|policy| policy.with_subject_token_type("jwt"))
        .unwrap();
    let source = policy.into_source(exchanges);
    let ann = TestCaller::new("ann", "{}");
    assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "backend-token-0");
    let forms = web.requests();
    let form_request = forms.first().unwrap();
    assert_eq!(form_request.http_method, "POST");
    assert_eq!(form_request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(
        form_request.headers["authorization"],
        format!("Basic {}", STANDARD.encode("gateway:s3+cret")).as_str()
    );
    assert_eq!(
        web::pairs(&form_request.form()),
        [
            ("audience", "https://backend"),
            ("grant_type", EXCHANGE),
            ("requested_token_type", ACCESS),
            ("resource", "https://backend/mcp"),
            ("scope", "read write"),
            ("subject_token", ann.token_text.as_str()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ]
    );
}

#[tokio::test]
async fn a_public_client_names_itself_and_no_client_does_not() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let ann = TestCaller::new("ann", "{}");
    let public = TokenExchangePolicy::new(token_url(&web)).with_client(client(None));
    let public = public.into_source(Arc::clone(&exchanges));
    apply_credentials(&public, Some(&ann)).await.unwrap();
    apply_credentials(&exchange_source(&web, &exchanges), Some(&ann)).await.unwrap();
    let forms = web.requests();
    assert_eq!(
        forms.iter().map(|form_request| form_request.form().get("client_id").cloned()).collect::<Vec<_>>(),
        [Some("gateway".to_owned()), None]
    );
    assert!(forms.iter().all(|form_request| !form_request.headers.contains_key("authorization")));
    assert!(forms.iter().all(|form_request| form_request.form()["subject_token_type"] == ACCESS));
}

#[tokio::test]
async fn ten_users_with_a_thousand_calls_each_make_260_requests() {
    // Tokens of 300 seconds are renewed after 270. With a call every 7 seconds every 39th is an exchange.
    let web = web::serve_sync(granted_reply).await;
    let (clock, exchanges) = exchange_context();
    let source = exchange_source(&web, &exchanges);
    let callers: Vec<TestCaller> =
        (0..10).map(|number| TestCaller::new(&format!("user{number}"), "{}")).collect();
    for _call in 0..1000 {
        for caller in &callers {
            apply_credentials(&source, Some(caller)).await.unwrap();
        }
        clock.advance_secs(7);
    }
    assert_eq!(web.requests().len(), 260);
    let mut asked: Vec<String> =
        web.requests().into_iter().map(|form_request| form_request.form()["subject_token"].clone()).collect();
    asked.sort_unstable();
    for caller in &callers {
        assert_eq!(asked.iter().filter(|token| **token == caller.token_text).count(), 26);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_at_once_make_one_exchange_each_caller() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let source = Arc::new(exchange_source(&web, &exchanges));
    let calls = (0..200).map(|number| {
        let source = Arc::clone(&source);
        let caller = TestCaller::new(["ann", "bob"][number % 2], "{}");
        tokio::spawn(async move {
            (number % 2, bearer_token(&apply_credentials(&*source, Some(&caller)).await.unwrap()))
        })
    });
    let mut got: Vec<(usize, String)> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    got.sort_unstable();
    got.dedup();
    assert_eq!(web.requests().len(), 2);
    let [(0, ann), (1, bob)] = got.as_slice() else { panic!("{got:?}") };
    assert_ne!(ann, bob);
}

#[tokio::test]
async fn backends_that_ask_for_the_same_share_and_others_do_not() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let ann = TestCaller::new("ann", "{}");
    let source = |audience: &str, scopes: &[&str]| {
        let policy = TokenExchangePolicy::new(token_url(&web)).with_audience(audience).unwrap();
        policy.with_scopes(strings(scopes)).unwrap().into_source(Arc::clone(&exchanges))
    };
    for (audience, scopes, expected) in [
        ("one", &["a", "b"][..], "backend-token-0"),
        ("one", &["b", "a"], "backend-token-0"),
        ("one", &["a"], "backend-token-1"),
        ("two", &["a", "b"], "backend-token-2"),
    ] {
        let credential_headers = apply_credentials(&source(audience, scopes), Some(&ann)).await.unwrap();
        assert_eq!(bearer_token(&credential_headers), expected, "{audience} {scopes:?}");
    }
}

#[tokio::test]
async fn a_token_the_backend_refuses_is_exchanged_once_more() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let source = exchange_source(&web, &exchanges);
    let ann = TestCaller::new("ann", "{}");
    let first = apply_credentials(&source, Some(&ann)).await.unwrap();
    let same = apply_credentials(&source, Some(&ann)).await.unwrap();
    assert!(source.invalidate(&first));
    assert!(source.invalidate(&same));
    let second = apply_credentials(&source, Some(&ann)).await.unwrap();
    assert_eq!(bearer_token(&second), "backend-token-1");
    assert!(!source.invalidate(&second), "the backend refuses every token");
    assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "backend-token-1");
    assert_eq!(web.requests().len(), 2);
}

#[tokio::test]
async fn without_a_caller_there_is_no_token() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let policy = TokenExchangePolicy::new(token_url(&web)).with_client(client(Some("secret")));
    let source = policy.into_source(exchanges);
    let needs = CredentialError::NeedsCaller("token_exchange");
    assert_eq!(apply_credentials(&source, None).await.unwrap_err(), needs);
    let nameless = TestCaller { token: Secret::new(""), ..TestCaller::new("ann", "{}") };
    assert_eq!(apply_credentials(&source, Some(&nameless)).await.unwrap_err(), needs);
    assert_eq!(source.scope(None).unwrap_err(), needs);
    assert_eq!(web.requests().len(), 0);
}

#[tokio::test]
async fn the_gateways_own_checks_use_its_own_account() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let policy = TokenExchangePolicy::new(token_url(&web)).with_audience("backend").unwrap();
    let silent = policy.clone().into_source(Arc::clone(&exchanges));
    assert_eq!(headers(&probe_credentials(&silent).await.unwrap()), []);
    let source = policy.with_client(client(Some("secret"))).into_source(exchanges);
    for _check in 0..3 {
        assert_eq!(bearer_token(&probe_credentials(&source).await.unwrap()), "backend-token-0");
    }
    let forms = web.requests();
    assert_eq!(forms.len(), 1);
    assert_eq!(web::pairs(&forms[0].form()), [("audience", "backend"), ("grant_type", "client_credentials")]);
    // A caller never gets the gateway's own token.
    let ann = TestCaller::new("ann", "{}");
    assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "backend-token-1");
}

#[tokio::test]
async fn scopes_part_callers_and_not_their_tokens() {
    let web = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let source = exchange_source(&web, &exchanges);
    let scope = |caller: &TestCaller| source.scope(Some(&caller.subject())).unwrap();
    let ann = TestCaller::new("ann", r#"{"exp":1}"#);
    let renewed = TestCaller { token: Secret::new("another"), ..TestCaller::new("ann", r#"{"exp":2}"#) };
    assert_eq!(scope(&ann), scope(&renewed));
    assert_ne!(scope(&ann), scope(&TestCaller::new("bob", r#"{"exp":1}"#)));
    assert_ne!(scope(&ann), scope(&TestCaller::new("ann", r#"{"scope":"admin"}"#)));
    assert_ne!(scope(&ann), IsolationScope::Shared);
}

#[test]
fn impossible_settings_cannot_be_built() {
    let url = vmcp_credentials::TokenUrl::parse("tokenUrl", "https://idp/token", false).unwrap();
    let policy = TokenExchangePolicy::new(url);
    let control = policy.clone().with_audience("a\nb").unwrap_err();
    let empty = policy.clone().with_audience("").unwrap_err();
    let scope = policy.clone().with_scopes(strings(&["read write"])).unwrap_err();
    let many = policy.clone().with_scopes((0..65).map(|number| number.to_string())).unwrap_err();
    let relative = policy.clone().with_resource("/mcp").unwrap_err();
    let fragment = policy.clone().with_resource("https://backend/mcp#x").unwrap_err();
    let kind = policy.with_subject_token_type("saml2").unwrap_err();
    let fields: Vec<&str> = [&control, &empty, &scope, &many, &relative, &fragment, &kind]
        .iter()
        .map(|error| error.field())
        .collect();
    assert_eq!(
        fields,
        ["audience", "audience", "scopes", "scopes", "resource", "resource", "subjectTokenType"]
    );
}
