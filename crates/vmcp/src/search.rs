//! Puts the optimizer together from its settings, and keeps its index up to date with what is on offer.

use std::path::Path;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use vmcp_domain::{
    Audience, CallContext, Caller, Change, ChangeListener, Directory as _, Foresight, Origin, SharedGateway,
};
use vmcp_embedding::{Cached, MiniLm, StaticVectors};
use vmcp_embedding_service::Service;
use vmcp_federation::Federation;
use vmcp_optimizer::{Embedder, Observer, Optimizer};

use crate::config::{EmbeddingSource, OptimizerSettings};

/// The optimizer of these settings.
pub(crate) fn start(
    settings: OptimizerSettings,
    outlook: Arc<dyn Foresight>,
    observer: Arc<dyn Observer>,
) -> Arc<Optimizer> {
    let OptimizerSettings { policy, source, cache } = settings;
    let embedder: Option<Arc<dyn Embedder>> = match source {
        EmbeddingSource::Words => None,
        EmbeddingSource::Builtin => Some(cached(Arc::new(MiniLm::new()), cache.as_deref())),
        // A vector takes less time to compute than to read.
        EmbeddingSource::Static => Some(cached(Arc::new(StaticVectors::new()), None)),
        EmbeddingSource::Service(policy) => match Service::start(*policy) {
            Ok(service) => Some(cached(service, cache.as_deref())),
            Err(error) => {
                tracing::error!(%error, "the embedding service cannot be asked; words alone are compared");
                None
            }
        },
    };
    Optimizer::start(policy, embedder, Some(outlook), observer)
}

/// With a memory. A folder that cannot be used costs time at the next start and nothing else.
fn cached(embedder: Arc<dyn Embedder>, folder: Option<&Path>) -> Arc<dyn Embedder> {
    let opened = Cached::open(embedder.clone(), folder).or_else(|error| {
        tracing::warn!(%error, "vectors are not kept: the folder `optimizer.embeddingCache` cannot be used");
        Cached::open(embedder.clone(), None)
    });
    match opened {
        Ok(cached) => Arc::new(cached),
        Err(_) => embedder,
    }
}

/// Tells the optimizer what is on offer, now and after every change, until it is dropped.
pub(crate) struct Indexing {
    changed: Arc<Notify>,
    worker: tokio::task::AbortHandle,
}

impl Indexing {
    /// Begins.
    pub(crate) fn start(
        optimizer: Arc<Optimizer>,
        federation: &Federation,
        offer: SharedGateway,
    ) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let woken = changed.clone();
        let worker = tokio::spawn(async move {
            let ctx = CallContext::bare(Caller::Anonymous, Origin::Gateway);
            loop {
                // What changes while the index is built is seen in the next round.
                if let Ok(tools) = offer.list_tools(&ctx).await {
                    optimizer.prepare(tools).await;
                }
                woken.notified().await;
            }
        });
        let indexing = Arc::new(Self { changed, worker: worker.abort_handle() });
        let listener: Weak<Self> = Arc::downgrade(&indexing);
        federation.watch(listener);
        indexing
    }
}

impl ChangeListener for Indexing {
    fn changed(&self, change: &Change, audience: Audience<'_>) {
        // What is indexed beforehand is what everyone sees; lists of single callers are indexed when they search.
        match (change, audience) {
            (_, Audience::User(_) | Audience::Client(_)) => {}
            (Change::Tools, Audience::Everyone) => self.changed.notify_one(),
            (Change::Resources | Change::Prompts | Change::Resource(_), Audience::Everyone) => {}
        }
    }
}

impl Drop for Indexing {
    fn drop(&mut self) {
        self.worker.abort();
    }
}
