//! The client against scripted services: in-process HTTP servers that act as TEI and OpenAI, with their
//! faults. The vectors are computed from the texts, so that a wrong assignment is detected.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod breaker;
mod faults;
mod openai;
mod pace;
mod secrets;
mod tei;
mod web;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_embedding_service::{Provider, Service, ServicePolicy};
use vmcp_optimizer::{EmbedError, Embedder as _, Purpose};

use crate::web::{HttpReply, ReceivedRequest, ScriptedServer};

/// Long enough for a busy machine, short enough for a failing test.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

/// A vector with a direction that identifies the text.
pub(crate) fn vector(text: &str) -> Vec<f64> {
    let sum: u32 = text.bytes().map(u32::from).sum();
    vec![f64::from(sum), f64::from(u32::try_from(text.len()).unwrap()), 1.0]
}

/// The same vector with unit length, as the client must return it.
pub(crate) fn unit(text: &str) -> Vec<f32> {
    let vector = vector(text);
    let length = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    vector.iter().map(|number| (number / length) as f32).collect()
}

pub(crate) fn units(texts: &[String]) -> Vec<Vec<f32>> {
    texts.iter().map(|text| unit(text)).collect()
}

/// The texts in a request of either protocol.
pub(crate) fn request_texts(request: &ReceivedRequest) -> Vec<String> {
    let list =
        if request.body["inputs"].is_array() { &request.body["inputs"] } else { &request.body["input"] };
    serde_json::from_value(list.clone()).unwrap_or_default()
}

/// TEI's response to `GET /info`.
pub(crate) fn info(model: &str, batch: usize) -> HttpReply {
    web::reply_json(
        200,
        &json!({"model_id": model, "model_sha": "abc", "model_dtype": "float32", "max_input_length": 512,
            "max_client_batch_size": batch, "version": "1.7.0"}),
    )
}

/// TEI's response to a request for vectors.
pub(crate) fn tei_reply(request: &ReceivedRequest) -> HttpReply {
    let vectors: Vec<_> = request_texts(request).iter().map(|text| vector(text)).collect();
    web::reply_json(200, &json!(vectors))
}

/// OpenAI's response to a request for vectors, in reverse order of the texts.
pub(crate) fn openai_reply(request: &ReceivedRequest, model: &str) -> HttpReply {
    let item = |(index, text): (usize, &String)| json!({"object": "embedding", "index": index, "embedding": vector(text)});
    let data: Vec<Value> = request_texts(request).iter().enumerate().rev().map(item).collect();
    web::reply_json(
        200,
        &json!({"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 1}}),
    )
}

pub(crate) fn tei_policy(web: &ScriptedServer) -> ServicePolicy {
    ServicePolicy::new(&web.base(), Provider::Tei).unwrap()
}

pub(crate) fn openai_policy(web: &ScriptedServer) -> ServicePolicy {
    let base = format!("{}/v1", web.base());
    ServicePolicy::new(&base, Provider::OpenAi { model: "small".to_owned() }).unwrap()
}

pub(crate) fn tei(web: &ScriptedServer) -> Arc<Service> {
    Service::start(tei_policy(web)).unwrap()
}

pub(crate) fn openai(web: &ScriptedServer) -> Arc<Service> {
    Service::start(openai_policy(web)).unwrap()
}

/// The error of embedding one text.
pub(crate) async fn failure(service: &Service, purpose: Purpose) -> EmbedError {
    service.embed(purpose, &texts(&["a"])).await.unwrap_err()
}

/// The text of a temporary failure.
pub(crate) async fn unavailable(service: &Service) -> String {
    match failure(service, Purpose::Document).await {
        EmbedError::Unavailable(text) => text,
        EmbedError::Refused(text) => panic!("refused: {text}"),
    }
}

/// The text of a permanent failure.
pub(crate) async fn refused(service: &Service) -> String {
    match failure(service, Purpose::Document).await {
        EmbedError::Refused(text) => text,
        EmbedError::Unavailable(text) => panic!("unavailable: {text}"),
    }
}

/// A paused clock that only the test advances, while requests are still processed.
pub(crate) struct Frozen(
    #[allow(dead_code, reason = "held until it is dropped")] std::sync::mpsc::Sender<()>,
);

impl Frozen {
    /// Pauses the clock of the test's runtime.
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (held, release) = std::sync::mpsc::channel();
        // While a blocking task runs, a paused clock does not advance to the next timer.
        tokio::task::spawn_blocking(move || release.recv());
        Self(held)
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}
