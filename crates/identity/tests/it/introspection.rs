//! Opaque tokens: what the issuer is asked, how often, and how its responses are judged.

use std::sync::Arc;

use serde_json::{Value, json};
use vmcp_identity::policy::Secret;

use crate::support::{AUDIENCE, NOW, Reply, Setup, setup, setup_with};

const INTROSPECTION: &str = "/introspect";

async fn introspecting_setup() -> Setup {
    let setup = setup_with(|settings| {
        settings.client_id = Some("gate way".to_owned());
        settings.client_secret = Some(Secret::new("s:ecret/ü"));
        settings.required_scopes = vec!["mcp".to_owned()];
    })
    .await;
    setup.idp.set_reply(INTROSPECTION, Reply::Json(active_response(&setup, json!({}))));
    setup
}

fn active_response(setup: &Setup, change: Value) -> Value {
    let mut answer = json!({
        "active": true,
        "iss": setup.idp.issuer,
        "sub": "alice",
        "aud": AUDIENCE,
        "exp": NOW + 3600,
        "scope": "mcp",
        "groups": ["ops"],
    });
    for (name, value) in change.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    answer
}

#[tokio::test]
async fn the_issuer_is_asked_as_a_client_and_its_claims_are_kept() {
    let setup = introspecting_setup().await;
    let identity = setup.identity("opaque-token~1").await;
    assert_eq!((&*identity.issuer, &*identity.subject), (&*setup.idp.issuer, "alice"));
    assert_eq!(identity.claims.get("groups").unwrap().as_str(), r#"["ops"]"#);
    let asked = setup.idp.requests_to(INTROSPECTION);
    assert_eq!(asked[0].body, "token=opaque-token~1&token_type_hint=access_token");
    // `gate+way:s%3Aecret…`: each part is escaped before they are joined.
    assert_eq!(asked[0].authorization, "Basic Z2F0ZSUyMHdheTpzJTNBZWNyZXQlMkYlQzMlQkM=");
    let admission = setup.admit("opaque-token~1").await.unwrap();
    assert_eq!(admission.valid_for.unwrap().as_secs(), 3600 + 30);
    // Signed tokens are verified locally, without introspection.
    assert_eq!(setup.refusal_class(&setup.token()).await, "admitted");
    assert_eq!(setup.idp.count(INTROSPECTION), 1);
}

#[tokio::test]
async fn only_access_tokens_are_admitted() {
    let setup = introspecting_setup().await;
    for (number, (claims, outcome)) in [
        (json!({"token_use": "access_token", "typ": "Bearer"}), "admitted"),
        (json!({"token_use": "access"}), "admitted"),
        (json!({"token_use": "refresh_token"}), "kind"),
        (json!({"token_use": "id"}), "kind"),
        (json!({"token_use": ["access_token"]}), "kind"),
        (json!({"typ": "Refresh"}), "kind"),
        (json!({"typ": "ID"}), "kind"),
        // `at_hash` marks only signed tokens as ID tokens.
        (json!({"at_hash": "x"}), "admitted"),
    ]
    .into_iter()
    .enumerate()
    {
        setup.idp.set_reply(INTROSPECTION, Reply::Json(active_response(&setup, claims.clone())));
        assert_eq!(setup.refusal_class(&format!("opaque-{number}")).await, outcome, "{claims}");
    }
}

#[tokio::test]
async fn answers_are_remembered_for_a_minute_and_not_beyond_the_token() {
    let setup = introspecting_setup().await;
    let first = setup.identity("a").await;
    setup.clock.advance_secs(59);
    assert!(Arc::ptr_eq(&first, &setup.identity("a").await));
    setup.clock.advance_secs(1);
    setup.idp.set_reply(INTROSPECTION, Reply::Json(json!({"active": false})));
    assert_eq!(setup.refusal_class("a").await, "inactive");
    assert_eq!(setup.idp.count(INTROSPECTION), 2);
    setup.clock.advance_secs(9);
    setup.idp.set_reply(INTROSPECTION, Reply::Json(active_response(&setup, json!({"exp": NOW + 80}))));
    assert_eq!(setup.refusal_class("a").await, "inactive");
    setup.clock.advance_secs(1);
    assert_eq!(setup.refusal_class("a").await, "admitted");
    assert_eq!(setup.idp.count(INTROSPECTION), 3);
    setup.clock.advance_secs(40);
    assert_eq!(setup.refusal_class("a").await, "expired");
    assert_eq!(setup.idp.count(INTROSPECTION), 4);
}

#[tokio::test]
async fn what_the_issuer_says_is_held_against_the_settings() {
    let setup = introspecting_setup().await;
    let cases = [
        (json!({"iss": null}), "admitted"),
        (json!({"exp": null}), "admitted"),
        (json!({"aud": ["x", AUDIENCE]}), "admitted"),
        (json!({"active": false}), "inactive"),
        (json!({"active": "true"}), "inactive"),
        (json!({"active": 1}), "inactive"),
        (json!({"active": null}), "inactive"),
        (json!({"iss": "https://evil.example"}), "issuer"),
        (json!({"aud": null}), "audience"),
        (json!({"aud": "https://other.example"}), "audience"),
        (json!({"sub": null}), "subject"),
        (json!({"exp": NOW - 30}), "expired"),
        (json!({"nbf": NOW + 31}), "premature"),
        (json!({"cnf": {"jkt": "x"}}), "bound"),
        (json!({"scope": "other"}), "scope"),
    ];
    for (number, (change, class)) in cases.into_iter().enumerate() {
        setup.idp.set_reply(INTROSPECTION, Reply::Json(active_response(&setup, change.clone())));
        assert_eq!(setup.refusal_class(&format!("t{number}")).await, class, "{change}");
    }
}

#[tokio::test]
async fn one_question_serves_all_who_wait() {
    let setup = Arc::new(introspecting_setup().await);
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let setup = setup.clone();
            tokio::spawn(async move { setup.identity("shared").await })
        })
        .collect();
    let mut identities = Vec::new();
    for caller in callers {
        identities.push(caller.await.unwrap());
    }
    assert!(identities.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    assert_eq!(setup.idp.count(INTROSPECTION), 1);
}

#[tokio::test]
async fn whoever_asked_may_leave_and_the_next_asks_anew() {
    let setup = Arc::new(introspecting_setup().await);
    setup.idp.set_reply(INTROSPECTION, Reply::NoResponse);
    let first = {
        let setup = setup.clone();
        tokio::spawn(async move { setup.refusal_class("shared").await })
    };
    setup.idp.wait_for_requests(INTROSPECTION, 1).await;
    let second = {
        let setup = setup.clone();
        tokio::spawn(async move { setup.refusal_class("shared").await })
    };
    tokio::task::yield_now().await;
    setup.idp.set_reply(INTROSPECTION, Reply::Json(active_response(&setup, json!({}))));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(second.await.unwrap(), "admitted");
    assert_eq!(setup.idp.count(INTROSPECTION), 2);
}

#[tokio::test]
async fn an_issuer_that_does_not_tell_is_left_alone_for_a_moment() {
    let setup = introspecting_setup().await;
    for reply in [
        Reply::Status(401),
        Reply::JsonWithStatus(403, active_response(&setup, json!({}))),
        Reply::Status(500),
        Reply::Redirect(setup.idp.url("/target")),
        Reply::Large(64 << 10),
        Reply::Json(json!([])),
    ] {
        let before = setup.idp.count(INTROSPECTION);
        setup.idp.set_reply(INTROSPECTION, reply);
        assert_eq!(setup.refusal_class("a").await, "unavailable");
        for other in ["a", "b", "c"] {
            assert_eq!(setup.refusal_class(other).await, "unavailable");
        }
        assert_eq!(setup.idp.count(INTROSPECTION), before + 1);
        setup.clock.advance_secs(1);
    }
    assert_eq!(setup.idp.count("/target"), 0);
    setup.idp.set_reply(INTROSPECTION, Reply::Json(active_response(&setup, json!({}))));
    assert_eq!(setup.refusal_class("a").await, "admitted");
}

#[tokio::test]
async fn the_secret_goes_into_the_form_where_the_issuer_wants_it_there() {
    let setup = introspecting_setup().await;
    let mut document = setup.idp.discovery();
    document["introspection_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    setup.idp.set_reply("/.well-known/openid-configuration", Reply::Json(document));
    assert_eq!(setup.refusal_class("a").await, "admitted");
    let asked = setup.idp.requests_to(INTROSPECTION);
    assert_eq!(asked[0].authorization, "");
    assert_eq!(
        asked[0].body,
        "token=a&token_type_hint=access_token&client_id=gate%20way&client_secret=s%3Aecret%2F%C3%BC"
    );
}

#[tokio::test]
async fn without_a_way_to_ask_opaque_tokens_are_not_taken() {
    let setup = setup().await;
    assert_eq!(setup.refusal_class("opaque").await, "shape");
    assert_eq!(setup.idp.count("/.well-known/openid-configuration"), 0);
}
