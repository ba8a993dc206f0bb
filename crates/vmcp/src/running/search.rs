//! Starts the optimizer from its settings, and keeps its index up to date with the advertised tools.

use std::path::Path;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use vmcp_domain::{
    CallContext, CallOrigin, Caller, Change, ChangeAudience, ChangeListener, GatewayInfo as _, SharedGateway,
};
use vmcp_embedding::{Cached, MiniLm, StaticVectors};
use vmcp_embedding_service::Service;
use vmcp_federation::Federation;
use vmcp_optimizer::{Embedder, Observer, Optimizer};
use vmcp_ratelimit::Limiter;

use vmcp_config::{EmbeddingSource, OptimizerSettings};

use super::availability::AvailabilityProbe;

/// Starts the optimizer with the configured embedder. If the embedding service cannot be used, it compares
/// words alone.
pub(crate) fn start(
    settings: Option<OptimizerSettings>,
    federation: &Federation,
    limiter: Option<Arc<Limiter>>,
    observer: Arc<dyn Observer>,
) -> Option<Arc<Optimizer>> {
    let OptimizerSettings { policy, source, cache } = settings?;
    let embedder: Option<Arc<dyn Embedder>> = match source {
        EmbeddingSource::LexicalOnly => None,
        EmbeddingSource::Builtin => Some(with_cache(Arc::new(MiniLm::new()), cache.as_deref())),
        // No folder: computing a static vector takes less time than reading it.
        EmbeddingSource::Static => Some(with_cache(Arc::new(StaticVectors::new()), None)),
        EmbeddingSource::Service(policy) => match Service::start(*policy) {
            Ok(service) => Some(with_cache(service, cache.as_deref())),
            Err(error) => {
                tracing::error!(%error, "the embedding service cannot be asked; words alone are compared");
                None
            }
        },
    };
    let availability = AvailabilityProbe::new(federation.clone(), limiter);
    Some(Optimizer::start(policy, embedder, Some(availability), observer))
}

/// Wraps `embedder` in a cache of vectors. If the folder cannot be used, the cache is in memory only, and the
/// next start computes the vectors again.
fn with_cache(embedder: Arc<dyn Embedder>, folder: Option<&Path>) -> Arc<dyn Embedder> {
    let opened = Cached::open(embedder.clone(), folder).or_else(|error| {
        tracing::warn!(%error, "vectors are not stored: the folder `optimizer.embeddingCache` cannot be used");
        Cached::open(embedder.clone(), None)
    });
    match opened {
        Ok(cached) => Arc::new(cached),
        Err(_) => embedder,
    }
}

/// Updates the optimizer's index with the advertised tools, now and after every change, until it is dropped.
pub(crate) struct IndexUpdater {
    tools_changed: Arc<Notify>,
    worker: tokio::task::AbortHandle,
}

impl IndexUpdater {
    /// Starts the task that updates the index, and listens for changes of the federation. `None` without an
    /// optimizer.
    pub(crate) fn start(
        optimizer: Option<&Arc<Optimizer>>,
        federation: &Federation,
        advertised: &SharedGateway,
    ) -> Option<Arc<Self>> {
        let (optimizer, advertised) = (optimizer?.clone(), advertised.clone());
        let changed = Arc::new(Notify::new());
        let tools_changed_rx = changed.clone();
        let worker = tokio::spawn(async move {
            let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Gateway);
            loop {
                // A change during the update leaves a notification, so the next round sees it.
                if let Ok(tools) = advertised.list_tools(&ctx).await {
                    optimizer.prepare(tools).await;
                }
                tools_changed_rx.notified().await;
            }
        });
        let index_updater = Arc::new(Self { tools_changed: changed, worker: worker.abort_handle() });
        let listener: Weak<Self> = Arc::downgrade(&index_updater);
        federation.add_listener(listener);
        Some(index_updater)
    }
}

impl ChangeListener for IndexUpdater {
    fn on_change(&self, change: &Change, audience: ChangeAudience<'_>) {
        // Only the tools that everyone sees are indexed in advance. The list of a single caller is indexed
        // when the caller searches.
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
