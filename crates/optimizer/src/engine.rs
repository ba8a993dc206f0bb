//! The search without the layer: an immutable index of tools that all callers share, and what is asked of it.
//! Which tools a caller may find is told with each search; making vectors and keeping an index fresh is the layer's.

use std::sync::Arc;

use crate::document::Document;
use crate::fuse::{self, FusionOptions};
use crate::lexical::{LexicalIndex, MatchedWord, Query};
use crate::mask::Mask;
use crate::vectors::{PackedVector, Vectors};

/// An index of tools by words and, as far as there are vectors, by meaning. Never changes; another list of tools is
/// another index, made of the same documents and packed vectors as far as the tools are the same.
#[derive(Debug)]
pub struct Engine {
    lexical: Arc<LexicalIndex>,
    vectors: Vectors,
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// How many tools are wanted at most.
    pub count: usize,
    /// How much meaning counts against words: 0 is words alone, 1 is meaning alone where there are vectors.
    pub semantic_ratio: f32,
    /// The largest cosine distance, 0 to 2, at which a tool is found by its meaning alone.
    pub semantic_distance_max: f32,
    /// Whether to tell which words of the request each tool has.
    pub explain: bool,
}

/// A tool that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Which one: the number of its document in the order the index was given.
    pub index: usize,
    /// How well it fits, 0 to 1, which the best hit has. Not comparable between requests.
    pub score: f32,
    /// What its words are worth: a sum without an upper bound, 0 if it has no word of the request.
    pub lexical: f32,
    /// The cosine between the meaning of the request and the tool's, -1 to 1, if both have a vector.
    pub semantic: Option<f32>,
    /// The words of the request it has, those that count most first. Empty unless asked for.
    pub matched: Vec<MatchedWord>,
}

impl Engine {
    /// Indexes `documents`. `vectors` are theirs, in the same order; those it does not reach have none.
    #[must_use]
    pub fn build(documents: &[Arc<Document>], vectors: &[Option<Arc<PackedVector>>]) -> Self {
        Self { lexical: Arc::new(LexicalIndex::build(documents)), vectors: Vectors::build(vectors) }
    }

    /// The same index with these vectors in place of its own.
    #[must_use]
    pub fn with_vectors(&self, vectors: &[Option<Arc<PackedVector>>]) -> Self {
        Self { lexical: self.lexical.clone(), vectors: Vectors::build(vectors) }
    }

    /// The best of the tools that `visible` lets through, best first; equals in the order of their places. As many as
    /// `options` want come back as long as so many match. `meaning` is the vector of the request by the model of the
    /// tools' vectors; without it words alone decide.
    #[must_use]
    pub fn search(
        &self,
        query: &Query,
        meaning: Option<&[f32]>,
        visible: &Mask,
        options: &SearchOptions,
    ) -> Vec<Hit> {
        let scored = self.lexical.score(query, visible);
        let meaning = meaning.filter(|_| options.semantic_ratio > 0.0);
        let similar = meaning.map(|meaning| self.vectors.similarities(meaning, visible)).unwrap_or_default();
        let mix = FusionOptions {
            semantic_ratio: options.semantic_ratio,
            distance_max: options.semantic_distance_max,
        };
        let found = fuse::fuse(&scored.scores, &similar, mix, options.count);
        let hit = |one: fuse::Fused| Hit {
            index: one.index,
            score: one.score,
            lexical: scored.scores.get(one.index).copied().unwrap_or_default(),
            semantic: similar.get(one.index).copied().flatten(),
            matched: if options.explain {
                self.lexical.matched_words(query, &scored, one.index)
            } else {
                Vec::new()
            },
        };
        found.into_iter().map(hit).collect()
    }

    /// How much memory the index takes, in bytes, without the documents it was made of.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lexical.bytes() + self.vectors.bytes()
    }
}

#[cfg(test)]
mod tests;
