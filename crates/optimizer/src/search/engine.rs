//! The search engine: an immutable index of tools that all callers share, and the search in it.
//!
//! Each search says which tools the caller may find. Computing vectors and keeping an index current is the
//! task of `vectorise` and `corpus`.

use std::sync::Arc;

use crate::search::document::Document;
use crate::search::fuse::{self, FusionOptions};
use crate::search::lexical::{LexicalIndex, MatchedWord, Query};
use crate::search::mask::Mask;
use crate::search::vectors::{PackedVector, Vectors};

/// An immutable index of tools by words and, for tools with a vector, by meaning.
///
/// Another list of tools needs another index, which can share the documents and packed vectors of equal
/// tools.
#[derive(Debug)]
pub struct Engine {
    lexical: Arc<LexicalIndex>,
    vectors: Vectors,
}

/// The parameters of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// Maximum number of results.
    pub count: usize,
    /// The weight of meaning against words: 0 is words alone, 1 is meaning alone where there are vectors.
    pub semantic_ratio: f32,
    /// The largest cosine distance, 0 to 2, at which meaning alone makes a match.
    pub semantic_distance_max: f32,
    /// Whether each hit lists the words of the query that it contains.
    pub explain: bool,
}

/// A tool that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The index of its document in the order in which the index was built.
    pub index: usize,
    /// The score relative to the best hit: 0 to 1, and 1 for the best. Not comparable between queries.
    pub score: f32,
    /// The lexical score: a sum without an upper bound, 0 if the tool contains no word of the query.
    pub lexical: f32,
    /// How much of the query the tool covers: its lexical score relative to a tool that contains every word of the
    /// query as strongly as possible. 0 to 1, comparable between queries.
    pub coverage: f32,
    /// The cosine between the vectors of the query and of the tool, -1 to 1; `None` unless both have a
    /// vector.
    pub semantic: Option<f32>,
    /// The words of the query that the tool contains, by falling share. Empty unless
    /// [`SearchOptions::explain`] is set.
    pub matched: Vec<MatchedWord>,
}

impl Hit {
    /// How well the tool fits the query, 0 to 1, comparable between queries: by its meaning or by its words, whichever
    /// is more.
    #[must_use]
    pub fn fit(&self) -> f32 {
        /// A tool that covers a fifth of the query by its words fits as well as one with a cosine of 0.35.
        const COVERAGE_SCALE: f32 = 1.75;
        /// With words alone a smaller part has to suffice, because nothing else can show that a tool fits.
        const COVERAGE_SCALE_WITHOUT_MEANING: f32 = 5.0;
        match self.semantic {
            Some(cosine) => cosine.max(self.coverage * COVERAGE_SCALE).clamp(0.0, 1.0),
            None => (self.coverage * COVERAGE_SCALE_WITHOUT_MEANING).min(1.0),
        }
    }
}

impl Engine {
    /// Indexes `documents`. `vectors` are their vectors in the same order; documents beyond its end have
    /// none.
    #[must_use]
    pub fn build(documents: &[Arc<Document>], vectors: &[Option<Arc<PackedVector>>]) -> Self {
        Self { lexical: Arc::new(LexicalIndex::build(documents)), vectors: Vectors::build(vectors) }
    }

    /// The same index with these vectors instead of its own.
    #[must_use]
    pub fn with_vectors(&self, vectors: &[Option<Arc<PackedVector>>]) -> Self {
        Self { lexical: self.lexical.clone(), vectors: Vectors::build(vectors) }
    }

    /// The best matching tools within `visible`, best first; equal scores are ordered by index. Returns
    /// [`SearchOptions::count`] tools if that many match.
    ///
    /// `query_vector` is the vector of the query, by the model of the tools' vectors. Without it only words are
    /// compared.
    #[must_use]
    pub fn search(
        &self,
        query: &Query,
        query_vector: Option<&[f32]>,
        visible: &Mask,
        options: &SearchOptions,
    ) -> Vec<Hit> {
        let scored = self.lexical.score(query, visible);
        let query_vector = query_vector.filter(|_| options.semantic_ratio > 0.0);
        let similarities = query_vector
            .map(|query_vector| self.vectors.similarities(query_vector, visible))
            .unwrap_or_default();
        let mix = FusionOptions {
            semantic_ratio: options.semantic_ratio,
            distance_max: options.semantic_distance_max,
        };
        let found = fuse::fuse(&scored.scores, &scored.leads, &similarities, mix, options.count);
        let hit = |one: fuse::Fused| Hit {
            index: one.index,
            score: one.score,
            lexical: scored.scores.get(one.index).copied().unwrap_or_default(),
            coverage: scored.coverage(one.index),
            semantic: similarities.get(one.index).copied().flatten(),
            matched: if options.explain {
                self.lexical.matched_words(query, &scored, one.index)
            } else {
                Vec::new()
            },
        };
        found.into_iter().map(hit).collect()
    }

    /// The memory of the index in bytes, without the documents that it was built from.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lexical.bytes() + self.vectors.bytes()
    }
}

#[cfg(test)]
mod tests;
