//! A vector for each word piece. The mean of a text's vectors distinguishes texts in a similar way to the
//! sentence model. It is meant for cases where a millisecond is too long.
//!
//! The vectors are stored in the binary in 4 bits. They were fitted to the sentence model's vectors of short
//! descriptions, minus the mean of these. Vectors of words with little meaning are short, vectors of decisive
//! words are long, and word order is ignored. They cannot be compared with the sentence model's vectors.

use std::sync::Arc;

use vmcp_domain::BoxFuture;
use vmcp_optimizer::{EmbedError, Embedder, Embeddings, Purpose};

use crate::compute_slots::ComputeSlots;
use crate::piece_vectors::{PieceVectors, VECTOR_BYTES, WIDTH};
use crate::vocabulary::{PIECE_COUNT, UNK};
use crate::wordpiece::tokenize;

static VECTORS: &[u8; PIECE_COUNT * VECTOR_BYTES] = include_bytes!("../assets/static-q4.bin");

/// SHA-256 of the asset, in hexadecimal.
const DIGEST: &str = include_str!("../assets/static-q4.sha256");

/// Maximum number of pieces of a text that are used, including the markers at both ends.
const PIECES_MAX: usize = 512;

/// Texts of a round, which takes a few milliseconds.
const BATCH: usize = 64;

/// Static vectors of word pieces, averaged. Cheap to create and to clone.
#[derive(Clone, Debug)]
pub struct StaticVectors {
    model: Arc<str>,
    slots: ComputeSlots,
}

impl StaticVectors {
    /// The dimension of its vectors.
    pub const DIMENSION: usize = WIDTH;

    /// The model in this binary.
    #[must_use]
    pub fn new() -> Self {
        Self { model: crate::model_identity("static-q4", DIGEST).into(), slots: ComputeSlots::new() }
    }

    /// The vectors of `texts`, each of unit length, computed on this thread. Only the first 510 word pieces
    /// of a text are used.
    #[must_use]
    pub fn vectors(&self, texts: &[String]) -> Vec<Vec<f32>> {
        texts.iter().map(|text| embed_text(text)).collect()
    }
}

fn embed_text(text: &str) -> Vec<f32> {
    let piece_vectors = PieceVectors(VECTORS.as_chunks().0);
    let pieces = tokenize(text, PIECES_MAX);
    let own = pieces.get(1..pieces.len() - 1).unwrap_or_default();
    let mut sum = vec![0.0; WIDTH];
    for piece in own {
        piece_vectors.add(*piece, &mut sum);
    }
    let mut length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length == 0.0 {
        // A text without pieces gets the vector of the unknown word, because every vector needs a direction.
        piece_vectors.add(UNK, &mut sum);
        length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    }
    for value in &mut sum {
        *value /= length;
    }
    sum
}

impl Default for StaticVectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Embedder for StaticVectors {
    fn batch_size(&self) -> usize {
        BATCH
    }

    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>> {
        let own = self.clone();
        Box::pin(self.slots.embed((&self.model, BATCH), purpose, texts, move |texts| own.vectors(texts)))
    }
}

#[cfg(test)]
mod tests;
