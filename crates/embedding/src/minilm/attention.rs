//! Attention within one text: each token becomes a mixture of the values of similar tokens.

use super::shape::{HEAD_WIDTH, HEADS, QKV_WIDTH, WIDTH};
use crate::minilm::math::{exp, fused, sum_lanes};

/// The buffers of one attention head.
#[derive(Default)]
pub(super) struct Attention {
    /// The keys by dimension, so that a query is compared with all tokens of the text side by side.
    keys: Vec<f32>,
    /// The weight of each token for the current query.
    weights: Vec<f32>,
}

impl Attention {
    /// Writes the mixtures of a text's tokens. `heads` holds their queries, keys and values.
    #[inline(always)]
    pub(super) fn attend<const FUSED: bool>(&mut self, heads: &[f32], mixed: &mut [f32]) {
        let tokens = heads.len() / QKV_WIDTH;
        // Rounded up, so that no loop over tokens has a remainder.
        let padded = tokens.next_multiple_of(8);
        self.keys.clear();
        self.keys.resize(padded * HEAD_WIDTH, 0.0);
        self.weights.resize(padded, 0.0);
        for head in 0..HEADS {
            let part = |kind: usize| kind * WIDTH + head * HEAD_WIDTH..kind * WIDTH + (head + 1) * HEAD_WIDTH;
            for (index, token) in heads.chunks_exact(QKV_WIDTH).enumerate() {
                for (dimension, value) in token[part(1)].iter().enumerate() {
                    self.keys[dimension * padded + index] = *value;
                }
            }
            for (token, mixed) in heads.chunks_exact(QKV_WIDTH).zip(mixed.chunks_exact_mut(WIDTH)) {
                self.compute_weights::<FUSED>(&token[part(0)], tokens);
                let mut sums = [0.0_f32; HEAD_WIDTH];
                for (share, other) in self.weights.iter().zip(heads.chunks_exact(QKV_WIDTH)) {
                    for (sum, value) in sums.iter_mut().zip(&other[part(2)]) {
                        *sum = fused::<FUSED>(*share, *value, *sum);
                    }
                }
                mixed[part(0)].copy_from_slice(&sums);
            }
        }
    }

    /// Fills in the weights for a query; they sum to 1.
    #[inline(always)]
    fn compute_weights<const FUSED: bool>(&mut self, query: &[f32], tokens: usize) {
        let factor = 1.0 / (HEAD_WIDTH as f32).sqrt();
        let shares = &mut self.weights[..];
        shares.fill(0.0);
        for (query, keys) in query.iter().zip(self.keys.chunks_exact(shares.len())) {
            let query = query * factor;
            for (share, key) in shares.iter_mut().zip(keys) {
                *share = fused::<FUSED>(query, *key, *share);
            }
        }
        let largest = shares[..tokens].iter().fold(f32::MIN, |largest, share| largest.max(*share));
        for share in &mut *shares {
            *share = exp::<FUSED>(*share - largest);
        }
        shares[tokens..].fill(0.0);
        let factor = 1.0 / sum_lanes::<FUSED>(shares, |share, sum| sum + share);
        for share in shares {
            *share *= factor;
        }
    }
}
