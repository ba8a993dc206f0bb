//! One embedding service: batches out, checked vectors in, and the name of the model that made them.
//!
//! Documents go out two requests at a time and may take their time; queries do not wait behind them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use vmcp_domain::BoxFuture;
use vmcp_optimizer::{EmbedError, Embedded, Embedder, Purpose};

use crate::batch;
use crate::breaker::Breaker;
use crate::failure::{Failure, Kind};
use crate::policy::ServicePolicy;
use crate::protocol::{Part, Protocol};
use crate::tei::Info;

/// How many requests for documents are under way at once, whoever wants them.
const DOCUMENT_REQUESTS_MAX: usize = 2;
/// How many queries are under way at once; more wait for their turn within their time.
const QUERIES_MAX: usize = 32;

/// Why a service cannot even be tried.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// TLS cannot be set up: the system's certificate store is empty, as in a bare container image.
    #[error("TLS towards the embedding service: {0}")]
    Tls(#[from] rustls::Error),
}

/// An embedding service. Nothing is sent before somebody asks.
pub struct Service {
    protocol: Protocol,
    policy: ServicePolicy,
    breaker: Breaker,
    documents: Semaphore,
    queries: Semaphore,
}

impl Service {
    /// Makes ready to ask the service. Needs no runtime and connects to nothing.
    ///
    /// # Errors
    /// When TLS towards it cannot be set up.
    pub fn start(policy: ServicePolicy) -> Result<Arc<Self>, StartError> {
        Ok(Arc::new(Self {
            protocol: Protocol::new(&policy)?,
            policy,
            breaker: Breaker::new(),
            documents: Semaphore::new(DOCUMENT_REQUESTS_MAX),
            queries: Semaphore::new(QUERIES_MAX),
        }))
    }

    async fn guarded(&self, purpose: Purpose, texts: &[String]) -> Result<Embedded, EmbedError> {
        if texts.is_empty() {
            let model = self.protocol.name(self.protocol.known().as_ref(), 0);
            return Ok(Embedded { model, vectors: Vec::new() });
        }
        let (text_bytes_max, _) = self.protocol.bytes_max();
        let texts: Vec<_> = texts.iter().map(|text| batch::fit(text, text_bytes_max)).collect();
        let host = self.protocol.host();
        let turn = self.breaker.admit().map_err(|why| EmbedError::Unavailable(format!("{host}: {why}")))?;
        let outcome = match purpose {
            Purpose::Document => self.settled(purpose, &texts).await,
            Purpose::Query => {
                let wait = self.policy.query_wait();
                let late = |_| Failure::new(Kind::Late, format!("{host}: no vector within {wait:?}"));
                timeout(wait, self.settled(purpose, &texts)).await.map_err(late).flatten()
            }
        };
        match outcome {
            Ok(embedded) => {
                turn.answered();
                Ok(embedded)
            }
            Err(failure) => {
                if !failure.is_about_texts() {
                    turn.failed(&failure.text, failure.pause);
                }
                Err(failure.into_error())
            }
        }
    }

    /// Once more if the model changed in between.
    async fn settled(&self, purpose: Purpose, texts: &[Cow<'_, str>]) -> Result<Embedded, Failure> {
        match self.once(purpose, texts).await {
            Err(failure) if failure.kind == Kind::ModelChanged => self.once(purpose, texts).await,
            outcome => outcome,
        }
    }

    async fn once(&self, purpose: Purpose, texts: &[Cow<'_, str>]) -> Result<Embedded, Failure> {
        let wait = self.wait(purpose);
        // A person waits for a query: what was known before it is asked for after it only.
        let known = self.protocol.known().filter(|_| purpose == Purpose::Query);
        let before = match known {
            Some(known) => Some(known),
            None => self.protocol.identify(wait).await?,
        };
        let (_, bytes_max) = self.protocol.bytes_max();
        let batches = batch::cut(texts, self.protocol.size.now(), bytes_max).into_iter();
        let batches: Vec<_> = batches.map(|range| self.part(purpose, &texts[range])).collect();
        let parts: Vec<Part> = stream::iter(batches).buffered(DOCUMENT_REQUESTS_MAX).try_collect().await?;
        let after = self.protocol.identify(wait).await?;
        let names = |info: Option<Info>| info.map(|info| info.model);
        let (was, is) = (names(before), names(after.clone()));
        if was != is {
            return Err(self.changed(was.as_deref(), is.as_deref()));
        }
        self.joined(parts, after.as_ref())
    }

    async fn part(&self, purpose: Purpose, texts: &[Cow<'_, str>]) -> Result<Part, Failure> {
        let wait = self.wait(purpose);
        let slots = match purpose {
            Purpose::Document => &self.documents,
            Purpose::Query => &self.queries,
        };
        // It is never closed, and whoever holds a place gives it back within its own time.
        let _slot = slots.acquire().await;
        let start = Instant::now();
        let mut outcome = self.protocol.embed(texts, wait).await;
        let size = &self.protocol.size;
        if purpose == Purpose::Document {
            match &mut outcome {
                Ok(_) => size.noted(texts.len(), start.elapsed(), wait),
                Err(failure) if failure.is_too_large() => failure.smaller = size.bound(texts.len()),
                Err(failure) if failure.kind == Kind::Late => failure.smaller = size.shrink(texts.len()),
                Err(_) => {}
            }
        }
        outcome
    }

    /// All vectors in one list, if they can be compared.
    fn joined(&self, parts: Vec<Part>, info: Option<&Info>) -> Result<Embedded, Failure> {
        let Some(first) = parts.first() else {
            return Err(self.changed(None, None));
        };
        let (dimension, model) = (first.checked.dimension, first.model.clone());
        let name = self.protocol.name(info, dimension);
        let mut vectors = Vec::with_capacity(parts.iter().map(|part| part.checked.vectors.len()).sum());
        for part in parts {
            if part.model != model {
                return Err(self.changed(model.as_deref(), part.model.as_deref()));
            }
            if part.checked.dimension != dimension {
                let [was, is] = [dimension, part.checked.dimension].map(|size| format!("{size} dimensions"));
                return Err(self.changed(Some(&was), Some(&is)));
            }
            vectors.extend(part.checked.vectors);
        }
        Ok(Embedded { model: name, vectors })
    }

    fn changed(&self, was: Option<&str>, is: Option<&str>) -> Failure {
        let [was, is] = [was, is].map(|name| name.unwrap_or("unknown"));
        let host = self.protocol.host();
        Failure::new(
            Kind::ModelChanged,
            format!("{host} changed its model between answers, from {was} to {is}"),
        )
    }

    fn wait(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Document => self.policy.timeout,
            Purpose::Query => self.policy.query_wait(),
        }
    }
}

impl Embedder for Service {
    fn batch_size(&self) -> usize {
        self.protocol.size.now()
    }

    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embedded, EmbedError>> {
        Box::pin(self.guarded(purpose, texts))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("policy", &self.policy).field("breaker", &self.breaker).finish()
    }
}
