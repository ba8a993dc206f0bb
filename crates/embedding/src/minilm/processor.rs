//! Which code the processor gets: that for AVX2, if it has it, or that for any.

use super::asset::Weights;
use super::encode::encode;
use super::multiply::portable_tile;

/// Vectors of texts, by the fastest code that this processor runs.
pub(super) fn encode_fast(weights: &Weights, texts: &[Vec<u16>]) -> Vec<Vec<f32>> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[allow(
            unsafe_code,
            reason = "the processor was asked for exactly what the function is compiled for"
        )]
        // SAFETY: both features that `encode_avx2` enables were found on the line above.
        return unsafe { encode_avx2(weights, texts) };
    }
    encode_portable(weights, texts)
}

/// Vectors of texts, on any processor.
pub(super) fn encode_portable(weights: &Weights, texts: &[Vec<u16>]) -> Vec<Vec<f32>> {
    encode::<false>(weights, texts, portable_tile)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn encode_avx2(weights: &Weights, texts: &[Vec<u16>]) -> Vec<Vec<f32>> {
    encode::<true>(weights, texts, |panel, groups, tokens, bias| {
        super::avx2::tile(panel, groups, tokens, bias)
    })
}
