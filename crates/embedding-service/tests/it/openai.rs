//! Services with OpenAI's API.

use serde_json::json;
use vmcp_embedding_service::{Provider, Service, ServicePolicy};
use vmcp_optimizer::{Embedder as _, Purpose};

use crate::{openai, openai_reply, refused, request_texts, texts, unavailable, unit, units, web};

#[tokio::test]
async fn answers_out_of_order_are_put_in_order() {
    let web = web::serve_sync(|hit| openai_reply(hit, "small")).await;
    let texts = texts(&["a", "bb", "ccc"]);
    let answer = openai(&web).embed(Purpose::Document, &texts).await.unwrap();
    assert_eq!(&*answer.model, "openai:small:3");
    assert_eq!(answer.vectors, units(&texts));
    let hits = web.requests();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].path, "/v1/embeddings");
    let body = json!({"model": "small", "input": ["a", "bb", "ccc"], "encoding_format": "float"});
    assert_eq!(hits[0].body, body);
}

#[tokio::test]
async fn batches_are_bounded_in_number_and_bytes() {
    let web = web::serve_sync(|hit| openai_reply(hit, "small")).await;
    let service = openai(&web);
    let many: Vec<String> = (0..300).map(|number| format!("text {number}")).collect();
    let answer = service.embed(Purpose::Document, &many).await.unwrap();
    assert_eq!(answer.vectors, units(&many));
    let large: Vec<String> = (0..50).map(|number| format!("{number:08192} and more")).collect();
    let answer = service.embed(Purpose::Document, &large).await.unwrap();
    assert_eq!(answer.vectors[0], unit(&large[0][..8192]), "cut where the longest text ends");
    let posts = web::posts(&web);
    assert_eq!(posts.len(), 4);
    for hit in posts {
        let (count, bytes) =
            (request_texts(&hit).len(), request_texts(&hit).iter().map(String::len).sum::<usize>());
        assert!(count <= service.batch_size() && bytes <= 300_000, "{count} texts of {bytes} bytes");
    }
}

#[tokio::test]
async fn where_embeddings_are_is_found_out_once() {
    let web = web::serve_sync(|hit| match hit.path.as_str() {
        "/embeddings" => openai_reply(hit, "small"),
        _ => web::reply_text(404, "{}"),
    })
    .await;
    let policy = ServicePolicy::new(&web.base(), Provider::OpenAi { model: "small".to_owned() }).unwrap();
    let service = Service::start(policy).unwrap();
    for _ in 0..2 {
        service.embed(Purpose::Document, &texts(&["a"])).await.unwrap();
    }
    let paths: Vec<_> = web.requests().into_iter().map(|hit| hit.path).collect();
    assert_eq!(paths, ["/v1/embeddings", "/embeddings", "/embeddings"]);
}

#[tokio::test]
async fn an_unknown_model_is_refused_and_both_places_are_named() {
    let unknown = json!({"error": {"message": "no such model", "code": "model_not_found"}});
    let web = web::serve_sync(move |_| web::reply_json(404, &unknown)).await;
    let policy = ServicePolicy::new(&web.base(), Provider::OpenAi { model: "x".to_owned() }).unwrap();
    let text = refused(&Service::start(policy).unwrap()).await;
    assert!(text.contains("404 Not Found to POST /v1/embeddings (model_not_found)"), "{text}");
    assert!(text.contains("and so it did to POST /embeddings"), "{text}");
}

#[tokio::test]
async fn a_model_that_changes_between_batches_is_asked_once_more() {
    // The second batch comes from another model, by its name or by its dimension.
    for by_name in [true, false] {
        let web = web::serve_sync(move |hit| match (hit.number, by_name) {
            (1, true) => openai_reply(hit, "other"),
            (1, false) => {
                let one = |(index, _)| json!({"index": index, "embedding": [1.0]});
                let data: Vec<_> = request_texts(hit).iter().enumerate().map(one).collect();
                web::reply_json(200, &json!({"model": "small", "data": data}))
            }
            _ => openai_reply(hit, "small"),
        })
        .await;
        let many: Vec<String> = (0..300).map(|number| format!("text {number}")).collect();
        let answer = openai(&web).embed(Purpose::Document, &many).await.unwrap();
        assert_eq!(&*answer.model, "openai:small:3");
        assert_eq!(answer.vectors, units(&many));
        assert_eq!(web::posts(&web).len(), 4);
    }
}

#[tokio::test]
async fn a_model_that_keeps_changing_is_reported() {
    let web = web::serve_sync(|hit| openai_reply(hit, &format!("m{}", hit.number))).await;
    let many: Vec<String> = (0..300).map(|number| format!("text {number}")).collect();
    let service = openai(&web);
    let error = service.embed(Purpose::Document, &many).await.unwrap_err().to_string();
    assert!(error.contains("does not answer") && error.contains("changed its model"), "{error}");
    assert_eq!(web::posts(&web).len(), 4);
    // A single batch has one model, whatever its name, so this succeeds.
    service.embed(Purpose::Query, &texts(&["a"])).await.unwrap();
}

#[tokio::test]
async fn indexes_that_do_not_fit_are_refused() {
    for (data, says) in [
        (json!([]), "0 vectors for 1 texts"),
        (json!([{"index": 1, "embedding": [1.0]}]), "index 1 for 1 texts"),
        (json!([{"index": 0, "embedding": "AACAPw=="}]), "not a list of embeddings"),
    ] {
        let web = web::serve_sync(move |_| web::reply_json(200, &json!({"data": data}))).await;
        let text = refused(&openai(&web)).await;
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_named() {
    let body = json!({"error": {"message": "You exceeded it", "type": "insufficient_quota"}});
    let web =
        web::serve_sync(move |_| web::with_header(web::reply_json(429, &body), "retry-after", "0")).await;
    let text = unavailable(&openai(&web)).await;
    assert!(text.contains("429 Too Many Requests") && text.contains("insufficient_quota"), "{text}");
}

#[tokio::test]
async fn a_large_answer_is_read_whole() {
    let web = web::serve_sync(|hit| {
        let item = |(index, text): (usize, &String)| {
            let one = |at: usize| if at == text.len() { 1.0 } else { 0.0 };
            json!({"index": index, "embedding": (0..8192).map(one).collect::<Vec<f64>>()})
        };
        let data: Vec<_> = request_texts(hit).iter().enumerate().map(item).collect();
        web::reply_json(200, &json!({"model": "small", "data": data}))
    })
    .await;
    let many: Vec<String> = (1..=40).map(|length| "x".repeat(length)).collect();
    let answer = openai(&web).embed(Purpose::Document, &many).await.unwrap();
    assert_eq!(&*answer.model, "openai:small:8192");
    for (text, vector) in many.iter().zip(&answer.vectors) {
        assert_eq!(vector.iter().position(|number| *number == 1.0), Some(text.len()));
    }
}
