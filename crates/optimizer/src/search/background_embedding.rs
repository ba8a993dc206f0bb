//! Computes the vectors of tools in the background and adds them to the snapshot. Until then only words are
//! compared. A failure is retried with exponential back-off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use vmcp_timing::Backoff;

use crate::search::corpus::Corpus;
use crate::search::embed::{EmbedError, Embedder, Embeddings, Purpose};
use crate::search::snapshot::Snapshot;

/// The delay before the first retry; it doubles up to the maximum.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);
/// How many vectors are computed before they are published to searches.
const PUBLISH_BATCH: usize = 512;

/// The background task. Dropping this value aborts the task.
pub(crate) struct BackgroundEmbedding {
    embedder: Arc<dyn Embedder>,
    shared: Arc<EmbeddingState>,
    worker: tokio::task::AbortHandle,
}

struct EmbeddingState {
    /// The generation of the last snapshot that is complete, or for which the last attempt failed.
    completed_generation: watch::Sender<u64>,
    /// The last query got no vector, because embedding failed or timed out.
    is_failing: AtomicBool,
    /// Notified when another model has answered, so that all vectors must be computed again.
    model_changed: Notify,
}

impl Drop for BackgroundEmbedding {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl BackgroundEmbedding {
    /// Starts the background task.
    pub(crate) fn start(embedder: Arc<dyn Embedder>, corpus: &Arc<Corpus>) -> Self {
        let shared = Arc::new(EmbeddingState {
            completed_generation: watch::Sender::new(0),
            is_failing: AtomicBool::new(false),
            model_changed: Notify::new(),
        });
        let worker = Worker { embedder: embedder.clone(), shared: shared.clone(), snapshots: corpus.watch() };
        Self { embedder, shared, worker: tokio::spawn(worker.run()).abort_handle() }
    }

    /// Waits until the snapshot is complete, or until an attempt has failed.
    pub(crate) async fn wait_for_snapshot(&self, snapshot: &Snapshot) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ =
            self.shared.completed_generation.subscribe().wait_for(|done| *done >= snapshot.generation).await;
    }

    /// The vector of a query by `model`; `None` on failure, after `timeout`, or when another model answers.
    pub(crate) async fn embed_query(&self, model: &str, text: &str, timeout: Duration) -> Option<Vec<f32>> {
        let texts = [text.to_owned()];
        let embedding = self.embedder.embed(Purpose::Query, &texts);
        match tokio::time::timeout(timeout, embedding).await {
            Ok(Ok(Embeddings { model: answered, vectors })) if *answered == *model => {
                if self.shared.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("searching by meaning again");
                }
                vectors.into_iter().next()
            }
            Ok(Ok(Embeddings { model: answered, .. })) => {
                tracing::warn!(was = model, is = %answered, "the embedding service has another model; all vectors are computed again");
                self.shared.model_changed.notify_one();
                None
            }
            Ok(Err(error)) => self.warn_fallback(&error),
            Err(_) => self.warn_fallback(&"no vector in time"),
        }
    }

    /// Logs once that searches run without vectors. Clients determine how many searches there are, so logging
    /// each one would let them fill the log.
    fn warn_fallback(&self, why: &dyn std::fmt::Display) -> Option<Vec<f32>> {
        if !self.shared.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%why, "searching by words alone until there are vectors again");
        }
        None
    }
}

struct Worker {
    embedder: Arc<dyn Embedder>,
    shared: Arc<EmbeddingState>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// The outcome of an attempt to embed all tools of a snapshot.
enum Progress {
    /// Every tool has a vector.
    Complete,
    /// There is a newer snapshot, or another model has answered.
    Restart,
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY_DELAY_MIN, RETRY_DELAY_MAX);
        loop {
            let snapshot = self.snapshots.borrow_and_update().clone();
            let wait = match self.embed_missing(&snapshot).await {
                Ok(Progress::Restart) => continue,
                Ok(Progress::Complete) => {
                    backoff.reset();
                    None
                }
                Err(error) => {
                    let wait = backoff.next_delay();
                    tracing::warn!(%error, again_in = ?wait, "vectors of tools are missing; words alone are compared for these");
                    Some(wait)
                }
            };
            self.shared.completed_generation.send_replace(snapshot.generation);
            let retry = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.snapshots.changed() => if changed.is_err() { return },
                () = self.shared.model_changed.notified() => snapshot.clear_vectors(),
                () = retry => {}
            }
        }
    }

    async fn embed_missing(&self, snapshot: &Snapshot) -> Result<Progress, EmbedError> {
        let missing = snapshot.indices_without_vector();
        let mut unpublished = 0;
        for indices in missing.chunks(self.embedder.batch_size().max(1)) {
            if self.snapshots.has_changed().unwrap_or(true) {
                snapshot.publish_vectors();
                return Ok(Progress::Restart);
            }
            let texts: Vec<String> = indices.iter().map(|place| snapshot.embedding_text_of(*place)).collect();
            let outcome = self.embedder.embed(Purpose::Document, &texts).await;
            let Embeddings { model, vectors } = outcome.inspect_err(|_| snapshot.publish_vectors())?;
            if !snapshot.insert_vectors(&model, indices, &vectors) {
                tracing::warn!(is = %model, "the embedding service has another model; all vectors are computed again");
                return Ok(Progress::Restart);
            }
            unpublished += indices.len();
            if unpublished >= PUBLISH_BATCH {
                snapshot.publish_vectors();
                unpublished = 0;
            }
        }
        if unpublished > 0 {
            snapshot.publish_vectors();
        }
        Ok(Progress::Complete)
    }
}

#[cfg(test)]
mod tests;
