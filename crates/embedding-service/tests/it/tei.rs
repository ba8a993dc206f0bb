//! Text Embeddings Inference: the requests, their batches, and the model of the vectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vmcp_optimizer::{Embedder as _, Purpose};

use crate::{info, request_texts, tei, tei_reply, texts, unavailable, units, web};

#[tokio::test]
async fn vectors_come_in_the_order_of_the_texts_in_batches_the_server_allows() {
    let web = web::serve_sync(|hit| if hit.path == "/info" { info("m", 3) } else { tei_reply(hit) }).await;
    let service = tei(&web);
    assert_eq!(service.batch_size(), 32, "what the server allows is not known yet");
    let texts = texts(&["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"]);
    let answer = service.embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(&*answer.model, "tei:m@abc");
    assert_eq!(answer.vectors, units(&texts));
    assert_eq!(service.batch_size(), 3);
    let posts = web::posts(&web);
    let mut sizes: Vec<_> = posts.iter().map(|hit| request_texts(hit).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 3]);
    for hit in posts {
        assert_eq!(hit.path, "/embed");
        assert_eq!((&hit.body["normalize"], &hit.body["truncate"]), (&true.into(), &true.into()));
        assert_eq!(hit.headers["content-type"], "application/json");
        assert_eq!(hit.headers["accept"], "application/json");
        assert!(hit.headers["user-agent"].to_str().unwrap().starts_with("vmcp/"));
        assert!(!hit.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn nothing_is_asked_for_no_texts() {
    let web = web::serve_sync(|_| info("m", 3)).await;
    let answer = tei(&web).embed(Purpose::Document, &[]).await.unwrap();
    assert!(answer.vectors.is_empty() && web.requests().is_empty());
}

#[tokio::test]
async fn a_text_without_any_is_sent_as_one_that_servers_take() {
    let web = web::serve_sync(|hit| if hit.path == "/info" { info("m", 3) } else { tei_reply(hit) }).await;
    let answer = tei(&web).embed(Purpose::Query, &texts(&[" "])).await.unwrap();
    assert_eq!(answer.vectors, units(&texts(&["-"])));
}

#[tokio::test]
async fn a_model_that_changes_in_between_is_asked_once_more() {
    let embeds = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&embeds);
    let web = web::serve_sync(move |hit| match hit.path.as_str() {
        "/info" if seen.load(Ordering::SeqCst) == 0 => info("old", 2),
        "/info" => info("new", 2),
        _ => {
            seen.fetch_add(1, Ordering::SeqCst);
            tei_reply(hit)
        }
    })
    .await;
    let texts = texts(&["a", "bb", "ccc"]);
    let answer = tei(&web).embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(&*answer.model, "tei:new@abc");
    assert_eq!(answer.vectors, units(&texts));
    assert_eq!(embeds.load(Ordering::SeqCst), 4, "two batches, twice");
}

#[tokio::test]
async fn a_model_that_keeps_changing_is_reported() {
    let web = web::serve_sync(|hit| match hit.path.as_str() {
        "/info" => info(&format!("m{}", hit.number), 2),
        _ => tei_reply(hit),
    })
    .await;
    let text = unavailable(&tei(&web)).await;
    assert!(text.contains("changed its model") && text.contains("tei:m"), "{text}");
    assert_eq!(web::posts(&web).len(), 2, "once more and no more");
}

#[tokio::test]
async fn a_query_notices_that_the_server_came_back_with_another_model() {
    let revision = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&revision);
    let web = web::serve_sync(move |hit| match hit.path.as_str() {
        "/info" => info(&format!("m{}", now.load(Ordering::SeqCst)), 2),
        _ => tei_reply(hit),
    })
    .await;
    let service = tei(&web);
    let texts = texts(&["a"]);
    let documents = service.embed(Purpose::Document, &texts).await.unwrap();
    let query = service.embed(Purpose::Query, &texts).await.unwrap();
    assert_eq!(documents.model, query.model);
    revision.store(2, Ordering::SeqCst);
    let query = service.embed(Purpose::Query, &texts).await.unwrap();
    assert_eq!(&*query.model, "tei:m2@abc");
}

#[tokio::test]
async fn a_server_without_info_is_named_by_its_place() {
    let web =
        web::serve_sync(|hit| if hit.path == "/info" { web::reply_text(404, "") } else { tei_reply(hit) })
            .await;
    let answer = tei(&web).embed(Purpose::Document, &texts(&["a"])).await.unwrap();
    assert_eq!(*answer.model, format!("tei:{}:3", web.address));
}
