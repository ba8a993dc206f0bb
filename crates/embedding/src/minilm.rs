//! all-MiniLM-L6-v2 with 4-bit weights, inside the binary: texts to vectors of 384 dimensions.
//!
//! The weights are used in place, without copying; a text costs a few milliseconds of one core. Splitting
//! texts into pieces is left to `wordpiece`, and caching to [`Cached`](crate::Cached).

mod activations;
mod asset;
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod dispatch;
mod encode;
pub(crate) mod math;
mod multiply;
mod shape;

use std::sync::{Arc, OnceLock};

use vmcp_domain::BoxFuture;
use vmcp_optimizer::{EmbedError, Embedder, Embeddings, Purpose};

use self::asset::Weights;
use self::shape::PIECES_MAX;
use crate::compute_slots::ComputeSlots;
use crate::minilm::dispatch::encode_fast;
use crate::wordpiece::tokenize;

/// SHA-256 of the asset, in hexadecimal.
const DIGEST: &str = include_str!("../assets/minilm-q4.sha256");

/// Texts of a round: enough to share the unpacking of weights, and few enough to end within a few tens of
/// milliseconds.
const BATCH: usize = 8;

/// Maximum number of tokens that pass the network together; no text has more. Bounds the memory of a round to
/// about 5 MB.
const TOKENS_MAX: usize = 512;

/// The sentence model all-MiniLM-L6-v2 with 4-bit weights. Cheap to create and to clone.
#[derive(Clone, Debug)]
pub struct MiniLm {
    model: Arc<str>,
    slots: ComputeSlots,
}

impl MiniLm {
    /// The dimension of its vectors.
    pub const DIMENSION: usize = shape::WIDTH;

    /// The model in this binary.
    #[must_use]
    pub fn new() -> Self {
        Self { model: crate::model_identity("minilm-l6-v2-q4", DIGEST).into(), slots: ComputeSlots::new() }
    }

    /// The vectors of `texts`, each of unit length, computed on this thread. Only the first 254 word pieces
    /// of a text are used.
    #[must_use]
    pub fn vectors(&self, texts: &[String]) -> Vec<Vec<f32>> {
        self.vectors_by(encode_fast, texts)
    }

    fn vectors_by(
        &self,
        encode: impl Fn(&Weights, &[Vec<u16>]) -> Vec<Vec<f32>>,
        texts: &[String],
    ) -> Vec<Vec<f32>> {
        static WEIGHTS: OnceLock<Weights> = OnceLock::new();
        let weights = WEIGHTS.get_or_init(Weights::read);
        let texts: Vec<Vec<u16>> = texts.iter().map(|text| tokenize(text, PIECES_MAX)).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = &texts[..];
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|text| {
                tokens += text.len();
                tokens <= TOKENS_MAX
            });
            let (batch, remaining) = rest.split_at(fits.count().max(1));
            vectors.extend(encode(weights, batch));
            rest = remaining;
        }
        vectors
    }
}

impl Default for MiniLm {
    fn default() -> Self {
        Self::new()
    }
}

impl Embedder for MiniLm {
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
