use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use vmcp_domain::{BoxFuture, CallContext, CallOrigin, Caller, Tool, ToolList};
use vmcp_testkit::tool;

use super::*;
use crate::Optimizer;
use crate::observer::NoopObserver;
use crate::policy::{OptimizerPolicy, Ratio};

/// Embeds a text as one of two directions: one for texts about water, another for all others.
#[derive(Default)]
struct FakeEmbedder {
    asked: AtomicUsize,
    texts: AtomicUsize,
    failing: AtomicUsize,
    model: Mutex<String>,
}

impl Embedder for FakeEmbedder {
    fn batch_size(&self) -> usize {
        2
    }

    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>> {
        Box::pin(async move {
            if purpose == Purpose::Document {
                self.asked.fetch_add(1, Ordering::Relaxed);
                self.texts.fetch_add(texts.len(), Ordering::Relaxed);
            }
            if self.failing.load(Ordering::Relaxed) > 0 {
                self.failing.fetch_sub(1, Ordering::Relaxed);
                return Err(EmbedError::Unavailable("told to fail".to_owned()));
            }
            let wet = |text: &String| ["river", "boat", "ship"].iter().any(|word| text.contains(word));
            let vectors = texts.iter().map(|text| if wet(text) { vec![1.0, 0.0] } else { vec![0.0, 1.0] });
            Ok(Embeddings { model: self.model.lock().as_str().into(), vectors: vectors.collect() })
        })
    }
}

fn tools() -> Arc<ToolList> {
    Arc::new(["steer_ship", "paint_wall", "row_boat", "bake_bread", "count_sheep"].map(named).to_vec())
}

fn named(name: &str) -> Tool {
    tool("b", name, name)
}

fn start(embedder: &Arc<FakeEmbedder>) -> Arc<Optimizer> {
    let policy = OptimizerPolicy {
        semantic_weight: Ratio::new(0.7).unwrap(),
        distance_max: crate::policy::Distance::new(0.5).unwrap(),
        ..OptimizerPolicy::default()
    };
    Optimizer::start(policy, Some(embedder.clone()), None, Arc::new(NoopObserver))
}

async fn found(optimizer: &Optimizer, list: &Arc<ToolList>, query: &str) -> (Vec<String>, bool) {
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    let found = optimizer.find(&ctx, list, query, false).await.unwrap();
    (found.tools.iter().map(|one| one.tool.name.to_string()).collect(), found.semantic)
}

#[tokio::test]
async fn a_tool_without_a_word_in_common_is_found_by_its_meaning() {
    let (embedder, list) = (Arc::new(FakeEmbedder::default()), tools());
    let optimizer = start(&embedder);
    optimizer.prepare(list.clone()).await;
    optimizer.wait_until_embedded().await;
    let (names, semantic) = found(&optimizer, &list, "river").await;
    assert_eq!((names, semantic), (vec!["steer_ship".to_owned(), "row_boat".to_owned()], true));
    assert_eq!(optimizer.status().vector_count, 5);
    assert_eq!(embedder.asked.load(Ordering::Relaxed), 3, "in batches of two");
}

#[tokio::test]
async fn a_new_tool_costs_one_vector() {
    let (embedder, list) = (Arc::new(FakeEmbedder::default()), tools());
    let optimizer = start(&embedder);
    optimizer.prepare(list.clone()).await;
    optimizer.wait_until_embedded().await;
    let more: Arc<ToolList> = Arc::new(list.iter().cloned().chain([named("moor_boat")]).collect());
    drop(list);
    optimizer.prepare(more.clone()).await;
    optimizer.wait_until_embedded().await;
    assert_eq!(embedder.texts.load(Ordering::Relaxed), 6);
    let (names, _) = found(&optimizer, &more, "river").await;
    assert_eq!(names, ["steer_ship", "row_boat", "moor_boat"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_leaves_words_and_is_tried_again() {
    let embedder = Arc::new(FakeEmbedder::default());
    embedder.failing.store(1, Ordering::Relaxed);
    let (optimizer, list) = (start(&embedder), tools());
    optimizer.prepare(list.clone()).await;
    optimizer.wait_until_embedded().await;
    assert_eq!(found(&optimizer, &list, "paint").await, (vec!["paint_wall".to_owned()], false));
    while optimizer.status().vector_count < 5 {
        tokio::time::sleep(RETRY_DELAY_MIN).await;
    }
    embedder.failing.store(1, Ordering::Relaxed);
    assert_eq!(
        found(&optimizer, &list, "paint").await,
        (vec!["paint_wall".to_owned()], false),
        "a query that fails"
    );
    let (names, semantic) = found(&optimizer, &list, "river").await;
    assert!(semantic && names.len() == 2);
}

#[tokio::test(start_paused = true)]
async fn when_another_model_answers_every_vector_is_computed_anew() {
    let (embedder, list) = (Arc::new(FakeEmbedder::default()), tools());
    *embedder.model.lock() = "one".to_owned();
    let optimizer = start(&embedder);
    optimizer.prepare(list.clone()).await;
    optimizer.wait_until_embedded().await;
    *embedder.model.lock() = "two".to_owned();
    let (_, semantic) = found(&optimizer, &list, "river").await;
    assert!(!semantic, "vectors of two models are not compared");
    while optimizer.status().model.as_deref() != Some("two") {
        tokio::time::sleep(RETRY_DELAY_MIN).await;
    }
    optimizer.wait_until_embedded().await;
    assert_eq!(found(&optimizer, &list, "river").await.0.len(), 2);
}
