//! A cache in front of an embedder: documents on disk and in memory, queries in memory.
//!
//! A document's vector is identified by the digest of its text and by the model's identity, so a catalogue is
//! embedded once and not at every start. The model is learned from the embedder's responses; vectors of
//! another model are never returned.

pub(crate) mod document_store;
pub(crate) mod query_cache;
pub(crate) mod vector_record;

use std::fs::DirBuilder;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use vmcp_domain::BoxFuture;
use vmcp_optimizer::{EmbedError, Embedder, Embeddings, Purpose};

use crate::embedding_cache::document_store::DocumentStore;
use crate::embedding_cache::query_cache::QueryCache;
use crate::embedding_cache::vector_record::{Digest, digest};

/// Maximum number of cached queries; about 2 MB with 384 dimensions.
const QUERIES_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// Maximum number of cached documents. With 384 dimensions each takes about 420 bytes, in memory and on disk.
const DOCUMENTS_MAX: usize = 200_000;

/// How many attempts are made to embed documents while the model changes.
const MODEL_CHANGES_MAX: usize = 3;

/// An embedder that caches the vectors of another one.
///
/// Vectors of documents are stored as signed bytes and a scale. The first response also contains the stored
/// form; its cosine to the computed vector is above 0.9995. Vectors of queries are stored unchanged.
pub struct Cached {
    inner: Arc<dyn Embedder>,
    model: Mutex<Option<Arc<str>>>,
    documents: Arc<Mutex<DocumentStore>>,
    queries: Mutex<QueryCache>,
}

impl Cached {
    /// Caches what `inner` computes, in memory and in `folder` if given. Other processes may use the same
    /// folder at the same time. Unreadable records in its files are dropped. A later read or write error of a
    /// file is only logged.
    ///
    /// # Errors
    /// The folder does not exist and cannot be created.
    pub fn open(inner: Arc<dyn Embedder>, folder: Option<&Path>) -> io::Result<Self> {
        Self::open_with_limits(inner, folder, DOCUMENTS_MAX, QUERIES_MAX)
    }

    fn open_with_limits(
        inner: Arc<dyn Embedder>,
        folder: Option<&Path>,
        documents_max: usize,
        queries_max: NonZeroUsize,
    ) -> io::Result<Self> {
        if let Some(folder) = folder {
            // Private to the user, because the vectors reveal what the texts of the tools are about.
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(Self {
            inner,
            model: Mutex::new(None),
            documents: Arc::new(Mutex::new(DocumentStore::new(folder, documents_max))),
            queries: Mutex::new(QueryCache::new(queries_max)),
        })
    }

    async fn embed_queries(&self, texts: &[String]) -> Result<Embeddings, EmbedError> {
        let digests: Vec<Digest> = texts.iter().map(|text| digest(text)).collect();
        let model = self.model.lock().clone();
        if let Some(model) = model
            && let Some(vectors) = self.queries.lock().get(&model, &digests)
        {
            return Ok(Embeddings { model, vectors });
        }
        let embedded = self.inner.embed(Purpose::Query, texts).await?;
        *self.model.lock() = Some(embedded.model.clone());
        self.queries.lock().insert(&embedded.model, &digests, &embedded.vectors);
        Ok(embedded)
    }

    async fn embed_documents(&self, texts: &[String]) -> Result<Embeddings, EmbedError> {
        let digests: Arc<[Digest]> = texts.iter().map(|text| digest(text)).collect();
        for _attempt in 0..MODEL_CHANGES_MAX {
            let model = self.current_model(texts, &digests).await?;
            if !self.compute_missing(&model, texts, &digests).await? {
                continue;
            }
            let cached = self.lookup_documents(&model, &digests).await?;
            if let Some(vectors) = cached.into_iter().collect() {
                return Ok(Embeddings { model, vectors });
            }
            // The request has more texts than the store holds, or another request has evicted some meanwhile.
            // All are computed again, without caching.
            return self.inner.embed(Purpose::Document, texts).await;
        }
        Err(EmbedError::Unavailable("its model changes all the time".to_owned()))
    }

    /// The model of the last response. If there was none yet, embeds the first text to learn it.
    async fn current_model(&self, texts: &[String], digests: &[Digest]) -> Result<Arc<str>, EmbedError> {
        let cached = self.model.lock().clone();
        if let Some(cached) = cached {
            return Ok(cached);
        }
        let some = texts.len().min(1);
        let embedded = self.inner.embed(Purpose::Document, &texts[..some]).await?;
        let model = embedded.model.clone();
        *self.model.lock() = Some(model.clone());
        self.store_documents(embedded, &digests[..some]).await?;
        Ok(model)
    }

    /// Computes the missing vectors batch by batch, so that a cancelled request keeps the batches that are
    /// done. Returns false when a response names another model.
    async fn compute_missing(
        &self,
        model: &Arc<str>,
        texts: &[String],
        digests: &Arc<[Digest]>,
    ) -> Result<bool, EmbedError> {
        let cached = self.lookup_documents(model, digests).await?;
        let missing = cached.iter().zip(texts.iter().zip(&**digests)).filter(|(cached, _)| cached.is_none());
        let (texts, digests): (Vec<String>, Vec<Digest>) =
            missing.map(|(_, (text, digest))| (text.clone(), *digest)).unzip();
        let size = self.inner.batch_size().max(1);
        for (texts, digests) in texts.chunks(size).zip(digests.chunks(size)) {
            let embedded = self.inner.embed(Purpose::Document, texts).await?;
            let same = embedded.model == *model;
            *self.model.lock() = Some(embedded.model.clone());
            self.store_documents(embedded, digests).await?;
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn lookup_documents(
        &self,
        model: &Arc<str>,
        digests: &Arc<[Digest]>,
    ) -> Result<Vec<Option<Vec<f32>>>, EmbedError> {
        let (model, digests) = (model.clone(), digests.clone());
        self.with_store(move |store| store.get(&model, &digests)).await
    }

    async fn store_documents(&self, embedded: Embeddings, digests: &[Digest]) -> Result<(), EmbedError> {
        let digests = digests.to_vec();
        self.with_store(move |store| store.insert_all(&embedded.model, &digests, &embedded.vectors)).await
    }

    /// Uses the store on a blocking thread, because it may wait for the disk.
    async fn with_store<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut DocumentStore) -> T + Send + 'static,
    ) -> Result<T, EmbedError> {
        let store = self.documents.clone();
        let done = tokio::task::spawn_blocking(move || job(&mut store.lock())).await;
        done.map_err(|_broken_off| EmbedError::Unavailable("the runtime is going down".to_owned()))
    }
}

impl Embedder for Cached {
    fn batch_size(&self) -> usize {
        self.inner.batch_size()
    }

    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>> {
        Box::pin(async move {
            match purpose {
                Purpose::Document => self.embed_documents(texts).await,
                Purpose::Query => self.embed_queries(texts).await,
            }
        })
    }
}

#[cfg(test)]
mod tests;
