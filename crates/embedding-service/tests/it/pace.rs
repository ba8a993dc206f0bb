//! How many requests are in flight, which requests wait for which, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Barrier, Notify, Semaphore, mpsc};
use tokio::time::timeout;
use vmcp_embedding_service::Service;
use vmcp_optimizer::{EmbedError, Embedder as _, Purpose};

use crate::{TEST_TIMEOUT, failure, info, request_texts, tei, tei_policy, tei_reply, texts, units, web};

#[tokio::test]
async fn two_requests_for_documents_are_under_way_at_once() {
    let pairs = Arc::new(Barrier::new(2));
    let web = web::serve(move |hit| {
        let pairs = Arc::clone(&pairs);
        async move {
            if hit.path == "/info" {
                return info("m", 1);
            }
            // A request alone cannot pass the barrier.
            pairs.wait().await;
            tei_reply(&hit)
        }
    })
    .await;
    let texts = texts(&["a", "b", "c", "d", "e", "f"]);
    let answer = tei(&web).embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(answer.vectors, units(&texts));
}

#[tokio::test]
async fn a_query_does_not_wait_behind_documents_of_which_two_are_under_way() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let web = web::serve(move |hit| {
        let (held, arrived) = (Arc::clone(&held), arrived.clone());
        async move {
            if hit.path == "/info" {
                return info("m", 1);
            }
            if request_texts(&hit) != ["query"] {
                arrived.send(()).unwrap();
                held.acquire().await.unwrap().forget();
            }
            tei_reply(&hit)
        }
    })
    .await;
    let service = tei(&web);
    let documents = [["a", "b", "c"], ["d", "e", "f"]].map(|three| {
        let service = Arc::clone(&service);
        tokio::spawn(async move { service.embed(Purpose::Document, &texts(&three)).await })
    });
    arrivals.recv().await.unwrap();
    arrivals.recv().await.unwrap();
    let query = texts(&["query"]);
    for _ in 0..3 {
        assert_eq!(service.embed(Purpose::Query, &query).await.unwrap().vectors, units(&query));
    }
    assert!(arrivals.try_recv().is_err(), "two are under way, whoever wants them");
    gate.add_permits(6);
    for documents in documents {
        assert_eq!(documents.await.unwrap().unwrap().vectors.len(), 3);
    }
}

#[tokio::test]
async fn a_query_has_a_shorter_time_of_its_own() {
    let web = web::serve(|hit| async move {
        if hit.path == "/info" { info("m", 8) } else { std::future::pending().await }
    })
    .await;
    let policy = tei_policy(&web).with_query_timeout(Duration::from_millis(300)).unwrap();
    let service = Service::start(policy).unwrap();
    let start = Instant::now();
    let error = failure(&service, Purpose::Query).await;
    assert!(matches!(&error, EmbedError::Unavailable(text) if text.contains("within 300ms")), "{error}");
    assert!(start.elapsed() < TEST_TIMEOUT);
}

#[tokio::test]
async fn a_query_has_one_time_for_all_its_requests() {
    // No single response exceeds the time-out, but together they do.
    let web = web::serve(|hit| async move {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if hit.path == "/info" { info("m", 8) } else { tei_reply(&hit) }
    })
    .await;
    let policy = tei_policy(&web).with_query_timeout(Duration::from_millis(600)).unwrap();
    let service = Service::start(policy).unwrap();
    let error = failure(&service, Purpose::Query).await.to_string();
    assert!(error.contains("no vector within 600ms"), "{error}");
}

#[tokio::test]
async fn a_batch_that_took_too_long_is_smaller_the_next_time() {
    let web = web::serve(|hit| async move {
        if hit.path == "/info" {
            return info("m", 8);
        }
        if request_texts(&hit).len() > 4 { std::future::pending().await } else { tei_reply(&hit) }
    })
    .await;
    let policy = tei_policy(&web).with_timeout(Duration::from_secs(2)).unwrap();
    let service = Service::start(policy).unwrap();
    let texts = texts(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let error = service.embed(Purpose::Document, &texts).await.unwrap_err();
    assert!(matches!(&error, EmbedError::Unavailable(_)), "{error}");
    assert_eq!(service.batch_size(), 4);
    let answer = service.embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(answer.vectors, units(&texts));
}

#[tokio::test]
async fn a_batch_that_was_too_large_is_smaller_the_next_time() {
    let web = web::serve_sync(|hit| match hit.path.as_str() {
        "/info" => info("m", 8),
        _ if request_texts(hit).len() > 1 => web::reply_text(413, "{}"),
        _ => tei_reply(hit),
    })
    .await;
    let service = tei(&web);
    let texts = texts(&["a", "b", "c", "d"]);
    for size in [2, 1] {
        let error = service.embed(Purpose::Document, &texts).await.unwrap_err();
        assert!(matches!(&error, EmbedError::Unavailable(text) if text.contains("413")), "{error}");
        assert_eq!(service.batch_size(), size);
    }
    for _ in 0..3 {
        assert_eq!(service.embed(Purpose::Document, &texts).await.unwrap().vectors, units(&texts));
        assert_eq!(service.batch_size(), 1, "what was too large is not tried again");
    }
}

#[tokio::test]
async fn dropping_gives_up_the_request() {
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (arrived, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (here, left) = (Arc::clone(&arrived), Arc::clone(&gone));
    let web = web::serve(move |_| {
        let (here, left) = (Arc::clone(&here), Gone(Arc::clone(&left)));
        async move {
            let _left = left;
            here.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let service = tei(&web);
    let asking = tokio::spawn(async move { service.embed(Purpose::Document, &texts(&["a"])).await });
    arrived.notified().await;
    asking.abort();
    timeout(TEST_TIMEOUT, gone.notified()).await.unwrap();
}
