//! Who computes when: rounds of texts on the runtime's threads for blocking work, queries ahead of documents.
//!
//! Documents get half of the processors and one at least, queries as many as there are, so that neither a long build
//! nor a rush of queries takes all the threads. A caller that leaves gives up what has not begun.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;
use vmcp_optimizer::{EmbedError, Embeddings, Purpose};

/// Turns at the processors. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ComputeSlots {
    documents: Arc<Semaphore>,
    queries: Arc<Semaphore>,
}

impl ComputeSlots {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            documents: Arc::new(Semaphore::new((processors / 2).max(1))),
            queries: Arc::new(Semaphore::new(processors)),
        }
    }

    /// The vectors of `texts` by `model`, `round` of them at a time. Between two rounds others have their turn.
    pub(crate) async fn embed(
        &self,
        (model, round): (&Arc<str>, usize),
        purpose: Purpose,
        texts: &[String],
        vectors: impl Fn(&[String]) -> Vec<Vec<f32>> + Clone + Send + 'static,
    ) -> Result<Embeddings, EmbedError> {
        let turns = match purpose {
            Purpose::Document => &self.documents,
            Purpose::Query => &self.queries,
        };
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(round) {
            let turn = turns.clone().acquire_owned().await;
            let turn = turn.map_err(|_closed| EmbedError::Unavailable("it is closed".to_owned()))?;
            let texts = texts.to_vec();
            let vectors = vectors.clone();
            let done = tokio::task::spawn_blocking(move || {
                // Held by the work, not by the caller: a caller that leaves does not make room for another round
                // while this one still computes.
                let _turn = turn;
                vectors(&texts)
            });
            let failed = |_| EmbedError::Unavailable("the computation was broken off".to_owned());
            all.extend(done.await.map_err(failed)?);
        }
        Ok(Embeddings { model: model.clone(), vectors: all })
    }
}
