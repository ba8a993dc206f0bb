//! Services that respond wrongly, partially, or with a redirect.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use vmcp_embedding_service::{Provider, Service, ServicePolicy, StartError};
use vmcp_optimizer::{Embedder as _, Purpose};

use crate::web::HttpReply;
use crate::{TEST_TIMEOUT, info, refused, tei, tei_policy, tei_reply, texts, unavailable, units, web};

/// A fake TEI service with the given handler for `/embed`.
async fn tei_with(
    embed: impl Fn(&web::ReceivedRequest) -> HttpReply + Send + Sync + 'static,
) -> web::ScriptedServer {
    web::serve_sync(move |hit| if hit.path == "/info" { info("m", 8) } else { embed(hit) }).await
}

#[tokio::test]
async fn vectors_that_cannot_be_compared_are_refused() {
    for (body, says) in [
        ("[]", "0 vectors for 1 texts"),
        ("[[1.0],[1.0]]", "2 vectors for 1 texts"),
        ("[[NaN,1.0]]", "not a list of vectors"),
        // Either parsed as infinite or refused by the parser, depending on the precision of number parsing in
        // this build.
        ("[[1e39,1.0]]", "answered with"),
        ("[[0.0,0.0]]", "zeros"),
        ("[[]]", "vectors of 0 numbers"),
        ("<html>hush</html>", "not a list of vectors"),
    ] {
        let web = tei_with(move |_| web::reply_text(200, body)).await;
        let text = refused(&tei(&web)).await;
        assert!(text.contains(says) && text.contains(&web.address.to_string()), "{text}");
        assert!(!text.contains("hush"), "{text}");
        assert_eq!(web::posts(&web).len(), 1, "an answer that stays the same is not asked for again");
    }
    let web = tei_with(|_| web::reply_text(200, "[[1.0],[1.0,2.0]]")).await;
    let error = tei(&web).embed(Purpose::Document, &texts(&["a", "b"])).await.unwrap_err().to_string();
    assert!(error.contains("refuses") && error.contains("of 1 and of 2 numbers"), "{error}");
}

#[tokio::test]
async fn an_info_that_makes_no_sense_is_refused() {
    let web = web::serve_sync(|_| web::reply_text(200, "<html>")).await;
    assert!(refused(&tei(&web)).await.contains("/info"));
}

#[tokio::test]
async fn busy_is_tried_once_more_when_the_service_says() {
    for name in ["retry-after-ms", "retry-after"] {
        let web = tei_with(move |hit| match hit.number {
            1 => web::with_header(
                web::reply_text(429, "{}"),
                name,
                if name == "retry-after" { "1" } else { "300" },
            ),
            _ => tei_reply(hit),
        })
        .await;
        let start = Instant::now();
        let answer = tei(&web).embed(Purpose::Document, &texts(&["a"])).await.unwrap();
        assert_eq!(answer.vectors, units(&texts(&["a"])));
        let least = if name == "retry-after" { 1000 } else { 300 };
        assert!(start.elapsed() >= Duration::from_millis(least), "{name}");
        assert_eq!(web::posts(&web).len(), 2);
    }
}

#[tokio::test]
async fn busy_for_longer_than_there_is_time_is_said_at_once() {
    let web = tei_with(|_| web::with_header(web::reply_text(503, "{}"), "retry-after", "60")).await;
    let start = Instant::now();
    let text = unavailable(&tei(&web)).await;
    assert!(text.contains("503 Service Unavailable") && text.contains("come back in 60s"), "{text}");
    assert!(start.elapsed() < TEST_TIMEOUT);
    assert_eq!(web::posts(&web).len(), 1);
}

#[tokio::test]
async fn busy_twice_is_unavailable_and_other_errors_are_not_asked_again() {
    for (status, posts) in [(429, 2), (503, 2), (500, 1), (502, 1), (424, 1)] {
        let web = tei_with(move |_| web::reply_text(status, r#"{"error_type":"Overloaded"}"#)).await;
        let text = unavailable(&tei(&web)).await;
        assert!(text.contains(&status.to_string()) && text.contains("(Overloaded)"), "{text}");
        assert_eq!(web::posts(&web).len(), posts, "{status}");
    }
    for status in [400, 401, 403, 404, 422, 501] {
        let web = tei_with(move |_| web::reply_text(status, "no")).await;
        let text = refused(&tei(&web)).await;
        assert!(text.contains(&status.to_string()), "{text}");
        assert_eq!(web::posts(&web).len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_once_more() {
    let web = tei_with(|hit| if hit.number == 1 { web::reply_broken_off() } else { tei_reply(hit) }).await;
    tei(&web).embed(Purpose::Document, &texts(&["a"])).await.unwrap();
    assert_eq!(web::posts(&web).len(), 2);

    let web = tei_with(|_| web::reply_broken_off()).await;
    let text = unavailable(&tei(&web)).await;
    assert!(text.contains("POST /embed") && text.contains(&web.address.to_string()), "{text}");
    assert_eq!(web::posts(&web).len(), 2);
}

#[tokio::test]
async fn a_service_that_hangs_up_is_tried_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let hanging_up = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let policy = ServicePolicy::new(&format!("http://{address}"), Provider::Tei).unwrap();
    let service = Service::start(policy).unwrap();
    let text = unavailable(&service).await;
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(connections.load(Ordering::SeqCst) >= 2);

    hanging_up.abort();
    assert!(hanging_up.await.unwrap_err().is_cancelled());
    let text = unavailable(&service).await;
    assert!(text.contains("onnection refused"), "{text}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_refused() {
    let web = tei_with(|_| web::reply_endless()).await;
    assert!(refused(&tei(&web)).await.contains("larger than allowed"));
    let announced = tei_with(|_| web::reply_announced(70_000_000_000)).await;
    assert!(refused(&tei(&announced)).await.contains("larger than allowed"));
    let info = web::serve_sync(|_| web::reply_endless()).await;
    assert!(refused(&tei(&info)).await.contains("larger than allowed"));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = web::serve_sync(tei_reply).await;
    let target = format!("{}/embed", elsewhere.base());
    for status in [301, 302, 307, 308] {
        let target = target.clone();
        let web = tei_with(move |_| web::with_header(web::reply_text(status, ""), "location", &target)).await;
        let text = refused(&tei(&web)).await;
        assert!(text.contains("redirects are not followed") && text.contains("final address"), "{text}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_service_that_says_nothing_is_given_up_in_time() {
    let web = web::serve(|_| std::future::pending()).await;
    let wait = Duration::from_millis(200);
    let policy = tei_policy(&web).with_timeout(wait).unwrap();
    let start = Instant::now();
    let text = unavailable(&Service::start(policy).unwrap()).await;
    assert!(text.contains("no answer to GET /info within 200ms"), "{text}");
    assert!(start.elapsed() >= wait && start.elapsed() < TEST_TIMEOUT);
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_is_not_spoken_to_without() {
    let web = web::serve_sync(|_| info("m", 8)).await;
    let policy = ServicePolicy::new(&format!("https://{}", web.address), Provider::Tei).unwrap();
    match Service::start(policy) {
        Ok(service) => assert!(unavailable(&service).await.contains("GET /info")),
        // A machine without certificate authorities cannot verify any certificate.
        Err(StartError::Tls(error)) => assert!(error.to_string().contains("certificate store")),
    }
    assert!(web.requests().is_empty());
}
