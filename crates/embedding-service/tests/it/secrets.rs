//! The key and the headers are sent to the service, and appear nowhere else.

use serde_json::json;
use vmcp_embedding_service::{Secret, Service, ServicePolicy};
use vmcp_optimizer::{Embedder as _, Purpose};

use crate::{Frozen, openai_policy, openai_reply, texts, web};

const KEY: &str = "sk-hush_0123456789";

fn with_secrets(policy: ServicePolicy) -> ServicePolicy {
    let headers = [("X-Tenant", "hush-tenant"), ("User-Agent", "hush-agent")];
    let headers = headers.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    policy.with_headers(headers).unwrap().with_api_key(&Secret::new(KEY)).unwrap()
}

#[tokio::test]
async fn key_and_headers_are_sent() {
    let web = web::serve_sync(|hit| openai_reply(hit, "small")).await;
    let service = Service::start(with_secrets(openai_policy(&web))).unwrap();
    service.embed(Purpose::Query, &texts(&["a"])).await.unwrap();
    let headers = &web.requests()[0].headers;
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(headers["x-tenant"], "hush-tenant");
    assert_eq!(headers["user-agent"], "hush-agent");
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn no_failure_and_no_debug_text_repeats_them() {
    let echoes = [
        json!({"error": {"code": KEY, "message": format!("Incorrect key {KEY}")}}),
        json!({"error": {"code": format!("no-{KEY}")}}),
        json!({"error": {"code": "hush-tenant"}}),
        json!({"error_type": &KEY[..12]}),
        json!(format!("hush {KEY}")),
    ];
    let _time = Frozen::new();
    for body in echoes {
        let web = web::serve_sync(move |_| web::reply_json(401, &body)).await;
        let service = Service::start(with_secrets(openai_policy(&web))).unwrap();
        let mut told = String::new();
        for _ in 0..4 {
            let error = service.embed(Purpose::Document, &texts(&["a"])).await.unwrap_err();
            told.push_str(&format!("{error} {error:?}"));
        }
        told.push_str(&format!("{service:?} {service:#?}"));
        assert!(told.contains("401 Unauthorized"), "{told}");
        assert!(!told.contains("hush") && !told.contains(KEY), "{told}");
    }
}

#[tokio::test]
async fn parameters_of_the_address_are_sent_and_not_told() {
    let web = web::serve_sync(|_| web::reply_text(403, "{}")).await;
    let provider = vmcp_embedding_service::Provider::OpenAi { model: "m".to_owned() };
    let policy = ServicePolicy::new(&format!("{}/v1?code=hush", web.base()), provider).unwrap();
    let service = Service::start(policy).unwrap();
    let error = service.embed(Purpose::Document, &texts(&["a"])).await.unwrap_err();
    assert_eq!(web.requests()[0].path, "/v1/embeddings?code=hush");
    let told = format!("{error} {error:?} {service:?}");
    assert!(told.contains("/v1/embeddings") && !told.contains("hush"), "{told}");
}
