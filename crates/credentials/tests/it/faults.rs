//! Issuers with invalid responses: each response has its error class, and no text repeats what was sent or
//! received.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use vmcp_credentials::{CredentialError, TokenExchangePolicy, TokenUrl};

use crate::web::{self, HttpReply};
use crate::{TestCaller, apply_credentials, bearer_token, exchange_context, exchange_source, granted_reply};

#[derive(Debug, PartialEq, Eq)]
enum ErrorClass {
    Unavailable,
    Refused(Option<&'static str>),
    Misconfigured,
}

async fn error_class_of(answer: impl Fn() -> HttpReply + Send + Sync + 'static) -> ErrorClass {
    let web = web::serve_sync(move |_hit| answer()).await;
    let (_clock, exchanges) = exchange_context();
    let ann = TestCaller::new("ann", "{}");
    let error = apply_credentials(&exchange_source(&web, &exchanges), Some(&ann)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hush") && !text.contains(&ann.token_text), "{text}");
    assert_eq!(web.requests().len(), 1, "nothing is tried again here");
    match error {
        CredentialError::Unavailable { .. } => ErrorClass::Unavailable,
        CredentialError::Refused { code, .. } => ErrorClass::Refused(code),
        CredentialError::Misconfigured { .. } => ErrorClass::Misconfigured,
        other @ (CredentialError::NeedsCaller(_)
        | CredentialError::NoRole
        | CredentialError::Claim { .. }
        | CredentialError::Unsignable(_)) => panic!("{other}"),
    }
}

/// A valid response with one member changed or removed.
fn reply_with(name: &str, value: Value) -> HttpReply {
    let mut body = json!({
        "access_token": "hush",
        "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "expires_in": 300,
    });
    let members = body.as_object_mut().unwrap();
    members.remove(name);
    if !value.is_null() {
        members.insert(name.to_owned(), value);
    }
    web::reply_json(200, &body)
}

#[tokio::test]
async fn answers_that_are_no_grant_are_not_taken() {
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    for (name, value) in [
        ("token_type", json!("N_A")),
        ("token_type", json!("DPoP")),
        ("token_type", json!("")),
        ("token_type", Value::Null),
        ("access_token", Value::Null),
        ("access_token", json!("")),
        ("access_token", json!("hush\nhush")),
        ("access_token", json!({"hush": 1})),
        ("issued_token_type", Value::Null),
        ("issued_token_type", json!(id_token)),
        ("expires_in", json!(-1)),
        ("expires_in", json!("NaN")),
        ("expires_in", json!("hush")),
        // The caller's token must not be accepted as a result, not even inside another text.
        ("access_token", json!("caller-token-of-ann")),
        ("access_token", json!("hush.caller-token-of-ann.hush")),
    ] {
        let shown = format!("{name} {value}");
        assert_eq!(
            error_class_of(move || reply_with(name, value.clone())).await,
            ErrorClass::Misconfigured,
            "{shown}"
        );
    }
}

#[tokio::test]
async fn bodies_that_are_no_answer_are_not_taken() {
    let large = || web::reply_text(200, vec![b' '; 1 << 20]);
    assert_eq!(error_class_of(large).await, ErrorClass::Misconfigured);
    assert_eq!(error_class_of(web::reply_endless).await, ErrorClass::Misconfigured);
    assert_eq!(error_class_of(|| web::reply_text(200, "<html>hush</html>")).await, ErrorClass::Misconfigured);
    assert_eq!(
        error_class_of(|| web::reply_text(200, r#"{"access_token":"hush","expires_in":NaN}"#)).await,
        ErrorClass::Misconfigured
    );
    assert_eq!(error_class_of(|| web::reply_text(204, "")).await, ErrorClass::Misconfigured);
    assert_eq!(error_class_of(web::reply_broken_off).await, ErrorClass::Unavailable);
}

#[tokio::test]
async fn refusals_have_their_class() {
    for (status, body, expected) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"hush"}"#,
            ErrorClass::Refused(Some("invalid_grant")),
        ),
        (400, r#"{"error":"hush"}"#, ErrorClass::Refused(None)),
        (401, r#"{"error":"invalid_client"}"#, ErrorClass::Misconfigured),
        (404, "hush", ErrorClass::Misconfigured),
        (429, "hush", ErrorClass::Unavailable),
        (500, "hush", ErrorClass::Unavailable),
        (503, "hush", ErrorClass::Unavailable),
    ] {
        assert_eq!(error_class_of(move || web::reply_text(status, body)).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let thief = web::serve_sync(granted_reply).await;
    for status in [301, 302, 303, 307, 308] {
        let aim = thief.base();
        let class =
            error_class_of(move || web::with_header(web::reply_text(status, ""), "location", &aim)).await;
        assert_eq!(class, ErrorClass::Misconfigured);
    }
    assert_eq!(thief.requests().len(), 0);
}

#[tokio::test]
async fn huge_lives_are_bounded_and_short_ones_not_kept() {
    let answers = AtomicUsize::new(0);
    let lives = ["1e300", "18446744073709551615", "\"99999999999999999999\"", "0"];
    let web = web::serve_sync(move |_hit| {
        let number = answers.fetch_add(1, Ordering::SeqCst);
        let life = lives.get(number).unwrap_or(&"0");
        web::reply_text(
            200,
            format!(
                r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":{life},
                    "issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}}"#
            ),
        )
    })
    .await;
    let (clock, exchanges) = exchange_context();
    let source = exchange_source(&web, &exchanges);
    let ann = TestCaller::new("ann", "{}");
    for expected in ["t0", "t1", "t2"] {
        assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), expected);
        assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), expected);
        clock.advance_secs(24 * 3600);
    }
    assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "t3");
    assert_eq!(bearer_token(&apply_credentials(&source, Some(&ann)).await.unwrap()), "t4");
}

#[tokio::test]
async fn a_refusal_is_remembered_for_a_second_and_an_outage_is_not() {
    for (status, expected) in [(400, 1), (500, 3)] {
        let web = web::serve_sync(move |_hit| web::reply_text(status, "")).await;
        let (clock, exchanges) = exchange_context();
        let source = exchange_source(&web, &exchanges);
        let ann = TestCaller::new("ann", "{}");
        for _call in 0..3 {
            apply_credentials(&source, Some(&ann)).await.unwrap_err();
        }
        assert_eq!(web.requests().len(), expected, "{status}");
        clock.advance_secs(1);
        apply_credentials(&source, Some(&ann)).await.unwrap_err();
        assert_eq!(web.requests().len(), expected + 1, "{status}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_clock, exchanges) = exchange_context();
    let url = TokenUrl::parse("tokenUrl", &format!("http://{address}/token"), false).unwrap();
    let source = TokenExchangePolicy::new(url).into_source(Arc::clone(&exchanges));
    let error = apply_credentials(&source, Some(&TestCaller::new("ann", "{}"))).await.unwrap_err();
    assert!(matches!(error, CredentialError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_slow_issuer_is_given_ten_seconds() {
    let arrived = Arc::new(Notify::new());
    let arrives = Arc::clone(&arrived);
    let web = web::serve(move |_hit| {
        arrives.notify_one();
        std::future::pending()
    })
    .await;
    let (_clock, exchanges) = exchange_context();
    let source = exchange_source(&web, &exchanges);
    let ann = TestCaller::new("ann", "{}");
    let pause = async {
        arrived.notified().await;
        // From here on only the time-out can happen, so time may jump to it.
        tokio::time::pause();
        tokio::time::Instant::now()
    };
    let (outcome, began) = tokio::join!(apply_credentials(&source, Some(&ann)), pause);
    let error = outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: no answer within 10s", web.base().trim_start_matches("http://"))
    );
    assert!(began.elapsed() <= std::time::Duration::from_millis(10_100));
}

#[tokio::test]
async fn an_issuer_that_hangs_takes_nothing_from_another() {
    let arrived = Arc::new(Semaphore::new(0));
    let arrives = Arc::clone(&arrived);
    let hanging = web::serve(move |_hit| {
        arrives.add_permits(1);
        std::future::pending()
    })
    .await;
    let sound = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let stuck = Arc::new(exchange_source(&hanging, &exchanges));
    let mut waiting = JoinSet::new();
    for number in 0..100 {
        let stuck = Arc::clone(&stuck);
        waiting.spawn(async move {
            apply_credentials(&*stuck, Some(&TestCaller::new(&format!("u{number}"), "{}"))).await
        });
    }
    let all_turns = arrived.acquire_many(64).await.unwrap();
    let ann = TestCaller::new("ann", "{}");
    assert_eq!(
        bearer_token(&apply_credentials(&exchange_source(&sound, &exchanges), Some(&ann)).await.unwrap()),
        "backend-token-0"
    );
    // The endpoint that hangs gets no more requests than its limit.
    assert_eq!(hanging.requests().len(), 64);
    drop(all_turns);
}

#[tokio::test]
async fn nothing_is_sent_before_tls_stands() {
    let plain = web::serve_sync(granted_reply).await;
    let (_clock, exchanges) = exchange_context();
    let url = TokenUrl::parse("tokenUrl", &plain.base().replace("http", "https"), false).unwrap();
    let source = TokenExchangePolicy::new(url).into_source(exchanges);
    let error = apply_credentials(&source, Some(&TestCaller::new("ann", "{}"))).await.unwrap_err();
    assert!(matches!(error, CredentialError::Unavailable { .. }), "{error}");
    assert_eq!(plain.requests().len(), 0);
}
