//! One embedding service: sends batches, checks the vectors, and determines the model that computed them.
//!
//! At most two requests for documents are in flight at once, and they may take long. Queries do not wait
//! behind them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use vmcp_domain::BoxFuture;
use vmcp_optimizer::{EmbedError, Embedder, Embeddings, Purpose};

use crate::batch;
use crate::breaker::Breaker;
use crate::failure::{FailureKind, ServiceFailure};
use crate::policy::ServicePolicy;
use crate::protocol::{BatchEmbeddings, Protocol};
use crate::tei::ServerInfo;

/// Maximum number of requests for documents in flight, over all callers.
const DOCUMENT_REQUESTS_MAX: usize = 2;
/// Maximum number of query requests in flight; further ones wait within their time-out.
const QUERIES_MAX: usize = 32;

/// Why a service cannot be started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// TLS cannot be set up: the system's certificate store is empty, as in a bare container image.
    #[error("TLS towards the embedding service: {0}")]
    Tls(#[from] vmcp_http_client::TlsError),
}

/// An embedding service. It sends nothing before the first call of [`Embedder::embed`].
pub struct Service {
    protocol: Protocol,
    policy: ServicePolicy,
    breaker: Breaker,
    documents: Semaphore,
    queries: Semaphore,
}

impl Service {
    /// Prepares the client. Needs no runtime and opens no connection.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn start(policy: ServicePolicy) -> Result<Arc<Self>, StartError> {
        Ok(Arc::new(Self {
            protocol: Protocol::new(&policy)?,
            policy,
            breaker: Breaker::new(),
            documents: Semaphore::new(DOCUMENT_REQUESTS_MAX),
            queries: Semaphore::new(QUERIES_MAX),
        }))
    }

    async fn embed_guarded(&self, purpose: Purpose, texts: &[String]) -> Result<Embeddings, EmbedError> {
        if texts.is_empty() {
            let model = self.protocol.model_identity(self.protocol.server_info().as_ref(), 0);
            return Ok(Embeddings { model, vectors: Vec::new() });
        }
        let (text_bytes_max, _) = self.protocol.text_byte_limits();
        let texts: Vec<_> = texts.iter().map(|text| batch::prepare_text(text, text_bytes_max)).collect();
        let host = self.protocol.host();
        let permit = self.breaker.admit().map_err(|why| EmbedError::Unavailable(format!("{host}: {why}")))?;
        let outcome = match purpose {
            Purpose::Document => self.embed_stable(purpose, &texts).await,
            Purpose::Query => {
                let time_limit = self.policy.effective_query_timeout();
                let timed_out = |_| {
                    ServiceFailure::new(
                        FailureKind::TimedOut,
                        format!("{host}: no vector within {time_limit:?}"),
                    )
                };
                timeout(time_limit, self.embed_stable(purpose, &texts)).await.map_err(timed_out).flatten()
            }
        };
        match outcome {
            Ok(embedded) => {
                permit.record_success();
                Ok(embedded)
            }
            Err(failure) => {
                if !failure.is_about_texts() {
                    permit.record_failure(&failure.text, failure.retry_after);
                }
                Err(failure.into_error())
            }
        }
    }

    /// Embeds the texts, and tries once more if the model changed meanwhile.
    async fn embed_stable(
        &self,
        purpose: Purpose,
        texts: &[Cow<'_, str>],
    ) -> Result<Embeddings, ServiceFailure> {
        match self.embed_once(purpose, texts).await {
            Err(failure) if failure.kind == FailureKind::ModelChanged => {
                self.embed_once(purpose, texts).await
            }
            outcome => outcome,
        }
    }

    async fn embed_once(
        &self,
        purpose: Purpose,
        texts: &[Cow<'_, str>],
    ) -> Result<Embeddings, ServiceFailure> {
        let time_limit = self.timeout_for(purpose);
        // A user waits for a query, so the known model is used and only checked afterwards.
        let known = self.protocol.server_info().filter(|_| purpose == Purpose::Query);
        let before = match known {
            Some(known) => Some(known),
            None => self.protocol.identify(time_limit).await?,
        };
        let (_, bytes_max) = self.protocol.text_byte_limits();
        let batches = batch::split_batches(texts, self.protocol.batch_size.current(), bytes_max).into_iter();
        let batches: Vec<_> = batches.map(|range| self.embed_batch(purpose, &texts[range])).collect();
        let parts: Vec<BatchEmbeddings> =
            stream::iter(batches).buffered(DOCUMENT_REQUESTS_MAX).try_collect().await?;
        let after = self.protocol.identify(time_limit).await?;
        let names = |info: Option<ServerInfo>| info.map(|info| info.model);
        let (was, is) = (names(before), names(after.clone()));
        if was != is {
            return Err(self.model_changed(was.as_deref(), is.as_deref()));
        }
        self.join_batches(parts, after.as_ref())
    }

    async fn embed_batch(
        &self,
        purpose: Purpose,
        texts: &[Cow<'_, str>],
    ) -> Result<BatchEmbeddings, ServiceFailure> {
        let time_limit = self.timeout_for(purpose);
        let semaphore = match purpose {
            Purpose::Document => &self.documents,
            Purpose::Query => &self.queries,
        };
        // The semaphore is never closed, and each holder releases its permit within its own time-out.
        let _slot = semaphore.acquire().await;
        let start = Instant::now();
        let mut outcome = self.protocol.embed(texts, time_limit).await;
        let size = &self.protocol.batch_size;
        if purpose == Purpose::Document {
            match &mut outcome {
                Ok(_) => size.record_duration(texts.len(), start.elapsed(), time_limit),
                Err(failure) if failure.is_too_large() => {
                    failure.retry_smaller = size.set_ceiling(texts.len())
                }
                Err(failure) if failure.kind == FailureKind::TimedOut => {
                    failure.retry_smaller = size.shrink(texts.len())
                }
                Err(_) => {}
            }
        }
        outcome
    }

    /// Joins the vectors of all batches. It is a failure if they are of different models or dimensions.
    fn join_batches(
        &self,
        parts: Vec<BatchEmbeddings>,
        info: Option<&ServerInfo>,
    ) -> Result<Embeddings, ServiceFailure> {
        let Some(first) = parts.first() else {
            return Err(self.model_changed(None, None));
        };
        let (dimension, model) = (first.checked.dimension, first.model.clone());
        let name = self.protocol.model_identity(info, dimension);
        let mut vectors = Vec::with_capacity(parts.iter().map(|part| part.checked.vectors.len()).sum());
        for part in parts {
            if part.model != model {
                return Err(self.model_changed(model.as_deref(), part.model.as_deref()));
            }
            if part.checked.dimension != dimension {
                let [was, is] = [dimension, part.checked.dimension].map(|size| format!("{size} dimensions"));
                return Err(self.model_changed(Some(&was), Some(&is)));
            }
            vectors.extend(part.checked.vectors);
        }
        Ok(Embeddings { model: name, vectors })
    }

    fn model_changed(&self, was: Option<&str>, is: Option<&str>) -> ServiceFailure {
        let [was, is] = [was, is].map(|name| name.unwrap_or("unknown"));
        let host = self.protocol.host();
        ServiceFailure::new(
            FailureKind::ModelChanged,
            format!("{host} changed its model between answers, from {was} to {is}"),
        )
    }

    fn timeout_for(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Document => self.policy.timeout,
            Purpose::Query => self.policy.effective_query_timeout(),
        }
    }
}

impl Embedder for Service {
    fn batch_size(&self) -> usize {
        self.protocol.batch_size.current()
    }

    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>> {
        Box::pin(self.embed_guarded(purpose, texts))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("policy", &self.policy).field("breaker", &self.breaker).finish()
    }
}
