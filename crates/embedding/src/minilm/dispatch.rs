//! Selects the code for the processor: AVX2 if the processor supports it, else the portable code.

use super::asset::Weights;
use super::encode::encode;
use super::multiply::portable_tile;

/// The vectors of texts, by the fastest code that this processor supports.
pub(super) fn encode_fast(weights: &Weights, texts: &[Vec<u16>]) -> Vec<Vec<f32>> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[allow(
            unsafe_code,
            reason = "the processor was asked for exactly what the function is compiled for"
        )]
        // SAFETY: the condition above has detected both features that `encode_avx2` enables.
        return unsafe { encode_avx2(weights, texts) };
    }
    encode_portable(weights, texts)
}

/// The vectors of texts, by code for every processor.
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
