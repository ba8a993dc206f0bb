//! The vectors of the most recent queries, for one model at a time.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::embedding_cache::vector_record::Digest;

/// A cache of vectors. The least recently used one is evicted.
pub(super) struct QueryCache {
    model: Option<Arc<str>>,
    vectors: LruCache<Digest, Vec<f32>>,
}

impl QueryCache {
    pub(super) fn new(vectors_max: NonZeroUsize) -> Self {
        Self { model: None, vectors: LruCache::new(vectors_max) }
    }

    /// The vectors of all these queries; `None` unless all are cached.
    pub(super) fn get(&mut self, model: &Arc<str>, digests: &[Digest]) -> Option<Vec<Vec<f32>>> {
        if self.model.as_ref() != Some(model) {
            return None;
        }
        digests.iter().map(|digest| self.vectors.get(digest).cloned()).collect()
    }

    pub(super) fn insert(&mut self, model: &Arc<str>, digests: &[Digest], vectors: &[Vec<f32>]) {
        if self.model.as_ref() != Some(model) {
            self.model = Some(model.clone());
            self.vectors.clear();
        }
        for (digest, vector) in digests.iter().zip(vectors) {
            self.vectors.put(*digest, vector.clone());
        }
    }
}
