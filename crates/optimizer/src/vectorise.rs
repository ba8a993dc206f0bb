//! Computes the vectors of tools in the background and adds them to the snapshot as they come, while words alone are
//! compared. What fails is tried again, ever more rarely.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::corpus::Corpus;
use crate::embed::{EmbedError, Embedded, Embedder, Purpose};
use crate::snapshot::Snapshot;

/// How long after a failure it is tried again; doubles up to the maximum.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How many vectors are computed before those at hand are put to use.
const PUBLISHED_COUNT: usize = 512;

/// The background work, which ends when this is dropped.
pub(crate) struct Vectorising {
    embedder: Arc<dyn Embedder>,
    shared: Arc<Shared>,
    worker: tokio::task::AbortHandle,
}

struct Shared {
    /// The last snapshot for which nothing is left to do, or for which the last try has failed.
    done: watch::Sender<u64>,
    /// The last search had to do without a vector.
    failing: AtomicBool,
    /// Another model answers: everything is to be computed anew.
    anew: Notify,
}

impl Drop for Vectorising {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Vectorising {
    /// Begins.
    pub(crate) fn start(embedder: Arc<dyn Embedder>, corpus: &Arc<Corpus>) -> Self {
        let shared = Arc::new(Shared {
            done: watch::Sender::new(0),
            failing: AtomicBool::new(false),
            anew: Notify::new(),
        });
        let worker = Worker { embedder: embedder.clone(), shared: shared.clone(), snapshots: corpus.watch() };
        Self { embedder, shared, worker: tokio::spawn(worker.run()).abort_handle() }
    }

    /// Waits until nothing is left to do for a snapshot, or a try has failed.
    pub(crate) async fn settled(&self, snapshot: &Snapshot) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.shared.done.subscribe().wait_for(|done| *done >= snapshot.number).await;
    }

    /// The vector of a search, by `model`; `None` when there is none in time, or another model answers.
    pub(crate) async fn query(&self, model: &str, text: &str, patience: Duration) -> Option<Vec<f32>> {
        let texts = [text.to_owned()];
        let embedding = self.embedder.embed(Purpose::Query, &texts);
        match tokio::time::timeout(patience, embedding).await {
            Ok(Ok(Embedded { model: answered, vectors })) if *answered == *model => {
                if self.shared.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("searching by meaning again");
                }
                vectors.into_iter().next()
            }
            Ok(Ok(Embedded { model: answered, .. })) => {
                tracing::warn!(was = model, is = %answered, "another model answers; every vector is computed anew");
                self.shared.anew.notify_one();
                None
            }
            Ok(Err(error)) => self.without(&error),
            Err(_) => self.without(&"no vector in time"),
        }
    }

    /// Says once that searches do without vectors: clients decide how many searches there are.
    fn without(&self, why: &dyn std::fmt::Display) -> Option<Vec<f32>> {
        if !self.shared.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%why, "searching by words alone until there are vectors again");
        }
        None
    }
}

struct Worker {
    embedder: Arc<dyn Embedder>,
    shared: Arc<Shared>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// How far a try came.
enum Progress {
    /// Every tool has a vector.
    Complete,
    /// There is a newer snapshot, or another model.
    Again,
}

impl Worker {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let snapshot = self.snapshots.borrow_and_update().clone();
            let wait = match self.fill(&snapshot).await {
                Ok(Progress::Again) => continue,
                Ok(Progress::Complete) => {
                    pause = PAUSE_MIN;
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, again_in = ?pause, "vectors of tools are missing; words alone are compared for these");
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    Some(wait)
                }
            };
            self.shared.done.send_replace(snapshot.number);
            let retry = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.snapshots.changed() => if changed.is_err() { return },
                () = self.shared.anew.notified() => snapshot.forget_vectors(),
                () = retry => {}
            }
        }
    }

    async fn fill(&self, snapshot: &Snapshot) -> Result<Progress, EmbedError> {
        let missing = snapshot.without_vector();
        let mut unpublished = 0;
        for places in missing.chunks(self.embedder.batch_size().max(1)) {
            if self.snapshots.has_changed().unwrap_or(true) {
                snapshot.publish_vectors();
                return Ok(Progress::Again);
            }
            let texts: Vec<String> = places.iter().map(|place| snapshot.text(*place)).collect();
            let outcome = self.embedder.embed(Purpose::Document, &texts).await;
            let Embedded { model, vectors } = outcome.inspect_err(|_| snapshot.publish_vectors())?;
            if !snapshot.keep_vectors(&model, places, &vectors) {
                tracing::warn!(is = %model, "another model answers; every vector is computed anew");
                return Ok(Progress::Again);
            }
            unpublished += places.len();
            if unpublished >= PUBLISHED_COUNT {
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
