//! Puts the optimizer together from its settings, and keeps its index up to date with what is on offer.

use std::path::Path;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use vmcp_domain::{
    AvailabilityCheck, CallContext, CallOrigin, Caller, Change, ChangeAudience, ChangeListener,
    GatewayInfo as _, SharedGateway,
};
use vmcp_embedding::{Cached, MiniLm, StaticVectors};
use vmcp_embedding_service::Service;
use vmcp_federation::Federation;
use vmcp_optimizer::{Embedder, Observer, Optimizer};

use crate::config::{EmbeddingSource, OptimizerSettings};

/// The optimizer of these settings.
pub(crate) fn start(
    settings: OptimizerSettings,
    outlook: Arc<dyn AvailabilityCheck>,
    observer: Arc<dyn Observer>,
) -> Arc<Optimizer> {
    let OptimizerSettings { policy, source, cache } = settings;
    let embedder: Option<Arc<dyn Embedder>> = match source {
        EmbeddingSource::LexicalOnly => None,
        EmbeddingSource::Builtin => Some(with_cache(Arc::new(MiniLm::new()), cache.as_deref())),
        // A vector takes less time to compute than to read.
        EmbeddingSource::Static => Some(with_cache(Arc::new(StaticVectors::new()), None)),
        EmbeddingSource::Service(policy) => match Service::start(*policy) {
            Ok(service) => Some(with_cache(service, cache.as_deref())),
            Err(error) => {
                tracing::error!(%error, "the embedding service cannot be asked; words alone are compared");
                None
            }
        },
    };
    Optimizer::start(policy, embedder, Some(outlook), observer)
}

/// With a memory. A folder that cannot be used costs time at the next start and nothing else.
fn with_cache(embedder: Arc<dyn Embedder>, folder: Option<&Path>) -> Arc<dyn Embedder> {
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
pub(crate) struct IndexUpdater {
    tools_changed: Arc<Notify>,
    worker: tokio::task::AbortHandle,
}

impl IndexUpdater {
    /// Begins.
    pub(crate) fn start(
        optimizer: Arc<Optimizer>,
        federation: &Federation,
        offer: SharedGateway,
    ) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let woken = changed.clone();
        let worker = tokio::spawn(async move {
            let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Gateway);
            loop {
                // What changes while the index is built is seen in the next round.
                if let Ok(tools) = offer.list_tools(&ctx).await {
                    optimizer.prepare(tools).await;
                }
                woken.notified().await;
            }
        });
        let indexing = Arc::new(Self { tools_changed: changed, worker: worker.abort_handle() });
        let listener: Weak<Self> = Arc::downgrade(&indexing);
        federation.add_listener(listener);
        indexing
    }
}

impl ChangeListener for IndexUpdater {
    fn on_change(&self, change: &Change, audience: ChangeAudience<'_>) {
        // What is indexed beforehand is what everyone sees; lists of single callers are indexed when they search.
        match (change, audience) {
            (_, ChangeAudience::User(_) | ChangeAudience::Client(_)) => {}
            (Change::Tools, ChangeAudience::Everyone) => self.tools_changed.notify_one(),
            (Change::Resources | Change::Prompts | Change::Resource(_), ChangeAudience::Everyone) => {}
        }
    }
}

impl Drop for IndexUpdater {
    fn drop(&mut self) {
        self.worker.abort();
    }
}
