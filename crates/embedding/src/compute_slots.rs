//! Limits concurrent computation. Rounds of texts run on the runtime's blocking threads, with separate limits
//! for documents and queries.
//!
//! Documents may use half of the processors, but at least one; queries may use as many as there are. So
//! neither a long build nor a burst of queries occupies all threads. A cancelled caller drops the rounds that
//! have not begun.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;
use vmcp_optimizer::{EmbedError, Embeddings, Purpose};

/// Semaphores for computation. Clones share them.
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

    /// The vectors of `texts` by `model`, computed in rounds of `batch_size` texts. Other callers can run between
    /// two rounds.
    pub(crate) async fn embed(
        &self,
        (model, batch_size): (&Arc<str>, usize),
        purpose: Purpose,
        texts: &[String],
        vectors: impl Fn(&[String]) -> Vec<Vec<f32>> + Clone + Send + 'static,
    ) -> Result<Embeddings, EmbedError> {
        let slots = match purpose {
            Purpose::Document => &self.documents,
            Purpose::Query => &self.queries,
        };
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(batch_size) {
            let slot = slots.clone().acquire_owned().await;
            let slot = slot.map_err(|_closed| EmbedError::Unavailable("it is closed".to_owned()))?;
            let texts = texts.to_vec();
            let vectors = vectors.clone();
            let done = tokio::task::spawn_blocking(move || {
                // The work holds the permit, not the caller. Otherwise a cancelled caller would free the slot
                // for another round while this one still computes.
                let _slot = slot;
                vectors(&texts)
            });
            let failed = |_| EmbedError::Unavailable("the computation was broken off".to_owned());
            all.extend(done.await.map_err(failed)?);
        }
        Ok(Embeddings { model: model.clone(), vectors: all })
    }
}
