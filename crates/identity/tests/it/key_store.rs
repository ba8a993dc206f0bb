//! The issuer's keys over time: fetched once, found when new, dropped when withdrawn, used for a limited time
//! while the issuer does not answer, and never fetched from a forbidden address.

use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use vmcp_http_client::TlsError;
use vmcp_identity::policy::OidcPolicy;
use vmcp_identity::{BearerPolicy, SetupError};

use crate::support::{Idp, Reply, Setup, Signer, setup, setup_with};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// A token that does not expire during the test.
fn long_lived_token(setup: &Setup, signer: &Signer) -> String {
    let mut claims = setup.claims();
    claims["exp"] = json!(crate::support::NOW + 100_000);
    signer.token(&json!({}), &claims)
}

#[tokio::test]
async fn nothing_is_fetched_before_it_is_needed_and_then_once_for_all() {
    let setup = Arc::new(setup().await);
    assert_eq!(setup.idp.count(DISCOVERY), 0);
    let token = setup.token();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (setup, token) = (setup.clone(), token.clone());
            tokio::spawn(async move { setup.refusal_class(&token).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "admitted");
    }
    assert_eq!((setup.idp.count(DISCOVERY), setup.idp.count(KEYS)), (1, 1));
}

#[tokio::test]
async fn a_warm_start_leaves_nothing_to_fetch() {
    let setup = setup().await;
    setup.authenticator.warm_up().await.unwrap();
    assert_eq!((setup.idp.count(DISCOVERY), setup.idp.count(KEYS)), (1, 1));
    assert_eq!(setup.refusal_class(&setup.token()).await, "admitted");
    assert_eq!(setup.idp.count(KEYS), 1);
}

#[tokio::test]
async fn keys_that_tokens_invent_do_not_hammer_the_issuer() {
    let setup = Arc::new(setup().await);
    let invented =
        |number: usize| Signer::stranger().token(&json!({"kid": format!("k{number}")}), &setup.claims());
    let callers: Vec<_> = (0..100)
        .map(|number| {
            let (setup, token) = (setup.clone(), invented(number));
            tokio::spawn(async move { setup.refusal_class(&token).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "unknown_key");
    }
    assert_eq!(setup.idp.count(KEYS), 2);
    setup.clock.advance_secs(29);
    setup.refusal_class(&invented(200)).await;
    assert_eq!(setup.idp.count(KEYS), 2);
    setup.clock.advance_secs(1);
    setup.refusal_class(&invented(201)).await;
    setup.refusal_class(&invented(202)).await;
    assert_eq!(setup.idp.count(KEYS), 3);
}

#[tokio::test]
async fn a_new_key_is_found_and_a_withdrawn_one_is_gone_after_the_refresh() {
    let setup = setup().await;
    let (old, new) = (Signer::issuer(), Signer::new("new", "ES256"));
    let old_token = long_lived_token(&setup, old);
    assert_eq!(setup.refusal_class(&old_token).await, "admitted");
    setup.idp.publish(&[&new]);
    // A new key causes a refresh at once. That changes the keys, so the cached results become invalid.
    let new_token = long_lived_token(&setup, &new);
    assert_eq!(setup.refusal_class(&new_token).await, "admitted");
    assert_eq!(setup.idp.count(KEYS), 2);
    assert_eq!(setup.refusal_class(&old_token).await, "unknown_key");
    // A key withdrawn without a successor is noticed by age.
    setup.clock.advance_secs(30);
    setup.idp.publish(&[]);
    assert_eq!(setup.refusal_class(&new_token).await, "admitted");
    setup.clock.advance_secs(301);
    assert_eq!(setup.refusal_class(&new_token).await, "unknown_key");
}

#[tokio::test]
async fn keys_are_fetched_ahead_of_time_without_anybody_waiting() {
    let setup = setup().await;
    let token = long_lived_token(&setup, Signer::issuer());
    let first = setup.identity(&token).await;
    setup.clock.advance_secs(240);
    setup.identity(&token).await;
    assert_eq!(setup.idp.count(KEYS), 1);
    setup.idp.set_reply(DISCOVERY, Reply::NoResponse);
    setup.clock.advance_secs(1);
    // The issuer does not answer, but no request waits for this refresh.
    assert!(Arc::ptr_eq(&first, &setup.identity(&token).await));
    setup.idp.wait_for_requests(DISCOVERY, 2).await;
}

#[tokio::test]
async fn an_issuer_that_is_away_is_missed_only_after_an_hour() {
    let setup = setup().await;
    let token = long_lived_token(&setup, Signer::issuer());
    assert_eq!(setup.refusal_class(&token).await, "admitted");
    setup.idp.set_reply(DISCOVERY, Reply::Status(500));
    setup.clock.advance_secs(301);
    // The first request waits for the refresh, which fails; then the old keys are used.
    assert_eq!(setup.refusal_class(&token).await, "admitted");
    let tried = setup.idp.count(DISCOVERY);
    assert_eq!(tried, 2);
    for _ in 0..20 {
        assert_eq!(setup.refusal_class(&token).await, "admitted");
    }
    assert_eq!(setup.idp.count(DISCOVERY), tried);
    setup.clock.advance_secs(3600 - 301);
    assert_eq!(setup.refusal_class(&token).await, "admitted");
    setup.idp.wait_for_requests(DISCOVERY, tried + 1).await;
    setup.clock.advance_secs(40);
    assert_eq!(setup.refusal_class(&token).await, "unavailable");
    setup.idp.set_reply(DISCOVERY, Reply::Json(setup.idp.discovery()));
    setup.clock.advance_secs(1);
    assert_eq!(setup.refusal_class(&token).await, "admitted");
}

#[tokio::test]
async fn without_any_keys_nobody_is_admitted() {
    let setup = setup().await;
    let other_issuer = {
        let mut document = setup.idp.discovery();
        document["issuer"] = json!("https://evil.example");
        document
    };
    let elsewhere = {
        let mut document = setup.idp.discovery();
        document["jwks_uri"] = json!("http://keys.example/keys");
        document
    };
    let many: Vec<_> = (0..101).map(|_| Signer::issuer().jwk()).collect();
    let nowhere = json!({"issuer": setup.idp.issuer});
    let fine = Reply::Json(setup.idp.discovery());
    let cases = [
        (DISCOVERY, Reply::Json(other_issuer)),
        (DISCOVERY, Reply::Json(elsewhere)),
        (DISCOVERY, Reply::Json(nowhere)),
        (DISCOVERY, Reply::Json(json!([]))),
        (DISCOVERY, Reply::Redirect(setup.idp.url("/target"))),
        (DISCOVERY, Reply::Status(404)),
        (DISCOVERY, Reply::JsonWithStatus(203, setup.idp.discovery())),
        (KEYS, Reply::Status(500)),
        (KEYS, Reply::JsonWithStatus(500, json!({"keys": [Signer::issuer().jwk()]}))),
        (KEYS, Reply::Redirect(setup.idp.url("/target"))),
        (KEYS, Reply::Large(64 << 10)),
        (KEYS, Reply::Json(json!({}))),
        (KEYS, Reply::Json(json!({"keys": {}}))),
        (KEYS, Reply::Json(json!({"keys": many}))),
    ];
    setup.idp.set_reply("/target", Reply::Json(setup.idp.discovery()));
    for (number, (path, reply)) in cases.into_iter().enumerate() {
        setup.idp.set_reply(DISCOVERY, fine.clone());
        setup.idp.set_reply(path, reply);
        assert_eq!(setup.refusal_class(&setup.token()).await, "unavailable", "{number}");
        setup.clock.advance_secs(1);
    }
    assert_eq!(setup.idp.count("/target"), 0);
    setup.idp.publish(&[Signer::issuer()]);
    assert_eq!(setup.refusal_class(&setup.token()).await, "admitted");
}

#[tokio::test]
async fn an_issuer_without_openid_connect_is_found_by_rfc_8414() {
    let setup = setup().await;
    setup.idp.set_reply(DISCOVERY, Reply::Status(404));
    setup.idp.set_reply("/.well-known/oauth-authorization-server", Reply::Json(setup.idp.discovery()));
    assert_eq!(setup.refusal_class(&setup.token()).await, "admitted");
}

#[tokio::test]
async fn configured_keys_need_no_discovery() {
    let idp = Idp::start().await;
    let jwks = idp.url(KEYS);
    let setup = setup_with(|settings| settings.jwks_url = Some(jwks)).await;
    assert_eq!(setup.refusal_class(&setup.token()).await, "admitted");
    assert_eq!((idp.count(KEYS), setup.idp.count(DISCOVERY), setup.idp.count(KEYS)), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_issuer_is_not_waited_for_without_end() {
    // Connections are accepted, but nothing is ever sent on them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", silent.local_addr().unwrap());
    let setup = setup_with(|settings| settings.issuer = issuer).await;
    let before = tokio::time::Instant::now();
    assert_eq!(setup.refusal_class(&setup.token()).await, "unavailable");
    assert!(before.elapsed() <= std::time::Duration::from_secs(10));
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_followed() {
    let idp = Idp::start().await;
    // The host does not look like an address, but the system's resolver treats it as one.
    let issuer = idp.issuer.replace("127.0.0.1", "2130706433");
    let mut document = idp.discovery();
    document["issuer"] = json!(issuer);
    idp.set_reply(DISCOVERY, Reply::Json(document));
    let reaching = |allowed| {
        let issuer = issuer.clone();
        setup_with(move |settings| {
            settings.issuer = issuer;
            settings.allow_private_addresses = allowed;
            settings.allow_http = true;
        })
    };
    let token = |setup: &Setup| {
        let mut claims = setup.claims();
        claims["iss"] = json!(issuer);
        Signer::issuer().token(&json!({}), &claims)
    };
    let guarded = reaching(false).await;
    assert_eq!(guarded.refusal_class(&token(&guarded)).await, "unavailable");
    assert_eq!(idp.count(DISCOVERY), 0);
    let open = reaching(true).await;
    assert_eq!(open.refusal_class(&token(&open)).await, "admitted");
}

/// A file in the tests' directory.
fn file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name)
}

#[tokio::test]
async fn an_issuer_over_tls_is_trusted_by_the_operators_authorities_only() {
    let idp = Idp::start_over_tls().await;
    let trusting = |bundle: Option<std::path::PathBuf>| {
        let issuer = idp.issuer.clone();
        setup_with(move |settings| {
            settings.issuer = issuer;
            settings.ca_bundle = bundle;
        })
    };
    let token = |setup: &Setup| {
        let mut claims = setup.claims();
        claims["iss"] = json!(idp.issuer);
        Signer::issuer().token(&json!({}), &claims)
    };
    let system = trusting(None).await;
    assert_eq!(system.refusal_class(&token(&system)).await, "unavailable");
    assert_eq!(idp.count(DISCOVERY), 0);
    let own = trusting(Some(file("keys/authority.pem"))).await;
    assert_eq!(own.refusal_class(&token(&own)).await, "admitted");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_told_at_once() {
    for name in ["keys/none.pem", "keys/issuer.pk8", "hostile_tokens.txt"] {
        let mut settings = crate::support::settings(&Idp::start().await);
        settings.ca_bundle = Some(file(name));
        let policy = OidcPolicy::new(settings).unwrap();
        let refused = BearerPolicy::new("vmcp", Some(policy), Vec::new()).unwrap_err();
        assert!(matches!(refused, SetupError::Tls(TlsError::Bundle(_))), "{name}: {refused}");
    }
}
