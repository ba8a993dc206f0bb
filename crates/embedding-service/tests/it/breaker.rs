//! The circuit opens for a failing service, and closes when the service recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use vmcp_optimizer::{EmbedError, Embedder as _, Purpose};

use crate::web::ScriptedServer;
use crate::{Frozen, failure, openai, openai_reply, refused, texts, unavailable, web};

/// A fake OpenAI service with a status that the test can change.
async fn turned(status: u16) -> (ScriptedServer, Arc<AtomicU16>) {
    let turn = Arc::new(AtomicU16::new(status));
    let now = Arc::clone(&turn);
    let web = web::serve_sync(move |hit| match now.load(Ordering::SeqCst) {
        200 => openai_reply(hit, "small"),
        429 => web::with_header(web::reply_text(429, "{}"), "retry-after", "40"),
        status => web::reply_text(status, "{}"),
    })
    .await;
    (web, turn)
}

#[tokio::test]
async fn three_failures_in_a_row_spare_callers_the_wait_until_it_is_back() {
    let time = Frozen::new();
    let (web, turn) = turned(500).await;
    let service = openai(&web);
    for _ in 0..3 {
        unavailable(&service).await;
    }
    assert_eq!(web::posts(&web).len(), 3);
    for purpose in [Purpose::Query, Purpose::Document] {
        let error = failure(&service, purpose).await;
        assert!(matches!(&error, EmbedError::Unavailable(text) if text.contains("circuit open")), "{error}");
        assert!(error.to_string().contains("500 Internal Server Error"), "{error}");
    }
    assert_eq!(web::posts(&web).len(), 3, "no request was sent");

    time.pass(Duration::from_secs(1)).await;
    assert!(!unavailable(&service).await.contains("circuit open"));
    assert_eq!(web::posts(&web).len(), 4);
    time.pass(Duration::from_secs(1)).await;
    assert!(unavailable(&service).await.contains("circuit open"), "the second rest is longer");
    assert_eq!(web::posts(&web).len(), 4);

    turn.store(200, Ordering::SeqCst);
    time.pass(Duration::from_secs(1)).await;
    for _ in 0..2 {
        service.embed(Purpose::Query, &texts(&["a"])).await.unwrap();
    }
    turn.store(500, Ordering::SeqCst);
    for posts in [7, 8, 9, 9] {
        unavailable(&service).await;
        assert_eq!(web::posts(&web).len(), posts, "it counts from the beginning");
    }
}

#[tokio::test]
async fn a_wrong_key_is_not_shown_forever() {
    let _time = Frozen::new();
    let (web, _) = turned(401).await;
    let service = openai(&web);
    for _ in 0..3 {
        refused(&service).await;
    }
    let text = unavailable(&service).await;
    assert!(text.contains("circuit open") && text.contains("401 Unauthorized"), "{text}");
    assert_eq!(web::posts(&web).len(), 3);
}

#[tokio::test]
async fn texts_that_are_refused_say_nothing_about_the_service() {
    for status in [400, 413, 422] {
        let (web, turn) = turned(status).await;
        let service = openai(&web);
        for _ in 0..5 {
            failure(&service, Purpose::Document).await;
        }
        turn.store(200, Ordering::SeqCst);
        service.embed(Purpose::Query, &texts(&["a"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_asks_to_be_left_alone_is() {
    let time = Frozen::new();
    let (web, turn) = turned(429).await;
    let service = openai(&web);
    unavailable(&service).await;
    turn.store(200, Ordering::SeqCst);
    time.pass(Duration::from_secs(30)).await;
    assert!(unavailable(&service).await.contains("circuit open"));
    assert_eq!(web::posts(&web).len(), 1);
    time.pass(Duration::from_secs(10)).await;
    service.embed(Purpose::Document, &texts(&["a"])).await.unwrap();
}
