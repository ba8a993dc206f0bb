//! The vectors of the most recent queries, for one model at a time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::embedding_cache::vector_record::Digest;

/// A cache of at most `vectors_max` vectors. The least recently used one is evicted.
pub(super) struct QueryCache {
    model: Option<Arc<str>>,
    vectors: HashMap<Digest, (u64, Vec<f32>)>,
    vectors_max: usize,
    /// Counts uses; the vector with the lowest number is the least recently used one.
    use_counter: u64,
}

impl QueryCache {
    pub(super) fn new(vectors_max: usize) -> Self {
        Self { model: None, vectors: HashMap::new(), vectors_max, use_counter: 0 }
    }

    /// The vectors of all these queries; `None` unless all are cached.
    pub(super) fn get(&mut self, model: &Arc<str>, digests: &[Digest]) -> Option<Vec<Vec<f32>>> {
        if self.model.as_ref() != Some(model) {
            return None;
        }
        self.use_counter += 1;
        let use_counter = self.use_counter;
        let one = |digest| {
            let (used, vector) = self.vectors.get_mut(digest)?;
            *used = use_counter;
            Some(vector.clone())
        };
        digests.iter().map(one).collect()
    }

    pub(super) fn insert(&mut self, model: &Arc<str>, digests: &[Digest], vectors: &[Vec<f32>]) {
        if self.model.as_ref() != Some(model) {
            self.model = Some(model.clone());
            self.vectors.clear();
        }
        for (digest, vector) in digests.iter().zip(vectors) {
            self.use_counter += 1;
            self.vectors.insert(*digest, (self.use_counter, vector.clone()));
            if self.vectors.len() > self.vectors_max {
                let oldest = self.vectors.iter().min_by_key(|(_, (used, _))| *used);
                let oldest = oldest.map(|(digest, _)| *digest);
                oldest.map(|oldest| self.vectors.remove(&oldest));
            }
        }
    }
}
